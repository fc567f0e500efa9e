// All verdicts of several images at once: sorted, filtered, selected, exported; one of them is opened.

import { freshId, h, put } from "../dom.js";
import { notice, save } from "../parts.js";
import { badge, correction } from "./answer.js";
import { enlarge } from "./enlarge.js";
import { asCsv, asJsonLines } from "./exporting.js";
import { showKeys } from "./keys.js";
import { pictureOf } from "./queries.js";
import { counted, likely } from "../words.js";

const URGENCY = ["unread", "unknown", "review", "accept"];
const KINDS = { accept: "✓ Accept", review: "! Review", unknown: "? Unknown", unread: "✕ Not read" };
const kindOf = ({ verdict }) => verdict?.decision ?? "unread";
const chanceOf = ({ verdict }) => verdict?.probability ?? (verdict ? -0.5 : -1);
const labelOf = ({ verdict }) => verdict?.label ?? "";
const byText = (one, other) => one.localeCompare(other, "en", { numeric: true });
const ORDERS = {
  given: ["As given", () => 0],
  decision: ["Decision: what needs a look first", (a, b) => URGENCY.indexOf(kindOf(a)) - URGENCY.indexOf(kindOf(b)) || chanceOf(a) - chanceOf(b)],
  least: ["Probability: least likely first", (a, b) => chanceOf(a) - chanceOf(b)],
  most: ["Probability: most likely first", (a, b) => chanceOf(b) - chanceOf(a)],
  label: ["Label", (a, b) => byText(labelOf(a), labelOf(b))],
  name: ["File name", (a, b) => byText(a.query.name, b.query.name)],
};

/** The items that the filters leave, in the chosen order. */
export const shownOf = ({ items, order, decision, label }) => items
  .filter((item) => (!decision || kindOf(item) === decision) && (!label || labelOf(item) === label))
  .toSorted(ORDERS[order][1]);

/** The grid with its tools. `open(item)`: show that item's verdict. */
export function severalView(view, open) {
  const { set } = view;
  const list = h("ul", { class: "tiles", "aria-label": "Verdicts", on: { focusin: (event) => current(event.target.closest("li")) } });
  const amount = h("span", { class: "quiet", role: "status" });
  const all = h("input", { id: freshId("all"), type: "checkbox", on: { change: () => { for (const item of shown) item.selected = all.checked; drawSelection(); } } });
  const summary = h("h2", { class: "summary", tabindex: "-1" }, inNumbers(set.items));
  const kinds = h("div", { class: "row decisions", role: "group", "aria-label": "Show" });
  let shown = [], last = null;

  function draw() {
    shown = shownOf(set);
    put(kinds, kindButtons());
    put(list, shown.map((item) => tile(view, item, { open, toggle, look })));
    current(list.children[Math.max(0, shown.indexOf(set.opened ?? set.last))]);
    drawSelection();
  }

  function kindButtons() {
    const button = (kind, words) => h("button", { type: "button", class: `chip ${kind ?? ""}`, "aria-pressed": String(set.decision === kind), on: { click: () => {
      set.decision = kind;
      draw();
      kinds.querySelector("[aria-pressed=true]").focus();
    } } }, words);
    const numbers = Object.keys(KINDS).map((kind) => [kind, set.items.filter((item) => kindOf(item) === kind).length]).filter(([, n]) => n);
    return [button(null, `All ${set.items.length}`), numbers.map(([kind, n]) => button(kind, `${KINDS[kind]} ${n}`))];
  }

  /** One tile is reached by Tab, the others by arrow keys. */
  function current(cell) {
    for (const one of list.querySelectorAll("[tabindex='0']")) one.tabIndex = -1;
    cell?.querySelector(".tile").setAttribute("tabindex", "0");
  }

  function toggle(item, on, range) {
    const [from, to] = [range && last ? shown.indexOf(last) : -1, shown.indexOf(item)];
    const some = from < 0 ? [item] : shown.slice(Math.min(from, to), Math.max(from, to) + 1);
    for (const one of some) one.selected = on;
    last = item;
    drawSelection();
  }

  async function look(item) {
    set.last = await enlarge(shown, shown.indexOf(item));
    focus(shown.indexOf(set.last));
  }

  function drawSelection() {
    const selected = shown.filter((item) => item.selected).length;
    [...list.querySelectorAll(".pick input")].forEach((box, i) => { box.checked = Boolean(shown[i].selected); });
    all.checked = selected > 0 && selected === shown.length;
    all.indeterminate = selected > 0 && selected < shown.length;
    put(amount, selected ? `${selected} selected` : shown.length < set.items.length ? `${shown.length} of ${set.items.length} shown` : "");
  }

  function exported(kind) {
    const selected = shown.filter((item) => item.selected);
    const taken = (selected.length ? selected : shown);
    const rows = taken.filter((item) => item.verdict);
    if (!rows.length) return notice("There is no verdict to export: none of these images could be read.", null, { kind: "bad" });
    const name = `${view.space.name.replace(/[^\p{L}\p{N}._-]+/gu, "-")}-verdicts`;
    if (kind === "csv") save(`${name}.csv`, asCsv(rows), "text/csv");
    else save(`${name}.jsonl`, asJsonLines(rows), "application/jsonl");
    const left = taken.length - rows.length;
    return notice(`Exported ${counted(rows.length, "verdict")}${left ? `; ${counted(left, "image")} that could not be read ${left === 1 ? "is" : "are"} left out` : ""}.`);
  }

  function focus(at) {
    list.children[at]?.querySelector(".tile").focus();
  }

  /** What a key does to the grid; true where it did something. */
  function key(name, event) {
    const cells = [...list.children];
    const at = cells.indexOf(event.target.closest?.(".tiles > li"));
    const across = cells.filter((cell) => cell.offsetTop === cells[0].offsetTop).length;
    const to = { j: at + 1, ArrowRight: at + 1, k: at - 1, ArrowLeft: at - 1, ArrowDown: at + across, ArrowUp: at - across, Home: 0, End: cells.length - 1 }[name];
    if (at < 0) return ["j", "k"].includes(name) && (focus(Math.max(0, shown.indexOf(set.last))), true);
    if (to !== undefined) return to in cells && (focus(to), true);
    if (name.toLowerCase() === "x") return toggle(shown[at], !shown[at].selected, event.shiftKey), true;
    if (name === "e") return look(shown[at]), true;
    return false;
  }

  const root = [summary, tools(), list];
  function tools() {
    const labels = [...new Set(set.items.map(labelOf).filter(Boolean))].toSorted(byText);
    const choose = (title, choices, now, chosen) => {
      const id = freshId("choose");
      const select = h("select", { id, on: { change: () => { chosen(select.value); draw(); } } }, choices.map(([value, words]) => h("option", { value, selected: value === now }, words)));
      return h("div", { class: "several-choose" }, h("label", { for: id }, title), select);
    };
    const button = (words, work) => h("button", { type: "button", on: { click: work } }, words);
    return h("div", { class: "several-tools" },
      kinds,
      h("div", { class: "row" },
        choose("Sort by", Object.entries(ORDERS).map(([name, [words]]) => [name, words]), set.order, (value) => { set.order = value; }),
        choose("Label", [["", "all labels"], ...labels.map((name) => [name, name])], set.label ?? "", (value) => { set.label = value || null; })),
      h("div", { class: "row spread" },
        h("div", { class: "row" }, h("span", { class: "all" }, all, h("label", { for: all.id }, "Select all")), amount),
        h("div", { class: "row" }, button("Export CSV", () => exported("csv")), button("Export JSON lines", () => exported("jsonl")),
          h("button", { type: "button", class: "plain", on: { click: showKeys } }, "Keys ", h("kbd", {}, "?")))));
  }

  draw();
  return { root, key, focus: () => focus(Math.max(0, shown.indexOf(set.last))) };
}

