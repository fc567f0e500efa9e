// One label: its support images, more of them, its name and prompt, and its end; what is removed can be brought back.

import { get, hrefOf, may, patch, path, post, remove } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { readsTexts, takesImages } from "../encoders.js";
import { aliasCard } from "./aliases.js";
import { attributesCard } from "./attributes.js";
import { errorsCard } from "./errors.js";
import { unreadable } from "./labeladd.js";
import { attributesLine } from "../search/filter.js";
import { dialog, doing, dropzone, notice, supportFigure } from "../parts.js";
import { progressBox } from "../progress.js";
import { formOf, groups } from "../uploads.js";
import { counted, fileName } from "../words.js";

const PAGE = 60;

export async function showLabel(root, context) {
  const { space, signal, rest: [name] } = context;
  const here = (...more) => path("spaces", space.name, "labels", name, ...more);
  const [label, { supports }] = await Promise.all([get(here(), { signal }), get(here("supports"), { signal })]);
  const about = h("p", { class: "lead" });
  const grid = h("ul", { class: "supports" });
  const end = h("div", { class: "end" });
  const done = h("div", { "aria-live": "polite" });
  let left = [...supports];
  let shown = 0;

  const change = h("button", { type: "button", on: { click: () => edit(context, label) } }, "Rename or prompt …");
  const drop = h("button", { type: "button", class: "danger", on: { click: () => removeLabel() } }, "Remove the label");
  put(root,
    h("p", { class: "back" }, h("a", { href: hrefOf(space.name, "labels") }, "← All labels")),
    h("div", { class: "row spread head" }, h("h1", { dir: "auto" }, label.name), may("write") && h("div", { class: "row" }, change, drop)),
    about, aliasCard(context, label, () => revisit(context, label.name)),
    attributesCard(context, label, () => revisit(context, label.name)), may("write") && adder(), done, h("h2", { class: "visually-hidden" }, "Support images"), grid, end,
    label.alias_of === null && errorsCard(context, label));
  describe();
  more();

  function describe() {
    const parts = [left.length ? counted(left.length, "support image") : "No support images: its verdicts are judged by text alone"];
    if (label.alias_of !== null) parts.push(`a further name of “${label.alias_of}”`);
    if (label.parent !== null) parts.push(`stands under “${label.parent}”`);
    if (label.prompt !== null) parts.push(`prompt “${label.prompt}”`);
    put(about, `${parts.join(" · ")}.`);
  }

  function more() {
    const first = shown;
    grid.append(...left.slice(shown, shown + PAGE).map(item));
    shown = grid.children.length;
    const rest = left.length - shown;
    put(end, rest > 0 && h("button", { type: "button", on: { click: () => { more(); } } }, `Show ${Math.min(rest, PAGE)} more of ${counted(rest, "support image")}`));
    if (first) grid.children[first]?.querySelector("button")?.focus({ preventScroll: true });
  }

  function item(support) {
    const source = support.source ?? `support image ${support.id}`;
    const button = may("write") && h("button", { type: "button", "aria-label": `Remove ${source}`, title: "Remove", on: { click: () => removeOne(support, button) } }, "×");
    const line = attributesLine(support.attributes), marks = [support.proposed && "proposed", support.kept && "kept"].filter(Boolean).join(", ");
    const caption = [fileName(support.source) ?? "an embedding", marks && h("span", { class: "quiet" }, ` (${marks})`), line && [" ", line]];
    const figure = takesImages(space) ? supportFigure(space.name, { ...support, label: null }, caption)
      : h("figure", { class: "support" }, h("div", { class: "picture" }, h("span", { class: "none" }, "no picture")), h("figcaption", {}, caption));
    return h("li", { data: { id: support.id } }, figure, button);
  }

  async function removeOne(support, button) {
    await doing(button, async () => {
      await remove(path("spaces", space.name, "supports", support.id), { signal });
      const row = button.closest("li");
      const next = row.nextElementSibling ?? row.previousElementSibling;
      row.remove();
      left = left.filter((one) => one.id !== support.id);
      shown -= 1;
      describe();
      (next?.querySelector("button") ?? drop).focus();
      notice(`Removed ${support.source ?? "a support image"} from “${label.name}”.`, { name: "Undo", run: () => undo(path("spaces", space.name, "supports", support.id, "restore")) });
    });
  }

  async function removeLabel() {
    await doing(drop, async () => {
      await remove(here());
      notice(`Removed “${label.name}” with ${counted(left.length, "support image")}.`, { name: "Undo", run: () => undo(here("restore")) });
      context.go("labels");
    });
  }

  /** Bring something back, and look at the label again, wherever the page is by then. */
  async function undo(where) {
    await doing(null, async () => {
      await post(where);
      notice(`“${label.name}” is as it was.`);
      revisit(context, label.name);
    });
  }

  function adder() {
    if (!takesImages(space)) return vectorsAdder();
    return dropzone({ title: "Drop more photos of it", hint: "or choose files; those that are there already are skipped", taken: addFiles });
  }

  async function addFiles(files) {
    const stopped = new AbortController();
    const box = progressBox(() => stopped.abort());
    put(done, box.root);
    const total = { added_supports: 0, skipped_duplicates: 0, failures: [] };
    let sent = 0;
    const ended = await doing(null, async () => {
      for await (const group of groups(files, signal)) {
        box.tell("Adding support images …", sent, files.length);
        const one = await post(here("supports"), { form: formOf(group, { unreadable: "report" }), signal: AbortSignal.any([signal, stopped.signal]) });
        for (const key of ["added_supports", "skipped_duplicates"]) total[key] += one[key];
        total.failures.push(...one.failures);
        sent += group.length;
      }
      return true;
    });
    await settle(total, ended ? "" : ` Stopped after ${counted(sent, "file")}.`);
  }

  async function settle(total, stopped) {
    if (signal.aborted) return;
    ({ supports: left } = await get(here("supports"), { signal }));
    put(grid);
    shown = 0;
    more();
    describe();
    const skipped = total.skipped_duplicates ? ` ${counted(total.skipped_duplicates, "image was", "images were")} there already.` : "";
    const added = total.added_supports ? `Added ${counted(total.added_supports, "support image")}.` : "Nothing was added.";
    put(done, h("div", { class: total.added_supports ? "outcome" : "outcome nothing" },
      h("p", {}, `${added}${skipped}${stopped}${total.added_supports ? " The very next query uses them." : ""}`),
      unreadable(total.failures),
      total.added_supports > 0 && h("p", {}, h("button", { type: "button", on: { click: () => context.go("try") } }, "Try it on an image"))));
  }

  function vectorsAdder() {
    const id = freshId("vectors");
    const input = h("input", { id, type: "file", accept: ".npz", on: { change: () => doing(input, async () => {
      const file = { content: input.files[0], type: "application/x-npz" };
      await settle(await post(here("supports"), { file, signal }), "");
      input.value = "";
    }) } });
    return h("div", { class: "card field" },
      h("p", {}, "This space's verifier takes embeddings only: photographs cannot be encoded here, and have no pictures to show."),
      h("label", { for: id }, "Add support images from an .npz file with ", h("code", {}, "image_vectors"), ` (k, ${space.verifier_dim})`), input);
  }
}

