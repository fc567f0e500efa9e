// Search: the support images and labels that are nearest to an image or a text.

import { hrefOf, path, post } from "../api.js";
import { curlOf } from "../command.js";
import { freshId, h, put } from "../dom.js";
import { isExternal, readsTexts, searchesImages, takesImages } from "../encoders.js";
import { copyText, doing, dropzone, empty, problem, supportFigure, thumb, working } from "../parts.js";
import { FITTING, attributesLine, filterField } from "./filter.js";
import { embeddingForm, sidesOf } from "../try/intake/embeddings.js";
import { bodyOf, ofFile, pictureOf, whyNot } from "../try/queries.js";
import { count, counted, fileName, number } from "../words.js";

export const title = "Search";

const THUMBNAILS = 4; // support images of a label that is found
const KINDS = {
  support: ["Support images", "support image", "by their verifier embeddings"],
  prototype: ["Labels by their images", "label", "by their prototypes, the means of the embeddings of their support images"],
  text: ["Labels by their names", "label", "by their text prototypes, the classifier’s embeddings of their names"],
};

// What was looked for stays while the page is open, so that the way back from a label leads to the hits.
const nothingAsked = (space) => ({ space, query: null, kind: "support", k: 12, filter: null });
let kept = nothingAsked(null);

export async function show(root, context) {
  const { space, signal } = context;
  if (kept.space !== space.id) kept = nothingAsked(space.id);
  const view = { ...context, hits: h("div", { class: "hits", "aria-live": "polite" }), asked: 0 };
  put(root,
    h("h1", {}, "Search"),
    h("p", { class: "lead" }, `Find the nearest of ${counted(space.support_count, "support image")} and ${counted(space.label_count, "label")}.`),
    h("div", { class: "asking" }, searchesImages(space) ? [byImage(view), byText(view)] : [byEmbedding(view), byText(view)]),
    options(view), view.hits);
  allow(view);
  if (kept.query) await look(view);
  else put(view.hits, hint(view));
  signal.addEventListener("abort", () => { view.asked += 1; }, { once: true });
}

function byImage(view) {
  return dropzone({ title: "Drop an image here", hint: "or paste one, or click to choose", multiple: false, paste: view.signal,
    taken: ([file]) => ask(view, ofFile(file)) });
}

function byText(view) {
  const [id, why] = [freshId("text"), freshId("why")];
  const reason = noText(view.space);
  const input = h("input", { id, type: "search", placeholder: "a photo of …", value: kept.query?.text ?? null, maxlength: 2000, disabled: reason !== null, "aria-describedby": why });
  const button = h("button", { class: "primary", disabled: reason !== null }, "Search");
  const sent = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text) doing(button, () => ask(view, { text, name: `“${text}”` }));
    else input.focus();
  };
  return h("form", { class: "card by-text field", role: "search", on: { submit: sent } },
    h("label", { for: id }, "Or look for a text"), h("div", { class: "row" }, input, button),
    h("p", { class: "quiet", id: why }, reason ?? "The classifier’s text side compares it with images and names."));
}

function byEmbedding(view) {
  const { space } = view;
  const taken = ([query]) => ask(view, query);
  return h("div", { class: "card no-encoder" }, h("p", {}, whyNot(space)),
    h("p", {}, "Paste an embedding instead, or send embeddings to ", h("code", {}, `POST ${path("spaces", space.name, "search")}`),
      ". Support images and prototypes are compared with the verifier’s, names with the classifier’s."),
    embeddingForm(space, { sides: isExternal(space) ? ["verifier"] : sidesOf(space).toReversed(), verb: "Search", taken }));
}

