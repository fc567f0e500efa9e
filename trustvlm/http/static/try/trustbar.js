// Trust as a bar that is split into what the text says and what the images add, on the rule's own scale.

import { h } from "../dom.js";
import { isProbability, trustText } from "../rules.js";

/** Bars of the label and its rival on one axis, the threshold through both.
 *  `rows`: [{name, trust, terms: {text, image}}]; `range`: the scale of the `rule`; `threshold`: null where none is in force. */
export function trustBars({ rows, rule, range, threshold }) {
  if (!range) return null;
  const [low, high] = axis(rows, range, threshold);
  const place = (value) => `${(100 * Math.min(1, Math.max(0, (value - low) / (high - low)))).toFixed(3)}%`;
  const marked = threshold !== null && threshold !== undefined;
  return h("div", { class: "trust-bars" },
    rows.map((row, i) => bar(row, { rule, threshold, place, low, rival: i > 0 })),
    h("div", { class: "scale-note", "aria-hidden": "true", style: { "--at": marked ? place(threshold) : null } },
      h("span", {}, edgeText(low, rule)),
      marked && h("span", { class: "mark" }, `threshold ${trustText(threshold, rule)}`),
      h("span", {}, edgeText(high, rule))));
}

const edgeText = (value, rule) => (isProbability(rule) ? `${100 * value} %` : String(Number(value.toFixed(2))).replace("-", "−"));

function bar({ name, trust, terms }, { rule, threshold, place, low, rival }) {
  const track = h("div", { class: "track", role: "img", "aria-label": spoken(name, trust, terms, rule, threshold) },
    segments(terms, trust).map(({ kind, from, to }) =>
      h("span", { class: `segment ${kind}`, style: { left: place(Math.min(from, to)), right: `calc(100% - ${place(Math.max(from, to))})` } })),
    low < 0 && h("span", { class: "zero", style: { left: place(0) } }),
    threshold !== null && threshold !== undefined && h("span", { class: "threshold", style: { left: place(threshold) } }));
  return h("div", { class: `trust-row ${rival ? "rival" : ""}` },
    h("span", { class: "name", title: name }, h("bdi", {}, name)), track, h("span", { class: "value" }, trustText(trust, rule)));
}

/** What the images take away stands hatched behind the end of the bar, so that its end is the trust, always. */
function segments({ text, image }, trust) {
  if (image === null) return [{ kind: "text", from: 0, to: text }];
  if (text === null) return [{ kind: "image", from: 0, to: image }];
  if (image >= 0) return [{ kind: "text", from: 0, to: text }, { kind: "image", from: text, to: trust }];
  return [{ kind: "text", from: 0, to: Math.max(0, trust) }, { kind: "taken", from: trust, to: text }];
}

/** The rule's scale from 0 on; below 0 only as far as something reaches there. */
function axis(rows, [low, high], threshold) {
  const values = rows.flatMap(({ trust, terms }) => [trust, terms.text ?? 0, 0]);
  if (threshold !== null && threshold !== undefined) values.push(threshold);
  return [Math.max(low, Math.min(0, ...values)), high];
}

function spoken(name, trust, { text, image }, rule, threshold) {
  const parts = [];
  if (text !== null) parts.push(`text ${trustText(text, rule)}`);
  if (image !== null) parts.push(`images ${trustText(image, rule)}`);
  const against = threshold === null || threshold === undefined ? "" : `; threshold ${trustText(threshold, rule)}`;
  return `${name}: trust ${trustText(trust, rule)} (${parts.join(", ")})${against}`;
}

/** What the bar shows, in a sentence with its two colours. */
export function trustSentence({ terms: { range, label: { text, image } }, trust, rule }) {
  const say = (value) => trustText(value, rule);
  const key = (kind, words) => h("span", { class: `key ${kind}` }, words);
  if (image === null) return [key("text", `Text ${say(text)}`), ": this rule does not look at images."];
  if (text === null) return [key("image", `Images ${say(image)}`), ": this rule does not look at the text."];
  if (!isProbability(rule)) {
    const most = range ? ` (at most ${edgeText(range[1], rule)})` : "";
    const sign = image < 0 ? "−" : "+";
    return [key("text", `Text ${say(text)}`), ` ${sign} `, key("image", `images ${say(Math.abs(image))}`), ` = trust ${say(trust)}${most}.`];
  }
  const moved = Math.abs(image) < 0.0005 ? "the images leave it there" : image > 0 ? "the images raise it to" : "the images lower it to";
  return [key("text", `Text alone ${say(text)}`), "; ", key(image < 0 ? "taken" : "image", moved), Math.abs(image) < 0.0005 ? "." : ` ${say(trust)}.`];
}
