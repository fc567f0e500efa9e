// Choosing one of very many labels: what is typed is looked for on the server, names that begin with it first.

import { get, path } from "../api.js";
import { freshId, h, put, settled } from "../dom.js";

const SHOWN = 8;

/** A field with a list of labels beneath it. `chosen(name)` hears what was chosen; `suggested`: names shown before anything is
 *  typed; `without`: one that is no choice; `title`: the field's label. Arrow keys move, Enter chooses, Escape closes. */
export function labelCombobox(space, { title, suggested = [], without = null, chosen, signal }) {
  const id = freshId("label"), list = freshId("labels");
  const options = h("ul", { id: list, role: "listbox", "aria-label": title, hidden: true });
  const said = h("p", { class: "quiet said", role: "status" });
  let names = [], active = -1, asking = new AbortController();
  const input = h("input", {
    id, type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", "aria-autocomplete": "list",
    "aria-expanded": "false", "aria-controls": list, placeholder: "Type the beginning of a label",
    on: {
      input: () => { asking.abort(); later(); },
      focus: () => { if (options.hidden) look(); },
      // A click on an option comes first. The window can lose the focus while the field keeps it: the list stays then.
      blur: () => setTimeout(() => { if (document.activeElement !== input) close(); }, 150),
      keydown: (event) => keys[event.key]?.(event),
    },
  });
  const keys = {
    ArrowDown: (event) => { event.preventDefault(); options.hidden ? look() : activate((active + 1) % names.length); },
    ArrowUp: (event) => { event.preventDefault(); activate((active <= 0 ? names.length : active) - 1); },
    Enter: (event) => { event.preventDefault(); enter(); },
    Escape: (event) => { if (!options.hidden) { event.stopPropagation(); close(); } },
  };
  signal?.addEventListener("abort", () => asking.abort(), { once: true });

  async function look() {
    asking.abort();
    asking = new AbortController();
    const { signal: now } = asking;
    const q = input.value.trim();
    try {
      const find = async (match) =>
        (await get(path("spaces", space, "labels"), { query: { q, match: q && match, limit: SHOWN }, signal: now })).labels.map((row) => row.name);
      if (!q) return show([...new Set([...suggested, ...(await find("prefix"))])].slice(0, SHOWN), q);
      const first = await find("prefix");
      if (first.length) show(first, q);
      if (first.length < SHOWN) show([...new Set([...first, ...(await find("contains"))])].slice(0, SHOWN), q);
    } catch (error) {
      if (error.name !== "AbortError") put(said, error.message);
    }
  }
  const later = settled(look, 150);

  function show(found, q) {
    if (document.activeElement !== input) return;
    names = found = found.filter((name) => name !== without);
    active = -1;
    input.removeAttribute("aria-activedescendant");
    put(options, found.map((name, i) => h("li", {
      id: `${list}-${i}`, role: "option", "aria-selected": "false",
      on: { mousedown: (event) => event.preventDefault(), click: () => choose(name) },
    }, marked(name, q))));
    options.hidden = !found.length;
    input.setAttribute("aria-expanded", String(!options.hidden));
    options.scrollIntoView({ block: "nearest" });
    put(said, !found.length ? `No label has “${q}” in its name.`
      : found.length === SHOWN ? "There may be more: type more letters." : found.length === 1 ? "1 label" : `${found.length} labels`);
  }

  function activate(at) {
    if (!names.length) return;
    active = at;
    [...options.children].forEach((option, i) => option.setAttribute("aria-selected", String(i === active)));
    const now = options.children[active];
    input.setAttribute("aria-activedescendant", now.id);
    now.scrollIntoView({ block: "nearest" });
  }

  async function enter() {
    if (active >= 0) return choose(names[active]);
    const typed = input.value.trim();
    if (!typed) return;
    await look();
    const exact = names.find((name) => name === typed) ?? (names.length === 1 ? names[0] : null);
    if (exact) choose(exact);
  }

  function choose(name) {
    close();
    chosen(name);
  }

  function close() {
    options.hidden = true;
    input.setAttribute("aria-expanded", "false");
  }

  const root = h("div", { class: "combobox field" }, h("label", { for: id }, title), h("div", { class: "box" }, input, options), said);
  return { root, focus: () => input.focus() };
}

/** A button that opens and closes a choice among all labels, as {button, choosing: the place of the choice, close()}. `chosen(label)` hears the label,
 *  null: none of the labels, which can be chosen with `none`. `other`: a button for what else can be chosen. The rest is as in `labelCombobox`. */
export function labelChoice(space, { name, chosen, none = true, other = null, ...options }) {
  const choosing = h("div", { class: "choosing", on: { keydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); close(); button.focus(); } } } });
  const isOpen = () => button.getAttribute("aria-expanded") === "true";
  const button = h("button", { type: "button", "aria-expanded": "false", on: { click: () => (isOpen() ? close() : open()) } }, name);
  const choose = (label) => { close(); chosen(label); };

  function open() {
    button.setAttribute("aria-expanded", "true");
    const box = labelCombobox(space, { ...options, chosen: choose });
    put(choosing, box.root, none && h("button", { type: "button", class: "none-of", on: { click: () => choose(null) } }, "None of the labels"), other);
    box.focus();
  }

  function close() {
    button.setAttribute("aria-expanded", "false");
    put(choosing);
  }

  return { button, choosing, close };
}

/** The name with what was typed set off. */
function marked(name, q) {
  const at = q ? name.toLowerCase().indexOf(q.toLowerCase()) : -1;
  if (at < 0) return name;
  return [name.slice(0, at), h("mark", {}, name.slice(at, at + q.length)), name.slice(at + q.length)];
}
