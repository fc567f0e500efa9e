// What the space promises: the calibration in force in a sentence, whether it still holds, and all of them, with the way back.

import { get, path, remove } from "../api.js";
import { h } from "../dom.js";
import { ruleName } from "./outcomes.js";
import { dialog, doing, notice } from "../parts.js";
import { count, counted, percent, share, when } from "../words.js";

/** Everything about the promise: calibrations, the `current` one, which is in force, the monitor's report, stored observations. */
export async function promiseState({ space, signal }) {
  const here = (...more) => path("spaces", space.name, ...more);
  const [{ revision, calibrations }, observations] = await Promise.all([get(here("calibrations"), { signal }), get(here("observations"), { signal })]);
  const current = calibrations.find((one) => one.in_force) ?? null;
  const watched = current && !current.other_encoders; // there is nothing to monitor otherwise
  const monitor = watched ? await get(here("monitor"), { signal }) : null;
  return { revision, calibrations, current, observations, monitor };
}

/** The card about what is in force. `recalibrate(button)` is offered where the promise is stale and images are stored. */
export function inForceCard({ revision, current, monitor, observations }, recalibrate) {
  if (!current) {
    return h("section", { class: "card in-force" }, h("div", { class: "row spread" }, h("h2", {}, "No promise yet"), h("span", { class: "badge" }, "not calibrated")),
      h("p", {}, "Verdicts come with a trust, but nothing is accepted or held back. Measure below on images whose labels you know, then calibrate: the page finds the threshold that keeps a promise such as “at most 5 % of what is accepted is wrong”."));
  }
  const stale = staleSentence(current, revision);
  const button = h("button", { type: "button", class: "primary", on: { click: () => recalibrate(button) } }, "Recalibrate on the stored images");
  return h("section", { class: "card in-force" },
    h("div", { class: "row spread" }, h("h2", {}, "In force"), badge(current)),
    !stale && h("p", { class: "promise-text" }, promiseOf(current)),
    !stale && h("p", { class: "quiet" }, proofOf(current)),
    stale && h("div", { class: "warn" }, h("p", {}, h("strong", {}, "Stale. "), stale), observations.usable > 0 && h("p", {}, button)),
    monitor && h("p", { class: monitor.broken ? "broken" : "quiet" }, h("strong", {}, monitor.broken ? "The promise is broken: " : "Since then: "), `${monitor.message}.`));
}

function badge(calibration) {
  if (calibration.other_encoders || calibration.stale) return h("span", { class: "badge hold" }, "stale");
  return h("span", { class: "badge good" }, "✓ up to date");
}

/** The promise in a sentence. */
export function promiseOf({ threshold, rule, params, max_risk: risk, confidence }) {
  if (threshold === null) return ["It failed: no threshold could be shown to keep the risk at or below ", share(risk, 2), "."];
  return ["Of what is accepted, ", h("strong", {}, `at most ${share(risk, 2)} is wrong`), `, with ${percent(confidence, 0)} confidence. Accepted is a trust from `,
    h("strong", {}, threshold.toPrecision(4)), ` on under the rule ${ruleName(rule, params)}.`];
}

function proofOf({ accepted, tested, errors, risk_bound: most, created_at: made, confidence }) {
  const time = `Calibrated ${when(made)}`;
  return `${time}, proved on ${counted(tested, "image")}: ${count(accepted)} accepted (${percent(accepted / tested)}), ${count(errors)} of them wrong; at most ${percent(most)} with ${percent(confidence, 0)} confidence.`;
}

function staleSentence({ other_encoders: other, stale, revision: made, on_stale: policy }, revision) {
  if (other) return "The space was re-embedded since: nothing is promised and nothing is accepted until the space is calibrated again.";
  if (!stale) return null;
  const then = { abstain: "Until then nothing is accepted.", flag: "Until then verdicts still use its threshold and are marked stale; new labels that none of its images gets are not accepted.", auto: "Until then verdicts still use its threshold and are marked stale; new labels that none of its images gets are not accepted, and nothing is accepted once one of its images gets an added label." };
  return `The space has changed since (revision ${count(made)}, now ${count(revision)}): the calibration promises nothing now. Calibrate again. ${then[policy]}`;
}

/** What a calibration in the list promises: something only in force, and while it is not stale. */
function worth({ failed, in_force: current, stale, max_risk: risk, confidence }) {
  if (current && !stale) return `at most ${share(risk, 2)} wrong, ${percent(confidence, 0)} confidence`;
  return failed ? `asked for ${share(risk, 2)} at ${percent(confidence, 0)} confidence` : "promises nothing now";
}

/** All calibrations, newest first. `changed()` is called after one is taken back. */
export function calibrationList(context, { calibrations }, changed) {
  const { space, signal } = context;
  if (!calibrations.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "Calibrations"),
    h("p", { class: "quiet" }, "The newest calibration that proved a threshold is in force. If you take it back, the one before it is in force again."),
    h("ol", { class: "calibrations" }, calibrations.map((one) => {
      const button = h("button", { type: "button", "aria-label": `Take calibration ${one.id} back`, on: { click: () => takeBack(one, button) } }, "Take back");
      return h("li", {},
        h("div", {}, h("p", { class: "title" }, ruleName(one.rule, one.params), " ", one.in_force && h("span", { class: "badge good" }, "in force"), one.failed && h("span", { class: "badge hold" }, "failed"), " ", one.stale && !one.failed && h("span", { class: "badge hold" }, "stale")),
          h("p", { class: "quiet" }, `${when(one.created_at)} · ${worth(one)} · `
            + (one.failed ? `failed: ${one.reason}` : `coverage ${percent(one.coverage)} of ${counted(one.tested, "image")}`))),
        button);
    })));

  async function takeBack(calibration, button) {
    const sure = await dialog("Take this calibration back?", (close) => [
      h("p", {}, promiseOf(calibration)),
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
}
