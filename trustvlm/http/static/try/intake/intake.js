// Where images or what stands for them are given: which of these depends on the encoders of the space.

import { path } from "../../api.js";
import { h, put } from "../../dom.js";
import { isExternal, scoresImages, takesImages } from "../../encoders.js";
import { dropzone } from "../../parts.js";
import { counted } from "../../words.js";
import { ofFile, pictureOf, whyNot } from "../queries.js";
import { embeddingForm, pasteForm, sidesOf } from "./embeddings.js";

const SEVERAL = "or paste one, or click to choose; several are fine";

/** The zone or form; `taken(queries)` gets what was given. */
export function intakeOf({ space, signal }, taken) {
  if (scoresImages(space)) return dropzone({ title: "Drop an image here", hint: SEVERAL, paste: signal, taken: (files) => taken(files.map(ofFile)) });
  if (isExternal(space)) return takesImages(space) ? imagesWithOutputs(signal, taken) : outputsAlone(space, taken);
  return h("div", { class: "card no-encoder" }, h("p", {}, whyNot(space)),
    h("p", {}, "Paste an embedding instead, or send embeddings to ", scoring(space), "."),
    embeddingForm(space, { sides: sidesOf(space), verb: "Score", taken }));
}

const scoring = (space) => h("code", {}, `POST ${path("spaces", space.name, "score")}`);
const OUTPUTS = { title: "Probabilities as JSON", verb: "Score" };
const REST = "What your classifier gives for each label; labels that are left out share the rest.";

/** Images, each with what another classifier says of it. */
function imagesWithOutputs(signal, taken) {
  const strip = h("div", { class: "strip", role: "status" });
  let files = [], shown = new AbortController();
  const draw = () => {
    shown.abort();
    shown = new AbortController();
    const mine = AbortSignal.any([signal, shown.signal]);
    put(strip, files.map((file) => h("figure", { class: "support small" }, pictureOf(ofFile(file), mine))), files.length > 0 && h("p", { class: "quiet" }, files.length === 1 ? h("bdi", {}, files[0].name) : counted(files.length, "image")));
  };
  const zone = dropzone({ title: "Drop an image here", hint: SEVERAL, paste: signal, taken: (some) => { files = some; draw(); } });
  return h("div", { class: "card stack external" }, zone, strip, pasteForm({
    ...OUTPUTS, sides: ["probabilities"], about: `${REST} For several images, a list in their order.`,
    taken: (rows) => {
      if (!files.length) throw new Error("Expected an image; choose one first.");
      if (rows.length !== files.length) throw new Error(`Expected the probabilities of ${counted(files.length, "image")}; got ${rows.length}.`);
      taken(files.map((file, i) => ({ ...ofFile(file), probabilities: rows[i].probabilities })));
    } }));
}

/** Probabilities where images cannot be read either. */
const outputsAlone = (space, taken) => h("div", { class: "card no-encoder" },
  h("p", {}, `Another classifier gives the probabilities of the space “${space.name}”, and the embeddings of images are computed elsewhere, too (${space.verifier}).`),
  h("p", {}, "Paste both, or send them to ", scoring(space), "."),
  pasteForm({ ...OUTPUTS, title: "Probabilities and embedding as JSON", sides: ["probabilities", "verifier"], about: `${REST} The embedding has ${counted(space.verifier_dim, "value")}, not normalised; rules that look at the text only do without.`, taken }));
