// What is scored or searched: image files of the user, or embeddings that they pasted where the service encodes no images.

import { get, path, pictureAddress, post } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { localImage } from "../parts.js";
import { groups } from "../uploads.js";
import { fileName } from "../words.js";

const CALL_IMAGES = 8;

/** An image file, ready to be sent. */
export const ofFile = (file) => ({ file, name: file.name || "pasted image" });

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
    for (const [name, value] of given) for (const one of [value].flat()) form.append(name, one ?? "");
    return { form };
  }
  const json = Object.fromEntries(given);
  for (const side of ["classifier", "verifier"]) if (queries[0][side]) json[side] = queries.map((one) => one[side]);
  return { json };
}

/** Score items ({query}) some at a time; each gets a `verdict` or an `error`. `told()` hears after each call. */
export async function score(space, items, rule, signal, told = () => {}) {
  const size = (item) => item.query.file?.size ?? 0;
  for await (const some of groups(items, signal, { size, most: CALL_IMAGES })) {
    try {
      await scoreSome(space, some, rule, signal);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      // The service names the first of those it could read none of: asked one by one, each says why.
      const ofContent = error.status === 422 || error.status === 413;
      if (some.length > 1 && ofContent) await scoreEach(space, some, rule, signal);
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

async function scoreEach(space, items, rule, signal) {
  for (const one of items) await score(space, [one], rule, signal);
}

async function scoreSome(space, items, rule, signal) {
  if (items[0].query.observation) return scoreStored(space, items[0], rule, signal);
  // To try is no incoming image: the review queue stays without it.
  const body = bodyOf(items.map((item) => item.query), { rule, evidence: 3, terms: true, top_k: 5, review: false });
  const answer = await post(path("spaces", space, "score"), { ...body, signal });
  for (const [row, verdict] of answer.verdicts.entries()) {
    Object.assign(items[verdict.index ?? row], { verdict, error: null });
  }
  for (const item of items) item.notes = answer.notes ?? [];
  for (const { index, reason } of answer.failures ?? []) Object.assign(items[index], { verdict: null, error: new Error(reason) });
}

/** A stored image is scored by its id: its embeddings are kept, its file is not. */
async function scoreStored(space, item, rule, signal) {
  const where = [space, "observations", item.query.observation];
  const [observation, { verdicts: [verdict] }] = await Promise.all([
    get(path("spaces", ...where), { signal }), get(path("spaces", ...where, "verdict"), { query: { rule, evidence: 3, terms: true }, signal })]);
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

/** Where embeddings are pasted; `taken(queries)` gets one query a row.
 *  `sides`: which embeddings are asked for; the one that is needed first. */
export function embeddingForm(space, { sides, verb, taken }) {
  const id = freshId("embedding"), told = freshId("embedding-problem");
  const example = JSON.stringify(Object.fromEntries(sides.map((side) => [side, ["0.1", "…"]])))
    .replaceAll('"0.1"', "0.1").replaceAll('"…"', "…");
  const area = h("textarea", { id, rows: 4, spellcheck: "false", placeholder: example, "aria-describedby": told });
  const wrong = h("p", { id: told, class: "wrong", role: "alert" });
  const sent = (event) => {
    event.preventDefault();
    try {
      const queries = parsed(area.value, sides);
      put(wrong);
      area.removeAttribute("aria-invalid");
      taken(queries);
    } catch (error) {
      put(wrong, error.message);
      area.setAttribute("aria-invalid", "true");
      area.focus();
    }
  };
  const sizes = sides.map((side) => `${side}: ${space[`${side}_dim`]} values`).join(", ");
  return h("form", { class: "embedding field", on: { submit: sent } },
    h("label", { for: id }, "Embedding as JSON"),
    h("p", { class: "quiet" }, `${sizes}; not normalised. Several at once as a list of lists.`),
    area, wrong,
    h("div", { class: "actions" }, h("button", { class: "primary" }, verb)));
}

function parsed(text, sides) {
  const expected = `Expected ${sides.map((side) => `"${side}"`).join(" and ")} with a list of numbers`;
  let given;
  try {
    given = JSON.parse(text);
  } catch (error) {
    throw new Error(text.trim() ? `${expected}; this is no JSON: ${error.message}.` : `${expected}; the field is empty.`);
  }
  if (Array.isArray(given)) given = { [sides[0]]: given };
  const rows = {};
  for (const [side, values] of Object.entries(given ?? {})) {
    if (!sides.includes(side)) throw new Error(`${expected}; got ${JSON.stringify(side)}.`);
    rows[side] = matrix(values);
    if (!rows[side]) throw new Error(`${expected}; ${side} is something else.`);
  }
  const counts = Object.values(rows).map((one) => one.length);
  if (!counts.length) throw new Error(`${expected}; got none.`);
  if (new Set(counts).size > 1) throw new Error(`Expected as many embeddings of each side; got ${counts.join(" and ")}.`);
  return Array.from({ length: counts[0] }, (_, i) => ({
    name: counts[0] === 1 ? "the embedding" : `embedding ${i + 1}`,
    ...Object.fromEntries(Object.entries(rows).map(([side, all]) => [side, all[i]])),
  }));
}

/** A list of rows of numbers; null: it is none. */
function matrix(values) {
  if (!Array.isArray(values) || !values.length) return null;
  const rows = Array.isArray(values[0]) ? values : [values];
  const numbers = (row) => Array.isArray(row) && row.length && row.every((one) => typeof one === "number");
  return rows.every(numbers) ? rows : null;
}

/** The calibrations of a space, newest first. */
export const calibrationsOf = async (space, signal) =>
  (await get(path("spaces", space, "calibrations"), { signal })).calibrations;
