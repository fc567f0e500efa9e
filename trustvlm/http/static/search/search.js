// Search: the support images and labels that are nearest to an image or a text.

import { path, post } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { scoresImages } from "../encoders.js";
import { doing, dropzone, empty, problem, supportFigure, working } from "../parts.js";
import { bodyOf, embeddingForm, ofFile, pictureOf, whyNot } from "../try/queries.js";
import { count, counted, fileName, number } from "../words.js";

export const title = "Search";

const KINDS = {
  support: ["Support images", "support image", "by their verifier embeddings"],
  prototype: ["Labels by their images", "label", "by their prototypes, the means of the embeddings of their support images"],
  text: ["Labels by their names", "label", "by their text prototypes, the classifier’s embeddings of their names"],
};

// What was looked for stays while the page is open, so that the way back from a label leads to the hits.
let kept = { space: null, query: null, kind: "support", k: 12 };

export async function show(root, context) {
  const { space, signal } = context;
  if (kept.space !== space.id) kept = { space: space.id, query: null, kind: "support", k: 12 };
  const view = { ...context, hits: h("div", { class: "hits", "aria-live": "polite" }), asked: 0 };
  put(root,
    h("h1", {}, "Search"),
    h("p", { class: "lead" }, `Find the nearest of ${counted(space.support_count, "support image")} and ${counted(space.label_count, "label")}.`),
    h("div", { class: "asking" }, scoresImages(space) ? [byImage(view), byText(view)] : byEmbedding(view)),
    options(view), view.hits);
  if (kept.query) await look(view);
  else put(view.hits, hint(view));
  signal.addEventListener("abort", () => { view.asked += 1; }, { once: true });
}

function byImage(view) {
  return dropzone({ title: "Drop an image here", hint: "or paste one, or click to choose", multiple: false, paste: view.signal,
    taken: ([file]) => ask(view, ofFile(file)) });
}

function byText(view) {
  const id = freshId("text");
  const input = h("input", { id, type: "search", placeholder: "a photo of …", value: kept.query?.text ?? null, maxlength: 2000 });
  const button = h("button", { class: "primary" }, "Search");
  const sent = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text) doing(button, () => ask(view, { text, name: `“${text}”` }));
    else input.focus();
  };
  return h("form", { class: "card by-text field", role: "search", on: { submit: sent } },
    h("label", { for: id }, "Or look for a text"), h("div", { class: "row" }, input, button),
    h("p", { class: "quiet" }, "The classifier’s text side compares it with images and names."));
}

function byEmbedding(view) {
  const { space } = view;
  const taken = ([query]) => ask(view, query);
  return h("div", { class: "card no-encoder" }, h("p", {}, whyNot(space)),
    h("p", {}, "Paste an embedding instead, or send embeddings to ", h("code", {}, `POST ${path("spaces", space.name, "search")}`),
      ". Support images and prototypes are compared with the verifier’s, names with the classifier’s."),
    embeddingForm(space, { sides: space.verifier === "same" ? ["classifier"] : ["verifier", "classifier"], verb: "Search", taken }));
}

function options(view) {
  const id = freshId("k");
  const choose = (kind) => { kept.kind = kind; if (kept.query) look(view); };
  view.kinds = h("fieldset", { class: "kinds" }, h("legend", { class: "visually-hidden" }, "Look among"),
    Object.entries(KINDS).map(([kind, [name]]) => {
      const radio = freshId("kind");
      return [h("input", { id: radio, type: "radio", name: "kind", value: kind, checked: kind === kept.kind, on: { change: () => choose(kind) } }),
        h("label", { for: radio }, name)];
    }));
  const select = h("select", { id, on: { change: () => { kept.k = Number(select.value); if (kept.query) look(view); } } },
    [6, 12, 24, 48, 96].map((k) => h("option", { value: k, selected: k === kept.k }, k)));
  return h("div", { class: "row spread options" }, view.kinds, h("div", { class: "row" }, h("label", { for: id }, "How many"), select));
}

function ask(view, query) {
  kept.query = query;
  return look(view);
}

/** Ask for what is nearest, and show it; an answer that came too late for the newest question is not shown. */
async function look(view) {
  const { space, signal } = view;
  const { query, kind, k } = kept;
  view.asked += 1;
  const mine = view.asked;
  put(view.hits, working("Looking …"));
  try {
    const body = query.text ? { json: { text: [query.text], kind, k } } : bodyOf([query], { kind, k });
    const { hits, revision } = await post(path("spaces", space.name, "search"), { ...body, signal });
    if (mine === view.asked) put(view.hits, found(view, query, kind, hits, revision));
  } catch (error) {
    if (mine === view.asked && error.name !== "AbortError") put(view.hits, refused(view, query, kind, error));
  }
}

function found(view, query, kind, hits, revision) {
  const [, one, usual] = KINDS[kind];
  // Without a verifier embedding support images are compared with what the classifier made of them.
  const how = kind === "support" && !query.file && !query.verifier && view.space.verifier !== "same" ? "as the classifier sees them" : usual;
  if (!hits.length) return empty(`There is no ${one} to compare with yet.`, h("p", {}, "Add some in ", h("a", { href: "#", on: { click: (event) => { event.preventDefault(); view.go("labels"); } } }, "Labels"), "."));
  const list = kind === "support" ? pictures(view, hits) : ranked(view, hits, kind);
  return [
    h("div", { class: "asked" }, !query.text && h("figure", { class: "support small" }, pictureOf(query, view.signal)),
      h("div", {}, h("h2", {}, `${counted(hits.length, one)} nearest to `, h("bdi", {}, query.name)), h("p", { class: "quiet" }, `${how} · revision ${revision}`))),
    list,
  ];
}

function pictures(view, hits) {
  return h("ol", { class: "found" }, hits.map((hit) => h("li", {}, supportFigure(view.space.name, { ...hit, source: fileName(hit.source) },
    h("span", { class: "likeness" }, labelLink(view, hit.label), similarity(hit))))));
}

function ranked(view, hits, kind) {
  return h("ol", { class: "card ranked" }, hits.map((hit) => h("li", {},
    h("span", { class: "rank" }, count(hit.rank)), labelLink(view, hit.label), similarity(hit, kind === "text"))));
}

function labelLink({ space, go }, label) {
  const open = (event) => { event.preventDefault(); go("labels", label); };
  return h("a", { class: "label", href: `#/${[space.name, "labels", label].map(encodeURIComponent).join("/")}`, title: label, on: { click: open } }, h("bdi", {}, label));
}

function similarity(hit, text = false) {
  const value = number(hit.similarity, 3).replace("-", "−");
  return [
    h("span", { class: `meter ${text ? "text" : ""}`, "aria-hidden": "true" }, h("span", { style: { width: `${Math.max(0, 100 * hit.similarity)}%` } })),
    h("span", { class: "value" }, h("span", { class: "visually-hidden" }, "similarity "), value),
  ];
}

/** A text has no verifier embedding: where that is what is missing, its names can be looked at. */
function refused(view, query, kind, error) {
  const byName = () => { kept.kind = "text"; view.kinds.querySelector("[value=text]").checked = true; look(view); };
  error.message = error.message.replace(/^(queries\.\w+|kind): (\w)/, (_, argument, first) => first.toUpperCase());
  return [problem(error), query.text && kind !== "text" &&
    h("div", { class: "actions" }, h("button", { type: "button", on: { click: byName } }, "Compare it with the labels’ names"))];
}

function hint({ space }) {
  if (!scoresImages(space)) return null;
  return empty("Nothing is looked for yet.", h("p", {}, "Drop an image to see the support images nearest to it, or describe one."));
}
