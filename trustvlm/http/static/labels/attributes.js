// The attributes of a label: shown, and edited as JSON.

import { may, patch, path } from "../api.js";
import { freshId, h } from "../dom.js";
import { dialog, notice } from "../parts.js";

/** A card with the attributes of `label`, null where there is nothing to show or do; `changed()` is called after each change. */
export function attributesCard(context, label, changed) {
  const pairs = Object.entries(label.attributes);
  if (!pairs.length && !may("write")) return null;
  const button = h("button", { type: "button", on: { click: () => edit(context, label, changed) } }, pairs.length ? "Edit the attributes …" : "Add attributes …");
  return h("section", { class: "card attributes" }, h("h2", {}, "Attributes"),
    h("p", { class: "quiet" }, "Filters choose labels by them, such as ", h("code", {}, 'region = "EU"'), "."),
    pairs.length > 0 && h("dl", { class: "pairs" }, pairs.map(([key, value]) => [h("dt", { dir: "auto" }, key), h("dd", { dir: "auto" }, shown(value))])),
    may("write") && h("div", { class: "row" }, button));
}

/** A value as text: lists with commas, objects as JSON. */
function shown(value) {
  if (Array.isArray(value)) return value.map(shown).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

async function edit({ space }, label, changed) {
  const [fieldId, hintId] = ["attributes", "hint"].map(freshId);
  const saved = await dialog(`Attributes of “${label.name}”`, (close) => {
    const field = h("textarea", { id: fieldId, rows: 8, spellcheck: "false", "aria-describedby": hintId }, JSON.stringify(label.attributes, null, 2));
    const said = h("p", { class: "wrong-input", role: "alert" });
    const save = h("button", { class: "primary" }, "Save");
    const sent = async (event) => {
      event.preventDefault();
      const attributes = parsed(field.value, said);
      if (attributes === null) return;
      save.disabled = true;
      try {
        await patch(path("spaces", space.name, "labels", label.name), { json: { attributes } });
        close(true);
      } catch (error) {
        said.textContent = error.message;
      }
      save.disabled = false;
    };
    return h("form", { class: "stack", on: { submit: sent } },
      h("div", { class: "field" }, h("label", { for: fieldId }, "A JSON object"), field,
        h("span", { class: "quiet", id: hintId }, "Text, numbers, true, false, lists of these, and objects: ", h("code", {}, '{"region": ["EU", "US"], "size": 3}'))),
      said, h("div", { class: "actions" }, save, h("button", { type: "button", on: { click: () => close() } }, "Cancel")));
  });
  if (saved === null) return;
  notice(`The attributes of “${label.name}” are changed.`);
  changed();
}

/** The object that the text holds; null, and said why, where it holds none. */
function parsed(text, said) {
  try {
    const value = JSON.parse(text.trim() || "{}");
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return value;
    said.textContent = 'Expected an object: {"region": "EU"}';
  } catch (error) {
    said.textContent = `This is no JSON: ${error.message}`;
  }
  return null;
}
