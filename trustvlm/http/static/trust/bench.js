// Choosing a threshold by looking at what it does: the curve, the threshold, its consequences, and the way to use it.

import { may } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { calibrateCard } from "./calibrateform.js";
import { curveChart } from "./curve.js";
import { loosest, positionOf, probabilityOf, ruleView, sameRule } from "./outcomes.js";
import { problem } from "../parts.js";
import { progressBox } from "../progress.js";
import { told } from "./promises.js";
import { isProbability, ruleName } from "../rules.js";
import { curveTable, proofAt, readout, spoken } from "./readout.js";
import { sidesPanel } from "./sides.js";
import { counted, percent } from "../words.js";

const KINDS = { text: "text", image: "images", fused: "both" };
const CONFIDENCES = [0.8, 0.9, 0.95, 0.99];
const POLICIES = ["on_stale", "on_unverified", "unknown_rate"];

/** The cards for an evaluation of a source. `asked`: {risk, confidence, rule}, kept between visits; `again()` measures again;
 *  `calibrated(made)`: another calibration is in force; `made`: the one just made, told of here. */
export function bench({ evaluation, source, state, asked, space, signal, again, calibrated, made }) {
  const { current } = state;
  const followed = current && evaluation.rules.some((rule) => sameRule(rule, current)) ? current.rule : null;
  let view = ruleView(evaluation, asked.shown && evaluation.rules.some((rule) => rule.rule === asked.shown) ? asked.shown : followed ?? evaluation.fused ?? evaluation.text ?? evaluation.rules[0].rule);
  let [position, reference] = [0, 0];
  const chart = curveChart({ signal, moved: move, spoken: (to) => spoken(view, to, proofAt(view, to, current, asked)) });
  const figures = readout();
  const [table, chosenRule] = [h("div", {}), h("span", {})];
  const sides = sidesPanel(space, () => { reference = position; redraw(); sides.show(view, source, reference, position); });
  const out = h("div", { class: "stack outcome-of-use", "aria-live": "polite" });
  const use = h("button", { type: "button", class: "primary", on: { click: useIt } }, "Use this threshold");
  const beside = h("span", { class: "quiet" });
  const form = calibrateCard({ source, before: current, asked, signal, chosen: () => view.rule, calibrated });
  const root = h("div", { class: "stack" },
    h("section", { class: "card bench" },
      h("div", { class: "row spread" }, h("h2", { tabindex: -1 }, "Choose a threshold"), h("button", { type: "button", on: { click: () => again() } }, "Measure again")),
      h("p", { class: "quiet about" }, about(evaluation, source)),
      promiseFields(asked, () => again()),
      h("div", { class: "plots" }, h("div", {}, chart.root, legend(current, view)), h("div", { class: "side" }, figures.root, may("write") && h("div", { class: "row" }, use, beside), out)),
      h("details", { class: "advanced" }, h("summary", {}, "Advanced: rule ", chosenRule), rulePicker(evaluation, view.rule.rule, choose)),
      table),
    sides.root, may("write") && form.root);
  choose(view.rule.rule);
  if (made) put(made.asked_threshold === null ? form.out : out, told(made, current));
  return { root };

  function choose(name) {
    view = ruleView(evaluation, name);
    asked.shown = name;
    const own = ownPosition();
    const range = view.rule.threshold_range;
    position = reference = own || (range ? positionOf(view, range[0]) : loosest(view, asked.risk));
    put(chosenRule, ruleName(view.rule.rule, view.rule.params));
    redraw();
    put(table, curveTable(view, current, asked));
    form.named();
    tellMove();
  }

  function ownPosition() {
    return sameRule(view.rule, current) ? positionOf(view, current.threshold) : 0;
  }

  function redraw() {
    chart.show({ view, reference, calibration: current, own: ownPosition(), maxRisk: asked.risk });
    chart.place(position);
  }

  function move(to) {
    if (to === position) return;
    position = to;
    chart.place(to);
    put(out);
    tellMove();
  }

  function tellMove() {
    const standing = proofAt(view, position, current, asked);
    figures.show(view, position, standing, probability);
    use.disabled = standing.kind !== "proved";
    put(beside, unusable(standing.kind));
    sides.show(view, source, reference, position);
  }

  /** Why the threshold cannot be used, and the way to one that can. */
  function unusable(kind) {
    if (kind === "proved") return null;
    if (kind === "force") return "It is in use already.";
    const range = view.rule.threshold_range;
    const lowest = range ? positionOf(view, range[0]) : 0;
    const way = lowest > 0 && view.at(lowest).threshold <= range[1] && h("button", { type: "button", on: { click: () => { move(lowest); use.focus(); } } }, "Go to the lowest proved threshold");
    return ["Only a proved threshold can be used. ", way];
  }

  /** The probability that goes with a trust, where the calibration in force says so or the rule is one; else null. */
  function probability(trust) {
    if (trust === null) return null;
    if (sameRule(view.rule, current) && !current.stale && !current.other_encoders) return probabilityOf(current, trust);
    return isProbability(view.rule.rule) ? trust : null;
  }

  async function useIt() {
    const { threshold } = view.at(position);
    const { rule, params } = view.rule;
    const json = { max_risk: asked.risk, confidence: asked.confidence, rule, params, threshold, may_correct: rule.endsWith("_star") || Boolean(current?.may_correct) };
    if (current && !source.stored) for (const name of POLICIES) json[name] = current[name];
    const stopped = new AbortController();
    const box = progressBox(() => stopped.abort());
    box.tell("Proving the threshold …");
    put(out, box.root);
    use.disabled = true;
    try {
      const done = await source.calibrate(json, { signal: AbortSignal.any([signal, stopped.signal]) });
      put(out, told(done, current));
      await calibrated(done);
    } catch (error) {
      put(out, error.name === "AbortError" ? h("p", { class: "quiet" }, "Cancelled. If it had ended before, it is in the history below.") : problem(error));
    } finally {
      tellMove();
    }
  }
}

