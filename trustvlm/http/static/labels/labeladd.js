// Adding a label: by name and photographs; where the encoders take none, by a file of embeddings.

import { path, post } from "../api.js";
import { commandOf } from "../command.js";
import { freshId, h, put } from "../dom.js";
import { readsTexts, takesImages, takesNames } from "../encoders.js";
import { doing, dropzone, localImage } from "../parts.js";
import { progressBox } from "../progress.js";
import { formOf, groups } from "../uploads.js";
import { count, counted } from "../words.js";

const LABELS = 1_000; // in a request
const VALUE_BYTES = 8; // that a value counts for at least: a request may hold so many values, too

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
        readsTexts(space) && h("div", { class: "field" }, h("label", { for: promptId }, "Prompt ", h("span", { class: "quiet" }, "(if the name alone says too little)")), prompt)),
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
      const stop = new AbortController();
      signal.addEventListener("abort", () => stop.abort(), { once: true });
      const progress = progressBox(() => stop.abort());
      put(done, progress.root);
      const total = { read: 0, added_labels: 0, added_supports: 0 };
      const problem = await importLines(space, input.files[0], total, progress.tell, stop.signal);
      const sum = `Added ${counted(total.added_labels, "label")} and ${counted(total.added_supports, "support image")}.`;
      put(done, problem
        ? h("div", { class: "problem", role: "alert" }, h("p", {}, problem), h("p", {}, `${sum} Import the file again for the rest: what is there is skipped.`))
        : h("p", {}, `${sum} The very next query knows them.`));
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
    h("div", { class: "row" }, submit, h("span", { class: "quiet" }, "or on the command line: ", h("code", {}, commandOf("register", [space.name], "--vectors FILE.npz")))), done);
  return { root, focus: () => input.focus() };
}

/** Register the labels of a file in requests of bounded size, and add to `total` what they changed; why it ended early, or null. */
async function importLines(space, file, total, tell, signal) {
  let lines = "";
  try {
    for await (const group of groups(labelsOf(file), signal, { most: LABELS, size: (one) => one.size })) {
      lines = `Lines ${count(group[0].line)} to ${count(group.at(-1).line)}: `;
      const labels = group.map((one) => one.label);
      const done = await post(path("spaces", space.name, "labels"), { json: { labels }, signal });
      for (const key of ["added_labels", "added_supports"]) total[key] += done[key];
      total.read = group.at(-1).end;
      tell(`${counted(total.added_labels, "label")} added; characters read:`, Math.min(total.read, file.size), file.size);
      lines = "";
    }
    return null;
  } catch (error) {
    return error.name === "AbortError" ? "The import was cancelled." : `${lines}${error.message}`;
  }
}

/** The labels of a file with one JSON object a line: {label, line, size, end}. */
async function* labelsOf(file) {
  const reader = file.stream().pipeThrough(new TextDecoderStream()).getReader();
  let [rest, line, end] = ["", 0, 0];
  for (let last = false; !last;) {
    const { value = "", done } = await reader.read();
    const texts = (rest + value).split("\n");
    rest = done ? "" : texts.pop();
    last = done;
    for (const text of texts) {
      line += 1;
      end += text.length + 1;
      if (text.trim()) yield { label: parsed(text, line), line, end, size: Math.max(text.length, VALUE_BYTES * text.split(",").length) };
    }
  }
}

function parsed(text, line) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`Line ${count(line)} is no JSON object.`);
  }
}
