// The answer of a verdict as people read it: the decision, then the label, then how likely it is right; and why.

import { hrefOf, may } from "../api.js";
import { h } from "../dom.js";
import { isExternal } from "../encoders.js";
import { capital, counted, likely, number, promise } from "../words.js";

/** [class, sign, word] of a verdict's decision. */
export function stateOf({ decision }) {
  return { accept: ["good", "✓", "Accept"], review: ["hold", "!", "Review"], unknown: ["unknown", "?", "Unknown"] }[decision];
}

export function badge(verdict) {
  const [kind, sign, word] = stateOf(verdict);
  return h("span", { class: `badge ${kind}` }, h("span", { "aria-hidden": "true" }, sign), word);
}

/** Where a verdict's probability comes from: "calibration", "rule", or null where it has none. */
const sourceOf = (verdict) => (verdict.probability === null ? null : verdict.probability_source);

/** What the classifier alone would have said, where the rule says something else. */
export const correction = ({ corrected_from: from, decision }) =>
  from !== null && decision !== "unknown" && h("span", { class: "badge plain corrected" }, h("span", {}, "corrected from “", h("bdi", {}, from), "”"));

/** The answer in one line: [what comes first, what follows]. `other`: another classifier takes the place of the text. */
function inWords(verdict, other) {
  const { label, decision, reason_code: code, rival, nearest_prototype: nearest, unknown } = verdict;
  const name = (one) => h("bdi", {}, one);
  const chance = sourceOf(verdict) === null ? null : `, ${likely(verdict.probability)}`;
  const near = nearest !== null && ["; nearest: ", name(nearest)];
  const text = verdict.corrected_from ?? label;
  if (decision === "unknown") return ["Not one of your labels", near];
  if (decision === "accept" && backedOff(verdict)) {
    return ["Accept: ", [name(verdict.node), `, ${likely(verdict.node_probability)}; perhaps `, name(label)]];
  }
  if (decision === "accept") return ["Accept: ", [name(label), chance]];
  const first = "Review: ";
  if (code === "copy_of_other") return [first, [name(label), ", but the image is stored as ", name(otherLabel(verdict))]];
  if (unknown) return [first, ["perhaps not one of your labels", near]];
  if (verdict.unverified) return [first, [name(label), chance, other ? ", by the classifier alone" : ", by its name alone"]];
  if (differs(verdict)) return [first, [other ? "the classifier says " : "text says ", name(text), ", images say ", name(nearest)]];
  if (code === "close_call" && rival !== null) return [first, [name(label), " or ", name(rival)]];
  return [first, [name(label), chance]];
}

/** Whether the answer is a node of the taxonomy above the label. */
const backedOff = ({ node, label }) => node !== null && node !== label;

