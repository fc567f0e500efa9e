// Try: images in, verdicts out, and why.

import { get, path } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { scoresImages } from "../encoders.js";
import { runJob } from "../jobs.js";
import { doing, dropzone, notice, problem, working } from "../parts.js";
import { calibrationsOf, embeddingForm, ofFile, pictureOf, score, whyNot } from "./queries.js";
import { difference, respondPanel } from "./respond.js";
import { badge, correction, evidenceOf, headOf, textLabels } from "./verdict.js";
import { trustText } from "./trustbar.js";
import { counted } from "../words.js";

export const title = "Try";
const OTHERS = "Try other images";

// What was tried stays while the page is open, so that a look at another view loses nothing.
let kept = { space: null, items: [], opened: null, rule: null };

export async function show(root, context) {
  const { space, signal } = context;
  if (kept.space !== space.id) kept = { space: space.id, items: [], opened: null, rule: null };
  const [{ rules, default: usual }, calibrations] = await Promise.all([get("v1/rules", { signal }), calibrationsOf(space.name, signal)]);
  const view = { ...context, root, rules, usual, calibrations, result: h("div", { class: "result" }), intake: h("div", { class: "intake" }) };
  put(root,
    h("div", { class: "row spread top" },
      h("div", {}, h("h1", {}, "Try"), h("p", { class: "lead" }, "Can the label of an image be trusted, and why?")),
      rulePicker(view)),
    view.intake, view.result);
  drawIntake(view);
  draw(view);
}

function rulePicker(view) {
  const id = freshId("rule");
  const inForce = view.calibrations.find((one) => one.in_force && !one.other_encoders);
  const first = inForce ? `as calibrated (${inForce.rule})` : `default (${view.usual})`;
  const groups = { fused: "Text and images", text: "Text only", image: "Images only" };
  const select = h("select", { id, on: { change: () => { kept.rule = select.value || null; rescoreAll(view); } } },
    h("option", { value: "" }, first),
    Object.entries(groups).map(([kind, name]) => h("optgroup", { label: name }, view.rules.filter((rule) => rule.kind === kind)
      .map((rule) => h("option", { value: rule.name, selected: rule.name === kept.rule }, rule.name)))));
  return h("div", { class: "rule-picker field" }, h("label", { for: id }, "Rule"), select);
}

function drawIntake(view) {
  const { space, signal } = view;
  const taken = (queries) => take(view, queries);
  const zone = scoresImages(space)
    ? dropzone({ title: kept.items.length ? OTHERS : "Drop an image here", hint: "or paste one, or click to choose; several are fine", paste: signal,
      taken: (files) => taken(files.map(ofFile)) })
    : h("div", { class: "card no-encoder" }, h("p", {}, whyNot(space)),
      h("p", {}, "Paste an embedding instead, or send embeddings to ", h("code", {}, `POST ${path("spaces", space.name, "score")}`), "."),
      embeddingForm(space, { sides: space.verifier === "same" ? ["classifier"] : ["classifier", "verifier"], verb: "Score", taken }));
  view.intake.classList.toggle("compact", kept.items.length > 0);
  view.root.querySelector(".top").classList.toggle("brief", kept.items.length > 0);
  // The pasting of an earlier zone must not go on beside the new one's: there is one for as long as the view is shown.
  if (!view.zone) put(view.intake, view.zone = zone);
  else view.zone.querySelector(".title")?.replaceChildren(OTHERS);
}

async function take(view, queries) {
  const fresh = queries.map((query) => ({ query, verdict: null, error: null }));
  kept.items = fresh;
  kept.opened = fresh.length === 1 ? fresh[0] : null;
  await rescoreAll(view);
  (view.result.querySelector(".answer") ?? view.result.querySelector(".summary"))?.focus();
}

async function rescoreAll(view) {
  const { items } = kept;
  if (!items.length) return;
  const waiting = new Set(items);
  const tell = () => {
    for (const item of waiting) if (item.verdict || item.error) waiting.delete(item);
    if (kept.items === items && waiting.size) put(view.result, working(items.length === 1 ? "Scoring …" : `Scored ${items.length - waiting.size} of ${items.length} …`));
  };
  for (const item of items) Object.assign(item, { verdict: null, error: null, before: null });
  tell();
  drawIntake(view);
  try {
    await score(view.space.name, items, kept.rule, view.signal, tell);
  } catch (error) {
    if (error.name !== "AbortError") put(view.result, problem(error));
    return;
  }
  if (kept.items === items) draw(view);
}

function draw(view) {
  const { items, opened } = kept;
  if (!items.length) return put(view.result, hints(view));
  if (items.some((item) => !item.verdict && !item.error)) return void rescoreAll(view); // the view was left in between
  if (!opened) return put(view.result, overview(view));
  const at = items.indexOf(opened);
  return put(view.result, items.length > 1 && walker(view, at), opened.error ? failed(view, opened) : card(view, opened), notesOn([opened]));
}