function options(view) {
  const id = freshId("k");
  const choose = (kind) => { kept.kind = kind; if (kept.query) look(view); };
  const why = freshId("why");
  view.reasons = h("div", { id: why, class: "reasons" });
  view.kinds = h("fieldset", { class: "kinds" }, h("legend", { class: "visually-hidden" }, "Look among"),
    Object.entries(KINDS).map(([kind, [name]]) => {
      const radio = freshId("kind");
      return [h("input", { id: radio, type: "radio", name: "kind", value: kind, checked: kind === kept.kind, "aria-describedby": why, on: { change: () => choose(kind) } }),
        h("label", { for: radio }, name)];
    }));
  const select = h("select", { id, on: { change: () => { kept.k = Number(select.value); if (kept.query) look(view); } } },
    [6, 12, 24, 48, 96].map((k) => h("option", { value: k, selected: k === kept.k }, k)));
  const filter = filterField(view, kept.filter, (text) => { kept.filter = text; if (kept.query) look(view); }, { of: ["labels", "supports"] });
  return h("div", { class: "options" },
    h("div", { class: "row spread" }, view.kinds, filter, h("div", { class: "row" }, h("label", { for: id }, "How many"), select)), view.reasons);
}

/** Why a kind cannot be looked among, with what is looked for (null: nothing yet); null: it can. */
function whyNotAmong(space, kind, query) {
  if (!space.label_count) return "the space has no labels yet";
  if (kind !== "text" && !space.support_count) return "the space has no support images yet";
  if (kind === "text" && isExternal(space)) return "another classifier gives the probabilities of this space, so names have no embeddings";
  if (!query) return null;
  const separate = space.verifier !== "same";
  const classifier = Boolean(query.text || query.file || query.classifier), verifier = Boolean(query.file || query.verifier || (query.classifier && !separate));
  if (kind === "text") return classifier ? null : "names are compared with a classifier embedding, and this query has none";
  if (verifier) return null;
  const what = query.text ? "a text" : "a classifier embedding";
  if (kind === "prototype") return `they are means of verifier embeddings, which ${what} cannot be compared with`;
  return space.classifier_supports ? null : `${what} is compared with classifier embeddings, and none are stored for the support images`;
}

/** Why texts cannot be searched for in a space; null: they can. */
function noText(space) {
  if (!readsTexts(space)) return `The classifier of this space is ${space.classifier}, which reads no texts: search with ${searchesImages(space) ? "images" : "embeddings"}.`;
  return space.label_count ? null : "The space has no labels to compare a text with yet.";
}

/** Disable what cannot be looked among, with the reasons below; another kind is chosen where the chosen one is among them. */
function allow(view) {
  const reasons = Object.entries(KINDS).map(([kind, [name]]) => ({ kind, name, reason: whyNotAmong(view.space, kind, kept.query) }));
  const possible = reasons.find((one) => !one.reason);
  if (possible && reasons.find((one) => one.kind === kept.kind).reason) kept.kind = possible.kind;
  for (const { kind, reason } of reasons) {
    const radio = view.kinds.querySelector(`[value=${kind}]`);
    radio.disabled = reason !== null;
    radio.checked = kind === kept.kind;
  }
  put(view.reasons, whySaid(reasons.filter((one) => one.reason)));
  return Boolean(possible);
}

/** The reasons in words; one that holds of all kinds is said once. */
function whySaid(reasons) {
  const [first] = reasons;
  if (reasons.length === Object.keys(KINDS).length && reasons.every((one) => one.reason === first.reason)) return h("p", { class: "quiet" }, `Nothing can be searched: ${first.reason}.`);
  return reasons.map((one) => h("p", { class: "quiet" }, h("strong", {}, one.name), `: ${one.reason}.`));
}

function ask(view, query) {
  kept.query = query;
  return look(view);
}

/** Ask for what is nearest, and show it; an answer that came too late for the newest question is not shown. */
async function look(view) {
  const { space, signal } = view;
  if (!allow(view)) return put(view.hits, nothing(view, "Nothing here can be compared with it."));
  const { query, kind } = kept;
  view.asked += 1;
  const mine = view.asked;
  put(view.hits, working("Looking …"));
  const wanted = kind === "support" ? chosen() : { ...chosen(), supports: THUMBNAILS };
  try {
    const body = query.text ? { json: { text: [query.text], ...wanted } } : bodyOf([query], wanted);
    const { hits, supports, revision } = await post(path("spaces", space.name, "search"), { ...body, signal });
    if (mine === view.asked) put(view.hits, found(view, query, kind, { hits, supports, revision }));
  } catch (error) {
    if (mine === view.asked && error.name !== "AbortError") put(view.hits, refused(error));
  }
  return undefined;
}

