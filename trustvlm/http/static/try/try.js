// Try: images in, verdicts out, and why.

import { hrefOf, may, path } from "../api.js";
import { h, put } from "../dom.js";
import { runJob } from "../jobs.js";
import { doing, notice, problem, working } from "../parts.js";
import { progressBox } from "../progress.js";
import { loadRules } from "../rules.js";
import { among, cautions, chance, correction, headline, why } from "./answer.js";
import { claimForm } from "./claims/claim.js";
import { details } from "./details.js";
import { enlarge } from "./enlarge.js";
import { intakeOf } from "./intake/intake.js";
import { listenToKeys } from "./keys.js";
import { createLabelButton } from "./newlabel.js";
import { optionsBox } from "./options/options.js";
import { calibrationsOf, pictureOf, score } from "./queries.js";
import { respondPanel } from "./respond.js";
import { severalView, shownOf } from "./several.js";
import { addressOf, examples, itemAt, linkLine } from "./stored.js";
import { difference, standing } from "./taught.js";
import { evidenceOf } from "./verdict.js";

export const title = "Try";
const FEW = 8; // images that are scored without a bar
const MORE = "Drop, paste or choose more images";

/** A set of images that were given together. `address`: the stored image that it shows, null: a person's images. */
const setOf = (items = [], address = null) => ({ items, address, opened: items.length === 1 ? items[0] : null, last: null, order: "given", decision: null, label: null });

// What was tried stays while the page is open, so that a look at another view loses nothing.
let kept = { space: null };

export async function show(root, context) {
  const { space, signal, rest } = context;
  if (kept.space !== space.id) kept = { space: space.id, own: setOf(), stored: setOf(), chosen: { rule: null, part: null, wrong: false } };
  const [{ rules, default: usual }, calibrations] = await Promise.all([loadRules(signal), calibrationsOf(space.name, signal)]);
  const view = { ...context, root, rules, usual, calibrations, set: kept.own, several: null, result: h("div", { class: "result" }), intake: h("div", { class: "intake" }) };
  put(root,
    h("div", { class: "top" }, h("h1", {}, "Try"), h("p", { class: "lead" }, "Give an image: the page says which label it gets, how likely that is right, and why.")),
    view.intake, view.result, optionsBox(view, kept.chosen, () => rescoreAll(view)));
  listenToKeys(signal, (key, event) => onKey(view, key, event));
  drawIntake(view);
  if (rest.length) await openStored(view, rest);
  else await draw(view);
}

/** Show the verdict on the stored image that the address names. */
async function openStored(view, rest) {
  const address = rest.join("/");
  if (kept.stored.address !== address) {
    put(view.result, working("Scoring …"));
    try {
      const at = addressOf(rest);
      if (!at) throw new Error(`The address ends with “${address}”: expected support/ID or observation/ID, with the number of a stored image.`);
      kept.stored = setOf([await itemAt(view.space, at, view.signal)], address);
    } catch (error) {
      if (error.name !== "AbortError") put(view.result, problem(error));
      return;
    }
  }
  view.set = kept.stored;
  drawIntake(view);
  await draw(view);
}

function drawIntake(view) {
  const some = view.set.items.length > 0;
  view.intake.classList.toggle("compact", some);
  view.root.querySelector(".top").classList.toggle("brief", some);
  // The pasting of an earlier zone must not go on beside the new one's: there is one for as long as the view is shown.
  if (!view.intake.firstChild) put(view.intake, intakeOf(view, (queries) => take(view, queries)));
  if (some) view.intake.querySelector(".title")?.replaceChildren(MORE);
  if (some) view.intake.querySelector(".title + .quiet")?.remove();
}

async function take(view, queries) {
  kept.own = view.set = setOf(queries.map((query) => ({ query, verdict: null, error: null })));
  history.replaceState(null, "", hrefOf(view.space.name, "try")); // the address of a stored image is not theirs
  await rescoreAll(view);
  (view.result.querySelector(".answer") ?? view.result.querySelector(".summary"))?.focus();
}

async function rescoreAll(view) {
  const { set } = view;
  if (!set.items.length) return;
  view.several = null;
  if (kept.chosen.wrong) return void put(view.result, h("p", { class: "not-scored", role: "status" }, "Not scored: the filter under Advanced is not used. Correct it, or empty it."));
  for (const item of set.items) Object.assign(item, { verdict: null, error: null, before: null });
  drawIntake(view);
  await scoreMissing(view);
}

