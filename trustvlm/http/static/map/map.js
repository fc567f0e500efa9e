// Map: support images and stored images in two dimensions, with the errors among them; and the same as lists.

import { get, hrefOf, path, pictureAddress } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { empty, problem, working } from "../parts.js";
import { count, counted, fileName } from "../words.js";
import { plot } from "./plot.js";

export const title = "Map";

const LIMITS = [500, 2_000, 5_000, 10_000];
const SHOWN = 30;
let limit = 2_000;

export async function show(root, context) {
  const { space, signal } = context;
  const id = freshId("limit");
  const body = h("div", {});
  const select = h("select", { id, on: { change: () => { limit = Number(select.value); load(); } } },
    LIMITS.map((one) => h("option", { value: one, selected: one === limit }, count(one))));
  put(root,
    h("div", { class: "row spread head" }, h("h1", {}, "Map"), h("div", { class: "row" }, h("label", { for: id, class: "quiet" }, "Show at most"), select, h("span", { class: "quiet" }, "points"))),
    h("p", { class: "lead" }, "Similar images are close together. Look at labels that are spread out, and at errors inside another group."),
    body);
  await load();

  async function load() {
    put(body, working(limit > 2_000 ? "Computing the map, up to half a minute …" : "Computing the map, some seconds …"));
    try {
      const answer = await get(path("spaces", space.name, "projection"), { query: { limit }, signal });
      if (!answer.points.length) put(body, nothing(context));
      else drawn(body, context, answer);
    } catch (error) {
      if (error.name !== "AbortError") put(body, problem(error));
    }
  }
}

const nothing = ({ go }) => empty("Nothing to map yet.", h("p", {}, "The map shows support images, and the images that you calibrate on. Add support images in ",
  h("button", { type: "button", on: { click: () => go("labels") } }, "Labels"), "."));

function drawn(body, context, answer) {
  const points = [...answer.points].sort((a, b) => rank(a) - rank(b));
  const wrong = points.filter((point) => point.error);
  const card = h("div", { class: "card about", "aria-live": "polite" });
  const rest = h("p", { class: "quiet" }, "Point at a mark or tap it, or move with the arrow keys. Click or Enter opens it.");
  const seen = h("p", { class: "quiet" });
  const map = plot({
    points, seen: (labels, all) => put(seen, labels < all && `${count(labels)} of ${counted(all, "label")} in view.`), signal: context.signal,
    about: `Map of ${counted(points.length, "image")}, ${counted(wrong.length, "error")} among them. The arrow keys move from mark to mark, Enter opens one, plus and minus zoom. The lists below have the same.`,
    over: (point) => put(card, point ? aboutPoint(context, point) : rest),
    open: (point) => { location.hash = addressOf(context.space, point); },
  });
  put(card, rest);
  const button = (sign, name, run) => h("button", { type: "button", class: "sign-only", "aria-label": name, title: name, on: { click: run } }, sign);
  put(body,
    h("p", { class: "quiet", role: "status" }, summary(answer, points, wrong)),
    h("div", { class: "mapped" },
      h("div", { class: "card frame" }, map.canvas,
        h("div", { class: "zoom" }, seen, button("+", "Enlarge", map.enlarge), button("−", "Reduce", map.reduce),
          h("button", { type: "button", on: { click: map.whole } }, "Show the whole map"))),
      h("div", { class: "beside" }, key(), card)),
    lists(context, points, wrong, map));
}

/** Errors are drawn last, stored images over support images. */
const rank = (point) => (point.error ? 2 : point.kind === "observation" ? 1 : 0);

function summary({ points, support_images: supports, observations, method }, all, wrong) {
  const some = (kind, total, one, part) => {
    const n = points.filter((point) => point.kind === kind).length;
    return n < total ? `${count(n)} of ${counted(total, one)}${part}` : counted(total, one);
  };
  const parts = [some("support", supports, "support image", " (a random part)"), some("observation", observations, "stored image", " (the newest that still count)")];
  const errors = !observations ? "Errors are not known: no stored image has a known label."
    : wrong.length ? `${counted(wrong.length, "stored image gets", "stored images get")} a wrong answer.` : "No stored image gets a wrong answer.";
  return `${parts.join(" and ")}, by ${method}. ${errors}`;
}

