// The further names of a label: shown, added, and made separate labels again.

import { get, hrefOf, may, path, post, remove } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { takesNames } from "../encoders.js";
import { dialog, notice } from "../parts.js";

/** A card with the further names of `label`, null where there is nothing to show or do; `changed()` is called after each change. */
export function aliasCard(context, label, changed) {
  return label.alias_of === null ? ofLabel(context, label, changed) : ofAlias(context, label, changed);
}

const where = (space, name, ...more) => path("spaces", space.name, "labels", name, ...more);
const linkTo = (space, name) => h("a", { href: hrefOf(space.name, "labels", name) }, h("bdi", {}, name));

function ofAlias(context, label, changed) {
  const { space } = context;
  const said = h("p", { class: "wrong-input", role: "alert" });
  const button = h("button", { type: "button", on: { click: () => attempt(said, button, async () => {
    await remove(where(space, label.name, "alias"));
    notice(`“${label.name}” is a separate label again.`, { name: "Undo", run: () => post(where(space, label.name, "alias"), { json: { of: label.alias_of } }).then(changed) });
    changed();
  }) } }, "Make it a separate label");
  return h("section", { class: "card aliases" }, h("h2", {}, "A further name"),
    h("p", {}, "This is a further name of ", linkTo(space, label.alias_of), ": verdicts show that label, and the two share their support images."),
    may("write") && h("div", { class: "row" }, button), said);
}

function ofLabel(context, label, changed) {
  if (!label.aliases.length && !may("write")) return null;
  const { space } = context;
  const id = freshId("alias");
  const said = h("p", { class: "wrong-input", role: "alert" });
  const input = h("input", { id, maxlength: 500, autocomplete: "off", required: true });
  const add = h("button", {}, "Add the name");
  const sent = (event) => {
    event.preventDefault();
    const name = input.value.trim();
    if (name) attempt(said, add, () => addAlias(context, label, name, changed));
  };
  const row = (name) => {
    const button = may("write") && h("button", { type: "button", class: "plain", "aria-label": `Make ${name} a separate label`, title: "Make it a separate label", on: { click: () => attempt(said, button, () => separate(context, label, name, changed)) } }, "×");
    return h("li", { class: "badge" }, linkTo(space, name), button);
  };
  return h("section", { class: "card aliases" }, h("h2", {}, "Further names"),
    h("p", { class: "quiet" }, "An image that gets one of these names gets this label."),
    label.aliases.length > 0 && h("ul", { class: "names" }, label.aliases.map(row)),
    may("write") && h("form", { class: "field", on: { submit: sent } }, h("label", { for: id }, "Another name for it"), h("div", { class: "row" }, input, add)), said);
}

/** Make a name a further name of the label: a label of that name joins it, after the person agreed. */
async function addAlias({ space }, label, name, changed) {
  const other = await existing(space, name);
  if (!other && !takesNames(space)) throw new Error(`There is no label “${name}”, and a new one needs a text vector here: this space reads no names.`);
  if (other && !(await agreed(label, other))) return;
  if (!other) await post(path("spaces", space.name, "labels"), { json: { names: [name] } });
  await post(where(space, name, "alias"), { json: { of: label.name } });
  notice(`“${name}” is a further name of “${label.name}” now.`, { name: "Undo", run: () => undo(space, name, other === null).then(changed) });
  changed();
}

async function undo(space, name, wasNew) {
  await remove(where(space, name, "alias"));
  if (wasNew) await remove(where(space, name));
}

/** The label of this name, or null. Asked of the list, where the name itself comes before those that begin with it: asking
 *  for a label that is not there would put an error into the console. */
async function existing(space, name) {
  const { labels } = await get(path("spaces", space.name, "labels"), { query: { q: name, match: "prefix", limit: 100 } });
  return labels.find((row) => row.name === name) ?? null;
}

const agreed = (label, other) => dialog("Make two labels one?", (close) => [
  h("p", {}, "“", h("bdi", {}, other.name), `” is a label with ${other.support_count} support images. As a further name of “`, h("bdi", {}, label.name), "” it is no answer any more, and its support images count for “", h("bdi", {}, label.name), "”."),
  h("div", { class: "actions" }, h("button", { type: "button", class: "primary", on: { click: () => close(true) } }, "Make them one"), h("button", { type: "button", on: { click: () => close() } }, "Cancel")),
]);

async function separate({ space }, label, name, changed) {
  await remove(where(space, name, "alias"));
  notice(`“${name}” is a separate label again.`, { name: "Undo", run: () => post(where(space, name, "alias"), { json: { of: label.name } }).then(changed) });
  changed();
}

/** Run a change; what goes wrong is said beside it. */
async function attempt(said, button, work) {
  button.disabled = true;
  put(said);
  try {
    await work();
  } catch (error) {
    put(said, error.message);
  }
  button.disabled = false;
}
