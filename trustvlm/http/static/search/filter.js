// A field for a filter over attributes, as text or JSON, with the keys that there are; the service says what is wrong with the text.

import { get, path } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { doing } from "../parts.js";
import { count } from "../words.js";

const SAMPLE = 1_000; // labels, and support images, whose attributes are read to tell the keys
const MOST_KEYS = 40, VALUES = 3, CLIPPED = 24;
/** What helps where nothing fits. */
export const FITTING = "“Attributes to filter by” tells the keys and what kind of values they have: a number never fits a text.";
const KINDS = { number: ["number", "list of numbers"], string: ["text", "list of texts"], boolean: ["true or false", "list of true and false"] };
const ONE_WORD = /^(?!(?:and|or|not|in|exists)$)[^\s()[\],=<>!"']+$/i;

/** The field with its `title`; `changed(text)` is called with the text, null when it is empty. `of`: what has the attributes, "labels", "supports" or
 *  both. `saying`: the id of the element beside the field that says what is wrong with the text. */
export function filterField({ space, signal }, value, changed, { title = "Filter", hint = "only what has attributes that fit", saying = "", of = ["labels"] } = {}) {
  const [id, about, proposed] = ["filter", "hint", "proposed"].map(freshId);
  const proposals = h("datalist", { id: proposed });
  let sampled = null; // read once, when somebody begins to type
  const propose = () => doing(null, async () => {
    const keys = await (sampled ??= sampleKeys(space, of, signal));
    put(proposals, completions(input.value, keys).map((text) => h("option", { value: text })));
  });
  const send = () => changed(input.value.trim() || null);
  const input = h("input", { id, type: "search", value: value ?? null, placeholder: 'region = "EU" and size >= 3', maxlength: 20000, autocomplete: "off",
    spellcheck: "false", "aria-describedby": `${about} ${saying}`.trim(), list: proposed, on: { change: send, focus: propose, input: propose } });
  const use = (condition) => {
    input.value = [input.value.trim(), condition].filter(Boolean).join(" and ");
    send();
    input.focus();
  };
  const list = h("div", { "aria-live": "polite" });
  const keys = h("details", { class: "keys", on: { toggle: () => keys.open && doing(null, async () => put(list, keysList(await sampleKeys(space, of, signal), of, use))) } },
    h("summary", {}, "Attributes to filter by"), list);
  return h("div", { class: "filter field" }, h("label", { for: id, class: "quiet" }, title), input, proposals,
    h("span", { id: about, class: "visually-hidden" }, hint), keys);
}

/** What a filter that is being typed may go on as, at its end: with keys or, behind a key and a comparison, with values of that key. */
function completions(text, keys) {
  const compared = [...keys].map(([key, { values }]) => ({ name: named(key), values }));
  const [, start, name, sign, begun] = text.match(/^(|.*[\s(])("[^"]*"|[^\s()=<>!"]+)\s*(!=|>=|<=|=|>|<)\s*("[^"]*"?|[^"\s]*)$/) ?? [];
  const key = compared.find((one) => one.name === name);
  if (key) return key.values.map(shownAs).filter((value) => startsWith(value, begun)).map((value) => `${start}${name} ${sign} ${value}`);
  const [, before, typed] = text.match(/^(|.*(?:\b(?:and|or|not)\s+|\())("?[^\s()=<>!]*)$/i) ?? [null, null, ""];
  return before === null ? [] : compared.filter((one) => startsWith(one.name, typed)).slice(0, MOST_KEYS).map((one) => `${before}${one.name} = `);
}

const startsWith = (text, beginning) => text.toLowerCase().startsWith(beginning.toLowerCase());

/** Each key with the kind of its values, some of these, and a button that puts a condition on it into the field. */
function keysList(keys, of, use) {
  const what = of.includes("supports") ? "labels and support images" : "labels";
  if (!keys.size) return h("p", { class: "quiet" }, `None of the first ${count(SAMPLE)} ${what} has attributes. The page of a label adds some.`);
  const item = ([key, { kinds, values }]) => {
    const condition = conditionOn(key, values[0]);
    // The field keeps the focus: a text in it that was not sent yet would be sent first, and move the button away under the pointer.
    const on = { mousedown: (event) => event.preventDefault(), click: () => use(condition) };
    return h("li", {}, h("button", { type: "button", class: "plain", title: `Filter: ${condition}`, on }, h("bdi", {}, key)),
      h("span", { class: "quiet" }, `${[...kinds].join(" or ")}, such as `, h("bdi", {}, values.map(clipped).join(", "))));
  };
  const rest = keys.size - MOST_KEYS;
  return h("ul", {}, [...keys].slice(0, MOST_KEYS).map(item), rest > 0 && h("li", { class: "quiet" }, `and ${count(rest)} more keys`));
}

/** The keys of the first labels or support images: {kinds: words, values: the first different ones} by key; dots lead into objects. */
async function sampleKeys(space, of, signal) {
  const pages = await Promise.all(of.map((kind) => get(path("spaces", space.name, kind), { query: { limit: SAMPLE }, signal })));
  const keys = new Map();
  const note = (key, value) => {
    if (typeof value === "object" && !Array.isArray(value)) return Object.entries(value).forEach(([inner, one]) => note(`${key}.${inner}`, one));
    for (const one of [value].flat()) {
      if (!KINDS[typeof one]) continue; // objects in a list: no filter reaches them
      if (!keys.has(key)) keys.set(key, { kinds: new Set(), values: [] });
      const { kinds, values } = keys.get(key);
      kinds.add(KINDS[typeof one][Number(Array.isArray(value))]);
      if (values.length < VALUES && !values.includes(one)) values.push(one);
    }
    return undefined;
  };
  for (const row of pages.flatMap((page, i) => page[of[i]])) for (const [key, value] of Object.entries(row.attributes)) note(key, value);
  return keys;
}

const quoted = (text) => `"${text.replace(/["\\]/g, "\\$&")}"`;
const shownAs = (value) => (typeof value === "string" ? quoted(value) : String(value));
const clipped = (value) => (shownAs(value).length > CLIPPED ? `${[...shownAs(value)].slice(0, CLIPPED).join("")}…` : shownAs(value));

const named = (key) => (ONE_WORD.test(key) ? key : quoted(key));

/** A condition that holds of what has this value. */
const conditionOn = (key, value) => `${named(key)} ${typeof value === "number" ? ">=" : "="} ${shownAs(value)}`;

/** Attributes in one line; null without any. */
export function attributesLine(attributes) {
  const pairs = Object.entries(attributes ?? {});
  if (!pairs.length) return null;
  const text = pairs.map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
  return h("span", { class: "quiet attributes-line", dir: "auto", title: text }, text);
}
