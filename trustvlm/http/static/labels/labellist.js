// The list of labels: searched and paged by the service, however many there are.

import { get, hrefOf, may, path } from "../api.js";
import { freshId, h, put, settled } from "../dom.js";
import { takesImages } from "../encoders.js";
import { auditHref } from "./audit.js";
import { FITTING, filterField } from "../search/filter.js";
import { bulkPanel } from "./bulk.js";
import { addPanel } from "./labeladd.js";
import { removeSpace } from "./spaces.js";
import { trashHref } from "./trash.js";
import { empty, problem, thumb, working } from "../parts.js";
import { count, counted, percent, share } from "../words.js";

const PAGE = 50;
const PICTURES = 3;
const MOST_PREDICTED = 100_000; // labels: with more, predictions are asked for only where the list is sorted by them
const ORDERS = {
  name: ["name", "by name"],
  images: ["support images", "most support images first"],
  errors: ["wrong", "most wrong first"],
  share: ["share of images", "given to most images first"],
};
const asked = new Map(); // by space, so that coming back from a label finds the list as it was

export async function showList(root, context) {
  const { space, signal } = context;
  const wanted = asked.get(space.name) ?? { q: "", match: "contains", bare: false, order: "name", filter: null };
  asked.set(space.name, wanted);
  const coverage = h("div", { class: "card coverage" });
  const list = h("ul", { class: "labels" });
  const end = h("div", { class: "end" });
  const said = h("p", { class: "quiet", role: "status" });
  let current = new AbortController();

  const recount = async () => showCoverage(coverage, await context.refresh());
  const changed = () => { recount().catch(() => {}); search(); };
  const adding = addPanel(context, changed), many = bulkPanel(context, changed);
  const add = opener("Add a label", adding, () => many, "primary");
  const paste = opener("Add several labels", many, () => adding);
  const drop = h("button", { type: "button", class: "danger", on: { click: () => removeSpace(space, drop, (name) => { location.hash = name === null ? "#/" : hrefOf(name, "labels"); }) } }, `Remove the space “${space.name}” …`);

  /** A button that opens a panel, and closes the other one. */
  function opener(title, panel, other, kind = null) {
    const button = h("button", { type: "button", class: kind, "aria-expanded": "false", on: { click: () => {
      panel.root.hidden = !panel.root.hidden;
      other().root.hidden = true;
      for (const [one, its] of [[add, adding], [paste, many]]) one.setAttribute("aria-expanded", String(!its.root.hidden));
      if (!panel.root.hidden) panel.focus();
    } } }, title);
    return button;
  }

  showCoverage(coverage, space);
  put(root,
    h("div", { class: "row spread head" }, h("h1", {}, "Labels"),
      h("div", { class: "row" }, h("a", { class: "trash-link", href: auditHref(space), title: "Support images that probably have a wrong label" }, "Check images"),
        h("a", { class: "trash-link", href: trashHref(space), title: "Removed labels and support images, which can be restored" }, "Trash"), may("write") && [paste, add])),
    h("p", { class: "lead" }, "The names that an image can get, and the support images of each."),
    adding.root, many.root, coverage, searchBar(context, wanted, () => search(), settled(() => search())), said, list, end,
    may("admin") && h("p", { class: "foot" }, drop));
  await search();

  /** The first page again; an older search that still runs is given up. */
  async function search() {
    current.abort();
    current = new AbortController();
    const mine = AbortSignal.any([signal, current.signal]);
    list.classList.add("stale");
    try {
      const page = await read(null, mine);
      put(list, page.labels.map((row) => labelRow(space, row, page.predicted_images)));
      finish(page);
      if (!page.labels.length) put(end, nothing(context, wanted, page, () => add.click()));
    } catch (error) {
      if (error.name !== "AbortError") { put(list); put(end, problem(error)); said.textContent = ""; }
    } finally {
      if (!mine.aborted) list.classList.remove("stale");
    }
  }

  async function more(cursor) {
    const mine = AbortSignal.any([signal, current.signal]);
    put(end, working("Reading more labels …"));
    try {
      const page = await read(cursor, mine);
      const rows = page.labels.map((row) => labelRow(space, row, page.predicted_images));
      list.append(...rows);
      finish(page);
      rows[0]?.querySelector("a").focus({ preventScroll: true });
    } catch (error) {
      if (error.name !== "AbortError") put(end, problem(error), moreButton(cursor));
    }
  }

  function moreButton(cursor) {
    return h("button", { type: "button", on: { click: () => more(cursor) } }, `Show ${PAGE} more`);
  }

  function finish(page) {
    const shown = list.children.length;
    const legend = page.predicted_images && `Checked on ${counted(page.predicted_images, "image")} with known labels. Wrong: got this label but is another. Missed: is this label but got another.`;
    said.textContent = [told(shown, page, wanted), legend].filter(Boolean).join(" ");
    put(end, page.next_cursor !== null && moreButton(page.next_cursor));
  }

  function read(cursor, one) {
    const where = path("spaces", space.name, "labels");
    if (wanted.filter) return get(where, { query: { filter: wanted.filter, order: "id", limit: PAGE, cursor }, signal: one });
    const query = { q: wanted.q, match: wanted.q && wanted.match, unverified: wanted.bare || null, limit: PAGE, cursor };
    query.order = orderOf(wanted);
    if (takesImages(space)) query.thumbnails = PICTURES;
    if (space.label_count <= MOST_PREDICTED || ["errors", "share"].includes(query.order)) query.predictions = true;
    return get(where, { query, signal: one });
  }
}