/** Score what has no verdict yet; a person who cancels keeps what was scored. */
async function scoreMissing(view) {
  const { set } = view;
  const missing = set.items.filter((item) => !item.verdict && !item.error);
  const cancelled = new AbortController();
  const signal = AbortSignal.any([view.signal, cancelled.signal]);
  const bar = missing.length > FEW ? progressBox(() => cancelled.abort()) : null;
  put(view.result, bar?.root ?? working("Scoring …"));
  const tell = () => bar?.tell("Scoring images …", missing.filter((item) => item.verdict || item.error).length, missing.length);
  tell();
  try {
    await score(view.space.name, missing, kept.chosen, signal, tell);
  } catch (error) {
    if (error.name !== "AbortError") return void put(view.result, problem(error));
    if (view.signal.aborted) return;
    set.items = set.items.filter((item) => item.verdict || item.error);
    notice(`Stopped: ${missing.length - set.items.length} of ${missing.length} images are left out.`);
  }
  if (view.set === set) await draw(view);
}

async function draw(view) {
  const { set: { items, opened } } = view;
  view.several = null;
  if (!items.length) return drawExamples(view);
  if (items.some((item) => !item.verdict && !item.error)) return scoreMissing(view); // the view was left in between
  if (!opened) {
    view.several = severalView(view, (item) => open(view, item));
    return put(view.result, kept.chosen.part && h("p", { class: "row" }, said(among(kept.chosen.part))), outOfDate(view), view.several.root, notesOn(items));
  }
  return put(view.result, items.length > 1 && walker(view), opened.error ? failed(view, opened) : card(view, opened), notesOn([opened]));
}

async function drawExamples(view) {
  const { set } = view;
  try {
    const list = await examples(view);
    if (view.set === set && !set.items.length) put(view.result, list);
  } catch (error) {
    if (error.name !== "AbortError") put(view.result, problem(error));
  }
}

/** What was done so that the encoders see the images; it is told of all that went in one call. */
function notesOn(items) {
  const told = [...new Set(items.map((item) => item.notes ?? []))].flat();
  return told.length ? h("ul", { class: "quiet notes" }, told.map((note) => h("li", {}, h("bdi", {}, note)))) : null;
}

const said = ([kind, word, sentence, button]) => [h("span", { class: `badge ${kind}` }, word), h("span", {}, sentence), button];

/** One verdict: the answer, the images that speak for it, what a person says to it, and the numbers. */
function card(view, item) {
  const { space } = view;
  const { verdict, query } = item;
  const calibration = view.calibrations.find((one) => one.id === verdict.calibration_id) ?? null;
  const testified = query.support || query.observation; // stored images have their answer already
  const respond = testified || !may("write") ? null : respondPanel(view, item, {
    again: () => again(view, item),
    stored: () => view.result.querySelector(".link-line")?.replaceWith(linkLine(space, item)),
  });
  const notes = cautions(space, item, may("write") && ((button) => recalibrate(view, button, () => again(view, item))));
  return h("article", { class: `card verdict ${verdict.decision}` },
    item.before && difference(item.before, verdict, item.taught),
    h("div", { class: "verdict-head" },
      queried(view, item),
      h("div", { class: "said" },
        headline(space, verdict), chance(verdict, calibration),
        h("p", { class: "why" }, why(space, verdict, calibration)), correction(verdict),
        notes.length > 0 && h("ul", { class: "cautions" }, notes.map((note) => h("li", {}, said(note)))),
        verdict.unknown && respond && createLabelButton(view, query, respond.outcome))),
    evidenceOf(space, verdict, view.go),
    respond?.root, testified && known(view, item),
    !testified && claimForm(space, item, view.signal),
    details(space, verdict, calibration),
    linkLine(space, item));
}

/** The image of the verdict, to be enlarged. */
function queried(view, { query, verdict }) {
  const picture = pictureOf(query, view.signal, { alt: `the scored image, ${query.name}` });
  const button = h("button", { type: "button", class: "look", "aria-label": "Enlarge the image", on: { click: () => enlarge([{ query, verdict }], 0) } }, picture);
  return h("figure", { class: "queried" }, query.file || query.picture ? button : picture, h("figcaption", { title: query.name }, h("bdi", {}, query.name)));
}

