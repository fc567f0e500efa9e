// A verdict as people read it: the label, how far it can be trusted, the reason, and the images that speak for or against it.

import { h } from "../dom.js";
import { supportFigure } from "../parts.js";
import { pictureOf } from "./queries.js";
import { trustBars, trustSentence, trustText } from "./trustbar.js";
import { fileName, number, percent, when } from "../words.js";

/** [class of the badge, sign, word] of a verdict. */
export function stateOf({ accepted, decision }) {
  if (accepted === null) return ["plain", "○", "Review: not calibrated"];
  return { accept: ["good", "✓", "Accept"], review: ["hold", "!", "Review"], unknown: ["hold", "?", "Unknown"] }[decision];
}

export function badge(verdict) {
  const [kind, sign, word] = stateOf(verdict);
  return h("span", { class: `badge ${kind}` }, h("span", { "aria-hidden": "true" }, sign), word);
}

/** What the classifier alone would have said, where the rule says something else. */
export const correction = ({ corrected_from: from }) =>
  from !== null && h("span", { class: "badge plain corrected" }, h("span", {}, "corrected from “", h("bdi", {}, from), "”"));

/** Why it is accepted or not, in a sentence. `calibration`: the one that decided, or null. */
function why(verdict, calibration) {
  const { accepted, reason, reason_code: code, label, rival } = verdict;
  const trust = trustText(verdict.trust, verdict.terms.range);
  if (code === "copy_of_other") return `${capital(reason.replace(/^review: /, "").replace(/; .*/, ""))}: one of the two labels is wrong.`;
  if (accepted === null) {
    const other = reason.match(/not calibrated for this rule \((calibration \d+) is for (\w+)\)/);
    if (other) return `${capital(other[1])} is for the rule ${other[2]}: no calibration says how much trust is enough under ${verdict.rule}.`;
    return "No calibration says yet how much trust is enough. Make one in the view Trust, from images with known labels.";
  }
  const threshold = calibration ? trustText(calibration.threshold, verdict.terms.range) : "";
  if (code === "accepted") {
    const kept = calibration && verdict.stale_since === null;
    const promise = kept && ` Of what calibration ${calibration.id} accepts, at most ${whole(calibration.max_risk)} is wrong, with ${whole(calibration.confidence)} confidence.`;
    return `Trust ${trust} reaches the threshold${threshold && ` ${threshold}`}.${promise || ""}`;
  }
  const low = `Trust ${trust} stays below the threshold${threshold && ` ${threshold}`}`;
  switch (code) {
    case "stale": return reason.startsWith("review: label") ? `Not covered: no calibration image has the label “${label}”.` : "Nothing is accepted until the space is calibrated again.";
    case "unknown": return "The image is close to no label’s support images: it may be of none of these labels.";
    case "unverified": return `“${label}” has no support image to check the answer with, and the calibration asks for one.`;
    case "close_call": return `${low}: ${verdict.rival_trust > verdict.trust ? `“${rival}” fits better` : `it is a close call with “${rival}”`}.`;
    default: return `${low}.`;
  }
}

const whole = (share) => percent(share, Number.isInteger(Math.round(share * 1e6) / 1e4) ? 0 : 1).replace(" ", "\u00a0"); // never broken over two lines
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What else has to be said plainly: [class, word, sentence, button where there is one]. */
function cautions(verdict, renew) {
  const { label, reason, reason_code: code } = verdict;
  const found = [];
  if (verdict.unverified) {
    found.push(["hold", "Unverified", `“${label}” has no support image: only its name supports this answer.`]);
  }
  if (verdict.unknown && code !== "unknown") {
    found.push(["hold", "Unknown", "The image is close to no label’s support images: it may be of none of these labels."]);
  }
  if (verdict.stale_since !== null) {
    const words = reason.match(/calibration \d+ is [^;)]*/)?.[0] ?? `the space changed in revision ${verdict.stale_since}`;
    const button = h("button", { type: "button", on: { click: () => renew(button) } }, "Recalibrate");
    found.push(["hold", "Stale", `${capital(words)}. It promises nothing now.`, button]);
  }
  if (verdict.image_evidence === "off") {
    found.push(["hold", "No image evidence", "The support images do not separate the labels, so they are not used here."]);
  }
  if (verdict.image_evidence === "none") {
    found.push(["hold", "No image evidence", "No label has a support image yet, so the text decides alone."]);
  }
  if (verdict.rival !== null && verdict.rival_trust > verdict.trust) {
    found.push(["plain", "Rival ahead", `“${verdict.rival}” has more trust, but this rule keeps to the label of the text.`]);
  } else if (!verdict.unverified && !verdict.agrees && verdict.nearest_prototype !== null) {
    const similarity = number(verdict.nearest_similarity, 2).replace("-", "−");
    found.push(["plain", "Images differ", `The support images most like it are those of “${verdict.nearest_prototype}” (similarity ${similarity}).`]);
  }
  if (verdict.approximate) {
    found.push(["plain", "Approximate", `A nearer label may have been missed, by a similarity of at most ${number(verdict.error_bound, 4)}.`]);
  }
  return found;
}

