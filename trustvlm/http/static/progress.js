// How far long work is, and a way out of it.

import { freshId, h } from "./dom.js";
import { count } from "./words.js";

/** A box with a bar. `tell(text, done, total)`: what is being done; without numbers its length is not known.
 *  `cancel()` is called by the button. */
export function progressBox(cancel) {
  const id = freshId("progress");
  const text = h("span", { id }, "One moment …");
  const amount = h("span", { class: "quiet" });
  const bar = h("progress", { "aria-labelledby": id });
  const button = h("button", { type: "button", on: { click: () => { button.disabled = true; cancel(); } } }, "Cancel");
  const root = h("div", { class: "progress" }, h("p", { role: "status" }, text), bar, h("div", { class: "row spread" }, amount, button));
  const tell = (said, done = null, total = null) => {
    if (text.textContent !== said) text.textContent = said;
    amount.textContent = total ? `${count(done)} of ${count(total)}` : "";
    if (total) { bar.max = total; bar.value = done; } else bar.removeAttribute("value");
  };
  return { root, tell };
}