/** The label whose support image the image equals. */
const otherLabel = ({ reason }) => reason.match(/support image of (['"])(.*?)\1(;|$)/)?.[2] ?? "another label";

/** Whether the headline says already that text and images differ. */
const differs = ({ decision, reason_code: code, unverified, unknown, nearest_prototype: nearest, corrected_from: from, label }) =>
  decision === "review" && code !== "copy_of_other" && !unverified && !unknown && nearest !== null && nearest !== (from ?? label);

export function headline(space, verdict) {
  const [kind, sign] = stateOf(verdict);
  const [first, rest] = inWords(verdict, isExternal(space));
  const long = [verdict.label, verdict.nearest_prototype, verdict.node].some((shown) => (shown ?? "").length > 24);
  return h("h2", { class: `answer ${kind} ${long ? "long" : ""}`, tabindex: "-1" },
    h("span", { class: "sign", "aria-hidden": "true" }, sign), h("span", {}, h("span", { class: "word" }, first), rest));
}

/** How likely the label is right, and who says so; null where no label fits. `calibration`: the one that decided, or null. */
export function chance(verdict, calibration) {
  const { label, probability, unknown, rule } = verdict;
  const it = h("bdi", {}, label);
  if (unknown) return null; // the head says that it is none of the labels
  switch (sourceOf(verdict)) {
    case "calibration": case "rule":
      return h("p", { class: "chance" }, h("strong", {}, likely(probability)), " likely that “", it, "” is right ", by(verdict, calibration));
    default: {
      const reason = verdict.reason_code === "copy_of_other" ? "the image is stored under another label"
        : verdict.stale_since !== null ? "the calibration is out of date" : `the rule ${rule} gives none without a calibration`;
      return h("p", { class: "chance" }, `No probability: ${reason}.`);
    }
  }
}

function by(verdict, calibration) {
  const words = sourceOf(verdict) === "rule" ? "not calibrated" : calibration ? `calibrated on ${counted(calibration.images, "image")}` : "calibrated";
  return h("span", { class: "by" }, words);
}

/** Whether another label has the larger trust, as under rules that keep the classifier's label. */
export const rivalFitsBetter = ({ rival, rival_trust: other, trust }) => rival !== null && other > trust;

/** Why it is accepted or not, in a sentence. */
export function why(space, verdict, calibration) {
  const { accepted, reason, reason_code: code, label, rival } = verdict;
  if (code === "copy_of_other") return `The image equals a support image of “${otherLabel(verdict)}”, but “${label}” fits better: one of the two is wrong.`;
  if (accepted === null) {
    const other = reason.match(/not calibrated for this rule \((calibration \d+) is for (\w+)\)/);
    if (other) return `${capital(other[1])} is for the rule ${other[2]}: under ${verdict.rule} nothing is accepted.`;
    if (reason.includes("for a part of the labels")) return "Calibrations are about all labels: where only some take part, nothing is accepted.";
    return ["Nothing is accepted before a calibration says how sure is sure enough. ",
      may("write") && [h("a", { href: hrefOf(space.name, "trust") }, "Calibrate in the view Trust"), ", with images whose labels you know."]];
  }
  switch (code) {
    case "accepted": {
      const kept = calibration && verdict.stale_since === null;
      if (!kept) return "Sure enough to be accepted.";
      return `Sure enough to be accepted: ${promise(calibration).replaceAll(" %", "\u00a0%")}.`; // never broken over two lines
    }
    case "stale":
      return reason.startsWith("review: label") ? `The calibration does not cover “${label}”: none of its images has this label.`
        : "Nothing is accepted until the space is calibrated again.";
    case "unknown": return "The image is unlike the support images of every label.";
    case "unverified": return `“${label}” has no support image to check the answer with, and the calibration asks for one.`;
    case "close_call": return rivalFitsBetter(verdict) ? `Not sure enough to be accepted: “${rival}” fits better.`
      : `Not sure enough to be accepted: “${rival}” fits almost as well.`;
    default: return "Not sure enough to be accepted.";
  }
}

/** That only some labels take part, [class, word, sentence]; `part`: {text, labels: how many}. */
export const among = ({ text, labels }) => ["plain", "Filter", ["Only ", counted(labels, "label"), labels === 1 ? " takes part: that with " : " take part: those with ", h("code", {}, text)]];

/** What else has to be said plainly of an item: [class, word, sentence, button where there is one]. `renew(button)`: calibrate again; false: the key may not. */
export function cautions(space, { verdict, chosen: { part } }, renew) {
  const { label, reason_code: code } = verdict;
  const list = part ? [among(part)] : [];
  if (verdict.unverified && code !== "unverified") {
    list.push(["hold", "No support image", isExternal(space) ? "Only the classifier supports this answer." : `Only the name “${label}” supports this answer.`]);
  }
  if (verdict.unknown && code !== "unknown") {
    list.push(["unknown", "Unlike all", "The image is unlike the support images of every label."]);
  }
  if (verdict.stale_since !== null) {
    const button = renew && h("button", { type: "button", on: { click: () => renew(button) } }, "Recalibrate");
    list.push(["hold", "Out of date", `Labels or support images changed after calibration ${verdict.calibration_id}, so its guarantee no longer holds.`, button]);
  }
  if (verdict.image_evidence === "off") {
    list.push(["hold", "Text only", "The support images do not tell the labels apart, so they are not used."]);
  }
  if (verdict.image_evidence === "cosine") {
    list.push(["plain", "Plain similarity", "How the support images vary does not help to tell the labels apart, so only their similarity is used."]);
  }
  if (verdict.image_evidence === "none") {
    list.push(["hold", "Text only", "No label has a support image yet, so the text decides alone."]);
  }
  if (!verdict.unverified && !verdict.agrees && verdict.nearest_prototype !== null && !verdict.unknown && !differs(verdict)) {
    const similarity = number(verdict.nearest_similarity, 2).replace("-", "−");
    list.push(["plain", "Name and images disagree", `On average, the support images of “${verdict.nearest_prototype}” are most like this image (similarity ${similarity}).`]);
  }
  if (verdict.approximate) {
    list.push(["plain", "Approximate", `A nearer label may have been missed, by a similarity of at most ${number(verdict.error_bound, 4)}.`]);
  }
  return list;
}