const key = () => h("ul", { class: "marks", "aria-label": "Marks" },
  [["support", "support image"], ["right", "stored image, answer right"], ["error", "stored image, answer wrong"]].map(([kind, text]) =>
    h("li", {}, h("span", { class: `sign ${kind}`, "aria-hidden": "true" }, kind === "error" ? "✕" : ""), text)));

/** Where a point leads: a support image to its label, a stored image to its verdict. */
const addressOf = (space, point) => (point.kind === "support" ? hrefOf(space.name, "labels", point.label) : hrefOf(space.name, "try", "observation", point.id));
const labelAddress = (space, label) => hrefOf(space.name, "labels", label);
const nameOf = (point) => fileName(point.source) ?? `${point.kind === "support" ? "support image" : "stored image"} ${point.id}`;

const truthOf = (point) => (point.truth === null ? "no label of the space" : h("bdi", {}, point.truth));

function aboutPoint({ space }, point) {
  const support = point.kind === "support";
  const frame = h("div", { class: "picture" }, h("span", { class: "none" }, "no picture"));
  if (point.pictured) {
    const image = h("img", { alt: "", decoding: "async" });
    pictureAddress(space.name, point.id, support ? "supports" : "observations").then((address) => { image.src = address; put(frame, image); }, () => {});
  }
  return [
    h("figure", { class: "support" }, frame, h("figcaption", {}, nameOf(point))),
    h("p", {}, h("strong", {}, h("bdi", {}, point.label))),
    h("p", { class: point.error ? "wrong" : "quiet" }, support ? "support image"
      : point.error ? ["wrong answer, really: ", truthOf(point)] : "stored image, answer right"),
    h("p", {}, h("a", { href: addressOf(space, point) }, support ? "Open the label" : "Open the verdict")),
  ];
}

function lists(context, points, wrong, map) {
  const { space } = context;
  const labels = new Map();
  const of = (name) => labels.get(name) ?? labels.set(name, { name, supports: 0, stored: 0, errors: 0 }).get(name);
  for (const point of points) {
    of(point.label)[point.kind === "support" ? "supports" : "stored"] += 1;
    if (point.error) of(point.label).errors += 1;
  }
  const rows = [...labels.values()].sort((a, b) => b.errors - a.errors || (a.name < b.name ? -1 : 1));
  const only = (label) => ({ mouseenter: () => map.only(label), mouseleave: () => map.only(null), focusin: () => map.only(label), focusout: () => map.only(null) });
  return h("div", { class: "split listed" },
    h("section", {}, h("h2", {}, `Errors (${count(wrong.length)})`),
      wrong.length ? growing(wrong, (point) => h("li", { on: { mouseenter: () => map.show(point), focusin: () => map.show(point) } },
        h("a", { href: addressOf(space, point) }, nameOf(point)),
        h("span", {}, "answer: ", h("bdi", {}, point.label), ", really: ", truthOf(point))))
        : h("p", { class: "quiet" }, points.some((point) => point.kind === "observation") ? "None of the stored images gets a wrong answer." : "Not known: calibrate in Trust, or give feedback.")),
    h("section", {}, h("h2", {}, `Labels (${count(rows.length)})`),
      growing(rows, (row) => h("li", { on: only(row.name) }, h("a", { href: labelAddress(space, row.name) }, h("bdi", {}, row.name)),
        h("span", {}, row.supports > 0 && counted(row.supports, "support image"), row.supports > 0 && row.stored > 0 && "; ", row.stored > 0 && answered(row))))));
}

/** How many stored images get a label, and how many of them wrongly. */
const answered = ({ name, stored, errors }) => [`${count(stored)} answered “`, h("bdi", {}, name), "”", errors > 0 && `, ${count(errors)} of them wrong`];

/** A list that shows more of its items on demand. */
function growing(items, item) {
  const list = h("ul", { class: "card lines" });
  const end = h("p", {});
  const more = () => {
    const first = list.children.length;
    list.append(...items.slice(first, first + SHOWN).map(item));
    const rest = items.length - list.children.length;
    put(end, rest > 0 && h("button", { type: "button", on: { click: more } }, `Show ${count(Math.min(rest, SHOWN))} more of ${count(rest)}`));
    if (first) list.children[first].querySelector("a").focus({ preventScroll: true });
  };
  more();
  return [list, end];
}
