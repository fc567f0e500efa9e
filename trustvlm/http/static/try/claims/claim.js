// "Is this a …?": a label that a person has in mind, or that another model gave, judged for the image on show.

import { path, post } from "../../api.js";
import { freshId, h, put } from "../../dom.js";
import { doing, problem } from "../../parts.js";
import { capital, likely } from "../../words.js";
import { badge } from "../answer.js";
import { bodyOf, choiceOf } from "../queries.js";
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
        put(answer, said(verdicts[0]), asCommand(space, item, name));
      } catch (error) {
        if (error.name !== "AbortError") put(answer, problem(error));
      }
    });
  };
  return h("form", { class: "claim field", on: { submit: sent } },
    h("label", { for: id }, "Is this a …?"), h("div", { class: "actions" }, input, button), answer);
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
