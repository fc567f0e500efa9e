// Review: images that wait for a person's answer, one at a time, answered by key or touch.

import { get, may, path, post } from "../api.js";
import { commandOf } from "../command.js";
import { h, put } from "../dom.js";
import { doing, empty, working } from "../parts.js";
import { loadRules } from "../rules.js";
import { count, counted, fileName, likely } from "../words.js";
import { listenToKeys, showKeys } from "./keys.js";
import { filesPanel } from "./files.js";
import { loggedPanel } from "./logged.js";
import { itemCard } from "./item.js";

export const title = "Review";

const MOST_SKIPPED = 1_000; // that are taken up again at once
const SAVE = "Save new images for review";
const TRAYS = { review: ["Not accepted", "images whose verdict was not accepted"], sample: ["Random sample", "images chosen at random, whatever their verdict"],
  proposal: ["Proposed", "images that may become support images: “Right” accepts one"] };

/** The number of items that wait, in the navigation; found out when the page is opened, and kept up to date by this view. */
export function navCount(space) {
  shown = h("span", { class: "nav-count", hidden: true });
  const mine = shown;
  get(path("spaces", space, "review")).then((status) => { if (mine === shown) showCount(status); }, () => {});
  return mine;
}

let shown = null;

const quoted = (truth) => truth === null ? "none of the labels" : ["“", h("bdi", {}, truth), "”"];

function showCount({ trays }) {
  const waiting = trays.reduce((sum, tray) => sum + tray.open, 0);
  if (!shown) return;
  shown.hidden = !waiting;
  put(shown, waiting ? [" ", count(waiting), h("span", { class: "visually-hidden" }, " to review")] : []);
}

