// A field for a filter over attributes, as text or JSON; the service says what is wrong with it.

import { freshId, h } from "../dom.js";

/** The field with its `title`; `changed(text)` is called with the text, null when it is empty. `saying`: the id of the element
 *  beside the field that says what is wrong with the text. */
export function filterField(value, changed, { title = "Filter", hint = "only what has attributes that fit", saying = "" } = {}) {
  const [id, about] = ["filter", "hint"].map(freshId);
  const input = h("input", { id, type: "search", value: value ?? null, placeholder: 'region = "EU" and size >= 3', maxlength: 20000, autocomplete: "off",
    spellcheck: "false", "aria-describedby": `${about} ${saying}`.trim(), on: { change: () => changed(input.value.trim() || null) } });
  return h("span", { class: "filter field" }, h("label", { for: id, class: "quiet" }, title), input,
    h("span", { id: about, class: "visually-hidden" }, hint));
}

/** Attributes in one line; null without any. */
export function attributesLine(attributes) {
  const pairs = Object.entries(attributes ?? {});
  if (!pairs.length) return null;
  const text = pairs.map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
  return h("span", { class: "quiet attributes-line", dir: "auto", title: text }, text);
}
