// What is scored or searched: image files of the user, embeddings that they pasted where the service encodes no images, and the
// probabilities that another classifier gives.

import { get, path, pictureAddress, post } from "../api.js";
import { h, put } from "../dom.js";
import { localImage } from "../parts.js";
import { groups } from "../uploads.js";
import { fileName } from "../words.js";

const CALL_IMAGES = 8;

/** An image file, ready to be sent. */
export const ofFile = (file) => ({ file, name: file.name || "pasted image" });

/** The embeddings of a query as those of a support image; null: it has none. */
export function supportVectors({ verifier, classifier }) {
  if (!verifier) return classifier ? { image_vectors: [classifier] } : null;
  return { image_vectors: [verifier], ...(classifier && { classifier_image_vectors: [classifier] }) };
}

/** In one sentence, why images cannot be turned into embeddings for this space. */
export function whyNot(space) {
  const same = space.verifier === "same" || space.verifier === space.classifier;
  const made = same ? space.classifier : `${space.classifier} and ${space.verifier}`;
  return `The space “${space.name}” holds embeddings that were computed elsewhere (${made}), so images cannot be encoded here.`;
}

/** The body of a call about some queries: a form of files, or JSON rows. `fields` go with it. */
export function bodyOf(queries, fields = {}) {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  if (queries[0].file) {
    const form = new FormData();
    for (const { file, name } of queries) form.append("images", file, name);
    if (queries[0].probabilities) form.append("probabilities", JSON.stringify(queries.map((one) => one.probabilities)));
    for (const [name, value] of given) for (const one of [value].flat()) form.append(name, typeof one === "object" && one ? JSON.stringify(one) : one ?? "");
    return { form };
  }
  const json = Object.fromEntries(given);
  for (const side of ["classifier", "verifier", "probabilities"]) if (queries[0][side]) json[side] = queries.map((one) => one[side]);
  return { json };
}

/** The fields of a call that scores as a person `chose`: {rule, part}, null each: as the space does, among all labels. */
export const choiceOf = ({ rule, part }) => ({ rule, labels: part?.filter });

/** Score items ({query}) some at a time; each gets a `verdict` or an `error`, and what was `chosen` for it: {rule, part}.
 *  `told()` hears after each call. */
export async function score(space, items, chosen, signal, told = () => {}) {
  const size = (item) => item.query.file?.size ?? 0;
  for await (const some of groups(items, signal, { size, most: CALL_IMAGES })) {
    try {
      await scoreSome(space, some, chosen, signal);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      // The service names the first of those it could read none of: asked one by one, each says why.
      const ofContent = error.status === 422 || error.status === 413;
      if (some.length > 1 && ofContent) await scoreEach(space, some, chosen, signal);
      else for (const one of some) one.error = ofContent ? plainly(error) : error;
    }
    told();
  }
}

/** Of one image it is enough to say what is wrong with it. */
function plainly(error) {
  const found = error.message.match(/^images: .*?: (.*) \(none of 1 can be read\)$/);
  if (found) error.message = `This file cannot be read: ${found[1].replace(/^is /, "it is ")}.`;
  return error;
}

async function scoreEach(space, items, chosen, signal) {
  for (const one of items) await score(space, [one], chosen, signal);
}

async function scoreSome(space, items, chosen, signal) {
  for (const item of items) item.chosen = { ...chosen };
  if (items[0].query.observation) return scoreStored(space, items[0], chosen, signal);
  // To try is no incoming image: the review queue stays without it.
  const body = bodyOf(items.map((item) => item.query), { ...choiceOf(chosen), evidence: 3, terms: true, top_k: 5, review: false });
  const answer = await post(path("spaces", space, "score"), { ...body, signal });
  for (const [row, verdict] of answer.verdicts.entries()) {
    Object.assign(items[verdict.index ?? row], { verdict, error: null });
  }
  for (const item of items) item.notes = answer.notes ?? [];
  for (const { index, reason } of answer.failures ?? []) Object.assign(items[index], { verdict: null, error: new Error(reason) });
}

/** A stored image is scored by its id: its embeddings are kept, its file is not. */
async function scoreStored(space, item, { rule, part }, signal) {
  const where = [space, "observations", item.query.observation];
  const [observation, { verdicts: [verdict] }] = await Promise.all([
    get(path("spaces", ...where), { signal }), get(path("spaces", ...where, "verdict"), { query: { rule, filter: part?.text, evidence: 3, terms: true }, signal })]);
  Object.assign(item, { verdict, observation, error: null });
  item.query.name = fileName(observation.source) ?? item.query.name;
  if (observation.pictured) item.query.picture = await pictureAddress(space, observation.id, "observations");
}

/** A query as a picture: the file's, or a sign that it is an embedding. */
export function pictureOf(query, signal, { alt = query.name } = {}) {
  const frame = h("div", { class: "picture" });
  if (!query.file && !query.picture) return put(frame, h("span", { class: "none" }, query.observation ? "no picture" : "embedding"));
  const image = query.file ? localImage(query.file, alt, signal) : h("img", { alt, src: query.picture });
  image.addEventListener("error", () => put(frame, h("span", { class: "none" }, "no preview")));
  return put(frame, image);
}

/** The calibrations of a space, newest first. */
export const calibrationsOf = async (space, signal) =>
  (await get(path("spaces", space, "calibrations"), { signal })).calibrations;