export async function show(root, context) {
  const { space, signal } = context;
  const where = (...parts) => path("spaces", space.name, "review", ...parts);
  const head = h("div", { class: "row spread top" }), tabs = h("div", { class: "trays", role: "group", "aria-label": "Trays" });
  const progress = h("div", { class: "review-progress" }), body = h("div", { class: "review-body" });
  const said = h("p", { class: "review-said", role: "status" });
  const view = { ...context, where, tray: null, status: null, question: null, last: [], busy: false };

  const files = filesPanel(context, { tray: () => view.tray, imported: () => { put(said); return look(); } });

  put(root, head, tabs, progress, said, body, files, may("write") && loggedPanel(context, () => look()));
  if (may("write")) listenToKeys(signal, (key) => view.card?.pressed(key) ?? (key === "u" && (undo(), true)));
  put(body, working("Looking for images to review …"));

  /** Read the state of the queue and the next item, and show both. */
  async function look(after = null) {
    const [status, { question }] = await Promise.all([
      get(where(), { signal }), get(where("next"), { query: { tray: view.tray, after }, signal }), loadRules(signal)]);
    Object.assign(view, { status, question });
    draw();
  }

  function draw() {
    showCount(view.status);
    drawHead();
    drawTabs();
    drawProgress();
    files.hidden = unused();
    view.card = view.question && itemCard(view, { answer, skip, undo, keys: showKeys });
    put(body, view.card ? view.card.root : nothing());
  }

  function drawHead() {
    const on = view.status.collecting;
    const button = h("button", { type: "button", class: on ? "plain" : "", on: { click: () => collect(!on, button) } }, on ? "Stop saving" : SAVE);
    put(head, h("div", {}, h("h1", {}, "Review"), h("p", { class: "lead" }, "Check images that were not accepted, and a random sample. Your answers keep the calibration honest; you can also add an image as a support image.")),
      (on || view.question) && h("div", { class: "collecting" }, h("span", { class: `badge ${on ? "good" : ""}` }, on ? "New images are saved" : "New images are not saved"), may("write") && button));
  }

  const unused = () => view.status.trays.every((tray) => !tray.open && !tray.answered && !tray.skipped);

  function drawTabs() {
    const waiting = (name) => view.status.trays.filter((one) => name === null || one.tray === name).reduce((sum, one) => sum + one.open, 0);
    const names = [null, ...view.status.trays.map((one) => one.tray)];
    tabs.hidden = unused();
    put(tabs, names.map((name) => h("button", {
      type: "button", "aria-pressed": String(view.tray === name), title: TRAYS[name]?.[1],
      on: { click: () => { view.tray = name; doing(null, () => look()); } },
    }, name === null ? "All" : TRAYS[name]?.[0] ?? name, " ", h("span", { class: "n" }, count(waiting(name))))));
  }

  function drawProgress() {
    const of = view.status.trays.filter((one) => view.tray === null || one.tray === view.tray);
    const [open, answered, skipped] = ["open", "answered", "skipped"].map((state) => of.reduce((sum, one) => sum + one[state], 0));
    progress.hidden = !open && !answered && !skipped;
    const words = `${count(answered)} of ${counted(open + answered, "image")} answered${skipped ? `, ${count(skipped)} skipped` : ""}`;
    const button = skipped > 0 && may("write") && h("button", { type: "button", class: "plain", on: { click: () => askAgain(button) } }, skipped === 1 ? "Ask about it again" : "Ask about them again");
    put(progress, h("progress", { value: answered, max: open + answered || 1, "aria-label": words }), h("p", { class: "quiet" }, words, button && [" ", button]),
      view.status.missed > 0 && h("p", { class: "quiet" }, `${counted(view.status.missed, "image")} chosen at random could not be saved: at most ${count(view.status.limit)} can wait.`));
  }

  function nothing() {
    const { collecting, share } = view.status;
    const part = `${(100 * share).toFixed(1).replace(/\.0$/, "")} %`;
    const button = h("button", { type: "button", class: "primary", on: { click: () => collect(true, button) } }, SAVE);
    const stored = h("p", {}, "From the images that are scored over HTTP, it saves those that are not accepted, and ", part,
      " of all, chosen at random: each with its embeddings, a small picture if it comes as an image, its file name and its verdict. You can delete them at any time.");
    if (!collecting) return empty("New images are not saved for review.", stored, may("write") && [h("p", {}, button), h("p", { class: "quiet" }, "Or add images on the command line: ", h("code", {}, commandOf("score", [space.name], "IMAGES --review")))]);
    const others = view.tray !== null && view.status.trays.some((one) => one.open);
    return empty(others ? "Nothing to review in this group." : "Nothing to review. Well done.", h("p", {}, others ? "There are images in another group." : "New images come as they are scored."),
      last() && h("p", {}, h("button", { type: "button", on: { click: () => undo() } }, "Undo the last answer")));
  }

  const last = () => view.last.at(-1);

  async function once(control, work) {
    if (view.busy) return;
    view.busy = true;
    await doing(control, work);
    view.busy = false;
  }

  /** Do something with the item that is shown; where another person or tab has answered it meanwhile, say so and go on to what waits. */
  const withItem = (control, work) => once(control, async () => {
    const { item } = view.question;
    try {
      await work(item);
    } catch (error) {
      if (error.status !== 409) throw error;
      const { item: now } = await get(where("items", item.id), { signal });
      if (now.state !== "answered") throw error;
      await look();
      put(said, h("bdi", {}, fileName(item.source) ?? "The image"), " was answered elsewhere meanwhile: ", quoted(now.truth), ". That answer stays.");
      (view.card ?? { focus: () => {} }).focus();
    }
  });

  const collect = (collecting, control) => once(control, async () => {
    await post(where(), { json: { collecting }, signal });
    put(said, collecting ? "From now on, new images are saved." : "From now on, no new images are saved. Those that wait stay.");
    await look();
  });

  /** Store the answer about the item that is shown (null: none of the labels), and go on. */
  const answer = (truth, support, control) => withItem(control, async (item) => {
    const json = { truth, use_as_support: support && truth !== null };
    const { support_id: made, taught } = await post(where("items", item.id, "answer"), { json, signal });
    view.last.push(item.id);
    await next(item.id, ["Stored: ", quoted(truth), made === null ? "." : `, and added as support image ${made}. `, taught && changes(taught, truth), made === null && teach(item, truth)]);
  });

  /** After a correction: the button that makes a support image of it, which the space learns most from. */
  function teach(item, truth) {
    if (truth === null || truth === item.predicted || item.tray === "sample" || item.logged_id !== null) return null;
    const button = h("button", { type: "button", on: { click: () => once(button, async () => {
      const { support_id: made, taught } = await post(where("items", item.id, "answer"), { json: { truth, use_as_support: true }, signal });
      button.replaceWith(made === null ? "It was a support image before." : ["Added as support image ", String(made), ". "].join(""), taught ? changes(taught, truth) : "");
    }) } }, "Use it as a support image (recommended)");
    return [" ", button, " "];
  }

  /** What a new support image changed, in a sentence. */
  function changes(taught, truth) {
    const answer = (label, p) => [h("bdi", {}, label), p === null ? null : `, ${likely(p)}`];
    const others = taught.waiting ? ` ${count(taught.changed)} of ${counted(taught.waiting, "waiting image")} get another answer now.` : "";
    return h("span", { class: "taught" }, "This image: “", answer(taught.label_before, taught.probability_before), "” before, now ", taught.probability === null ? ["known as “", h("bdi", {}, truth), "”."] : ["“", answer(taught.label, taught.probability), "”."], others);
  }

  const skip = (control) => withItem(control, async (item) => {
    await post(where("items", item.id, "skip"), { signal });
    view.last.push(item.id);
    await next(item.id, ["Skipped."]);
  });

  /** What was skipped waits again. */
  const askAgain = (control) => once(control, async () => {
    const { items } = await get(where("items"), { query: { state: "skipped", tray: view.tray, limit: MOST_SKIPPED }, signal });
    for (const { id } of items) await post(where("items", id, "undo"), { signal });
    view.last = view.last.filter((id) => !items.some((item) => item.id === id));
    await look();
    put(said, `${counted(items.length, "skipped image waits", "skipped images wait")} again.`);
    view.card.focus();
  });

  const undo = (control) => last() && once(control, async () => {
    const id = view.last.at(-1);
    await post(where("items", id, "undo"), { signal });
    view.last.pop();
    const [status, question] = await Promise.all([get(where(), { signal }), get(where("items", id), { signal })]);
    Object.assign(view, { status, question });
    draw();
    put(said, "The answer is taken back.");
    view.card.focus();
  });

  async function next(after, words) {
    await look(after);
    put(said, words, " ", h("button", { type: "button", class: "plain", on: { click: (event) => undo(event.currentTarget) } }, "Undo"));
    (view.card ?? { focus: () => body.querySelector("button")?.focus() }).focus();
  }

  await look();
}
