// The numbers behind a verdict, for those who want them: closed at first, and open for all once a person opened them.

import { h } from "../dom.js";
import { count, number, percent, when } from "../words.js";
import { isProbability, trustText } from "../rules.js";
import { textLabels } from "./verdict.js";
import { trustBars, trustSentence } from "./trustbar.js";

let open = false;

/** The disclosure beneath a verdict. `calibration`: the one that decided, or null. */
export function details(space, verdict, calibration) {
  const box = h("details", { class: "verdict-numbers", open, on: { toggle: () => { open = box.open; } } },
    h("summary", {}, "Details ", h("span", { class: "quiet" }, "trust, similarity, rule")),
    h("div", { class: "split" }, measured(verdict, calibration), h("div", { class: "stack" }, textLabels(space, verdict), table(space, verdict, calibration))));
  return box;
}

function measured(verdict, calibration) {
  const { terms, label, rival } = verdict;
  const rows = [{ name: label, trust: verdict.trust, terms: terms.label }];
  if (rival !== null) rows.push({ name: rival, trust: verdict.rival_trust, terms: terms.rival });
  const threshold = calibration?.threshold ?? null;
  return h("section", { class: "measured" },
    h("h3", {}, rival === null ? "Trust" : "Trust, and that of its rival"),
    h("p", { class: "quiet" }, "The number that the rule computes. What reaches the threshold is accepted."),
    trustBars({ rows, rule: verdict.rule, range: terms.range, threshold }) ?? plainTrust(verdict, threshold),
    h("p", { class: "terms" }, trustSentence(verdict)),
    verdict.unverified && terms.label.image !== null && !isProbability(verdict.rule) &&
      h("p", { class: "quiet" }, "Without a support image an average similarity is assumed."));
}

/** A rule without a scale of its own: numbers only. */
function plainTrust(verdict, threshold) {
  const line = (name, value) => h("div", { class: "row spread" }, h("span", {}, name), h("strong", {}, trustText(value, verdict.rule)));
  return h("div", { class: "plain-trust" },
    line(verdict.label, verdict.trust),
    verdict.rival !== null && line(`${verdict.rival} (rival)`, verdict.rival_trust),
    threshold !== null && line("threshold", threshold),
    h("p", { class: "quiet" }, "The trust of this rule has no largest value, so no bar can show it: a larger number means more trust."));
}

function table(space, verdict, calibration) {
  const since = verdict.revision < space.revision ? ` (now ${count(space.revision)})` : "";
  const similarity = (value) => number(value, 3).replace("-", "−");
  const rows = [
    verdict.unknown && ["By its name alone", h("bdi", {}, verdict.corrected_from ?? verdict.label)],
    verdict.path.length > 1 && ["In the taxonomy", verdict.path.map((one, place) => [place > 0 && " › ", h("bdi", {}, one)])],
    verdict.path.length > 0 && ["Answer", verdict.node === null ? "no node is sure enough" : [h("bdi", {}, verdict.node), ` (${percent(verdict.node_probability, 1)})`]],
    ["Text confidence", percent(verdict.text_confidence, 1)],
    ["Image similarity", verdict.image_similarity === null ? "–" : similarity(verdict.image_similarity)],
    ["Nearest label by images", verdict.nearest_prototype === null ? "–" : [h("bdi", {}, verdict.nearest_prototype), ` (${similarity(verdict.nearest_similarity)})`]],
    ["Rule", verdict.rule],
    ["Calibration", calibration ? `${calibration.id}, of ${when(calibration.created_at)}` : "none"],
    ["Revision of the space", `${count(verdict.revision)}${since}`],
  ];
  return h("dl", { class: "verdict-facts" }, rows.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
