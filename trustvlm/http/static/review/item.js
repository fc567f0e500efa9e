// One item: the image beside what speaks for its label and for the rival, and the answers to choose from.

import { imageAt, may, path } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { labelChoice } from "../labels/combobox.js";
import { copyText, supportFigure } from "../parts.js";
import { trustText } from "../rules.js";
import { fileName, likely, number } from "../words.js";

const DECISIONS = { accept: ["good", "✓", "Accept"], review: ["hold", "!", "Review"], unknown: ["unknown", "?", "Unknown"] };
const PREDICTED = 0;
const ABOUT = { sample: "Chosen at random.", proposal: "Proposed as a support image: “Right” makes it one." };

/** The card as {root, focus(), pressed(key)}; `act`: {answer(truth, support, control), skip(control), undo(control), keys()}. */
export function itemCard(view, act) {
  const { space, signal, question } = view;
  const { item, choices } = question;
  const support = h("input", { id: freshId("support"), type: "checkbox" });
  const known = choices[PREDICTED] === item.predicted; // a label can be gone since the image was scored
  const say = (truth, control) => act.answer(truth, support.checked, control);

  const yes = known && h("button", { type: "button", class: "primary", on: { click: () => say(item.predicted, yes) } }, h("kbd", {}, "y"), " Right");
  const { button: no, choosing } = labelChoice(space.name, { name: [h("kbd", {}, "n"), " Wrong: it is …"], title: "The right label", suggested: choices.slice(1), none: false, signal, chosen: (name) => say(name, null) });
  const none = h("button", { type: "button", on: { click: () => say(null, none) } }, h("kbd", {}, "0"), " None of the labels");
  const others = choices.map((name, i) => {
    const button = h("button", { type: "button", class: "choice", on: { click: () => say(name, button) } }, h("kbd", {}, String(i + 1)), h("span", { class: "named" }, h("bdi", { title: name }, name),
      known && i === PREDICTED && h("span", { class: "quiet" }, "(the answer)")));
    return button;
  });
  const skip = h("button", { type: "button", class: "plain", on: { click: () => act.skip(skip) } }, h("kbd", {}, "k"), " Skip");
  const undo = h("button", { type: "button", class: "plain", disabled: !view.last.length, on: { click: () => act.undo(undo) } }, h("kbd", {}, "u"), " Undo");
  const help = h("button", { type: "button", class: "plain help", on: { click: () => act.keys() } }, h("kbd", {}, "?"), " Keys");

  function pressed(key) {
    const does = { y: yes, n: no, 0: none, k: skip, u: undo }[key] ?? others[Number(key) - 1];
    if (key === "s") support.click();
    else if (does && !does.disabled) does.click();
    return key === "s" || Boolean(does);
  }

  const heading = headline(item);
  const logged = item.logged_id !== null;
  const answers = h("section", { class: "answers", "aria-label": "Answer" },
    h("div", { class: "row" }, yes, no, none),
    others.length > 1 && [h("h3", {}, "Or one of these", h("span", { class: "by-key" }, " (press its key)")), h("div", { class: "choices" }, others)], choosing,
    item.tray !== "proposal" && !logged && h("p", { class: "support-too" }, support, h("label", { for: support.id }, h("kbd", {}, "s"), " Also add it as a support image of that label")),
    h("div", { class: "row foot" }, skip, undo, help));
  const root = h("article", { class: `card review-item ${logged ? "logged" : ""}` },
    !logged && h("div", { class: "image" }, pictureOf(space, item), h("p", { class: "quiet file" }, h("bdi", {}, fileName(item.source) ?? "an embedding"))),
    h("div", { class: "judged" }, heading, logged && elsewhere(item), about(item), !logged && evidence(space, question)),
    may("write") ? answers : h("p", { class: "quiet" }, "Your key may only read: an answer needs one of scope write."));
  return { root, pressed, focus: () => heading.focus() };
}

/** The decision, then how likely the label is right, then the label. */
function headline({ decision, probability, calibration_id: calibration, predicted }) {
  const [kind, sign, word] = DECISIONS[decision];
  const label = h("bdi", {}, predicted);
  const chance = probability === null ? null : `, ${likely(probability)}`;
  const doubt = probability !== null && calibration === null && h("span", { class: "quiet uncalibrated" }, " (not calibrated)");
  return h("h2", { class: `answer ${kind}`, tabindex: "-1" }, h("span", { class: "sign", "aria-hidden": "true" }, sign),
    h("span", {}, h("span", { class: "word" }, decision === "unknown" ? "Unknown; nearest: " : `${word}: `), label, chance, doubt));
}

/** Where the image of an answer of the log is: its whole name. */
const elsewhere = ({ source }) => h("div", { class: "elsewhere-name" }, h("p", {}, "The log of answers keeps no images: look at this one where it is."),
  h("p", { class: "row" }, h("code", {}, source), h("button", { type: "button", on: { click: () => copyText(source, "name") } }, "Copy the name")));

function about({ tray, rule, trust }) {
  return [
    h("p", { class: "quiet" }, ABOUT[tray] ?? "Not accepted."),
    h("details", { class: "quiet" }, h("summary", {}, "Details"), `Rule ${rule}, trust ${trustText(trust, rule)}.`)];
}

/** The nearest support images of the label beside those of its rival, as the space judges the image now. */
function evidence(space, { label, rival, evidence: near }) {
  const side = (name, images, role) => h("section", { class: `side ${role}` },
    h("h3", {}, "Closest images of “", h("bdi", {}, name), "”"),
    images.length ? h("div", { class: "strip" }, images.map((one) => supportFigure(space.name, { ...one, label: name, source: fileName(one.source) }, number(one.similarity, 3).replace("-", "−"), { size: "small" })))
      : h("p", { class: "quiet" }, "no support image"));
  return h("div", { class: "near" }, side(label, near.label, "label"), rival !== null && side(rival, near.rival, "rival"));
}

/** The small picture that was stored with the item, large; or what it is without one. */
function pictureOf(space, item) {
  const frame = h("div", { class: "picture" });
  const none = (words) => put(frame, h("span", { class: "none" }, words));
  if (!item.has_picture) {
    none("no picture: it came as an embedding");
    return frame;
  }
  const image = h("img", { alt: fileName(item.source) ?? "the image to review", on: { error: () => none("no picture") } });
  imageAt(path("spaces", space.name, "review", "items", item.id, "picture")).then((address) => { image.src = address; }, () => none("no picture"));
  put(frame, image);
  return frame;
}
