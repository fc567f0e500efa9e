// What the threshold does, in words: what is accepted, what of it is wrong, and whether that is proved; and the same as a table.

import { h, put } from "../dom.js";
import { trustText } from "../rules.js";
import { nearest, positionOf, sameRule } from "./outcomes.js";
import { capital, likely, count, counted, percent, promise, share } from "../words.js";
import { wish } from "./promises.js";

/** Whether what is accepted at a position is proved: {kind: "force" | "proved" | "not" | "nothing", text}. */
export function proofAt(view, position, current, asked) {
  if (!position) return { kind: "nothing", text: "Nothing is accepted here: everything needs review." };
  const { threshold, accepted, errors } = view.at(position);
  if (current && !current.stale && sameRule(view.rule, current) && positionOf(view, current.threshold) === position) {
    const [low] = view.rule.threshold_range ?? [null];
    const alone = current.asked_threshold === null && low !== null && current.threshold < low;
    return { kind: "force", text: `This threshold is in use.${alone ? ` The calibration chose it before it looked at the images that prove it. A threshold that you choose by looking at them is proved from ${trustText(low, view.rule.rule)} on.` : ""}` };
  }
  const range = view.rule.threshold_range;
  const seen = errors ? `${count(errors)} of ${count(accepted)} accepted images are wrong (${percent(errors / accepted)}). ` : "";
  if (!range) return { kind: "not", text: `${seen}No threshold of this rule can be proved with these images, for ${wish(asked)}. More images are needed, or a weaker promise.` };
  const [low, high] = range;
  if (threshold >= low && threshold <= high) return { kind: "proved", text: `${capital(promise({ max_risk: asked.risk, confidence: asked.confidence }))}.` };
  const where = (edge, name) => `The ${name} threshold that is proved is ${trustText(edge, view.rule.rule)}, which accepts ${percent(view.coverage(positionOf(view, edge)), 0)}.`;
  if (threshold < low) return { kind: "not", text: `${seen}${sentenceOf(asked)} cannot be proved here. ${where(low, "lowest")}` };
  return { kind: "not", text: `Only ${counted(accepted, "image is", "images are")} accepted here, too few for a proof. ${where(high, "highest")}` };
}

const sentenceOf = ({ risk }) => `At most ${share(risk, 2)} wrong`;

/** A position in one sentence, for those who hear the slider. */
export function spoken(view, position, proof) {
  const { threshold, accepted, errors } = view.at(position);
  if (!position) return "Accepts nothing";
  return `Trust from ${trustText(threshold, view.rule.rule)}: accepts ${percent(accepted / view.evaluation.images)}, ${counted(accepted, "image")} of ${count(view.evaluation.images)}; `
    + `${percent(errors / accepted)} of them wrong. ${{ not: "Not proved. ", proved: "Proved. ", force: "", nothing: "" }[proof.kind]}${proof.text}`;
}

/** The figures, and the proof. */
export function readout() {
  const [coverage, risk, review] = ["coverage", "risk", "review"].map((name) => h("dd", { data: { name } }));
  const [coverageNote, riskNote, reviewNote] = [0, 1, 2].map(() => h("dd", { class: "quiet" }));
  const proof = h("p", { class: "proof" });
  const threshold = h("p", { class: "from" });
  const root = h("div", { class: "readout" }, threshold,
    h("dl", {},
      h("div", {}, h("dt", {}, "Accept"), coverage, coverageNote),
      h("div", {}, h("dt", {}, "Wrong"), risk, riskNote),
      h("div", {}, h("dt", {}, "Review"), review, reviewNote)),
    proof);
  return { root, show };

  function show(view, position, standing, probability) {
    const at = view.at(position);
    const { evaluation } = view;
    const trust = trustText(at.threshold, view.rule.rule);
    const from = position ? probability(at.threshold) : null;
    put(threshold, position
      ? ["Accept from ", h("strong", {}, from === null ? `a trust of ${trust}` : likely(from)), from === null ? " on" : " probability on", from !== null && h("span", { class: "quiet" }, ` (trust ${trust})`)]
      : "Accept nothing");
    put(coverage, percent(position ? at.accepted / evaluation.images : 0));
    put(coverageNote, `${count(at.accepted)} of ${counted(evaluation.images, "image")}`);
    put(risk, at.accepted ? percent(at.errors / at.accepted) : "–");
    put(riskNote, at.accepted ? `${count(at.errors)} of ${count(at.accepted)} accepted` : "nothing is accepted");
    put(review, percent(1 - (position ? at.accepted / evaluation.images : 0)));
    put(reviewNote, `${counted(evaluation.images - at.accepted, "image")}`);
    proof.className = `proof ${standing.kind}`;
    const mark = { proved: "✓ Proved. ", not: "✗ Not proved. ", force: "◆ ", nothing: "" }[standing.kind];
    put(proof, h("strong", {}, mark), standing.text);
  }
}

/** Whether a row of the table is proved, and in a few words why not. */
function inShort(view, { position, threshold, accepted, errors }, current, asked) {
  const { kind } = proofAt(view, position, current, asked);
  if (kind !== "not") return kind === "force" ? "in use" : "yes";
  const [wanted, range] = [share(asked.risk, 2), view.rule.threshold_range];
  if (errors > asked.risk * accepted) return `no: more than ${wanted} wrong`;
  return range && threshold < range[0] ? `no: too close to ${wanted}` : "no: too few images";
}

/** The curve as a table, coverage by coverage. */
export function curveTable(view, current, asked) {
  const steps = Array.from({ length: 20 }, (_, i) => nearest(view, (i + 1) / 20));
  const rows = [...new Set(steps)].filter(Boolean).map((position) => ({ position, ...view.at(position) }));
  const cells = (row) => [percent(view.coverage(row.position)), trustText(row.threshold, view.rule.rule), count(row.accepted), count(row.errors), percent(row.errors / row.accepted), inShort(view, row, current, asked)];
  return h("details", { class: "as-table" }, h("summary", {}, "The curve as a table"),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The curve as a table" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Accept", "Trust from", "Accepted", "Wrong", "Wrong, of these", "Proved"].map((name) => h("th", { class: "n", scope: "col" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells(row).map((text) => h("td", { class: "n" }, text))))))));
}
