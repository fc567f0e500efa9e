// The answer: how much can be accepted automatically, or what is missing for one; and the way to renew it.

import { may, path } from "../api.js";
import { h, put } from "../dom.js";
import { runJob } from "../jobs.js";
import { problem } from "../parts.js";
import { progressBox } from "../progress.js";
import { acceptedFrom, answerOf, brokenSentence, fewestImages, proofOf, sentence, staleSentence, wish } from "./promises.js";
import { count, percent } from "../words.js";

const ROUND = 50;

/** The card; `reread()`: something else may be in force now. */
export function answerCard({ space, signal }, state, asked, reread) {
  const { current } = state;
  if (!current) return none(state, asked);
  const stale = staleSentence(current);
  const broken = state.monitor?.broken ? brokenSentence(state.monitor) : null;
  if (broken) return toRenew({ space, signal }, state, { headline: "The promise is broken.", badge: ["bad", "✗ broken"], why: broken }, reread);
  if (stale) return toRenew({ space, signal }, state, { headline: "The calibration is out of date.", badge: ["hold", "in use, out of date"], why: stale }, reread);
  return h("section", { class: "card trust-now" },
    h("div", { class: "row spread" }, h("h2", { class: "headline" }, answerOf(current)), h("span", { class: "badge good" }, "✓ up to date")),
    bar(current),
    h("p", {}, `The other ${percent(1 - current.coverage, 0)} need review.`),
    h("p", { class: "quiet" }, acceptedFrom(current), " ", proofOf(current)),
    watched(state));
}

const part = (name, share) => h("span", { class: name, style: { "flex-grow": share } }, share > 0.2 && name);

/** The shares of accept and review, as lengths. */
function bar({ coverage }) {
  return h("div", { class: "shares", "aria-hidden": "true" }, part("accept", coverage), part("review", 1 - coverage));
}

function watched({ monitor }) {
  return monitor && h("div", { class: "stack" }, inUse(monitor), monitor.traffic?.at_least > 0 && h("p", { class: "traffic" }, sentence(monitor.traffic.message)));
}

function inUse(monitor) {
  if (!monitor.items) return h("p", { class: "quiet" }, "No random sample of accepted images was checked since; the promise is not confirmed in use yet.");
  return h("p", { class: "quiet" }, h("strong", {}, "Since then: "), sentence(monitor.message));
}

/** No calibration is in force: what is missing. */
function none({ calibrations, observations }, asked) {
  const [failed] = calibrations; // all have failed, or there is none
  const least = fewestImages(asked);
  const good = Math.max(300, Math.ceil(3 * least / ROUND) * ROUND);
  return h("section", { class: "card trust-now" },
    h("div", { class: "row spread" }, h("h2", { class: "headline" }, "Nothing is accepted automatically yet."), h("span", { class: "badge" }, "not calibrated")),
    failed && h("div", { class: "warn" }, h("p", {}, h("strong", {}, "The last attempt proved nothing: "), sentence(failed.reason))),
    h("p", {}, "What is missing: ", h("strong", {}, `${observations.usable ? "more " : ""}images whose labels you know`), `. ${observations.usable ? `${count(observations.usable)} are stored. ` : ""}For ${wish(asked)}, at least ${count(least)} are needed; about ${count(good)} are a good start. Draw them at random from the images that will come in.`),
    h("p", { class: "quiet" }, may("write") && "Measure below, then let the calibration choose a threshold. ", "Until then every verdict is for review."));
}

/** A calibration in force that promises nothing: why, and the way to renew it. */
function toRenew({ space, signal }, state, { headline, badge: [kind, word], why }, reread) {
  const { current, observations } = state;
  const out = h("div", { class: "stack", "aria-live": "polite" });
  const button = h("button", { type: "button", class: "primary", on: { click: () => run({}) } }, "Recalibrate");
  return h("section", { class: "card trust-now" },
    h("div", { class: "row spread" }, h("h2", { class: "headline" }, headline), h("span", { class: `badge ${kind}` }, word)),
    h("p", {}, why),
    observations.usable > 0 && may("write")
      ? h("div", { class: "row" }, button, h("span", { class: "quiet" }, `on the ${count(observations.usable)} stored images; nothing has to be uploaded`))
      : may("write") && h("p", {}, "No images are stored: measure below and calibrate."),
    out);

  async function run(json) {
    const stopped = new AbortController();
    const box = progressBox(() => stopped.abort());
    box.tell("Recalibrating …");
    put(out, box.root);
    button.disabled = true;
    try {
      const made = await runJob(path("spaces", space.name, "observations", "calibrate"), json, { signal: AbortSignal.any([signal, stopped.signal]) });
      if (made.failed) put(out, refused(made)); else await reread("Recalibrated: the promise is up to date.");
    } catch (error) {
      put(out, error.name === "AbortError" ? h("p", { class: "quiet" }, "Cancelled.") : problem(error));
    } finally {
      button.disabled = false;
    }
  }

  function refused(made) {
    const own = made.asked_threshold !== null;
    return h("div", { class: "warn" }, h("p", {}, h("strong", {}, own ? "Your threshold cannot be proved any more: " : "No threshold could be proved: "), sentence(made.reason)),
      own && h("button", { type: "button", on: { click: () => run({ rule: current.asked_rule }) } }, "Let the calibration choose a threshold"));
  }
}
