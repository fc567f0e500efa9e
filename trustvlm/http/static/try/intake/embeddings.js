// Where a person pastes what the service cannot compute: embeddings, or the probabilities of another classifier.

import { freshId, h, put } from "../../dom.js";

const LABELS = (row) => row !== null && typeof row === "object" && !Array.isArray(row);
const NUMBERS = (row) => Array.isArray(row) && row.length > 0 && row.every((one) => typeof one === "number");
const FORMS = {
  classifier: ["a list of numbers", NUMBERS], verifier: ["a list of numbers", NUMBERS],
  probabilities: ['labels with their probabilities, as in {"airport": 0.9}', LABELS],
};

/** Which embeddings a space's queries have; the one that is needed first. */
export const sidesOf = (space) => (space.verifier === "same" ? ["classifier"] : ["classifier", "verifier"]);

/** The form; `taken(queries)` gets one query a row, and may throw what is wrong with them. `sides`: what is asked for; the one
 *  that is needed first. `about`: what stands beneath the `title`, and `more`: what comes before it. */
export function pasteForm({ sides, title, about, verb, taken, more = null }) {
  const [id, hint, problem] = ["pasted", "pasted-hint", "pasted-problem"].map(freshId);
  const area = h("textarea", { id, rows: 4, spellcheck: "false", placeholder: exampleOf(sides), "aria-describedby": `${hint} ${problem}` });
  const wrong = h("p", { id: problem, class: "wrong", role: "alert" });
  const sent = (event) => {
    event.preventDefault();
    try {
      taken(parsed(area.value, sides));
      put(wrong);
      area.removeAttribute("aria-invalid");
    } catch (error) {
      put(wrong, error.message);
      area.setAttribute("aria-invalid", "true");
      area.focus();
    }
  };
  return h("form", { class: "embedding field", on: { submit: sent } }, more,
    h("label", { for: id }, title), h("p", { id: hint, class: "quiet" }, about), area, wrong,
    h("div", { class: "actions" }, h("button", { class: "primary" }, verb)));
}

/** The form for embeddings alone. */
export function embeddingForm(space, { sides, verb, taken }) {
  const sizes = sides.map((side) => `${side}: ${space[`${side}_dim`]} values`).join(", ");
  return pasteForm({ sides, title: "Embedding as JSON", about: `${sizes}; not normalised. Several at once as a list of lists.`, verb, taken });
}

const exampleOf = (sides) => (sides.length === 1 && sides[0] === "probabilities" ? '{"airport": 0.9, "beach": 0.05}'
  : `{${sides.map((side) => `"${side}": ${side === "probabilities" ? '{"airport": 0.9, "beach": 0.05}' : "[0.1, …]"}`).join(", ")}}`);

function parsed(text, sides) {
  const expected = `Expected ${sides.map((side) => `"${side}" with ${FORMS[side][0]}`).join(", and ")}`;
  let given;
  try {
    given = JSON.parse(text);
  } catch (error) {
    throw new Error(text.trim() ? `${expected}; this is no JSON: ${error.message}.` : `${expected}; the field is empty.`);
  }
  if (Array.isArray(given) || (sides.length === 1 && LABELS(given) && !(sides[0] in given))) given = { [sides[0]]: given };
  const rows = {};
  for (const [side, values] of Object.entries(given ?? {})) {
    if (!sides.includes(side)) throw new Error(`${expected}; got ${JSON.stringify(side)}.`);
    rows[side] = rowsOf(values, FORMS[side][1]);
    if (!rows[side]) throw new Error(`${expected}; ${side} is something else.`);
  }
  const counts = Object.values(rows).map((one) => one.length);
  if (!counts.length) throw new Error(`${expected}; got none.`);
  if (new Set(counts).size > 1) throw new Error(`Expected as many rows of each; got ${counts.join(" and ")}.`);
  return Array.from({ length: counts[0] }, (_, i) => ({
    name: counts[0] === 1 ? "the embedding" : `embedding ${i + 1}`,
    ...Object.fromEntries(Object.entries(rows).map(([side, all]) => [side, all[i]])),
  }));
}

/** One row, or a list of rows, as a list; null: it is neither. */
function rowsOf(values, isRow) {
  if (isRow(values)) return [values];
  return Array.isArray(values) && values.length && values.every(isRow) ? values : null;
}
