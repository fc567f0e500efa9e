// All calibrations of the space, newest first: each can be looked at and taken back.

import { may, path, remove } from "../api.js";
import { h } from "../dom.js";
import { ruleName, trustText } from "../rules.js";
import { dialog, doing, notice } from "../parts.js";
import { answerOf, seenAt, sentence } from "./promises.js";
import { count, counted, percent, promise, shortPromise, when } from "../words.js";

/** The card; `changed()` is called after a calibration is taken back. */
export function historyCard(context, { calibrations }, changed) {
  if (!calibrations.length) return null;
  return h("section", { class: "card history" }, h("h2", {}, "History of calibrations"),
    h("p", { class: "quiet" }, "The newest one that proved its threshold is in use.", may("write") && " If you take it back, the one before it is in use again."),
    h("ol", { class: "calibrations" }, calibrations.map((one) => entry(context, one, changed))));
}

function entry(context, one, changed) {
  const button = may("write") && h("button", { type: "button", "aria-label": `Take calibration ${one.id} back`, on: { click: () => takeBack(context, one, button, changed) } }, "Take back");
  return h("li", {},
    h("details", {},
      h("summary", {}, h("span", { class: "title" }, `${one.id} · ${when(one.created_at)}`), " ", badges(one), h("span", { class: "quiet line" }, line(one))),
      h("dl", {}, facts(one).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      button));
}

function badges({ in_force: current, failed, stale, asked_threshold: own }) {
  const use = current && (stale ? h("span", { class: "badge hold" }, "in use, out of date") : h("span", { class: "badge good" }, "in use"));
  return [use, failed && h("span", { class: "badge hold" }, "failed"), " ", own !== null && h("span", { class: "badge" }, "threshold chosen by hand")];
}

/** A calibration in a line: what it promises, or promised before it was replaced or went out of date. */
function line(calibration) {
  const { failed, asked_threshold: own, in_force: current, stale, coverage, tested } = calibration;
  const asked = shortPromise(calibration);
  if (failed) return `${own === null ? "no threshold was proved" : "this threshold was not proved"} (wanted: ${asked})`;
  return `${current && !stale ? "" : "promised: "}${asked} · accepts ${percent(coverage, 0)} of ${counted(tested, "image")}`;
}

function facts(one) {
  const { accepted, errors, procedure, tested, tuning, supports, duplicates, gone } = one;
  const left = [supports && counted(supports, "support image"), duplicates && counted(duplicates, "copy", "copies"), gone && `${count(gone)} of removed labels`].filter(Boolean).join(", ");
  const range = one.threshold_range;
  return [
    ["Made", `${when(one.created_at)}, at revision ${count(one.revision)}`],
    ["Rule", ruleName(one.rule, one.params)],
    ["Threshold", one.threshold === null ? `none${one.asked_threshold === null ? "" : `; asked for ${trustText(one.asked_threshold, one.rule)}`}` : `trust from ${trustText(one.threshold, one.rule)} on, ${one.asked_threshold === null ? "chosen by the calibration" : "chosen by hand"}`],
    ["Promise", promise(one)],
    ["Accepted", `${count(accepted)} of ${counted(tested, "image")}${tested ? ` (${percent(accepted / tested)})` : ""}, ${count(errors)} of them wrong${accepted ? ` (${percent(errors / accepted)})` : ""}`],
    ["Images", `${count(one.images)}: ${procedure === "split" ? `${count(tuning)} to choose, ` : ""}${count(tested)} to prove${left ? `; left out: ${left}` : ""}`],
    range && ["Proved range", rangeSentence(one)],
    ["Corrected labels", corrections(one)],
    one.failed && ["Why it failed", sentence(one.asked_threshold === null ? one.reason : seenAt(one))],
  ].filter(Boolean);
}

/** The thresholds that are proved at once; the calibration's own may lie outside them where images chose it before others proved it. */
function rangeSentence({ rule, threshold, threshold_range: [low, high] }) {
  const text = (value) => trustText(value, rule);
  const from = low <= -Number.MAX_VALUE ? "" : ` from ${text(low)}`; // else even accepting all is proved
  const outside = threshold !== null && (threshold < low || threshold > high);
  return `${outside ? `The threshold of this calibration, ${text(threshold)}, is proved. So is every` : "Every"} threshold${from} ${from ? "" : "up "}to ${text(high)}${outside ? "," : " is proved,"} also one that you choose by looking at the images.`;
}

/** How many labels of the images its rule corrects, or another one would. */
export function corrections({ rule, correcting_rule: other, corrected, corrected_rightly: rightly, corrected_wrongly: wrongly, tuning, tested }) {
  if (other === null) return "It keeps the classifier’s labels.";
  const neither = corrected - rightly - wrongly;
  const counts = `${count(corrected)} of ${counted(tuning + tested, "label")}, ${count(rightly)} rightly and ${count(wrongly)} wrongly${neither ? `; ${count(neither)} ${neither === 1 ? "was" : "were"} wrong before and after` : ""}`;
  return other === rule ? `It corrects ${counts}.` : `It keeps the classifier’s labels; ${other} would correct ${counts}.`;
}

async function takeBack({ space, signal }, calibration, button, changed) {
  const sure = await dialog("Take this calibration back?", (close) => [
    h("p", {}, calibration.failed ? `It failed: ${calibration.reason}.` : answerOf(calibration)),
    h("p", { class: "quiet" }, "It cannot be brought back; calibrating on the same images makes the same one again."),
    h("div", { class: "actions" }, h("button", { type: "button", class: "danger", on: { click: () => close(true) } }, "Take it back"), h("button", { type: "button", on: { click: () => close() } }, "Keep it")),
  ]);
  if (!sure) return;
  await doing(button, async () => {
    await remove(path("spaces", space.name, "calibrations", calibration.id), { signal });
    notice(`Calibration ${calibration.id} is taken back.`);
    await changed();
  });
}
