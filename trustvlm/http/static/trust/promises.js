// What the space promises: what is read about it, and the sentences that say it.

import { get, may, path } from "../api.js";
import { h } from "../dom.js";
import { ruleName, trustText } from "../rules.js";
import { probabilityOf } from "./outcomes.js";
import { count, counted, likely, percent, promise, shortPromise, when } from "../words.js";

/** Everything about the promise: calibrations, the `current` one, which is in force, the monitor's report, stored observations. */
export async function promiseState({ space, signal }) {
  const here = (...more) => path("spaces", space.name, ...more);
  const [{ revision, calibrations }, observations] = await Promise.all([get(here("calibrations"), { signal }), get(here("observations"), { signal })]);
  const current = calibrations.find((one) => one.in_force && !one.claims) ?? null;
  const watched = current && !current.other_encoders; // there is nothing to monitor otherwise
  const monitor = watched ? await get(here("monitor"), { signal }) : null;
  return { revision, calibrations, current, observations, monitor };
}

/** The promise that is asked for, in words. */
export const wish = ({ risk, confidence }) => shortPromise({ max_risk: risk, confidence });

/** The fewest labelled images that can prove a promise: those that are accepted without an error, and one that marks the threshold. */
export const fewestImages = ({ risk, confidence }) => Math.ceil(Math.log1p(-confidence) / Math.log1p(-risk)) + 1;

/** The answer: how much can be accepted, and how much of it is wrong at most. */
export function answerOf(calibration) {
  return ["You can accept ", h("strong", {}, percent(calibration.coverage, 0)), ` automatically: ${promise(calibration)}.`];
}

/** What a verdict must have to be accepted. */
export function acceptedFrom(calibration) {
  const { threshold, rule, params, asked_threshold: own } = calibration;
  return `An answer is accepted with a probability of ${likely(probabilityOf(calibration, threshold))} or more (trust from ${trustText(threshold, rule)} on under the rule ${ruleName(rule, params)}${own === null ? "" : "; this threshold was chosen by hand"}).`;
}

/** How a calibration was proved. */
export function proofOf({ accepted, procedure, tuning, tested, errors, created_at: made }) {
  const parts = procedure === "split" ? `: ${count(tuning)} to choose rule and thresholds, ${count(tested)} to prove one` : "";
  return `Calibrated ${when(made)} on ${counted(tuning + tested, "image")} with known labels${parts}. `
    + `Of the ${count(tested)}, ${count(accepted)} are accepted, ${count(errors)} of these wrong.`;
}

/** Why a calibration in force promises nothing, and what happens until it is renewed; null while it promises. */
export function staleSentence({ other_encoders: other, stale, on_stale: policy }) {
  if (other) return "The space was re-embedded since: nothing is promised and nothing is accepted until the space is calibrated again.";
  if (!stale) return null;
  const decides = "Until then its threshold still decides, and each answer says that the calibration is out of date. A new label goes to review";
  const then = {
    abstain: "Until then nothing is accepted.",
    flag: `${decides}, unless one of the calibration’s images gets it.`,
    auto: `${decides}; once one of the calibration’s images gets it, nothing is accepted.`,
  };
  return `Labels or support images changed after this calibration, so its guarantee no longer holds. ${may("write") ? "Recalibrate to renew it" : "A key that may write can recalibrate, which renews it"}. ${then[policy]}`;
}

/** What was seen since that breaks the promise; the page has a button for what the service says to run. */
export const brokenSentence = ({ message }) => sentence(message.replace(/; run '.*'$/, ""));

/** A reason of the service as a sentence. */
export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** What the proof of a calibration saw at the threshold that was asked for and refused. */
export function seenAt({ accepted, errors }) {
  if (!accepted) return "at this threshold no test image is accepted";
  const wrong = errors ? `${count(errors)} of the ${counted(accepted, "accepted test image")} ${errors === 1 ? "is" : "are"} wrong (${percent(errors / accepted)})` : `only ${counted(accepted, "test image is", "test images are")} accepted, too few for a proof`;
  return `at this threshold ${wrong}`;
}

/** What came of asking for a threshold. `before`: the calibration that was in force. */
export function told(made, before) {
  if (!made.failed) return h("div", { class: "good-news" }, h("p", {}, h("strong", {}, made.asked_threshold === null ? "In use now. " : "Proved, and in use now. "), answerOf(made)));
  const own = made.asked_threshold !== null;
  return h("div", { class: "warn" }, h("p", {}, h("strong", {}, own ? "Not saved: " : "No threshold could be proved: "), own ? `${seenAt(made)}.` : sentence(made.reason)),
    h("p", {}, before ? "The threshold in use stays." : "No threshold is in use.", own && " Measure again to see what holds now."));
}

