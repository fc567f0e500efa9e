// Calibrating from here: the promise that is asked for, and what came of it.

import { freshId, h, put } from "../dom.js";
import { promiseOf } from "./promises.js";
import { ruleName } from "./outcomes.js";
import { doing, problem } from "../parts.js";
import { progressBox } from "../progress.js";
import { count, counted, percent, share } from "../words.js";

const CONFIDENCES = [0.8, 0.9, 0.95, 0.99];
const POLICIES = ["on_stale", "on_unverified", "unknown_rate"];

/** The card. `asked` is {risk, confidence}, kept between visits; `risked(risk)`: another risk is asked for; `chosen()`: the rule
 *  of the curve; `calibrated(calibration)`: a new one is in force. `before`: the one in force, whose policies go on. */
export function calibrateCard({ source, before, asked, signal, risked, chosen, calibrated }) {
  const [riskId, sureId, thisId, allId, bestId] = ["risk", "sure", "this", "all", "best"].map(freshId);
  const out = h("div", { class: "stack", "aria-live": "polite" });
  const risk = h("input", { id: riskId, type: "number", min: 0.1, max: 50, step: "any", required: true, value: 100 * asked.risk, on: { input: () => {
    if (risk.validity.valid) { asked.risk = risk.valueAsNumber / 100; risked(asked.risk); named(); }
  } } });
  const sure = h("select", { id: sureId, on: { change: () => { asked.confidence = Number(sure.value); } } },
    CONFIDENCES.map((one) => h("option", { value: one, selected: one === asked.confidence }, percent(one, 0))));
  const best = h("input", { id: bestId, type: "radio", name: bestId, checked: asked.rule === "auto", on: { change: () => { asked.rule = "auto"; } } });
  const all = h("input", { id: allId, type: "radio", name: bestId, checked: asked.rule === "all", on: { change: () => { asked.rule = "all"; } } });
  const own = h("input", { id: thisId, type: "radio", name: bestId, checked: asked.rule === "this", on: { change: () => { asked.rule = "this"; } } });
  const ownName = h("label", { for: thisId });
  const submit = h("button", { class: "primary" });
  const root = h("form", { class: "card calibrate", on: { submit: (event) => { event.preventDefault(); run(); } } },
    h("h2", {}, "Calibrate"),
    h("p", { class: "quiet" }, "A third of the images chooses the threshold, the rest proves it. It keeps the promise for images drawn like these, even where the curve above is better by chance."),
    h("div", { class: "row fields" },
      h("div", { class: "field" }, h("label", { for: riskId }, "At most wrong, in %"), risk),
      h("div", { class: "field" }, h("label", { for: sureId }, "Confidence"), sure),
      h("fieldset", {}, h("legend", {}, "Rule"),
        h("p", { class: "check" }, best, h("label", { for: bestId }, "the best rule that keeps the classifier’s labels")),
        h("p", { class: "check" }, all, h("label", { for: allId }, "the best of all rules: it may correct labels")),
        h("p", { class: "check" }, own, ownName))),
    h("div", { class: "row" }, submit), out);
  named();
  return { root, named, tell: (calibration) => put(out, outcome(calibration)) };

  function named() {
    put(submit, `Calibrate for at most ${share(asked.risk, 2)} wrong`);
    const { rule, params } = chosen();
    put(ownName, `this one: ${ruleName(rule, params)}`);
  }

  async function run() {
    const json = { max_risk: asked.risk, confidence: asked.confidence, rule: "auto", may_correct: asked.rule !== "auto" };
    if (asked.rule === "this") Object.assign(json, { rule: chosen().rule, params: chosen().params });
    if (before && !source.stored) for (const name of POLICIES) json[name] = before[name];
    const stopped = new AbortController();
    const box = progressBox(() => stopped.abort());
    box.tell("Calibrating …");
    put(out, box.root);
    await doing(submit, async () => {
      try {
        await calibrated(await source.calibrate(json, { signal: AbortSignal.any([signal, stopped.signal]) }));
      } catch (error) {
        put(out, error.name === "AbortError" ? h("p", { class: "quiet" }, "Cancelled. If it had ended before, it is in the list of calibrations below.") : problem(error));
      }
    });
  }
}

/** What a calibration came to. */
function outcome(calibration) {
  if (!calibration.failed) {
    return h("div", { class: "outcome" }, h("p", {}, promiseOf(calibration)), h("p", { class: "quiet" }, `It ${calibration.reason}. It is in force now, and marked ◆ on the curve.`),
      h("p", { class: "quiet" }, corrections(calibration)));
  }
  return h("div", { class: "warn" }, h("p", {}, h("strong", {}, "No promise could be proved: "), `${calibration.reason}.`),
    h("p", {}, "The calibration in force stays in force. Ask for less, or calibrate with more images."));
}

/** How many labels of the images its rule corrects, or another one would. */
function corrections({ rule, correcting_rule: other, corrected, corrected_rightly: rightly, corrected_wrongly: wrongly, tuning, tested }) {
  if (other === null) return "It keeps the classifier’s labels.";
  const counts = `${count(corrected)} of ${counted(tuning + tested, "label")}, ${count(rightly)} rightly and ${count(wrongly)} wrongly`;
  return other === rule ? `It corrects ${counts}.` : `It keeps the classifier’s labels; ${other} would correct ${counts}.`;
}