/** What is searched for comes by name. */
const orderOf = ({ q, bare, order }) => (q || bare ? "name" : order);

function told(shown, page, wanted) {
  const { q, match, bare, filter } = wanted;
  if (filter) return shown ? `${page.next_cursor !== null ? "The first " : ""}${counted(shown, "label")} with attributes that fit, oldest first.` : "No label fits.";
  const order = orderOf(wanted), [, how] = ORDERS[order], more = page.next_cursor !== null;
  if (!shown) return q || bare ? "No label fits." : "";
  if (order === "errors" || order === "share") {
    return `${more ? "The first " : ""}${counted(shown, "label")} with checked images, ${how}.`;
  }
  const verb = match === "prefix" ? ["begins with", "begin with"] : ["contains", "contain"];
  const which = [q && `that ${verb[shown === 1 ? 0 : 1]} “${q}”`, bare && "without support images"].filter(Boolean).join(" ");
  if (more) return `The first ${counted(shown, "label")}${which ? ` ${which}` : ""}, ${how}.`;
  return which ? `${counted(shown, "label")} ${which}.` : `All ${counted(shown, "label")}, ${how}.`;
}

/** How many labels have support images, as a bar and a sentence. */
function showCoverage(card, space) {
  const { label_count: labels, unverified_count: bare } = space;
  card.hidden = !labels;
  if (!labels) return;
  const covered = (labels - bare) / labels;
  const headline = bare ? [h("strong", {}, share(covered)), " of the labels have support images"]
    : [h("strong", {}, labels === 1 ? "The label" : `All ${counted(labels, "label")}`), labels === 1 ? " has support images" : " have support images"];
  put(card,
    h("div", { class: "row spread" },
      h("p", { class: "headline" }, headline),
      h("p", { class: "quiet" }, counted(space.support_count, "support image"), " in all")),
    h("div", { class: "covered", "aria-hidden": "true" }, h("span", { style: { width: `${100 * covered}%` } })),
    bare > 0 && h("p", { class: "quiet" }, `${count(bare)} of ${counted(labels, "label")} ${bare === 1 ? "has" : "have"} none: an image that gets one of these is judged by its text alone.`));
}

