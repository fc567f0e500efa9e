// Many names at once: pasted, looked through before anything is changed, then registered some at a time.

import { path, post } from "../api.js";
import { freshId, h, put, settled } from "../dom.js";
import { readsTexts, takesNames } from "../encoders.js";
import { progressBox } from "../progress.js";
import { count, counted } from "../words.js";

const CHUNK = 256; // names in a request, so that progress shows
const COMPARED = 20_000;
const MOST_NAME = 500, MOST_PROMPT = 5_000;
const SHOWN = 8;
// What the service takes in no name: control characters, and what is not seen or turns the reading direction.
const UNSEEN = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180b}-\u{180f}\u{200b}\u{200e}\u{200f}\u{202a}-\u{202e}\u{2060}-\u{206f}\u{2800}\u{3164}\u{feff}\u{ffa0}\u{fff0}-\u{fffb}\u{e0000}-\u{e00ff}]/u;

/** The panel, hidden at first; `added()` is called when labels were registered. */
export function bulkPanel(context, added) {
  const panel = takesNames(context.space) ? pasting(context, added) : cannot(context.space);
  panel.root.hidden = true;
  return panel;
}

function cannot(space) {
  const root = h("div", { class: "card stack adding" },
    h("h2", { tabindex: -1 }, "Add several labels"),
    h("p", {}, `This is not possible in “${space.name}”: its classifier is ${space.classifier}, which reads no names. A new label needs its text vector.`),
    h("p", {}, "“Add a label” takes a file of names with vectors."));
  return { root, focus: () => root.firstChild.focus() };
}

function pasting(context, added) {
  const { space, signal } = context;
  const [id, hint] = [freshId("names"), freshId("names-hint")];
  const preview = h("div", { "aria-live": "polite" });
  const done = h("div", { "aria-live": "polite" });
  const submit = h("button", { class: "primary", disabled: true }, "Register the new names");
  const area = h("textarea", { id, rows: 8, spellcheck: "false", "aria-describedby": hint, on: { input: () => { submit.disabled = true; soon(); } } });
  let fresh = [];
  let looking = new AbortController();

  async function look() {
    looking.abort();
    looking = new AbortController();
    const mine = AbortSignal.any([signal, looking.signal]);
    const { names, problems } = parsed(area.value);
    try {
      const known = names.length ? await existing(space, names, mine) : new Set();
      fresh = names.filter((one) => !known.has(one.name));
      const there = names.filter((one) => known.has(one.name));
      put(preview, area.value.trim() && [
        group("new", fresh, "new name", "new names"),
        group("there", there, "name is a label already and stays as it is", "names are labels already and stay as they are"),
        group("wrong", problems, "line cannot be a name", "lines cannot be names"),
      ]);
      put(submit, fresh.length ? `Register ${counted(fresh.length, "label")}` : "Register the new names");
      submit.disabled = !fresh.length;
    } catch (error) {
      if (error.name !== "AbortError") put(preview, h("div", { class: "problem", role: "alert" }, h("p", {}, error.message)));
    }
  }
  const soon = settled(look, 250);

  async function sent(event) {
    event.preventDefault();
    const stop = new AbortController();
    const box = progressBox(() => stop.abort());
    put(done, box.root);
    submit.disabled = area.disabled = true;
    const result = await register(space, fresh, box.tell, AbortSignal.any([signal, stop.signal]));
    if (signal.aborted) return;
    area.disabled = false;
    put(done, outcome(result));
    if (!result.problem) area.value = "";
    await look();
    added();
  }

  const root = h("form", { class: "card stack adding bulk", on: { submit: sent } },
    h("h2", {}, "Add several labels"),
    h("div", { class: "field" }, h("label", { for: id }, "Names, one on each line"), area,
      h("p", { class: "quiet", id: hint }, readsTexts(space) && ["A prompt may follow a name after a tab: what the classifier reads instead of “",
        (space.templates[0] ?? "{}").replace("{}", "name"), "”. "], "Support images can be added later.")),
    preview, h("div", { class: "row" }, submit), done);
  return { root, focus: () => area.focus() };
}

