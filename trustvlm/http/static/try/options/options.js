// What few people need: another rule, or a part of the labels.

import { freshId, h } from "../../dom.js";
import { partField } from "./part.js";

/** The disclosure beneath everything. `chosen`: {rule, part, wrong: the filter in the field is not used}, which it changes; `changed()` is called after a change. */
export function optionsBox(view, chosen, changed) {
  chosen.wrong = false; // the field begins with the filter in use
  return h("details", { class: "advanced", open: chosen.rule !== null || chosen.part !== null }, h("summary", {}, "Advanced"),
    rulePicker(view, chosen, changed),
    partField(view, chosen.part, (part, wrong) => { chosen.wrong = wrong; if (!wrong) chosen.part = part; changed(); }));
}

function rulePicker(view, chosen, changed) {
  const id = freshId("rule");
  const inForce = view.calibrations.find((one) => one.in_force && !one.claims && !one.other_encoders);
  const first = inForce ? `as calibrated (${inForce.rule})` : `default (${view.usual})`;
  const groups = { fused: "Text and images", text: "Text only", image: "Images only" };
  const select = h("select", { id, on: { change: () => { chosen.rule = select.value || null; changed(); } } },
    h("option", { value: "" }, first),
    Object.entries(groups).map(([kind, name]) => h("optgroup", { label: name }, view.rules.filter((rule) => rule.kind === kind)
      .map((rule) => h("option", { value: rule.name, selected: rule.name === chosen.rule }, rule.name)))));
  return h("div", { class: "row rule-picker" }, h("label", { for: id }, "Rule"), select, h("span", { class: "quiet" }, "the formula that computes the trust"));
}
