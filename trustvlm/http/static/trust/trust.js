// Trust: what the space promises, and choosing a threshold by looking at its consequences.

import { path } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { calibrateCard } from "./calibrateform.js";
import { curveChart } from "./curve.js";
import { runJob } from "../jobs.js";
import { measureCard } from "./measure.js";
import { loosest, positionOf, ruleName, ruleView, sameRule } from "./outcomes.js";
import { doing, notice } from "../parts.js";
import { calibrationList, inForceCard, promiseState } from "./promises.js";
import { curveTable, readout, spoken } from "./readout.js";
import { sidesPanel } from "./sides.js";
import { counted, percent } from "../words.js";

export const title = "Trust";

const KINDS = { text: "text", image: "images", fused: "both" };

export async function show(root, context) {
  const { space, signal } = context;
  let state = await promiseState(context);
  const asked = { risk: state.current?.max_risk ?? 0.05, confidence: state.current?.confidence ?? 0.9, rule: "auto" };
  const [now, measuring, results, list] = [0, 1, 2, 3].map(() => h("div", { class: "stack" }));
  put(root, h("h1", {}, "Trust"), h("p", { class: "lead" }, "If more is accepted, more of it is wrong. See how much, choose a threshold, and calibrate to prove it."), h("div", { class: "stack" }, now, measuring, results, list));
  const measure = measureCard(context, state.observations, measured);
  put(measuring, measure.root);
  promises();

  function promises() {
    put(now, inForceCard(state, recalibrate));
    put(list, calibrationList(context, state, reread));
  }

  async function reread() {
    state = await promiseState(context);
    measure.count(state.observations);
    promises();
  }

  async function recalibrate(button) {
    await doing(button, async () => {
      const made = await runJob(path("spaces", space.name, "observations", "calibrate"), {}, { signal });
      notice(made.failed ? `No promise could be proved: ${made.reason}. The calibration in force stays in force.` : "Calibrated again: the promise is up to date.");
      await reread();
    });
  }

  /** Evaluate a source and show what came out. */
  async function measured(source, hooks, calibration = null) {
    hooks.told?.();
    const { current } = state;
    const json = { items: true, confidence: asked.confidence, draws: 0 };
    if (current && !current.other_encoders) json.params = { [current.rule]: current.params };
    const evaluation = await source.evaluate(json, hooks);
    const view = workbench({ evaluation, source, calibration });
    put(results, view.root);
    if (calibration) view.tell(calibration);
    else view.root.querySelector("h2").scrollIntoView({ block: "start" });
  }

  /** The curve with everything that depends on its threshold. */
  function workbench({ evaluation, source, calibration }) {
    const { current } = state;
    const followed = current && evaluation.rules.some((rule) => sameRule(rule, current)) ? current.rule : null;
    let view = ruleView(evaluation, followed ?? evaluation.fused ?? evaluation.text ?? evaluation.rules[0].rule);
    let [position, reference] = [0, 0];
    const chart = curveChart({ signal, moved: move, spoken: (to) => spoken(view, to) });
    const figures = readout();
    const table = h("div", {});
    const sides = sidesPanel(() => { reference = position; redraw(); sides.show(view, source, reference, position); });
    const form = calibrateCard({ source, before: current, asked, signal, risked: redraw, chosen: () => view.rule, calibrated });
    const root = h("div", { class: "stack" },
      h("section", { class: "card bench" },
        h("h2", { tabindex: -1 }, "Risk and coverage"),
        h("p", { class: "quiet" }, about(evaluation, source)),
        h("div", { class: "plots" }, h("div", {}, chart.root, legend(current)), h("div", { class: "side" }, figures.root, rulePicker(evaluation, view.rule.rule, choose))),
        table),
      sides.root, form.root);
    choose(view.rule.rule);
    return { root, tell: form.tell };

    function choose(name) {
      view = ruleView(evaluation, name);
      const own = sameRule(view.rule, current) ? positionOf(view, current.threshold) : 0;
      position = reference = own || loosest(view, asked.risk);
      redraw();
      put(table, curveTable(view));
      form.named();
      tellMove();
    }

    function redraw() {
      const own = sameRule(view.rule, current) ? positionOf(view, current.threshold) : 0;
      chart.show({ view, reference, calibration: current, own, maxRisk: asked.risk });
      chart.place(position);
    }

    function move(to) {
      if (to === position) return;
      position = to;
      chart.place(to);
      tellMove();
    }

    function tellMove() {
      figures.show(view, position);
      sides.show(view, source, reference, position);
    }

    async function calibrated(made) {
      await reread();
      await measured(source, { signal }, made);
    }
  }
}

function about(evaluation, { title: name }) {
  const absent = evaluation.left_out ?? []; // a job of an earlier version has none
  const without = absent.map((one) => one.rule).join(", ");
  const left = [evaluation.supports && `${counted(evaluation.supports, "support image")} left out`, evaluation.duplicates && `${counted(evaluation.duplicates, "copy", "copies")} of others left out`, without && `not compared: ${without} (${absent[0].reason})`, evaluation.gone && `${counted(evaluation.gone, "image")} of removed labels left out`].filter(Boolean);
  return `${counted(evaluation.images, "image")} of ${counted(evaluation.labels, "label")}, from ${name}${left.length ? `; ${left.join(", ")}` : ""}. Drag the threshold, or move it with the arrow keys.`;
}

/** What the lines mean; colours are never alone. */
function legend(current) {
  const key = (kind, text) => h("li", {}, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), text);
  return h("ul", { class: "legend" },
    key("main", "the chosen rule"), key("bound", "its upper bound"), key("other", "other rules"), key("reference", "the threshold of the comparison"),
    current && h("li", {}, h("span", { class: "sign", "aria-hidden": "true" }, "◆"), `${current.stale ? "stale; it was" : "in force:"} proved at ${percent(current.coverage)} coverage`));
}

/** The rules, best first. */
function rulePicker(evaluation, chosen, choose) {
  const group = freshId("rule");
  return h("fieldset", { class: "rules" }, h("legend", {}, "Rule"), h("p", { class: "quiet" }, "best first: area under the curve × 1000"),
    h("div", { class: "scroll" }, evaluation.rules.map((rule) => {
      const id = freshId("rule");
      const title = ruleName(rule.rule, rule.params);
      return h("p", { class: "check", title }, h("input", { id, type: "radio", name: group, value: rule.rule, checked: rule.rule === chosen, on: { change: () => choose(rule.rule) } }),
        h("label", { for: id }, h("span", { class: "name" }, rule.rule), h("span", { class: `kind ${rule.kind}` }, KINDS[rule.kind]), h("span", { class: "area" }, (1000 * rule.aurc.value).toFixed(1))));
    })));
}