/** The lines of a text: {names: [{name, prompt}], problems: [{name, reason}]}. */
export function parsed(text) {
  const names = [], problems = [];
  const lines = new Map();
  for (const [i, line] of text.split(/\r\n|\r|\n/).entries()) {
    if (!line.trim()) continue;
    const [first, ...rest] = line.split("\t");
    const name = first.trim().normalize("NFC"), prompt = rest.join(" ").trim() || null;
    const reason = !name ? "has no name before the tab"
      : [...name].length > MOST_NAME ? `has ${count([...name].length)} characters; at most ${MOST_NAME} are allowed`
      : prompt && [...prompt].length > MOST_PROMPT ? `has a prompt of ${count([...prompt].length)} characters; at most ${count(MOST_PROMPT)} are allowed`
      : UNSEEN.test(name + (prompt ?? "")) ? `holds ${seen(`${name}${prompt ?? ""}`.match(UNSEEN)[0])}, which is not visible`
      : lines.has(name) ? `is the same as line ${count(lines.get(name))}` : null;
    if (reason) problems.push({ name: `Line ${count(i + 1)} ${reason}` });
    else {
      lines.set(name, i + 1);
      names.push({ name, prompt });
    }
  }
  return { names, problems };
}

const seen = (character) => `the character U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** Those of the names that are labels already. */
async function existing(space, names, signal) {
  const known = new Set(names.map((one) => one.name));
  for (let start = 0; start < names.length; start += COMPARED) {
    const labels = names.slice(start, start + COMPARED).map(({ name }) => ({ name, contents: [] }));
    const plan = await post(path("spaces", space.name, "sync"), { json: { labels, dry_run: true, remove: false }, signal });
    for (const [name] of plan.to_add) known.delete(name);
  }
  return known;
}

function group(kind, items, one, many) {
  if (!items.length) return null;
  const rest = items.length - SHOWN;
  return h("div", { class: `outcome names-${kind}` },
    h("p", {}, h("strong", {}, count(items.length)), ` ${items.length === 1 ? one : many}`),
    h("ul", {}, items.slice(0, SHOWN).map((item) => h("li", {}, h("bdi", {}, item.name), item.prompt && h("span", { class: "quiet" }, ` — ${item.prompt}`))),
      rest > 0 && h("li", { class: "quiet" }, `and ${count(rest)} more`)));
}

async function register(space, names, tell, signal) {
  const result = { added: 0, cut: 0, alike: [], problem: null };
  try {
    for (let start = 0; start < names.length; start += CHUNK) {
      tell("Registering labels …", start, names.length);
      const labels = names.slice(start, start + CHUNK);
      const one = await post(path("spaces", space.name, "labels"), { json: { labels }, signal });
      result.added += one.added_labels;
      result.cut += one.cut_prompts.length;
      result.alike.push(...(one.near_synonyms ?? []));
    }
  } catch (error) {
    result.problem = error.name === "AbortError" ? "Cancelled." : error.message;
  }
  return result;
}

function outcome({ added, cut, alike, problem }) {
  const sum = `Added ${counted(added, "label")}.`;
  if (problem) return h("div", { class: "problem", role: "alert" }, h("p", {}, problem), h("p", {}, `${sum} The other names are still in the field.`));
  return h("div", { class: "outcome" }, h("p", {}, `${sum} The next query uses them.`),
    cut > 0 && h("p", {}, `${counted(cut, "prompt is", "prompts are")} longer than the classifier reads: the end is ignored.`),
    alike.length > 0 && h("div", {}, h("p", {}, "Names that mean nearly the same share their probability. Make one a further name of the other, on its page:"),
      h("ul", {}, alike.slice(0, SHOWN).map((pair) => h("li", {}, h("bdi", {}, pair.label), " and ", h("bdi", {}, pair.other))))));
}
