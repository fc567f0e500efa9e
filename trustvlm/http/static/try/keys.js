// The keys of Try, and the list of them.

import { h } from "../dom.js";
import { dialog } from "../parts.js";

const LISTED = [
  ["j or →", "next image"], ["k or ←", "previous image"], ["↑ ↓", "image above or below"], ["Enter", "open the image’s verdict"],
  ["x", "select the image; with Shift all from the one selected before"], ["e", "enlarge the image"], ["Esc", "back to all images; close what is open"], ["?", "this list"],
];

/** Listen to keys while the view is shown. `handle(key, event)`: true where the key did something. */
export function listenToKeys(signal, handle) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
    if (event.key === "?") {
      event.preventDefault();
      showKeys();
    } else if (handle(event.key, event)) event.preventDefault();
  }, { signal });
}

const typing = (target) => target.matches?.("textarea, select, [role=combobox], input:not([type=checkbox], [type=file])");

export function showKeys() {
  return dialog("Keys", (close) => [
    h("dl", { class: "key-list" }, LISTED.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))),
    h("div", { class: "actions" }, h("button", { type: "button", on: { click: () => close() } }, "Close"))]);
}
