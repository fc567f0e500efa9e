// The list of labels: searched and paged by the service, however many there are.

import { get, path, pictureAddress } from "../api.js";
import { freshId, h, put, settled } from "../dom.js";
import { takesImages } from "../encoders.js";
import { addPanel } from "./labeladd.js";
import { empty, problem, working } from "../parts.js";
import { count, counted, share } from "../words.js";

const PAGE = 50;
const PICTURES = 3;
const asked = new Map(); // by space, so that coming back from a label finds the list as it was

export async function showList(root, context) {
  const { space, signal } = context;
  const wanted = asked.get(space.name) ?? { q: "", match: "contains", bare: false };
  asked.set(space.name, wanted);
  const coverage = h("div", { class: "card coverage" });
  const list = h("ul", { class: "labels" });
  const end = h("div", { class: "end" });
  const said = h("p", { class: "quiet", role: "status" });
  let current = new AbortController();

  const recount = async () => showCoverage(coverage, await context.refresh());
  const adding = addPanel(context, () => { recount().catch(() => {}); search(); });
  const add = h("button", { type: "button", class: "primary", "aria-expanded": "false", on: { click: () => {
    adding.root.hidden = !adding.root.hidden;
    add.setAttribute("aria-expanded", String(!adding.root.hidden));
    if (!adding.root.hidden) adding.focus();
  } } }, "Add a label");

  showCoverage(coverage, space);
  put(root,
    h("div", { class: "row spread head" }, h("h1", {}, "Labels"), add),
    h("p", { class: "lead" }, "The names that an image can get, and the support images of each."),
    adding.root, coverage, searchBar(wanted, () => search(), settled(() => search())), said, list, end);
  await search();

  /** The first page anew; an older search that still runs is given up. */
  async function search() {
    current.abort();
    current = new AbortController();
    const mine = AbortSignal.any([signal, current.signal]);
    list.classList.add("stale");
    try {
      const page = await read(null, mine);
      put(list, page.labels.map((row) => labelRow(space, row)));
      finish(page);
      if (!page.labels.length) put(end, nothing(space, wanted, () => add.click()));
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
      const rows = page.labels.map((row) => labelRow(space, row));
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
    said.textContent = told(shown, page.next_cursor !== null, wanted);
    put(end, page.next_cursor !== null && moreButton(page.next_cursor));
  }

  function read(cursor, one) {
    const query = { q: wanted.q, match: wanted.q && wanted.match, unverified: wanted.bare || null, limit: PAGE, cursor };
    if (takesImages(space)) query.thumbnails = PICTURES;
    return get(path("spaces", space.name, "labels"), { query, signal: one });
  }
}

function told(shown, more, { q, match, bare }) {
  if (!shown) return "No label fits.";
  const verb = match === "prefix" ? ["begins with", "begin with"] : ["contains", "contain"];
  const which = [q && `that ${verb[shown === 1 ? 0 : 1]} “${q}”`, bare && "without support images"].filter(Boolean).join(" ");
  if (more) return `The first ${counted(shown, "label")}${which ? ` ${which}` : ""}, by name.`;
  return which ? `${counted(shown, "label")} ${which}.` : `All ${counted(shown, "label")}, by name.`;
}

/** How many labels have support images, as a bar and a sentence. */
function showCoverage(card, space) {
  const { label_count: labels, unverified_count: bare } = space;
  card.hidden = !labels;
  if (!labels) return;
  const covered = (labels - bare) / labels;
  const rest = bare
    ? `${counted(bare, "label")} ${bare === 1 ? "has" : "have"} none: an image that gets one of these is judged by its text alone.`
    : "Each has a support image.";
  put(card,
    h("div", { class: "row spread" },
      h("p", { class: "headline" }, h("strong", {}, share(covered)), " of the labels have support images"),
      h("p", { class: "quiet" }, counted(space.support_count, "support image"), " in all")),
    h("div", { class: "covered", "aria-hidden": "true" }, h("span", { style: { width: `${100 * covered}%` } })),
    h("p", { class: "quiet" }, `${count(labels - bare)} of ${counted(labels, "label")}. ${rest}`));
}

function searchBar(wanted, now, soon) {
  const [q, match, bare] = ["search", "match", "bare"].map(freshId);
  const options = [["contains", "contain"], ["prefix", "begin with"]];
  const typed = (event) => { wanted.q = event.target.value; soon(); };
  return h("form", { class: "searchbar", role: "search", on: { submit: (event) => { event.preventDefault(); now(); } } },
    h("label", { for: match, class: "quiet" }, "Names that"),
    h("select", { id: match, on: { change: (event) => { wanted.match = event.target.value; now(); } } },
      options.map(([value, name]) => h("option", { value, selected: value === wanted.match }, name))),
    h("label", { for: q, class: "visually-hidden" }, "Search labels"),
    h("input", { id: q, type: "search", value: wanted.q, placeholder: "any text", autocomplete: "off", maxlength: 500, on: { input: typed } }),
    h("span", { class: "check" },
      h("input", { id: bare, type: "checkbox", checked: wanted.bare, on: { change: (event) => { wanted.bare = event.target.checked; now(); } } }),
      h("label", { for: bare }, "without support images")));
}

function nothing(space, wanted, add) {
  if (wanted.q || wanted.bare) {
    const all = wanted.bare && !wanted.q;
    return empty(all ? "Every label has support images." : "No label fits.", h("p", {}, all ? "Nothing to do here." : "Names are compared as they are written."));
  }
  return empty(`“${space.name}” has no labels yet.`, h("p", {}, h("button", { type: "button", on: { click: add } }, "Add the first one")));
}

function labelRow(space, row) {
  const about = [row.alias_of !== null && `a further name of ${row.alias_of}`, row.prompt !== null && `prompt: ${row.prompt}`].filter(Boolean);
  const support = row.alias_of !== null ? h("span", { class: "quiet" }, "alias")
    : row.support_count ? h("span", { class: "quiet" }, counted(row.support_count, "support image"))
    : h("span", { class: "badge hold" }, "no support images");
  const href = "#/" + [space.name, "labels", row.name].map(encodeURIComponent).join("/");
  return h("li", {}, h("a", { class: "label-row", href },
    h("span", { class: "names" }, h("bdi", { class: "name" }, row.name), about.map((text) => h("span", { class: "about" }, text))),
    row.supports?.length ? h("span", { class: "thumbs", "aria-hidden": "true" }, row.supports.map((id) => thumb(space, id))) : h("span", { class: "thumbs" }),
    h("span", { class: "count" }, support)));
}

/** A support image so small that it is no more than a hint; the row says the rest. */
function thumb(space, id) {
  const image = h("img", { alt: "", loading: "lazy", decoding: "async", width: 40, height: 40, on: { error: () => image.classList.add("none") } });
  pictureAddress(space.name, id).then((address) => { image.src = address; }, () => image.classList.add("none"));
  return image;
}