function searchBar(context, wanted, now, soon) {
  const [q, match, bare, order, why] = ["search", "match", "bare", "order", "why"].map(freshId);
  const options = [["contains", "contains"], ["prefix", "begins with"]];
  const typed = (event) => { wanted.q = event.target.value; free(); soon(); };
  const sorting = h("select", { id: order, "aria-describedby": why, on: { change: () => { wanted.order = sorting.value; now(); } } },
    Object.entries(ORDERS).map(([value, [name]]) => h("option", { value, selected: value === wanted.order }, name)));
  const reason = h("span", { id: why, class: "quiet" });
  const free = () => { // sorting what was searched for would read every label
    sorting.disabled = Boolean(wanted.q || wanted.bare || wanted.filter);
    for (const one of form.querySelectorAll(".by-name")) one.disabled = Boolean(wanted.filter);
    put(reason, sorting.disabled && (wanted.filter ? "what a filter keeps comes oldest first" : "what is searched for comes by name"));
  };
  const filter = filterField(context, wanted.filter, (text) => { wanted.filter = text; free(); now(); });
  const form = h("form", { class: "searchbar", role: "search", on: { submit: (event) => { event.preventDefault(); now(); } } },
    h("label", { for: match, class: "quiet" }, "Name", h("span", { class: "visually-hidden" }, " filter")),
    h("select", { id: match, class: "by-name", on: { change: (event) => { wanted.match = event.target.value; now(); } } },
      options.map(([value, name]) => h("option", { value, selected: value === wanted.match }, name))),
    h("label", { for: q, class: "visually-hidden" }, "Search labels"),
    h("input", { id: q, class: "by-name", type: "search", value: wanted.q, placeholder: "any text", autocomplete: "off", maxlength: 500, on: { input: typed } }),
    h("span", { class: "check" },
      h("input", { id: bare, class: "by-name", type: "checkbox", checked: wanted.bare, on: { change: (event) => { wanted.bare = event.target.checked; free(); now(); } } }),
      h("label", { for: bare }, "only labels without support images")),
    h("span", { class: "check sorting" }, h("label", { for: order, class: "quiet" }, "Sort by"), sorting, reason), filter);
  free();
  return form;
}

function nothing({ space, go }, wanted, page, add) {
  if (["errors", "share"].includes(orderOf(wanted))) {
    return empty("No label was checked yet.",
      h("p", {}, "Wrong and missed are counted on images with known labels: those that you calibrate on in ",
        h("button", { type: "button", on: { click: () => go("trust") } }, "Trust"), ", and feedback on images that were chosen at random."));
  }
  if (wanted.filter) return empty("No label fits.", h("p", {}, FITTING));
  if (wanted.q || wanted.bare) {
    const all = wanted.bare && !wanted.q;
    return empty(all ? "Every label has support images." : "No label fits.", h("p", {}, all ? "Nothing to do here." : "Names are compared as they are written."));
  }
  return empty(`“${space.name}” has no labels yet.`, may("write") && h("p", {}, h("button", { type: "button", on: { click: add } }, "Add the first one")));
}

function labelRow(space, row, images) {
  const about = [row.alias_of !== null && `a further name of ${row.alias_of}`, row.parent !== null && `under ${row.parent}`, row.prompt !== null && `prompt: ${row.prompt}`].filter(Boolean);
  const support = row.alias_of !== null ? h("span", { class: "quiet" }, "alias")
    : row.support_count ? h("span", { class: "quiet" }, counted(row.support_count, "support image"))
    : h("span", { class: "badge hold" }, "no support images");
  const href = hrefOf(space.name, "labels", row.name);
  return h("li", {}, h("a", { class: "label-row", href },
    h("span", { class: "names" }, h("bdi", { class: "name" }, row.name), about.map((text) => h("span", { class: "about" }, text))),
    row.supports?.length ? h("span", { class: "thumbs", "aria-hidden": "true" }, row.supports.map((id) => thumb(space, id))) : h("span", { class: "thumbs" }),
    h("span", { class: "count" }, support, predictions(row.predictions, images))));
}

/** How often the label is given to stored images, and how often wrongly. */
function predictions(counts, images) {
  if (!counts || !images || !(counts.predicted || counts.images)) return null;
  const { predicted, wrong, missed } = counts;
  return [
    h("span", { class: "quiet" }, h("span", { class: wrong ? "wrong" : "" }, predicted ? `${count(wrong)} of ${count(predicted)} wrong` : "given to no image"),
      ", ", h("span", { class: missed ? "wrong" : "" }, `${count(missed)} missed`)),
    predicted > 0 && h("span", { class: "quiet" }, `given to ${percent(predicted / images)} of images`),
  ];
}
