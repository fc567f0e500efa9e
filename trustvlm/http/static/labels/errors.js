// How a label does on the stored images of known label: how often it is given, and its errors, each with the way to its verdict.

import { get, hrefOf, path } from "../api.js";
import { h, put } from "../dom.js";
import { problem, supportFigure } from "../parts.js";
import { count, counted, fileName } from "../words.js";

const MOST = 100; // errors of each kind that are read
const SHOWN = 8;

/** A card that appears once the service has looked through the stored images; it stays hidden where there are none. */
export function errorsCard({ space, signal }, label) {
  const root = h("section", { class: "card label-errors", "aria-label": "Errors", hidden: true });
  const show = (...content) => { root.hidden = false; put(root, ...content); };
  get(path("spaces", space.name, "labels", label.name, "errors"), { query: { limit: MOST }, signal }).then((errors) => {
    if (errors.stored_images) show(summary(errors), groups(space, label.name, errors));
  }, (error) => { if (error.name !== "AbortError") show(problem(error)); });
  return root;
}

function summary({ predictions: { predicted, wrong, images, missed }, stored_images: all }) {
  const given = predicted ? `Given to ${counted(predicted, "image")}, ${wrong ? `${count(wrong)} of them wrongly` : "always rightly"}.` : "Given to none of them.";
  const own = images ? ` Of ${counted(images, "image")} of this label, ${missed ? count(missed) : "none"} ${missed > 1 ? "get" : "gets"} another one.` : " None of them is of this label.";
  return [h("h2", {}, `On the ${counted(all, "stored image")} of known label`), h("p", { class: "quiet" }, given, own)];
}

function groups(space, name, { predictions, wrong, missed }) {
  return [
    wrong.length > 0 && group(space, ["Wrong: get “", h("bdi", {}, name), "”, but are something else"], wrong, predictions.wrong, ({ truth }) => truth ?? "none of the labels", "really: "),
    missed.length > 0 && group(space, ["Missed: are “", h("bdi", {}, name), "”, but get another label"], missed, predictions.missed, ({ label }) => label, "answer: "),
  ];
}

/** The errors of a kind, `all` in number: some, and more on demand. `other(error)`: the label beside this one. */
function group(space, title, errors, all, other, word) {
  const list = h("ul", { class: "errors" });
  const end = h("p", {});
  const more = () => {
    const first = list.children.length;
    list.append(...errors.slice(first, first ? errors.length : SHOWN).map((error) => tile(space, error, [word, h("bdi", {}, other(error))])));
    const rest = errors.length - list.children.length;
    const unread = all - errors.length;
    put(end, rest > 0 ? h("button", { type: "button", on: { click: more } }, `Show ${count(rest)} more`)
      : unread > 0 && h("span", { class: "quiet" }, `${count(unread)} older ones are not shown.`));
    if (first) list.children[first].querySelector("a").focus({ preventScroll: true });
  };
  more();
  return [h("h3", {}, title), list, end];
}

function tile(space, { id, source, pictured }, words) {
  const name = fileName(source) ?? `stored image ${id}`;
  const href = hrefOf(space.name, "try", "observation", id);
  const figure = supportFigure(space.name, { id, label: null, source: name, kind: "observations", pictured }, words);
  return h("li", {}, h("a", { href, title: `Open the verdict on ${name}` }, figure));
}