/** Show the label's view again, also where it is the one that is shown. */
function revisit(context, name) {
  const before = location.hash;
  context.go("labels", name);
  if (location.hash === before) window.dispatchEvent(new HashChangeEvent("hashchange"));
}

async function edit(context, label) {
  const { space } = context;
  const [nameId, promptId, saidId] = ["name", "prompt", "said"].map(freshId);
  const changed = await dialog("Rename or prompt", (close) => {
    const name = h("input", { id: nameId, value: label.name, required: true, maxlength: 2000, autocomplete: "off" });
    const prompt = h("input", { id: promptId, value: label.prompt ?? "", maxlength: 2000, autocomplete: "off", placeholder: space.templates[0] ?? "", disabled: !readsTexts(space) });
    const said = h("p", { id: saidId, class: "wrong-input", role: "alert" });
    const save = h("button", { class: "primary" }, "Save");
    const sent = async (event) => {
      event.preventDefault();
      const json = {};
      if (name.value.trim() !== label.name) json.new_name = name.value.trim();
      if (prompt.value.trim() !== (label.prompt ?? "")) json.prompt = prompt.value.trim();
      if (!Object.keys(json).length) return close();
      save.disabled = true;
      try {
        await patch(path("spaces", space.name, "labels", label.name), { json });
        close(json.new_name ?? label.name);
      } catch (error) {
        said.textContent = error.message;
      }
      save.disabled = false;
    };
    return h("form", { class: "stack", on: { submit: sent } },
      h("div", { class: "field" }, h("label", { for: nameId }, "Name"), name),
      h("div", { class: "field" }, h("label", { for: promptId }, "Prompt"), prompt,
        h("span", { class: "quiet" }, readsTexts(space) ? "What the classifier reads instead of the space's templates; {} is the name." : "The classifier of this space reads no texts.")),
      said, h("div", { class: "actions" }, save, h("button", { type: "button", on: { click: () => close() } }, "Cancel")));
  });
  if (changed === null) return;
  notice(changed === label.name ? `The prompt of “${changed}” is changed.` : `“${label.name}” is called “${changed}” now.`);
  revisit(context, changed);
}