/** The head of a verdict: label, state, reason, trust. `renew(button)` calibrates again and scores again. */
export function headOf(space, verdict, calibration, rule, renew) {
  const { terms, label, rival } = verdict;
  const rows = [{ name: label, trust: verdict.trust, terms: terms.label }];
  if (rival !== null) rows.push({ name: rival, trust: verdict.rival_trust, terms: terms.rival });
  const threshold = calibration?.threshold ?? null;
  const cautious = cautions(verdict, renew);
  const bars = trustBars({ rows, range: terms.range, threshold });
  return h("div", { class: "verdict-head" },
    h("div", { class: "said" },
      h("h2", { class: `answer ${label.length > 24 ? "long" : ""}`, tabindex: "-1" }, h("bdi", {}, label)),
      h("div", { class: "row" }, badge(verdict), correction(verdict), chance(verdict)),
      h("p", { class: "why" }, why(verdict, calibration)),
      cautious.length > 0 && h("ul", { class: "cautions" }, cautious.map(([kind, word, sentence, button]) =>
        h("li", {}, h("span", { class: `badge ${kind}` }, word), h("span", {}, sentence), button)))),
    h("div", { class: "measured" },
      h("p", { class: "eyebrow" }, rival === null ? "Trust" : "Trust, and that of its rival"),
      bars ?? plainTrust(verdict, threshold),
      h("p", { class: "terms" }, trustSentence({ verdict, probability: rule?.probability ?? false })),
      verdict.unverified && terms.label.image !== null && !rule?.probability &&
        h("p", { class: "quiet" }, "Without a support image an average similarity is assumed."),
      h("p", { class: "quiet" }, madeBy(space, verdict, calibration))));
}

/** What the calibration makes of the trust, as long as it is not stale; it knows nothing of images unlike its own. */
function chance({ accepted, probability, unknown }) {
  if (accepted === null || probability === null) return null;
  return h("span", { class: "chance" }, h("strong", {}, percent(probability, 1)), unknown ? " likely right, if it is of these labels at all" : " likely right");
}

/** A rule without a scale of its own: numbers only. */
function plainTrust(verdict, threshold) {
  const line = (name, value) => h("div", { class: "row spread" }, h("span", {}, name), h("strong", {}, trustText(value, null)));
  return h("div", { class: "plain-trust" },
    line(verdict.label, verdict.trust),
    verdict.rival !== null && line(`${verdict.rival} (rival)`, verdict.rival_trust),
    threshold !== null && line("threshold", threshold),
    h("p", { class: "quiet" }, "This rule’s trust has no ends, so it is no bar: larger is more."));
}

function madeBy(space, verdict, calibration) {
  const since = verdict.revision < space.revision ? ` (the space is at ${space.revision} by now: score again)` : "";
  const decided = calibration ? ` · calibration ${calibration.id} of ${when(calibration.created_at)}` : "";
  return `Rule ${verdict.rule} · revision ${verdict.revision}${since}${decided}`;
}

/** The query between the support images of the label and those of its rival. */
export function evidenceOf(space, query, verdict, go, signal) {
  const { evidence, label, rival } = verdict;
  const side = (name, near, role) => h("section", { class: `side ${role}` },
    h("h3", {}, h("span", { class: "quiet" }, "Nearest images of "),
      h("a", { href: `#/${encodeURIComponent(space.name)}/labels/${encodeURIComponent(name)}`, on: { click: (event) => { event.preventDefault(); go("labels", name); } } }, h("bdi", {}, name)),
      role === "rival" && h("span", { class: "quiet" }, ", the rival")),
    near.length ? h("div", { class: "strip" }, near.map((one) => likeness(space.name, name, one)))
      : h("p", { class: "none-yet" }, `“${name}” has no support image.`));
  return h("div", { class: "evidence" },
    side(label, evidence?.label ?? [], "label"),
    h("figure", { class: "queried" }, pictureOf(query, signal, { alt: `the scored image, ${query.name}` }), h("figcaption", {}, query.file ? "this image" : query.name)),
    rival === null ? h("section", { class: "side rival" }, h("p", { class: "none-yet" }, "There is no other label."))
      : side(rival, evidence?.rival ?? [], "rival"));
}

/** A support image with how similar it is, as a number and a bar. */
function likeness(space, label, near) {
  const caption = h("span", { class: "likeness" },
    h("span", { class: "meter", "aria-hidden": "true" }, h("span", { style: { width: `${Math.max(0, 100 * near.similarity)}%` } })),
    h("span", {}, number(near.similarity, 3).replace("-", "−")));
  return supportFigure(space, { id: near.id, label, source: fileName(near.source) }, caption);
}

/** The labels of largest text confidence. */
export function textLabels(verdict) {
  return h("section", { class: "text-labels" },
    h("h3", {}, "What the text alone says"),
    h("ol", {}, verdict.top_labels.map((name, i) => {
      const share = verdict.top_confidence[i];
      return h("li", {},
        h("span", { class: "name", title: name }, h("bdi", {}, name)),
        h("span", { class: "meter text", "aria-hidden": "true" }, h("span", { style: { width: `${100 * share}%` } })),
        h("span", { class: "value" }, percent(share, 1)));
    })));
}