function inNumbers(items) {
  const of = (kind) => items.filter((item) => kindOf(item) === kind).length;
  const parts = [["accept", "accept"], ["review", "review"], ["unknown", "unknown"], ["unread", "could not be read"]]
    .map(([kind, words]) => [of(kind), words]).filter(([n]) => n).map(([n, words]) => `${n} ${words}`);
  return `${counted(items.length, items[0].query.file ? "image" : "embedding")}: ${parts.join(", ")}`;
}

function tile(view, item, { open, toggle, look }) {
  const { query, verdict, error } = item;
  const id = freshId("pick");
  const box = h("input", { id, type: "checkbox", tabindex: "-1", on: { click: (event) => toggle(item, box.checked, event.shiftKey) } });
  const unknown = verdict?.decision === "unknown";
  const name = unknown ? (verdict.nearest_prototype ?? verdict.label) : verdict?.label ?? query.name;
  return h("li", { class: error ? "failed" : verdict.decision },
    h("button", { type: "button", class: "tile", tabindex: "-1", on: { click: () => open(item) } },
      pictureOf(query, view.signal, { alt: "" }),
      h("span", { class: "text" },
        verdict ? badge(verdict) : h("span", { class: "badge bad" }, h("span", { "aria-hidden": "true" }, "✕"), "Not read"),
        h("span", { class: "label", title: name }, unknown && h("span", { class: "quiet" }, "nearest: "), h("bdi", {}, name)),
        h("span", { class: "quiet" }, !verdict ? error.message : unknown ? "not one of your labels" : verdict.probability === null ? (verdict.stale_since === null ? "no probability" : "calibration out of date") : `${likely(verdict.probability)} likely right`),
        h("span", { class: "quiet file", title: query.name }, verdict && h("bdi", {}, query.name)),
        verdict && correction(verdict))),
    h("span", { class: "pick" }, box, h("label", { for: id, class: "visually-hidden" }, `Select ${query.name}`)),
    query.file && h("button", { type: "button", class: "magnify", tabindex: "-1", "aria-label": `Enlarge ${query.name}`, on: { click: () => look(item) } }, "⤢"));
}
