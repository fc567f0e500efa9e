// What a person answers to a verdict: right, wrong, or "remember this image". Each says what it changed, and shows it at once.

import { get, path, post, remove } from "../api.js";
import { labelChoice } from "../labels/combobox.js";
import { h, put } from "../dom.js";
import { doing } from "../parts.js";
import { rivalFitsBetter } from "./answer.js";
import { bodyOf, supportVectors } from "./queries.js";
import { newLabelForm, whyNoLabel } from "./newlabel.js";
import { NEW_LABEL, standing, standingNow } from "./taught.js";
import { formOf } from "../uploads.js";
import { counted } from "../words.js";

/** The panel beneath a verdict, and what it can do for others on the page. `again()` scores the item once more and shows it; the item
 *  keeps what was `done` with it and what was `taught`.
 *  `stored()` hears that the image is stored now. */
export function respondPanel(context, item, { again, stored }) {
  const { space, signal } = context;
  const { verdict, query } = item;
  item.done ??= [];
  const log = h("ul", { class: "done" });
  const changed = h("div", { class: "changed", "aria-live": "polite" });
  const correct = h("button", { type: "button", on: { click: () => tell(verdict.label, correct) } }, "✓ Right");
  const strange = verdict.decision === "unknown"; // no label to confirm then
  const without = strange ? null : verdict.label;
  const suggested = [...new Set([verdict.rival, verdict.nearest_prototype, ...verdict.top_labels])].filter((name) => name !== null && name !== without);
  const fresh = !whyNoLabel(space, query) && h("button", { type: "button", class: "none-of", on: { click: newLabel } }, "A new label …");
  const { button: wrong, choosing, close } = labelChoice(space.name, { name: strange ? "It is …" : "Wrong: it is …", title: "It is", suggested, without, signal, chosen: (name) => tell(name, wrong), other: fresh });
  const teachable = query.file || supportVectors(query);
  const add = teachable && h("button", { type: "button", on: { click: () => support(verdict.label, add) } }, "Add to “", h("bdi", { class: "clip" }, verdict.label), "” as support image");
  const better = rivalFitsBetter(verdict) && h("button", { type: "button", on: { click: () => tell(verdict.rival, better) } }, "It is “", h("bdi", { class: "clip" }, verdict.rival), "”");

  function newLabel() {
    const form = newLabelForm(context, query, { created: (made) => outcome({ created: made }), existing: (name) => outcome({ existing: name }), cancelled: () => { close(); wrong.focus(); } });
    put(choosing, form.root);
    form.focus();
  }

  async function tell(truth, button) {
    await doing(button, async () => {
      const body = bodyOf([query], { truth: [truth], sampling: "chosen" });
      const result = await post(path("spaces", space.name, "feedback"), { ...body, signal });
      const entry = done(storedSentence(result, truth));
      if (result.ids[0] > 0) [item.observation] = result.ids;
      stored();
      if (truth === null || (truth === verdict.label && verdict.decision !== "unknown")) return;
      const before = await standing(space, query, truth, signal);
      item.taught = { label: truth, before, now: before };
      Object.assign(entry, { more: standingNow(truth, before), teach: truth });
      item.drawDone();
      log.lastElementChild?.querySelector("button")?.focus();
    });
  }

  async function support(label, button) {
    await doing(button, async () => {
      await teaching(label);
      const result = await post(path("spaces", space.name, "labels", label, "supports"), { ...(query.file ? { form: formOf([query.file]) } : { json: supportVectors(query) }), signal });
      if (!result.added_supports) return done(`“${label}” has exactly this image already: nothing was added.`);
      const { support_count: now } = await get(path("spaces", space.name, "labels", label), { signal });
      for (const entry of item.done) entry.teach = entry.more = null;
      const entry = done(`Added to “${label}”, which has ${counted(now, "support image")} now.`);
      entry.undo = { id: result.ids[0] };
      [item.support] = result.ids;
      for (const words of result.drift ?? []) done(words);
      return again();
    });
  }

  /** From now on this label is shown before and after. */
  async function teaching(label) {
    if (item.taught?.label === label) return;
    item.taught = { label, before: await standing(space, query, label, signal), now: null };
  }

  /** What the form for a new label came to. */
  async function outcome({ created, existing }) {
    close();
    if (existing) {
      done(`“${existing}” is a label already.`).teach = existing;
      draw();
      return log.lastElementChild.querySelector("button")?.focus();
    }
    const entry = done(`Created the label “${created.name}”, with this image as its support image.`);
    entry.undo = { label: created.name };
    item.support = created.id ?? undefined;
    item.taught = { label: created.name, before: NEW_LABEL, now: null };
    return again();
  }

  async function undo(entry, button) {
    await doing(button, async () => {
      const { id, label } = entry.undo;
      await remove(id ? path("spaces", space.name, "supports", id) : path("spaces", space.name, "labels", label), { signal });
      entry.undo = null;
      item.support = undefined;
      entry.text += " (undone)";
      if (label) item.taught = null;
      done(id ? "The support image was taken away again." : `The label “${label}” was removed again.`);
      await again();
    });
  }

  function done(text) {
    const entry = { text };
    item.done.push(entry);
    item.drawDone(); // the panel that is shown now: another action may have scored the item again
    return entry;
  }

  function draw() {
    put(log, item.done.map((entry) => {
      const button = entry.undo && h("button", { type: "button", class: "plain undo", on: { click: () => undo(entry, button) } }, "Undo");
      const teach = entry.teach && teachable && h("button", { type: "button", class: "primary", on: { click: () => support(entry.teach, teach) } }, "Add this image to “", h("bdi", {}, entry.teach), "”");
      return h("li", {}, h("span", {}, entry.text, entry.more && [" ", entry.more]), teach, button);
    }));
    put(changed, item.done.length > 0 && log);
  }

  item.drawDone = draw;
  draw();
  const root = h("section", { class: "respond" },
    h("h3", {}, strange ? "What does it show?" : ["Is “", h("bdi", {}, verdict.label), "” right?"]),
    h("div", { class: "row" }, !strange && correct, !strange && better, wrong, !strange && add),
    choosing, changed);
  return { root, outcome };
}

/** What a feedback call about one image did, in words. `sample`: where the images come from that calibrate. */
export function storedSentence({ ids, updated, right, apart }, truth, sample = "a random sample is, as Review draws it") {
  if (ids[0] === -1) return "This image is a support image itself, so it cannot count as feedback: nothing was stored.";
  const what = truth === null ? "it is none of the labels" : right ? `“${truth}” is right` : `it is “${truth}”`;
  const known = updated && !apart ? " (the earlier answer about this image is replaced)" : "";
  const drawn = apart ? " The answer given when it was drawn at random stays in use for calibration." : "";
  return `Stored: ${what}${known}. Images that you pick are not used to calibrate: only ${sample}.${drawn}`;
}