/** What is promised, which decides what can be proved. */
function promiseFields(asked, changed) {
  const [riskId, sureId] = ["risk", "sure"].map(freshId);
  const risk = h("input", { id: riskId, type: "number", min: 0.1, max: 50, step: "any", required: true, value: 100 * asked.risk, on: { change: () => {
    if (!risk.reportValidity() || risk.valueAsNumber / 100 === asked.risk) return;
    asked.risk = risk.valueAsNumber / 100;
    changed();
  } } });
  const sure = h("select", { id: sureId, on: { change: () => { asked.confidence = Number(sure.value); changed(); } } },
    [...new Set([...CONFIDENCES, asked.confidence])].sort().map((one) => h("option", { value: one, selected: one === asked.confidence }, percent(one, Number.isInteger(100 * one) ? 0 : 1))));
  return h("div", { class: "row fields" },
    h("div", { class: "field" }, h("label", { for: riskId }, "At most wrong, in %"), risk),
    h("div", { class: "field" }, h("label", { for: sureId }, "Confidence"), sure));
}

function about(evaluation, { title: name }) {
  const absent = evaluation.left_out ?? []; // a job of an earlier version has none
  const without = absent.map((one) => one.rule).join(", ");
  const left = [evaluation.supports && `${counted(evaluation.supports, "support image")} left out`, evaluation.duplicates && `${counted(evaluation.duplicates, "copy", "copies")} of others left out`, without && `not compared: ${without} (${absent[0].reason})`, evaluation.gone && `${counted(evaluation.gone, "image")} of removed labels left out`].filter(Boolean);
  return `${counted(evaluation.images, "image")} of ${counted(evaluation.labels, "label")}, from ${name}${left.length ? `; ${left.join(", ")}` : ""}. Drag the threshold, or move it with the arrow keys: to the right more is accepted, and more of it is wrong.`;
}

/** What the lines mean; colours are never alone. */
function legend(current, view) {
  const key = (kind, text) => h("li", {}, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), text);
  return h("ul", { class: "legend" },
    key("main", "the chosen rule"), key("other", "other rules"), view.rule.threshold_range && key("proved", "proved thresholds"), key("reference", "the threshold of the comparison"),
    current && h("li", {}, h("span", { class: "sign", "aria-hidden": "true" }, "◆"), `${current.stale ? "out of date:" : "in use:"} proved at ${percent(current.coverage)} accepted`));
}

/** The rules, best first. */
function rulePicker(evaluation, chosen, choose) {
  const group = freshId("rule");
  return h("fieldset", { class: "rules" }, h("legend", {}, "Rule"), h("p", { class: "quiet" }, "best first: area under the curve × 1000. A rule that you choose by looking at these images is one more try: the confidence holds for one."),
    h("div", { class: "scroll" }, evaluation.rules.map((rule) => {
      const id = freshId("rule");
      const title = ruleName(rule.rule, rule.params);
      return h("p", { class: "check", title }, h("input", { id, type: "radio", name: group, value: rule.rule, checked: rule.rule === chosen, on: { change: () => choose(rule.rule) } }),
        h("label", { for: id }, h("span", { class: "name" }, rule.rule), h("span", { class: `kind ${rule.kind}` }, KINDS[rule.kind]), h("span", { class: "area" }, (1000 * rule.aurc.value).toFixed(1))));
    })));
}
