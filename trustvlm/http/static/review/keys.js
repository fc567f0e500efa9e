// The keys of Review, and the list of them.

import { h } from "../dom.js";
import { dialog } from "../parts.js";

const LISTED = [
  ["y", "the label is right"], ["1 – 5", "it is this one of the likely labels"], ["n", "it is another label: type its name, Enter chooses"],
  ["0", "it is none of the labels"], ["s", "also add it as a support image (on or off)"], ["k", "skip it"], ["u", "take the last answer back"], ["?", "this list"],
];

/** Listen to keys while the view is shown. `handle(key)`: true where the key did something. */
export function listenToKeys(signal, handle) {
  document.addEventListener("keydown", (event) => {
    const elsewhere = event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat;
    if (elsewhere || event.target.matches?.("textarea, select, input:not([type=checkbox])") || document.querySelector("dialog[open]")) return;
    if (event.key === "?") {
      event.preventDefault();
      showKeys();
    } else if (handle(event.key)) event.preventDefault();
  }, { signal });
}

export function showKeys() {
  return dialog("Keys", (close) => [
    h("dl", { class: "review-keys" }, LISTED.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))),
    h("div", { class: "actions" }, h("button", { type: "button", on: { click: () => close() } }, "Close"))]);
}
