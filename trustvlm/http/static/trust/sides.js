// The images whose decision changes when the threshold moves: what it means, in pictures.

import { hrefOf } from "../api.js";
import { h, put } from "../dom.js";
import { between } from "./outcomes.js";
import { trustText } from "../rules.js";
import { counted, fileName } from "../words.js";

const SHOWN = 16;
const MORE = 96;

/** The panel: show(view, source, reference, position) tells which images the threshold accepts or holds back since it stood at
 *  `reference`. `pin()` is asked for to compare from where it stands now. */
export function sidesPanel(space, pin) {
  const said = h("p", { class: "said", role: "status" });
  const grid = h("ul", { class: "moved" });
  const end = h("div", { class: "end" });
  const from = h("button", { type: "button", on: { click: pin } }, "Compare with this threshold");
  const hint = h("p", { class: "quiet hint" }, "Click an image for its verdict.");
  const root = h("section", { class: "card sides" }, h("div", { class: "row spread" }, h("h2", {}, "Images whose decision changes"), from), said, hint, grid, end);
  return { root, show };

  function show(view, source, reference, position) {
    const looser = position > reference;
    const places = between(view, reference, position);
    const wrong = places.filter((place) => !view.rule.items[place].right);
    from.disabled = position === reference;
    const text = summary(places.length, wrong.length, looser);
    if (said.textContent !== text) said.textContent = text;
    hint.hidden = !places.length || view.evaluation.items[places[0]].observation === null;
    const ordered = inOrder(view, places, looser);
    root.dataset.moved = places.length;
    root.dataset.wrong = wrong.length;
    fill(view, source, ordered, SHOWN);
  }

  function fill(view, source, places, most) {
    put(grid, places.slice(0, most).map((place) => tile(view, source, place, space)));
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
  if (!moved) return "None yet: move the threshold to see which images change from accept to review, or back.";
  const these = counted(moved, "image");
  const which = wrong === 0 ? "none of them wrong" : wrong === moved ? (moved === 1 ? "it is wrong" : "all of them wrong") : `${wrong} of them wrong`;
  return looser ? `From review to accept: ${these}, ${which}.` : `From accept to review: ${these}, ${which}.`;
}

/** The image, which opens its verdict where it is stored. */
function frame(space, { observation }, name, picture) {
  const inside = picture ?? h("span", { class: "none" }, name);
  if (observation === null) return h("div", { class: "picture" }, inside);
  const href = hrefOf(space.name, "try", "observation", observation);
  return h("a", { class: "picture", href, "aria-label": `Verdict on ${name}` }, inside);
}

function tile(view, source, place, space) {
  const { label, right, trust } = view.rule.items[place];
  const item = view.evaluation.items[place];
  const name = fileName(item.source);
  const badge = right ? h("span", { class: "badge good" }, "✓ right") : h("span", { class: "badge bad" }, "✗ wrong");
  const answer = h("span", { class: "label" }, !right && "answer: ", h("bdi", {}, label));
  const truth = !right && h("span", { class: "quiet" }, "really: ", item.truth === null ? "none of the labels" : h("bdi", {}, item.truth));
  return h("li", { class: right ? "as-it-is" : "mistaken", tabindex: -1, title: item.source },
    frame(space, item, name, source.picture(item)),
    h("div", { class: "words" }, badge, answer, truth, h("span", { class: "quiet" }, `trust ${trustText(trust, view.rule.rule)}`)));
}
