// A field for a filter over attributes, as text or JSON; the service says what is wrong with it.

import { freshId, h } from "../dom.js";

/** The field with its label; `changed(text)` is called with the text, null when it is empty. */
export function filterField(value, changed) {
  const [id, hint] = ["filter", "hint"].map(freshId);
  const input = h("input", { id, type: "search", value: value ?? null, placeholder: 'region = "EU" and size >= 3', maxlength: 20000, autocomplete: "off",
    spellcheck: "false", "aria-describedby": hint, on: { change: () => changed(input.value.trim() || null) } });
  return h("span", { class: "filter field" }, h("label", { for: id, class: "quiet" }, "Filter"), input,
    h("span", { id: hint, class: "visually-hidden" }, "only what has attributes that fit"));
}

/** Attributes in one line; null without any. */
export function attributesLine(attributes) {
  const pairs = Object.entries(attributes ?? {});
  if (!pairs.length) return null;
  const text = pairs.map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
  return h("span", { class: "quiet attributes-line", dir: "auto", title: text }, text);
}
