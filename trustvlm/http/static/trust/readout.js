// What the threshold does, in numbers and a sentence; and the same for every twentieth of the coverage, as a table.

import { h, put } from "../dom.js";
import { nearest } from "./outcomes.js";
import { count, counted, percent } from "../words.js";

const digits = (threshold) => (threshold === null ? "none" : threshold.toPrecision(4));

/** A position in one sentence, for those who hear the slider. */
export function spoken(view, position) {
  const { threshold, accepted, errors, risk_bound: most } = view.at(position);
  if (!position) return "Accepts nothing";
  const sure = percent(view.evaluation.confidence, 0);
  return `Trust from ${digits(threshold)}: accepts ${percent(accepted / view.evaluation.images)}, ${counted(accepted, "image")} of ${count(view.evaluation.images)}; `
    + `${percent(errors / accepted)} of them wrong, at most ${percent(most)} with ${sure} confidence`;
}

/** Three figures and what they are worth. */
export function readout() {
  const [coverage, risk, most] = ["coverage", "risk", "bound"].map((name) => h("dd", { data: { name } }));
  const [coverageNote, riskNote, mostNote] = [0, 1, 2].map(() => h("dd", { class: "quiet" }));
  const worth = h("p", { class: "quiet worth" });
  const threshold = h("strong", {});
  const root = h("div", { class: "readout" },
    h("p", {}, "Accept from a trust of ", threshold, " on."),
    h("dl", {},
      h("div", {}, h("dt", {}, "Coverage"), coverage, coverageNote),
      h("div", {}, h("dt", {}, "Risk seen"), risk, riskNote),
      h("div", {}, h("dt", {}, "Risk at most"), most, mostNote)),
    worth);
  return { root, show };

  function show(view, position) {
    const at = view.at(position);
    const { evaluation } = view;
    const sure = percent(evaluation.confidence, 0);
    put(threshold, position ? digits(at.threshold) : "more than any");
    put(coverage, percent(position ? at.accepted / evaluation.images : 0));
    put(coverageNote, `${count(at.accepted)} of ${counted(evaluation.images, "image")} accepted`);
    put(risk, at.accepted ? percent(at.errors / at.accepted) : "–");
    put(riskNote, at.accepted ? `${count(at.errors)} of ${count(at.accepted)} wrong` : "nothing is accepted");
    put(most, at.accepted ? percent(at.risk_bound) : "–");
    put(mostNote, `${sure} confidence, for one threshold fixed beforehand`);
    put(worth, "You see the images while you choose, so the bound is a guide, not a promise. Calibrating gives a promise: it chooses on one part of the images and proves on the other.");
  }
}

/** The curve as a table, coverage by coverage. */
export function curveTable(view) {
  const steps = Array.from({ length: 20 }, (_, i) => nearest(view, (i + 1) / 20));
  const rows = [...new Set(steps)].filter(Boolean).map((position) => ({ position, ...view.at(position) }));
  const sure = percent(view.evaluation.confidence, 0);
  return h("details", { class: "as-table" }, h("summary", {}, "The curve as a table"),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The curve as a table" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Coverage", "Trust from", "Accepted", "Wrong", "Risk", `At most (${sure})`].map((name) => h("th", { class: "n", scope: "col" }, name)))),
      h("tbody", {}, rows.map(({ position, threshold, accepted, errors, risk_bound: most }) => h("tr", {},
        [percent(view.coverage(position)), digits(threshold), count(accepted), count(errors), percent(errors / accepted), percent(most)].map((text) => h("td", { class: "n" }, text))))))));
}
