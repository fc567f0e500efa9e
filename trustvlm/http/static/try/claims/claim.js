// "Is this a …?": a label that a person has in mind, or that another model gave, judged for the image on show.

import { may, path, post } from "../../api.js";
import { freshId, h, put } from "../../dom.js";
import { labelChoice } from "../../labels/combobox.js";
import { doing, problem } from "../../parts.js";
import { capital, likely } from "../../words.js";
import { badge } from "../answer.js";
import { bodyOf, choiceOf } from "../queries.js";
import { storedSentence } from "../respond.js";
import { commandOf, copying } from "../stored.js";

/** A form for a claimed label beneath the verdict on an item, judged as that. */
export function claimForm(space, item, signal) {
  const { query, chosen } = item;
  const id = freshId("claim");
  const input = h("input", { id, type: "text", autocomplete: "off", required: true, placeholder: "a label" });
  const button = h("button", {}, "Check");
  const answer = h("div", { class: "claim-answer", role: "status" });
  const sent = (event) => {
    event.preventDefault();
    const name = input.value.trim();
    if (name) doing(button, async () => {
      try {
        const body = bodyOf([query], { ...choiceOf(chosen), claimed: [name], evidence: 0, top_k: 1, review: false });
        const { verdicts } = await post(path("spaces", space.name, "score"), { ...body, signal });
        const isLabel = (verdicts[0].claimed_id ?? -1) >= 0;
        put(answer, said(verdicts[0]), isLabel && may("write") && truthForm(space, query, verdicts[0], signal), asCommand(space, item, name));
      } catch (error) {
        if (error.name !== "AbortError") put(answer, problem(error));
      }
    });
  };
  return h("form", { class: "claim field", on: { submit: sent } },
    h("label", { for: id }, "Is this a …?"), h("div", { class: "actions" }, input, button), answer);
}

/** Whether the claim is right, as a person says; it is stored with the image and its claim, apart from what is said of the space's own label. */
function truthForm(space, query, { claimed, better_label: better }, signal) {
  const done = h("p", { role: "status" });
  const tell = (truth, button) => doing(button, async () => {
    const body = bodyOf([query], { claimed: [claimed], truth: [truth], sampling: "chosen" });
    put(done, storedSentence(await post(path("spaces", space.name, "feedback"), { ...body, signal }), truth, "a random sample of claims is"));
  });
  const right = h("button", { type: "button", on: { click: () => (wrong.close(), tell(claimed, right)) } }, "✓ The claim is right");
  const wrong = labelChoice(space.name, { name: "It is wrong: it is …", title: "It is", suggested: better === null ? [] : [better], without: claimed, signal, chosen: (name) => tell(name, wrong.button) });
  return h("div", { class: "truth" }, h("div", { class: "row" }, right, wrong.button), wrong.choosing, done);
}

function asCommand(space, item, name) {
  const command = commandOf(space, item, name);
  return command && h("p", { class: "quiet" }, copying("Copy the check as curl", command, "command"), " It asks the service about this label.");
}

/** The decision about the claim, how likely it is right, why, and what fits better. */
function said(verdict) {
  const { claimed, claimed_probability: probability, better_label: better, reason } = verdict;
  const why = capital(reason.slice(reason.indexOf(": ") + 2));
  return [
    h("p", {}, badge(verdict), " ", h("bdi", {}, claimed), probability !== null && `: ${likely(probability)}`),
    h("p", { class: "quiet" }, `${why}.`, better !== null && [" Fits better: ", h("bdi", {}, better), "."]),
  ];
}
