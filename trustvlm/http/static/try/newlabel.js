// "Create a label from this image": a name is enough, the image becomes its first support image.

import { get, path, post } from "../api.js";
import { commandOf } from "../command.js";
import { freshId, h, put } from "../dom.js";
import { takesNames } from "../encoders.js";
import { doing } from "../parts.js";
import { formOf } from "../uploads.js";
import { supportVectors } from "./queries.js";

/** Why no label can be made of a query; null: one can. */
export function whyNoLabel(space, query) {
  if (query.observation) return "The file of this stored image is not kept, only its embeddings: drop the image here to make a label of it.";
  if (takesNames(space)) return null;
  return `A new label of this space needs an embedding of its name, which cannot be computed here: add it with ${commandOf("register", [space.name], "--vectors FILE.npz")}`;
}

/** A form with the new label's name. `created({name, id, added})`: it is there, with this image as support image `id`;
 *  `existing(name)`: a label has this name already. */
export function newLabelForm(context, query, { created, existing, cancelled }) {
  const { space, signal } = context;
  const [id, told] = [freshId("new-label"), freshId("new-label-note")];
  const input = h("input", { id, required: true, maxlength: 2000, autocomplete: "off", "aria-describedby": told });
  const button = h("button", { class: "primary" }, "Create the label");
  const sent = (event) => {
    event.preventDefault();
    const name = input.value.trim();
    if (name) doing(button, async () => {
      if (await exists(space, name, signal)) return existing(name);
      const result = await post(path("spaces", space.name, "labels"), { ...bodyFor(query, name), signal });
      return created({ name, id: result.ids[0] ?? null });
    });
    else input.focus();
  };
  const keys = (event) => { if (event.key === "Escape") { event.stopPropagation(); cancelled(); } };
  const root = h("form", { class: "new-label", on: { submit: sent, keydown: keys } },
    h("div", { class: "field" }, h("label", { for: id }, "Name of the new label"), input),
    h("div", { class: "row" }, button, h("button", { type: "button", on: { click: cancelled } }, "Cancel")),
    h("p", { id: told, class: "quiet" }, "The name says what such images show, “flower” for instance. This image becomes its first support image; a few more make the label reliable."));
  return { root, focus: () => input.focus() };
}

function bodyFor(query, name) {
  if (query.file) return { form: formOf([query.file], { name, bring_back: true }) };
  return { json: { labels: [{ name, ...supportVectors(query) }], bring_back: true } };
}

async function exists(space, name, signal) {
  const { labels } = await get(path("spaces", space.name, "labels"), { query: { q: name, match: "prefix", limit: 1 }, signal });
  return labels.some((row) => row.name === name); // the name itself comes first of those that begin with it
}

/** A button that opens the form in its place. `done(what)` hears what the form created or found. */
export function createLabelButton(context, query, done) {
  const place = h("div", { class: "create-label" });
  const no = whyNoLabel(context.space, query);
  if (no) return put(place, h("p", { class: "quiet" }, no));
  const button = h("button", { type: "button", class: "primary unknown", on: { click: () => {
    const close = () => { put(place, button); button.focus(); };
    const form = newLabelForm(context, query, { created: (made) => done({ created: made }), existing: (name) => done({ existing: name }), cancelled: close });
    put(place, form.root);
    form.focus();
  } } }, "Create a label from this image");
  return put(place, button);
}
