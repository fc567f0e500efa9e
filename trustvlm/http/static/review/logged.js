// Answers of the log as questions: the newest that were not accepted, or a random sample, by the names of their images.

import { get, path, post } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { doing } from "../parts.js";
import { counted } from "../words.js";

const WHICH = {
  review: ["the newest that were not accepted", (number) => ({ limit: number })],
  sample: ["a random sample of all answers", (number) => ({ sample: number, seed: crypto.getRandomValues(new Uint32Array(1))[0] })],
};
const MOST = 10_000;

/** The panel, which is shown where answers were logged; `added()` is called when some came in. */
export function loggedPanel({ space, signal }, added) {
  const [which, most] = ["which", "most"].map(freshId);
  const choice = h("select", { id: which }, Object.entries(WHICH).map(([name, [words]]) => h("option", { value: name }, words)));
  const number = h("input", { id: most, type: "number", required: true, min: 1, max: MOST, step: 1, value: 50 });
  const button = h("button", {}, "Put them into the queue");
  const said = h("p", { role: "status" });
  const sent = (event) => {
    event.preventDefault();
    doing(button, async () => {
      const [, fields] = WHICH[choice.value];
      const result = await post(path("spaces", space.name, "review", "logged"), { json: fields(number.valueAsNumber), signal });
      put(said, outcome(result));
      await added();
    });
  };
  const root = h("details", { class: "from-log", hidden: true }, h("summary", {}, "Ask about answers of the log"),
    h("form", { class: "card stack", on: { submit: sent } },
      h("p", { class: "quiet" }, "The log keeps no images: you find each by the name that came with it. Your answers are watched against the promise; they calibrate nothing, and no image becomes a support image."),
      h("div", { class: "row" }, h("label", { for: which }, "Which"), choice, h("label", { for: most }, "At most"), number, button), said));
  get(path("spaces", space.name, "verdict-log"), { signal }).then(({ stored }) => { root.hidden = !stored; }, () => {});
  return root;
}

function outcome({ added, chosen, unnamed }) {
  const there = chosen - added;
  return [added || !chosen ? `${counted(added, "answer")} came into the queue.` : "Nothing is new.",
    there > 0 && ` ${counted(there, "answer")} ${there === 1 ? "was" : "were"} there already, or found no room.`,
    unnamed > 0 && ` ${counted(unnamed, "answer")} ${unnamed === 1 ? "has an image" : "have images"} without a name, which nobody could find.`];
}
