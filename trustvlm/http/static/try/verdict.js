// The images that speak for a verdict or against it, and what the text alone says.

import { hrefOf } from "../api.js";
import { h } from "../dom.js";
import { isExternal } from "../encoders.js";
import { supportFigure } from "../parts.js";
import { rivalFitsBetter } from "./answer.js";
import { fileName, number, percent } from "../words.js";

// Why these two labels: an unknown image is like neither, and its nearest label may be a third one.
const WHICH = {
  usual: { label: "", rival: ", the second choice" },
  better: { label: "", rival: ", which fits better" },
  unknown: { label: ", the label that it would get", rival: ", the second choice" },
};

/** The support images of the label beside those of its rival. */
export function evidenceOf(space, verdict, go) {
  const { evidence, label, rival } = verdict;
  const strange = verdict.decision === "unknown"; // then the label that is nearest by its images comes first
  const side = (name, near, role) => h("section", { class: `side ${role} ${strange && name === verdict.nearest_prototype ? "first" : ""}` },
    h("h3", {}, h("span", { class: "quiet" }, "Closest images of “"),
      h("a", { href: hrefOf(space.name, "labels", name), on: { click: (event) => { event.preventDefault(); go("labels", name); } } }, h("bdi", {}, name)),
      h("span", { class: "quiet" }, "”", WHICH[strange ? "unknown" : rivalFitsBetter(verdict) ? "better" : "usual"][role])),
    near.length ? h("div", { class: "strip" }, near.map((one) => likeness(space.name, name, one)))
      : h("p", { class: "none-yet" }, `“${name}” has no support image.`));
  return h("div", { class: "evidence" },
    side(label, evidence?.label ?? [], "label"),
    rival === null ? h("section", { class: "side rival" }, h("p", { class: "none-yet" }, "There is no other label."))
      : side(rival, evidence?.rival ?? [], "rival"),
    h("p", { class: "quiet" }, "The number says how alike two images are: 1 is the same image."));
}

/** A support image with how similar it is, as a number and a bar. */
function likeness(space, label, near) {
  const caption = h("span", { class: "likeness" },
    h("span", { class: "meter", "aria-hidden": "true" }, h("span", { style: { width: `${Math.max(0, 100 * near.similarity)}%` } })),
    h("span", {}, number(near.similarity, 3).replace("-", "−")));
  return supportFigure(space, { id: near.id, label, source: fileName(near.source) }, caption);
}

/** The labels of largest text confidence. */
export function textLabels(space, verdict) {
  return h("section", { class: "text-labels" },
    h("h3", {}, isExternal(space) ? "What the classifier alone says" : "What the text alone says"),
    h("ol", {}, verdict.top_labels.slice(0, 5).map((name, i) => {
      const part = verdict.top_confidence[i];
      return h("li", {},
        h("span", { class: "name", title: name }, h("bdi", {}, name)),
        h("span", { class: "meter text", "aria-hidden": "true" }, h("span", { style: { width: `${100 * part}%` } })),
        h("span", { class: "value" }, percent(part, 1)));
    })));
}
