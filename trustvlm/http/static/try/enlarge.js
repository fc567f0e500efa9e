// An image as large as the window: Escape closes, the arrow keys go to the next one and back.

import { h, put } from "../dom.js";
import { dialog } from "../parts.js";
import { badge } from "./answer.js";
import { pictureOf } from "./queries.js";

/** Show the image of `items[at]`. Resolves to the item that was shown last. */
export async function enlarge(items, at) {
  const gone = new AbortController();
  let shown = at;
  const frame = h("div", { class: "large" });
  const said = h("p", { class: "row", role: "status" });
  const step = (by) => { shown = Math.min(items.length - 1, Math.max(0, shown + by)); draw(); };
  const button = (name, sign, by) => h("button", { type: "button", "aria-label": name, on: { click: () => step(by) } }, sign);
  const [back, on] = [button("Previous image", "‹", -1), button("Next image", "›", 1)];
  function draw() {
    const { query, verdict } = items[shown];
    put(frame, pictureOf(query, gone.signal));
    put(said, verdict && badge(verdict), verdict && verdict.decision !== "unknown" && h("strong", {}, h("bdi", {}, verdict.label)),
      h("span", { class: "quiet" }, h("bdi", {}, query.name), items.length > 1 && ` · ${shown + 1} of ${items.length}`));
    // The last one stays focusable, so that the keys go on working.
    for (const [one, end] of [[back, 0], [on, items.length - 1]]) one.setAttribute("aria-disabled", String(shown === end));
  }
  const keys = (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, j: 1, ArrowLeft: -1, ArrowUp: -1, k: -1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  };
  draw();
  await dialog("Image", (close) => h("div", { class: "enlarged", on: { keydown: keys } }, frame, said,
    h("div", { class: "row spread" }, items.length > 1 ? h("div", { class: "row" }, back, on) : h("span"), h("button", { type: "button", autofocus: true, on: { click: () => close() } }, "Close"))));
  gone.abort();
  return items[shown];
}