/** What is searched, and how much of it. */
const chosen = () => ({ kind: kept.kind, k: kept.k, ...(kept.filter ? { filter: kept.filter } : {}) });

const nothing = (view, title) => empty(title, h("p", {}, "Add labels or support images in ",
  h("a", { href: "#", on: { click: (event) => { event.preventDefault(); view.go("labels"); } } }, "Labels"), "."));

function found(view, query, kind, { hits, supports, revision }) {
  const [, one, usual] = KINDS[kind];
  // Without a verifier embedding support images are compared with what the classifier made of them.
  const how = kind === "support" && !query.file && !query.verifier && view.space.verifier !== "same" ? "as the classifier sees them" : usual;
  if (!hits.length && kept.filter) return empty(`No ${one} has attributes that fit.`, h("p", {}, FITTING));
  if (!hits.length) return nothing(view, `There is no ${one} to compare with yet.`);
  const list = kind === "support" ? pictures(view, hits) : ranked(view, hits, supports, kind);
  return [
    h("div", { class: "asked" }, !query.text && h("figure", { class: "support small" }, pictureOf(query, view.signal)),
      h("div", {}, h("h2", {}, `${counted(hits.length, one)} nearest to `, h("bdi", {}, query.name)), h("p", { class: "quiet" }, `${how} · revision ${revision}`)), copying(view.space, query, kind)),
    list,
  ];
}

/** The same search in a shell; embeddings are too long to be copied. */
function copying(space, query, kind) {
  if (!query.text && !query.file) return null;
  const where = path("spaces", space.name, "search"), wanted = chosen();
  const command = () => curlOf(where, query.text ? { json: { text: [query.text], ...wanted } } : { file: query.name, fields: wanted });
  return h("button", { type: "button", class: "plain", on: { click: () => copyText(command(), "command") } }, "Copy as curl");
}

function pictures(view, hits) {
  return h("ol", { class: "found" }, hits.map((hit) => {
    const figure = supportFigure(view.space.name, { ...hit, source: fileName(hit.source) }, [h("span", { class: "likeness" }, labelLink(view, hit.label), similarity(hit)), attributesLine(hit.attributes)]);
    figure.querySelector(".picture").addEventListener("click", () => view.go("labels", hit.label)); // as the name below it does, which the keyboard reaches
    return h("li", {}, figure);
  }));
}

function ranked(view, hits, supports, kind) {
  return h("ol", { class: "card ranked" }, hits.map((hit, i) => h("li", {},
    h("span", { class: "rank" }, count(hit.rank)), labelLink(view, hit.label), attributesLine(hit.attributes), thumbnails(view.space, supports[i]), similarity(hit, kind === "text"))));
}

/** Some support images of a label that is found; the link beside them says which label it is. */
function thumbnails(space, supports) {
  return h("span", { class: "thumbs", "aria-hidden": "true" }, takesImages(space) ? supports.map((id) => thumb(space, id)) : null);
}

function labelLink({ space, go }, label) {
  const open = (event) => { event.preventDefault(); go("labels", label); };
  return h("a", { class: "label", href: hrefOf(space.name, "labels", label), title: label, on: { click: open } }, h("bdi", {}, label));
}

function similarity(hit, text = false) {
  const value = number(hit.similarity, 3).replace("-", "−");
  return [
    h("span", { class: `meter ${text ? "text" : ""}`, "aria-hidden": "true" }, h("span", { style: { width: `${Math.max(0, 100 * hit.similarity)}%` } })),
    h("span", { class: "value" }, h("span", { class: "visually-hidden" }, "similarity "), value),
  ];
}

function refused(error) {
  error.message = error.message.replace(/^(queries\.\w+|kind|filter): (\w)/, (_, argument, first) => first.toUpperCase());
  return problem(error);
}

function hint({ space }) {
  if (!space.label_count) return null;
  if (!searchesImages(space)) return null;
  return empty("Nothing is looked for yet.", h("p", {}, "Drop an image to see the support images nearest to it, or describe one."));
}