/** What was done so that the encoders see the images; it is told of all that went in one call. */
function notesOn(items) {
  const told = [...new Set(items.map((item) => item.notes ?? []))].flat();
  return told.length ? h("ul", { class: "quiet notes" }, told.map((note) => h("li", {}, h("bdi", {}, note)))) : null;
}

function hints({ space }) {
  if (!scoresImages(space)) return null;
  return h("ol", { class: "hints" },
    h("li", {}, h("strong", {}, "The label"), " that the text side gives, of ", counted(space.label_count, "label"), "."),
    h("li", {}, h("strong", {}, "The trust in it"), ", split into what the text and what the images say."),
    h("li", {}, h("strong", {}, "Why"), ": the support images most like yours, beside those of the runner-up."));
}

/** One verdict, whole. */
function card(view, item) {
  const { space, signal } = view;
  const { verdict, query } = item;
  const calibration = view.calibrations.find((one) => one.id === verdict.calibration_id) ?? null;
  const rule = view.rules.find((one) => one.name === verdict.rule);
  return h("article", { class: "card verdict" },
    item.before && difference(item.before, verdict),
    headOf(space, verdict, calibration, rule, (button) => recalibrate(view, item, button)),
    evidenceOf(space, query, verdict, view.go, signal),
    h("div", { class: "split foot" }, textLabels(verdict), respondPanel(view, item, () => again(view, item))));
}

/** Calibrate for the space as it is now, on the stored images, and score the item again. */
async function recalibrate(view, item, button) {
  await doing(button, async () => {
    const made = await runJob(path("spaces", view.space.name, "observations", "calibrate"), {}, { signal: view.signal });
    if (made.failed) notice(`No promise could be proved: ${made.reason}.`, null, { kind: "bad" });
    else await again(view, item);
  });
}

async function again(view, item) {
  const before = item.verdict;
  view.calibrations = await calibrationsOf(view.space.name, view.signal);
  await score(view.space.name, [item], kept.rule, view.signal);
  item.before = before;
  draw(view);
  const told = view.result.querySelector(".difference");
  told?.scrollIntoView({ block: "nearest" });
  view.result.querySelector(".answer")?.focus({ preventScroll: true });
}

function failed(view, item) {
  const retry = h("button", { type: "button", on: { click: () => doing(retry, () => rescoreAll(view)) } }, "Try it again");
  return h("article", { class: "card failed" },
    h("div", { class: "row" }, h("figure", { class: "support small" }, pictureOf(item.query, view.signal)), h("h2", { class: "answer", tabindex: "-1" }, h("bdi", {}, item.query.name))),
    problem(item.error), h("div", { class: "actions" }, retry));
}

/** All verdicts of several images at once; one of them is opened by a click. */
function overview(view) {
  const { items } = kept;
  const counts = [
    ...["accept", "review", "unknown"].map((word) => [items.filter((item) => item.verdict?.decision === word).length, word]),
    [items.filter((item) => item.error).length, "could not be read"],
  ].filter(([n]) => n).map(([n, what]) => `${n} ${what}`);
  return [
    h("h2", { class: "summary", tabindex: "-1" }, `${counted(items.length, view.space && items[0].query.file ? "image" : "embedding")}: ${counts.join(", ")}`),
    h("ul", { class: "tiles" }, items.map((item) => h("li", {}, tile(view, item)))),
    notesOn(items),
  ];
}

function tile(view, item) {
  const { query, verdict, error } = item;
  const open = () => { kept.opened = item; draw(view); view.result.querySelector(".answer")?.focus(); };
  return h("button", { type: "button", class: `tile ${error ? "failed" : ""}`, on: { click: open } },
    pictureOf(query, view.signal, { alt: "" }),
    h("span", { class: "text" },
      h("span", { class: "label", title: verdict?.label ?? query.name }, h("bdi", {}, verdict?.label ?? query.name)),
      verdict ? h("span", { class: "quiet" }, `trust ${trustText(verdict.trust, verdict.terms.range)}`) : h("span", { class: "quiet" }, error.message),
      verdict ? badge(verdict) : h("span", { class: "badge bad" }, "Not read"),
      verdict && correction(verdict)));
}

/** From one of several verdicts to the others. */
function walker(view, at) {
  const { items } = kept;
  const to = (item) => () => { kept.opened = item; draw(view); focusOn(); };
  const focusOn = () => (view.result.querySelector(".answer") ?? view.result.querySelectorAll(".tile")[at])?.focus();
  const step = (name, sign, item) => h("button", { type: "button", "aria-label": name, disabled: !item, on: { click: to(item) } }, sign);
  return h("div", { class: "row walker" },
    h("button", { type: "button", class: "plain", on: { click: to(null) } }, `← All ${items.length}`),
    h("span", { class: "quiet" }, h("bdi", {}, items[at].query.name), ` · ${at + 1} of ${items.length}`),
    step("Previous image", "‹", items[at - 1]), step("Next image", "›", items[at + 1]));
}
