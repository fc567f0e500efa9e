// Making a space, and removing one.

import { get, keySpace, path, post, remove } from "../api.js";
import { commandAtHome } from "../command.js";
import { freshId, h, put } from "../dom.js";
import { dialog, doing, notice } from "../parts.js";

/** Ask for a new space; resolves to its row, or null. */
export async function createSpace() {
  let offered;
  try {
    offered = await get("v1/encoders");
  } catch (error) {
    offered = { encoders: [], presets: [], problem: error.message };
  }
  return dialog("Create a space", (close) => form(offered, close));
}

function form(offered, close) {
  const [nameId, templateId] = [freshId("space"), freshId("template")];
  const name = h("input", { id: nameId, required: true, maxlength: 500, autocomplete: "off", placeholder: "animals", value: keySpace(), readonly: keySpace() !== null });
  const template = h("input", { id: templateId, maxlength: 5000, autocomplete: "off", placeholder: "a photo of a {}." });
  const said = h("p", { class: "wrong-input", role: "alert" });
  const create = h("button", { class: "primary" }, "Create the space");
  const parts = [presets(offered), encoders(offered), vectors(), external(offered)];
  const pick = freshId("how");
  let chosen = parts.findIndex((part) => !part.reason);
  const shown = h("div", {});
  const prompt = h("div", { class: "field" }, h("label", { for: templateId }, "Prompt for names ", h("span", { class: "quiet" }, "({} is the name; optional)")), template);
  const choose = (i) => { chosen = i; put(shown, parts[i].root); prompt.hidden = Boolean(parts[i].nameless); };
  const radios = parts.map((part, i) => {
    const id = freshId("how");
    const why = freshId("why");
    return h("div", { class: "check" },
      h("input", { id, type: "radio", name: pick, checked: i === chosen, disabled: part.reason !== null, "aria-describedby": part.reason ? why : null, on: { change: () => choose(i) } }),
      h("div", {}, h("label", { for: id }, part.title), part.reason && h("p", { id: why, class: "quiet" }, part.reason)));
  });
  const sent = async (event) => {
    event.preventDefault();
    create.disabled = true;
    put(said);
    put(create, "Loading the encoders …");
    try {
      const json = { name: name.value.trim(), ...parts[chosen].values() };
      if (template.value.trim() && !prompt.hidden) json.templates = [template.value.trim()];
      close(await post("v1/spaces", { json }));
    } catch (error) {
      put(said, error.message);
      put(create, "Create the space");
      create.disabled = false;
    }
  };
  choose(chosen);
  return h("form", { class: "stack creating", on: { submit: sent } },
    h("p", {}, "A space holds labels and their support images, and the two encoders that images and names are compared with."),
    offered.problem && h("p", { class: "quiet" }, offered.problem),
    h("div", { class: "field" }, h("label", { for: nameId }, "Name"), name),
    h("fieldset", { class: "how" }, h("legend", {}, "Where embeddings come from"), radios), shown,
    prompt, said, h("div", { class: "actions" }, create, h("button", { type: "button", on: { click: () => close() } }, "Cancel")));
}

const NOT_ALLOWED = "Clients may not choose encoders here (setting serve_encoders). On the machine of the service, with HOME as its home: ";

function presets({ presets: all }) {
  const id = freshId("preset");
  const open = all.filter((one) => one.reason === null);
  const select = h("select", { id }, open.map((one) => h("option", { value: one.name }, `${one.name}: ${one.classifier}`)));
  return {
    title: "Two encoders that go together (a preset)",
    reason: open.length ? null : NOT_ALLOWED + commandAtHome("space create NAME --preset small"),
    root: h("div", { class: "field" }, h("label", { for: id }, "Preset"), select),
    values: () => ({ preset: select.value }),
  };
}

function encoders({ encoders: all }) {
  const [first, second] = [freshId("classifier"), freshId("verifier")];
  const options = all.map((spec) => h("option", { value: spec }, spec));
  const classifier = h("select", { id: first }, options);
  const verifier = h("select", { id: second }, h("option", { value: "same" }, "the same as the classifier"), options.map((one) => one.cloneNode(true)));
  return {
    title: "Encoders that this server offers",
    reason: all.length ? null : NOT_ALLOWED + commandAtHome("space create NAME --classifier SPEC"),
    root: h("div", { class: "stack" },
      h("div", { class: "field" }, h("label", { for: first }, "Classifier (reads names and images)"), classifier),
      h("div", { class: "field" }, h("label", { for: second }, "Verifier (compares images)"), verifier)),
    values: () => ({ classifier: classifier.value, verifier: verifier.value }),
  };
}

function vectors() {
  const [first, second] = [freshId("dim"), freshId("dim")];
  const number = (id, required) => h("input", { id, type: "number", min: 1, max: 65536, step: 1, required, inputmode: "numeric" });
  const classifier = number(first, true), verifier = number(second, false);
  return {
    title: "I compute embeddings myself",
    reason: null,
    root: h("div", { class: "stack" },
      h("div", { class: "field" }, h("label", { for: first }, "Values of a classifier embedding"), classifier),
      h("div", { class: "field" }, h("label", { for: second }, "Values of a verifier embedding ", h("span", { class: "quiet" }, "(empty: one embedding serves both)")), verifier)),
    values: () => ({ classifier: `precomputed:${classifier.value}`, verifier: verifier.value ? `precomputed:${verifier.value}` : "same" }),
  };
}

function external({ encoders: all }) {
  const [first, second, third] = [freshId("labels"), freshId("verifier"), freshId("dim")];
  const labels = h("input", { id: first, type: "number", min: 1, max: 20000, step: 1, value: 1000, required: true, inputmode: "numeric" });
  const dim = h("input", { id: third, type: "number", min: 1, max: 65536, step: 1, required: !all.length, inputmode: "numeric" });
  const own = h("div", { class: "field" }, h("label", { for: third }, "Values of an image embedding"), dim);
  const change = () => { own.hidden = verifier.value !== ""; dim.required = !own.hidden; };
  const verifier = h("select", { id: second, on: { change } }, all.map((spec) => h("option", { value: spec }, spec)), h("option", { value: "" }, "none: I compute embeddings myself"));
  change();
  return {
    title: "Another classifier gives probabilities with each query",
    reason: null,
    nameless: true,
    root: h("div", { class: "stack" },
      h("div", { class: "field" }, h("label", { for: first }, "Room for labels ", h("span", { class: "quiet" }, "(a label takes as many numbers)")), labels),
      h("div", { class: "field" }, h("label", { for: second }, "Verifier (compares images)"), verifier), own),
    values: () => ({ classifier: `external:${labels.value}`, verifier: verifier.value || `precomputed:${dim.value}` }),
  };
}

/** Remove a space after a question; `gone()` is called when it is. */
export async function removeSpace(space, button, gone) {
  const sure = await dialog(`Remove “${space.name}”?`, (close) => [
    h("p", {}, "The space disappears with its labels, support images and calibrations. It can be restored until the undo window has passed."),
    h("div", { class: "actions" }, h("button", { type: "button", class: "danger", on: { click: () => close(true) } }, "Remove the space"), h("button", { type: "button", on: { click: () => close() } }, "Cancel")),
  ]);
  if (!sure) return;
  await doing(button, async () => {
    await remove(path("spaces", space.name));
    notice(`Removed the space “${space.name}”.`, { name: "Undo", run: () => doing(null, async () => {
      await post(path("spaces", space.name, "restore"));
      gone(space.name);
    }) });
    gone(null);
  });
}
