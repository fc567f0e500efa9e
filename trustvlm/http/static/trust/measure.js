// Choosing the images to measure on.

import { get, path } from "../api.js";
import { commandOf } from "../command.js";
import { freshId, h, put } from "../dom.js";
import { isExternal, scoresImages, takesImages } from "../encoders.js";
import { chosenFolder, drawn, droppedFolders } from "./folders.js";
import { doing, notice } from "../parts.js";
import { progressBox } from "../progress.js";
import { folderSource, mostImages, storedSource } from "./sources.js";
import { counted, count as whole } from "../words.js";

const MOST_CHECKED = 300; // sub-folders whose names are looked up one by one

/** The card as {root, count(observations)}; `measured(source, hooks)` evaluates a source, tells how far it is, and shows it. */
export function measureCard({ space, signal }, observations, measured) {
  const panel = h("div", { class: "stack panel", "aria-live": "polite" });
  const stored = h("div", { class: "stored" });
  const root = h("section", { class: "card measure" },
    h("h2", {}, "Measure on images whose labels you know"),
    h("p", { class: "quiet" }, "Use images like those that will come in. Support images are left out."),
    h("div", { class: "choices" }, scoresImages(space) ? folderZone() : noEncoders(space), stored), panel);
  count(observations);
  return { root, count };

  function folderZone() {
    const id = freshId("folder");
    const input = h("input", { type: "file", id, webkitdirectory: true, multiple: true, on: { change: () => { offer(chosenFolder(input.files)); input.value = ""; } } });
    const zone = h("label", { class: "dropzone", for: id }, h("span", { class: "title" }, "Choose or drop a folder"),
      h("span", { class: "quiet" }, "one sub-folder of images for each label, with the label as its name"), input);
    zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      doing(null, async () => offer(await droppedFolders(event.dataTransfer)));
    });
    return zone;
  }

  /** Say how many images are stored now. */
  function count({ usable, calibration, random, chosen }) {
    const button = h("button", { type: "button", disabled: !usable, on: { click: () => start(async () => storedSource(space, usable)) } }, "Measure on the stored images");
    const kinds = calibration === usable ? `All ${whole(usable)} come from the last calibration`
      : [calibration && `${whole(calibration)} from the last calibration`, random && `${whole(random)} from random feedback`].filter(Boolean).join(", ");
    const passed = chosen ? ` ${counted(chosen, "feedback image")} that ${chosen === 1 ? "was" : "were"} picked, not drawn at random, left out.` : "";
    put(stored, h("p", { class: "title" }, usable ? `${counted(usable, "image is", "images are")} stored` : "No images are stored yet"),
      h("p", { class: "quiet" }, usable ? `${kinds}.${passed}` : `Calibrating and random feedback store embeddings and thumbnails, to measure on later.${passed}`), button);
  }

  /** What was found in a folder, and the way on. */
  async function offer({ images, leftOut, parts }) {
    if (parts.length) {
      notice(`${parts.map((name) => `“${name}”`).join(", ")}: parts of a data set, not labels. Choose one of these folders to measure on.`, null, { kind: "bad" });
      return;
    }
    if (!images.length) {
      notice("There are no sub-folders with images in it: one for each label is expected.", null, { kind: "bad" });
      return;
    }
    const folders = [...new Set(images.map((one) => one.folder))];
    const asked = await doing(null, () => Promise.all([strangers(folders), mostImages(space, signal)]));
    if (asked === undefined) return;
    const [unknown, most] = asked;
    const [outId, noneId] = [freshId("out"), freshId("none")];
    const asNone = h("input", { type: "radio", id: noneId, name: noneId, value: "none" });
    const out = h("input", { type: "radio", id: outId, name: noneId, value: "out", checked: true });
    const go = h("button", { type: "button", class: "primary", on: { click: () => {
      const known = images.map(({ file, folder }) => ({ file, truth: unknown.has(folder) ? null : folder })).filter((one) => asNone.checked || one.truth !== null);
      if (!known.length) notice("None of these sub-folders is named like a label of this space.", null, { kind: "bad" });
      else start((hooks) => folderSource(space, drawn(known, most), hooks));
    } } }, "Measure on them");
    const names = [...unknown].slice(0, 5).map((name) => `“${name}”`).join(", ") + (unknown.size > 5 ? ` and ${whole(unknown.size - 5)} more` : "");
    put(panel,
      h("p", {}, h("strong", {}, counted(images.length, "image")), ` in ${counted(folders.length, "sub-folder")}.`,
        leftOut > 0 && ` ${counted(leftOut, "file")} left out: not an image in a sub-folder, hidden, or a system file.`,
        images.length > most && ` ${whole(most)} of them, drawn at random, will be used: the embeddings of more do not fit into one request. The command line takes all: ${commandOf("calibrate", [space.name], "FOLDER")}`),
      unknown.size > 0 && h("fieldset", {},
        h("legend", {}, `${names} ${unknown.size === 1 ? "is no label" : "are no labels"} of this space`),
        h("p", { class: "check" }, out, h("label", { for: outId }, "Leave these images out")),
        h("p", { class: "check" }, asNone, h("label", { for: noneId }, "Count them as images of no label: any answer to them is wrong"))),
      h("div", { class: "row" }, go));
    go.focus();
  }

  async function start(make) {
    const stopped = new AbortController();
    const mine = AbortSignal.any([signal, stopped.signal]);
    const box = progressBox(() => stopped.abort());
    put(panel, box.root);
    let source;
    const done = await doing(null, async () => {
      source = await make({ signal: mine, left: signal, told: (at, all) => box.tell("Reading the images …", at, all) });
      if (!source.images) throw new Error("None of these images could be read.");
      await measured(source, { signal: mine, told: () => box.tell("Evaluating the rules …") });
      return true;
    });
    put(panel, !done && h("p", { class: "quiet" }, stopped.signal.aborted ? "Stopped." : "Nothing was measured."), done && failures(source));
  }

  /** Which of these folders are named like no label: asked name by name, the exact one sorts before all that begin with it. */
  async function strangers(folders) {
    const found = new Set();
    if (folders.length > MOST_CHECKED) return found; // the service will say
    for (const folder of folders) {
      const query = { q: folder, match: "prefix", limit: 1 };
      const { labels } = await get(path("spaces", space.name, "labels"), { query, signal });
      if (labels[0]?.name !== folder.normalize("NFC")) found.add(folder);
    }
    return found;
  }
}

function failures({ failures: failed }) {
  if (!failed.length) return null;
  return h("details", {}, h("summary", {}, `${counted(failed.length, "file")} could not be read`),
    h("ul", { class: "failures" }, failed.slice(0, 50).map((one) => h("li", {}, `${one.source}: ${one.reason}`))));
}

const noEncoders = (space) => h("div", { class: "stored" },
  h("p", { class: "title" }, "Photographs cannot be measured here"),
  h("p", { class: "quiet" }, isExternal(space) ? "Another classifier gives the probabilities of this space. Measure and calibrate with them on the command line:"
    : "The embeddings of this space are computed elsewhere. Measure and calibrate with them on the command line:"),
  h("pre", { tabindex: 0 }, commandOf("calibrate", [space.name], isExternal(space) && takesImages(space) ? "FOLDER --probabilities FILE" : "--vectors FILE.npz")));
