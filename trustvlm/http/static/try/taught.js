// What teaching changes: how a label stands with an image, and the answer before and now.

import { path, post } from "../api.js";
import { h } from "../dom.js";
import { likely, number, percent } from "../words.js";
import { stateOf } from "./answer.js";
import { bodyOf, supportVectors } from "./queries.js";

const FIRST = 100; // labels that are looked through for the taught one

/** How a label stands with a query, by its name and by its support images: {text, image}, each {place, value} or null where it
 *  is not among the first. */
export async function standing(space, query, label, signal) {
  const ask = (verb, one, fields) => post(path("spaces", space.name, verb), { ...bodyOf([one], fields), signal });
  const { probabilities, ...seen } = query; // what an image is, whatever another classifier says of it
  const searched = seen.file || supportVectors(seen) ? ask("search", seen, { kind: "prototype", k: FIRST }) : { hits: [] };
  const [scored, { hits }] = await Promise.all([ask("score", query, { top_k: FIRST, evidence: 0, review: false }), searched]);
  const [{ top_labels: names, top_confidence: values }] = scored.verdicts;
  const place = (list) => list.indexOf(label);
  const [text, image] = [place(names), place(hits.map((hit) => hit.label))];
  return {
    text: text < 0 ? null : { place: text + 1, value: percent(values[text], 0).replaceAll(" ", "\u00a0") },
    image: image < 0 ? null : { place: image + 1, value: number(hits[image].similarity, 2).replace("-", "−") },
  };
}

const ordinal = (n) => `${n}${["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] ?? "th"}`;

const stood = (one, what) => one ? `${ordinal(one.place)}, ${what} ${one.value}` : `not among the first ${FIRST}`;

const byText = ({ text, isNew }) => isNew ? "not a label yet" : stood(text, "confidence");
const byImages = ({ image, isNew }) => isNew ? "not a label yet" : stood(image, "similarity");

/** A label that is just made: before, it stood nowhere. */
export const NEW_LABEL = { text: null, image: null, isNew: true };

/** One sentence: where the label stands now. */
export const standingNow = (label, now) => `Of all labels “${label}” is now ${byText(now)}, by its name, and ${byImages(now)}, by its support images.`;

/** What scoring again changed, in a line. */
function summary(before, now) {
  const same = (...names) => names.every((name) => before[name] === now[name]);
  if (!same("label", "decision")) return "Scored again";
  const chance = likely(before.probability) === likely(now.probability);
  const reason = same("reason_code", "rival", "nearest_prototype", "unknown", "corrected_from");
  if (chance && reason) return "Scored again: the answer stays the same";
  if (now.decision === "unknown") return "Scored again: still unknown";
  return ["Scored again: the label stays “", h("bdi", { class: "clip" }, now.label), `”; the ${reason ? "probability" : "reason"} changed`];
}

/** The answer before teaching and now, with the taught label ({label, before, now}) whatever the answer is. */
export function difference(before, now, taught) {
  const answer = (verdict) => [stateOf(verdict)[2], verdict.decision === "unknown" ? null : [": ", h("bdi", {}, verdict.label)]];
  const taughtName = taught && h("bdi", { class: "clip" }, taught.label);
  const chances = [before, now].map(({ decision, probability }) => (decision === "unknown" ? null : probability));
  const row = (name, ...cells) => h("tr", {}, h("th", { scope: "row" }, name), cells.map((cell) => h("td", {}, cell)));
  const itself = now.reason_code === "copy_of_other" || [...(now.evidence?.label ?? []), ...(now.evidence?.rival ?? [])].some((near) => near.similarity > 0.99999);
  return h("section", { class: "difference", role: "status" },
    h("p", { class: "title" }, summary(before, now)),
    h("table", {},
      h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col" }, "Before"), h("th", { scope: "col" }, "Now"))),
      h("tbody", {},
        row("Answer", answer(before), answer(now)),
        chances.some((one) => one !== null) && row("Likely right", ...chances.map(likely)),
        taught?.before && [
          row(["“", taughtName, "” by its name"], byText(taught.before), byText(taught.now)),
          row(["“", taughtName.cloneNode(true), "” by its images"], byImages(taught.before), byImages(taught.now))])),
    itself && h("p", { class: "quiet" }, "This image is a support image itself now, so it is most like itself. Try another image of the same kind."));
}
