// The page's frame: which space, which view, which theme; and the key, where the service wants one.

import { get, hrefOf, keySpace, listSpaces, may, onKeyNeeded, path } from "./api.js";
import { commandAtHome } from "./command.js";
import { freshId, h, put } from "./dom.js";
import { dialog, empty, problem, working } from "./parts.js";
import * as labels from "./labels/labels.js";
import { createSpace } from "./labels/spaces.js";
import * as map from "./map/map.js";
import * as review from "./review/review.js";
import * as search from "./search/search.js";
import * as trust from "./trust/trust.js";
import * as attempt from "./try/try.js";

// A view: `title`, and `show(root, context)` with {space: the space's row, signal: aborts when the view is left,
// rest: what stands behind the view's name in the address, go(view, ...rest), refresh(): the space's row read again}.
const VIEWS = { try: attempt, review, labels, trust, search, map };
const main = document.getElementById("main");
const picker = document.getElementById("space");
const maker = document.getElementById("new-space");
const reader = document.getElementById("read-only");
const nav = document.getElementById("views");
let leaving = new AbortController();
let spaces = [];

async function start() {
  themeButton();
  onKeyNeeded(oneAtATime(askKey));
  picker.addEventListener("change", () => go(picker.value, current().view));
  maker.addEventListener("click", makeSpace);
  window.addEventListener("hashchange", show);
  clearOfNotices();
  for (const event of ["dragover", "drop"]) window.addEventListener(event, (e) => e.preventDefault()); // a missed drop leaves no page
  await show();
}

function current() {
  const [space, view, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  return { space, view: view in VIEWS ? view : "try", rest };
}

/** A part of the address, decoded; unchanged where it ends in the middle of a character. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function go(space, view, ...rest) {
  location.hash = hrefOf(space, view, ...rest);
}

async function show() {
  leaving.abort();
  leaving = new AbortController();
  main.firstElementChild?.classList.remove("shown");
  const { signal } = leaving;
  const { space: named, view, rest } = current();
  try {
    spaces = await listSpaces(signal);
    const chosen = named ? spaces.find((one) => one.name === named) : spaces[0];
    frame(chosen, view);
    if (!chosen) put(main, named && spaces.length ? unknown(named) : noSpaces());
    else await open(chosen, view, rest, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (spaces.length) frame(spaces.find((one) => one.name === named) ?? spaces[0], view);
    put(main, h("h1", {}, spaces.length ? VIEWS[view].title : "trustvlm"), problem(error), error.status === 404 ? waysOn(named) : again(error));
  }
}

/** A view that could not be read is read again. */
const again = ({ status }) => h("p", {}, h("button", { type: "button", on: { click: show } }, status === 401 ? "Enter a key" : "Try again"));

/** Something that is not there, in a space: where to look. */
const waysOn = (space) => h("p", {}, "It may have been removed meanwhile, here or elsewhere. ", h("a", { href: hrefOf(space, "labels") }, "Labels"), " lists what there is, ",
  h("a", { href: hrefOf(space, "labels", "", "trash") }, "Trash"), " what can be restored.");

async function open(row, view, rest, signal) {
  document.title = `${VIEWS[view].title} · ${row.name} · trustvlm`;
  const root = h("div", { class: `view ${view}` });
  put(main, working("One moment …"));
  const refresh = () => get(path("spaces", row.name), { signal });
  const space = await refresh();
  put(main, root);
  const context = { space, signal, rest, refresh, go: (to, ...more) => go(row.name, to, ...more) };
  await VIEWS[view].show(root, context);
  root.classList.add("shown"); // it waits for nothing but the user now
}

function frame(chosen, view) {
  picker.closest("label").hidden = spaces.length === 0;
  maker.hidden = !spaces.length || !mayCreate();
  reader.hidden = may("write");
  nav.hidden = !chosen;
  put(picker, spaces.map((one) => h("option", { value: one.name, selected: one.name === chosen?.name }, one.name)));
  if (!chosen) return;
  put(nav, Object.entries(VIEWS).map(([name, one]) =>
    h("a", { href: hrefOf(chosen.name, name), "aria-current": name === view ? "page" : null }, one.title, one.navCount?.(chosen.name))));
}

const unknown = (named) => [h("h1", {}, "trustvlm"), empty(`There is no space “${named}”.`, h("p", {}, "Choose another one above."))];

/** Whether the key may create a space: one that opens a single space may create that. */
const mayCreate = () => may("admin") && (keySpace() === null || !spaces.length);

/** Ask for a new space and open it. */
async function makeSpace() {
  const made = await createSpace();
  if (made) go(made.name, "labels");
}

const noSpaces = () => [
  h("h1", {}, "trustvlm"),
  h("p", { class: "lead" }, "Says whether the label that a model chose for an image can be trusted, and shows why."),
  empty(
    "No label spaces yet.",
    h("p", {}, "A space holds labels, a few images of each, and the two models that compare them with new images."),
    h("p", {}, "Make one of your photos on the command line. HOME is the home that this service opened; FOLDER has a sub-folder of photos for each label:"),
    h("pre", { tabindex: 0 }, commandAtHome("start FOLDER")),
    h("p", {}, "Or look at handwritten digits first:"),
    h("pre", { tabindex: 0 }, commandAtHome("demo")),
    h("p", {}, "Then load this page again."),
    mayCreate() && h("p", {}, "Or begin with an empty one: ", h("button", { type: "button", on: { click: makeSpace } }, "Create a space")),
  ),
];

function askKey(message) {
  const id = freshId("key");
  return dialog("Key needed", (close) => {
    const input = h("input", { id, type: "password", autocomplete: "off", required: true });
    const sent = (event) => { event.preventDefault(); close(input.value.trim()); };
    return h("form", { on: { submit: sent } },
      h("p", {}, message), h("div", { class: "field" }, h("label", { for: id }, "Key"), input),
      h("p", { class: "quiet below" }, "It is kept until this tab is closed. On the machine of the service, ", h("code", {}, commandAtHome("key create --scope write")), " makes one; HOME is the home that the service opened."),
      h("div", { class: "actions" }, h("button", { class: "primary" }, "Continue"), h("button", { type: "button", on: { click: () => close() } }, "Cancel")));
  });
}

/** Several calls that find no key at once ask the user once. */
function oneAtATime(ask) {
  let asked = null;
  return (message) => {
    asked ??= ask(message).finally(() => { asked = null; });
    return asked;
  };
}

/** Let the page scroll as far as the notices are high, so that none covers a control for good. */
function clearOfNotices() {
  const notices = document.getElementById("notices");
  new ResizeObserver(() => document.documentElement.style.setProperty("--notices", `${notices.offsetHeight}px`)).observe(notices);
}

function themeButton() {
  const button = document.getElementById("theme");
  const { dataset } = document.documentElement; // theme.js has set it
  const draw = () => {
    const dark = dataset.theme === "dark";
    put(button, dark ? "☀" : "☾");
    button.setAttribute("aria-label", dark ? "Light colours" : "Dark colours");
  };
  button.addEventListener("click", () => {
    dataset.theme = dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", dataset.theme);
  });
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  draw();
}

start();