/** What is known of a stored image already. */
function known(view, { query, observation }) {
  if (query.support) return h("p", { class: "quiet" }, "This image is a support image: it is most like itself, so a new image of the same kind gets a less sure answer.");
  const truth = observation.truth === null ? "It is none of the labels" : ["It is “", h("bdi", {}, observation.truth), "”"];
  return h("p", {}, truth, ": this image is stored with its true label, as a person gave it.");
}

/** Calibrate for the space as it is now, on the stored images; then score again. */
async function recalibrate(view, button, scoreAgain) {
  await doing(button, async () => {
    const made = await runJob(path("spaces", view.space.name, "observations", "calibrate"), {}, { signal: view.signal });
    if (made.failed) notice(`No promise could be proved: ${made.reason}.`, null, { kind: "bad" });
    else await scoreAgain();
  });
}

/** Of several verdicts it is said once that their calibration promises nothing any more. */
function outOfDate(view) {
  const stale = view.set.items.find(({ verdict }) => (verdict?.stale_since ?? null) !== null)?.verdict;
  if (!stale) return null;
  const button = may("write") && h("button", { type: "button", on: { click: () => recalibrate(view, button, async () => {
    view.calibrations = await calibrationsOf(view.space.name, view.signal);
    await rescoreAll(view);
  }) } }, "Recalibrate");
  return h("p", { class: "row out-of-date" }, said(["hold", "Out of date", `Labels or support images changed after calibration ${stale.calibration_id}, so its guarantee no longer holds.`, button]));
}

async function again(view, item) {
  const before = item.verdict;
  const { taught, query } = item;
  view.calibrations = await calibrationsOf(view.space.name, view.signal);
  [view.space] = await Promise.all([view.refresh(), score(view.space.name, [item], kept.chosen, view.signal)]);
  if (taught) taught.now = await standing(view.space, query, taught.label, view.signal);
  item.before = before;
  await draw(view);
  view.result.querySelector(".difference")?.scrollIntoView({ block: "nearest" });
  view.result.querySelector(".answer")?.focus({ preventScroll: true });
}

function failed(view, item) {
  const retry = h("button", { type: "button", on: { click: () => doing(retry, () => rescoreAll(view)) } }, "Try it again");
  return h("article", { class: "card failed" },
    h("div", { class: "row" }, h("figure", { class: "support small" }, pictureOf(item.query, view.signal)), h("h2", { class: "answer", tabindex: "-1" }, h("bdi", {}, item.query.name))),
    problem(item.error), h("div", { class: "actions" }, retry));
}

function open(view, item) {
  view.set.last = item ?? view.set.opened;
  view.set.opened = item;
  draw(view);
  if (item) view.result.querySelector(".answer")?.focus();
  else view.several.focus();
}

/** From one of several verdicts to the others, in the order in which they are listed. */
function walker(view) {
  const { items, opened } = view.set;
  const shown = shownOf(view.set);
  const at = shown.indexOf(opened);
  const step = (name, sign, item) => h("button", { type: "button", "aria-label": name, disabled: !item, on: { click: () => open(view, item) } }, sign);
  return h("div", { class: "row walker" },
    h("button", { type: "button", class: "plain", on: { click: () => open(view, null) } }, `← All ${items.length}`),
    h("span", { class: "quiet" }, h("bdi", {}, opened.query.name), ` · ${at + 1} of ${shown.length}`),
    step("Previous image", "‹", shown[at - 1]), step("Next image", "›", shown[at + 1]));
}

/** True where a key did something. */
function onKey(view, key, event) {
  const { set: { items, opened } } = view;
  if (view.several) return view.several.key(key, event);
  if (!opened) return false;
  if (key === "e" && (opened.query.file || opened.query.picture)) return enlarge([opened], 0), true;
  if (items.length < 2) return false;
  if (key === "Escape") return open(view, null), true;
  const shown = shownOf(view.set);
  const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[key];
  const next = by && shown[shown.indexOf(opened) + by];
  return Boolean(next) && (open(view, next), true);
}
