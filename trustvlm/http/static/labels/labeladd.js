// Adding a label: by name and photographs; where the encoders take none, by a file of embeddings.

import { path, post } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { takesImages, takesNames } from "../encoders.js";
import { doing, dropzone, localImage } from "../parts.js";
import { formOf, groups } from "../uploads.js";
import { counted } from "../words.js";

/** The panel, hidden at first; `added()` is called after every change. */
export function addPanel(context, added) {
  const panel = takesNames(context.space) ? byName(context, added) : byFile(context, added);
  panel.root.hidden = true;
  return panel;
}

function byName(context, added) {
  const { space, signal } = context;
  const [nameId, promptId] = [freshId("name"), freshId("prompt")];
  const name = h("input", { id: nameId, required: true, maxlength: 2000, autocomplete: "off" });
  const prompt = h("input", { id: promptId, maxlength: 2000, autocomplete: "off", placeholder: space.templates[0] ?? "" });
  const strip = h("div", { class: "strip chosen" });
  const done = h("div", { "aria-live": "polite" });
  const submit = h("button", { class: "primary" }, "Add the label");
  let files = [];
  let shown = new AbortController();

  const show = () => {
    shown.abort();
    shown = new AbortController();
    signal.addEventListener("abort", () => shown.abort(), { once: true });
    put(strip, files.map((file) => h("figure", { class: "support small" },
      h("div", { class: "picture" }, localImage(file, file.name, shown.signal)),
      h("button", { type: "button", class: "plain", "aria-label": `Leave out ${file.name}`, on: { click: () => { files = files.filter((one) => one !== file); show(); } } }, "×"))));
    put(submit, files.length ? `Add the label with ${counted(files.length, "support image")}` : "Add the label");
  };
  const photos = takesImages(space)
    ? dropzone({ title: "Drop photos of it", hint: "or choose files. They become its support images.", taken: (some) => { files = [...files, ...some]; show(); } })
    : h("p", { class: "quiet" }, "This space's verifier takes embeddings only: support images can be added as vectors once the label is there.");

  const sent = (event) => {
    event.preventDefault();
    const text = name.value.trim();
    if (text) doing(submit, async () => {
      const result = await register(space, text, prompt.value.trim() || null, files, signal);
      put(done, outcome(context, text, result));
      [name.value, prompt.value, files] = ["", "", []];
      show();
      added();
    });
  };
  const root = h("form", { class: "card stack adding", on: { submit: sent } },
    h("h2", {}, "Add a label"),
    h("div", { class: "split" },
      h("div", { class: "stack" },
        h("div", { class: "field" }, h("label", { for: nameId }, "Name"), name),
        h("div", { class: "field" }, h("label", { for: promptId }, "Prompt ", h("span", { class: "quiet" }, "(if the name alone says too little)")), prompt)),
      h("div", { class: "stack" }, photos, strip)),
    h("div", { class: "row" }, submit), done);
  return { root, focus: () => name.focus() };
}

/** Register a label and its images, some at a time; what was changed in all. */
async function register(space, name, prompt, files, signal) {
  const where = path("spaces", space.name, "labels");
  if (!files.length) return post(where, { json: { labels: [{ name, prompt }] }, signal });
  const total = { added_labels: 0, added_supports: 0, skipped_duplicates: 0, failures: [], cut_prompts: [] };
  for await (const group of groups(files, signal)) {
    const one = await post(where, { form: formOf(group, { name, prompt }), signal });
    for (const key of ["added_labels", "added_supports", "skipped_duplicates"]) total[key] += one[key];
    for (const key of ["failures", "cut_prompts"]) total[key].push(...one[key]);
  }
  return total;
}

/** What a registration did, and that the next query knows it. */
function outcome(context, name, result) {
  const { added_labels: isNew, added_supports: more, failures, cut_prompts: cut } = result;
  const pictures = more ? ` with ${counted(more, "support image")}` : "";
  const text = isNew ? `Added “${name}”${pictures}.` : more ? `“${name}” was there; it has ${counted(more, "support image")} more now.` : `“${name}” was there already; nothing changed.`;
  return h("div", { class: "outcome" }, h("p", {}, text, isNew || more ? " The very next query knows it." : ""),
    cut.length > 0 && h("p", {}, "Its prompt is longer than the classifier reads: the end of the prompt is ignored."),
    unreadable(failures),
    (isNew || more) > 0 && h("p", { class: "row" },
      h("button", { type: "button", on: { click: () => context.go("try") } }, "Try it on an image"),
      h("button", { type: "button", on: { click: () => context.go("labels", name) } }, "Look at the label")));
}

/** Which files could not be read. */
export function unreadable(failures) {
  return failures.length > 0 && h("ul", { class: "failures" }, failures.map((one) => h("li", {}, `${one.source}: ${one.reason}`)));
}

function byFile(context, added) {
  const { space, signal } = context;
  const id = freshId("file");
  const done = h("div", { "aria-live": "polite" });
  const input = h("input", { id, type: "file", accept: ".ndjson,.jsonl,application/x-ndjson", required: true });
  const submit = h("button", { class: "primary" }, "Import the file");
  const sent = (event) => {
    event.preventDefault();
    doing(submit, async () => {
      const file = { content: input.files[0], type: "application/x-ndjson" };
      const job = await post(path("spaces", space.name, "imports"), { file, signal });
      const { added_labels: labels, added_supports: images } = job.result ?? { added_labels: 0, added_supports: 0 };
      put(done, job.error ? h("div", { class: "problem" }, h("p", {}, job.error.message)) : h("p", {}, `Added ${counted(labels, "label")} and ${counted(images, "support image")}. The very next query knows them.`));
      added();
    });
  };
  const example = `{"name": "airport", "text_vector": [… ${space.classifier_dim} numbers], "image_vectors": [[… ${space.verifier_dim} numbers]]}`;
  const root = h("form", { class: "card stack adding", on: { submit: sent } },
    h("h2", {}, "Add labels"),
    h("p", {}, "The embeddings of this space are computed elsewhere: it has no encoder for names", takesImages(space) ? "." : ", nor for photographs.",
      " New labels come with their vectors, one JSON object a line:"),
    h("pre", { tabindex: 0 }, example),
    h("div", { class: "field" }, h("label", { for: id }, "NDJSON file"), input),
    h("div", { class: "row" }, submit, h("span", { class: "quiet" }, "or on the command line: ", h("code", {}, `trustvlm register ${space.name} --vectors FILE.npz`))), done);
  return { root, focus: () => input.focus() };
}
