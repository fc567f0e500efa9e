// What a person answers to a verdict: right, wrong, or "remember this image". Each says what it changed, and can be tried at once.

import { get, path, post, remove } from "../api.js";
import { labelCombobox } from "../labels/combobox.js";
import { freshId, h, put } from "../dom.js";
import { doing } from "../parts.js";
import { bodyOf } from "./queries.js";
import { stateOf } from "./verdict.js";
import { trustText } from "./trustbar.js";
import { counted } from "../words.js";

/** The panel beneath a verdict. `again()` scores the item anew and shows it; the item keeps what was `done` with it. */
export function respondPanel(context, item, again) {
  const { space, signal } = context;
  const { verdict, query } = item;
  item.done ??= [];
  const log = h("ul", { class: "done" });
  const changed = h("div", { class: "changed", "aria-live": "polite" });
  const choosing = h("div", { class: "choosing" });
  const rescore = h("button", { type: "button", on: { click: () => doing(rescore, again) } }, "Score again");
  const correct = h("button", { type: "button", on: { click: () => tell(verdict.label, correct) } }, "✓ Correct");
  const wrong = toggle("Wrong: it is …", () => pick("It is", (name) => tell(name, wrong), { none: true }));
  const add = h("button", { type: "button", on: { click: () => support(verdict.label, add) } }, "Add as support image");
  const other = toggle("… of another label", () => pick("Add it to", (name) => support(name, other)));

  const random = h("input", { id: freshId("random"), type: "checkbox" });
  const sampling = h("p", { class: "sampling" }, random, h("label", { for: random.id },
    "It was drawn at random from the incoming images ", h("span", { class: "quiet" }, "(only such images calibrate and are monitored)")));

  /** A button that opens and closes the choice beneath. */
  function toggle(name, open) {
    const button = h("button", { type: "button", "aria-expanded": "false", on: { click: () => {
      const opened = button.getAttribute("aria-expanded") === "true";
      unpick();
      if (!opened) { button.setAttribute("aria-expanded", "true"); open(); }
    } } }, name);
    return button;
  }

  function unpick() {
    for (const one of [wrong, other]) one.setAttribute("aria-expanded", "false");
    put(choosing);
  }

  function pick(title, chosen, { none = false } = {}) {
    const suggested = [...new Set([verdict.rival, ...verdict.top_labels])].filter((name) => name !== null && name !== verdict.label);
    const box = labelCombobox(space.name, { title, suggested, without: verdict.label, signal, chosen: (name) => { unpick(); chosen(name); } });
    put(choosing, box.root, none && h("button", { type: "button", class: "none-of", on: { click: () => { unpick(); chosen(null); } } }, "None of the labels"));
    box.focus();
  }

  async function tell(truth, button) {
    await doing(button, async () => {
      const body = bodyOf([query], { truth: [truth], sampling: random.checked ? "random" : "chosen" });
      done(said(await post(path("spaces", space.name, "feedback"), { ...body, signal }), truth, random.checked));
    });
  }

  async function support(label, button) {
    await doing(button, async () => {
      const result = await post(path("spaces", space.name, "labels", label, "supports"), { ...supportBody(query), signal });
      if (!result.added_supports) return done(`“${label}” has exactly this image already: nothing was added.`);
      const { support_count: now } = await get(path("spaces", space.name, "labels", label), { signal });
      const entry = done(`Added to “${label}” as support image ${result.ids[0]}; it has ${counted(now, "support image")} now.`);
      entry.undo = result.ids[0];
      draw();
      for (const words of result.drift ?? []) done(words);
    });
  }

  async function undo(entry, button) {
    await doing(button, async () => {
      await remove(path("spaces", space.name, "supports", entry.undo), { signal });
      entry.undo = null;
      done(`Support image ${entry.removed ?? ""}`.trim() + " was taken away again.", entry);
    });
  }

  function done(text, before = null) {
    const entry = { text };
    if (before) before.text += " (undone)";
    item.done.push(entry);
    draw();
    rescore.focus();
    return entry;
  }

  function draw() {
    put(log, item.done.map((entry) => {
      const button = entry.undo && h("button", { type: "button", class: "plain undo", on: { click: () => undo(Object.assign(entry, { removed: entry.undo }), button) } }, "Undo");
      return h("li", {}, h("span", {}, entry.text), button);
    }));
    put(changed, item.done.length > 0 && [log, h("div", { class: "row" }, rescore, h("span", { class: "quiet" }, "to see what that changes"))]);
  }

  draw();
  return h("section", { class: "respond" },
    h("h3", {}, "Is that right?"),
    h("div", { class: "row" }, correct, wrong), sampling,
    h("div", { class: "row" }, add, other),
    choosing, changed);
}

/** What a feedback call did, in words. */
function said({ ids, updated, right, accepted_wrong: broken, apart }, truth, random) {
  if (ids[0] === -1) return "This image is a support image itself, so it cannot count as feedback: nothing was stored.";
  const what = truth === null ? "it is none of the labels" : right ? `“${truth}” is right` : `it is “${truth}”`;
  const known = updated && !apart ? " (the earlier answer about this image is replaced)" : "";
  const against = broken && random ? " It was accepted and is wrong, which speaks against the promise." : "";
  const use = random ? "It counts in the next calibration and in monitoring." : `As an image picked for a reason it is stored, but no calibration uses it.${apart ? " The answer given when it was drawn at random stays in use for calibration." : ""}`;
  return `Stored: ${what}${known}. ${use}${against} Verdicts change when an image is added as support image.`;
}

function supportBody(query) {
  if (query.file) return bodyOf([query]);
  const json = { image_vectors: [query.verifier ?? query.classifier] };
  if (query.verifier && query.classifier) json.classifier_image_vectors = [query.classifier];
  return { json };
}

/** Before and after scoring again. */
export function difference(before, now) {
  const same = before.label === now.label && Math.abs(before.trust - now.trust) < 5e-4 && before.accepted === now.accepted;
  const row = (name, verdict) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, h("bdi", {}, verdict.label)),
    h("td", { class: "n" }, trustText(verdict.trust, verdict.terms.range)), h("td", {}, stateOf(verdict)[2]));
  return h("section", { class: "difference", role: "status" },
    h("p", { class: "title" }, same ? "Scored again: the same" : "Scored again"),
    h("table", {},
      h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col" }, "Label"), h("th", { scope: "col", class: "n" }, "Trust"), h("th", { scope: "col" }, "State"))),
      h("tbody", {}, row("before", before), row("now", now))),
    [...(now.evidence?.label ?? []), ...(now.evidence?.rival ?? [])].some((near) => near.similarity > 0.99999) &&
      h("p", { class: "quiet" }, "The image is a support image itself now, so its nearest image is itself: try another one of this kind."));
}
