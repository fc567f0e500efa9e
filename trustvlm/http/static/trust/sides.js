// The images that change side when the threshold moves: what it means, in pictures.

import { h, put } from "../dom.js";
import { between } from "./outcomes.js";
import { counted, fileName, number } from "../words.js";

const SHOWN = 16;
const MORE = 96;

/** The panel: show(view, source, reference, position) tells which images the threshold accepts or holds back since it stood at
 *  `reference`. `pin()` is asked for to compare from where it stands now. */
export function sidesPanel(pin) {
  const said = h("p", { class: "said", role: "status" });
  const grid = h("ul", { class: "moved" });
  const end = h("div", { class: "end" });
  const from = h("button", { type: "button", on: { click: pin } }, "Compare from here");
  const root = h("section", { class: "card sides" }, h("div", { class: "row spread" }, h("h2", {}, "Images that change side"), from), said, grid, end);
  return { root, show };

  function show(view, source, reference, position) {
    const looser = position > reference;
    const places = between(view, reference, position);
    const wrong = places.filter((place) => !view.rule.items[place].right);
    from.disabled = position === reference;
    const text = summary(places.length, wrong.length, looser);
    if (said.textContent !== text) said.textContent = text;
    const ordered = inOrder(view, places, looser);
    root.dataset.moved = places.length;
    root.dataset.wrong = wrong.length;
    fill(view, source, ordered, SHOWN);
  }

  function fill(view, source, places, most) {
    put(grid, places.slice(0, most).map((place) => tile(view, source, place)));
    const rest = places.length - most;
    put(end, rest > 0 && h("button", { type: "button", on: { click: () => { fill(view, source, places, most + MORE); grid.children[most]?.focus(); } } }, rest > MORE ? `Show ${MORE} more of ${counted(rest, "image")}` : `Show the other ${counted(rest, "image")}`));
  }
}

/** Wrong ones first; of these, and of the others, those first that changed side first. */
function inOrder(view, places, looser) {
  const away = looser ? -1 : 1;
  const { items } = view.rule;
  return places.toSorted((one, other) => items[one].right - items[other].right || away * (view.trust[one] - view.trust[other]));
}

function summary(moved, wrong, looser) {
  if (!moved) return "None yet: move the threshold to see the images that it newly accepts or holds back.";
  const these = counted(moved, "image");
  const which = wrong === 0 ? "none of them wrong" : wrong === moved ? (moved === 1 ? "it is wrong" : "all of them wrong") : `${wrong} of them wrong`;
  return looser ? `Newly accepted: ${these}, ${which}.` : `Newly held back: ${these}, ${which}.`;
}

function tile(view, source, place) {
  const { label, right, trust } = view.rule.items[place];
  const item = view.evaluation.items[place];
  const picture = source.picture(item);
  const name = fileName(item.source);
  const badge = right ? h("span", { class: "badge good" }, "✓ right") : h("span", { class: "badge bad" }, "✗ wrong");
  const truth = !right && h("span", { class: "quiet" }, "it is ", item.truth === null ? "no label of the space" : h("bdi", {}, item.truth));
  return h("li", { class: right ? "as-it-is" : "mistaken", tabindex: -1, title: item.source },
    h("div", { class: "picture" }, picture ?? h("span", { class: "none" }, name)),
    h("div", { class: "words" }, badge, h("bdi", { class: "label" }, label), truth, h("span", { class: "quiet" }, `trust ${number(trust)}`)));
}
