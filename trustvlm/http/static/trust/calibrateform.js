// Letting the calibration choose the threshold: the rule that is asked for, and what came of it.

import { freshId, h, put } from "../dom.js";
import { problem } from "../parts.js";
import { progressBox } from "../progress.js";
import { ruleName } from "../rules.js";
import { told } from "./promises.js";
import { share } from "../words.js";

const POLICIES = ["on_stale", "on_unverified", "unknown_rate"];

/** The card. `asked` is {risk, confidence, rule}; `chosen()`: the rule of the curve; `calibrated(made)`: a new one is made.
 *  `before`: the one in force, whose policies go on. */
export function calibrateCard({ source, before, asked, signal, chosen, calibrated }) {
  const [thisId, allId, bestId] = ["this", "all", "best"].map(freshId);
  const out = h("div", { class: "stack", "aria-live": "polite" });
  const choice = (id, name) => h("input", { id, type: "radio", name: bestId, checked: asked.rule === name, on: { change: () => { asked.rule = name; } } });
  const ownName = h("label", { for: thisId });
  const submit = h("button", {}, `Calibrate for at most ${share(asked.risk, 2)} wrong`);
  const root = h("form", { class: "card calibrate", on: { submit: (event) => { event.preventDefault(); run(); } } },
    h("h2", {}, "Or let the calibration choose"),
    h("p", { class: "quiet" }, "It takes the loosest threshold that it can prove. A rule that you name is proved with all images. To compare the rules takes a third of them, and the rest proves the best one."),
    h("fieldset", {}, h("legend", {}, "Rule"),
      h("p", { class: "check" }, choice(thisId, "this"), ownName),
      h("p", { class: "check" }, choice(bestId, "auto"), h("label", { for: bestId }, "the best rule that keeps the classifier’s labels")),
      h("p", { class: "check" }, choice(allId, "all"), h("label", { for: allId }, "the best of all rules: it may correct labels"))),
    h("div", { class: "row" }, submit), out);
  return { root, named, out };

  function named() {
    const { rule, params } = chosen();
    put(ownName, `this one: ${ruleName(rule, params)}`);
  }

  async function run() {
    const json = { max_risk: asked.risk, confidence: asked.confidence, rule: "auto", may_correct: asked.rule === "all" };
    if (asked.rule === "this") Object.assign(json, { rule: chosen().rule, params: chosen().params, may_correct: chosen().rule.endsWith("_star") });
    if (before && !source.stored) for (const name of POLICIES) json[name] = before[name];
    const stopped = new AbortController();
    const box = progressBox(() => stopped.abort());
    box.tell("Calibrating …");
    put(out, box.root);
    submit.disabled = true;
    try {
      const made = await source.calibrate(json, { signal: AbortSignal.any([signal, stopped.signal]) });
      put(out, told(made, before));
      await calibrated(made);
    } catch (error) {
      put(out, error.name === "AbortError" ? h("p", { class: "quiet" }, "Cancelled. If it had ended before, it is in the history below.") : problem(error));
    } finally {
      submit.disabled = false;
    }
  }
}
