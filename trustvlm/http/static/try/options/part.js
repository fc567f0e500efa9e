// A part of the labels: a filter over their attributes says which of them an image can get.

import { path, post } from "../../api.js";
import { freshId, h, put } from "../../dom.js";
import { filterField } from "../../search/filter.js";
import { count, counted } from "../../words.js";

/** The field, with what is wrong with its text, or how many labels it keeps, beside it. `part`: the one in use, {text, filter: the
 *  same as JSON, labels: how many}; null: all labels. `chosen(part, wrong)` is called when another one is in the field; wrong: it cannot be used. */
export function partField(view, part, chosen) {
  const { space, signal } = view;
  const saying = freshId("part");
  const said = h("span", { id: saying, class: "said", role: "status" });
  const field = filterField(view, part?.text, change, { title: "Only labels with", hint: "a filter over their attributes; empty: all labels take part", saying });
  const input = field.querySelector("input");
  let last = 0;
  say(part);

  function say(used, wrong = null) {
    put(said, wrong ?? (used && `${count(used.labels)} of ${counted(space.label_count, "label")}`));
    said.classList.toggle("wrong", wrong !== null);
    if (wrong) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  async function change(text) {
    last += 1;
    const mine = last;
    try {
      const used = text && { text, ...await post(path("spaces", space.name, "count-labels"), { json: { filter: text }, signal }) };
      if (mine !== last) return; // a newer text is in the field
      if (used?.labels === 0) return refuse("no label has attributes that fit.");
      say(used);
      chosen(used, false);
    } catch (error) {
      if (mine === last && error.name !== "AbortError") refuse(error.message.replace(/^filter: /, ""));
    }
  }

  function refuse(why) {
    say(null, `Not used: ${why}`);
    chosen(null, true);
  }

  return h("div", { class: "row part-field" }, field, said);
}
