// Support images that are probably wrong: each is moved, removed or kept with one click.

import { get, hrefOf, may, path, post } from "../api.js";
import { h, put } from "../dom.js";
import { doing, empty, notice, supportFigure, working } from "../parts.js";
import { count, counted, fileName, likely, share } from "../words.js";

const PAGE = 60;
const NOTHING = {
  none: "Fewer than two labels have support images.",
  "one image": "No label has a second support image to compare with.",
  off: "The support images do not tell the labels apart, so that none can be judged.",
};

/** The address of a space's doubtful support images: no label has an empty name. */
export const auditHref = (space) => hrefOf(space.name, "labels", "", "audit");

export async function showAudit(root, context) {
  const { space, signal } = context;
  const at = (...parts) => path("spaces", space.name, ...parts);
  const said = h("p", { class: "lead", role: "status" });
  const list = h("ul", { class: "doubtful" });
  const more = h("button", { type: "button", hidden: true, on: { click: () => doing(more, () => page(cursor - gone)) } }, "Show more");
  let cursor = null, gone = 0; // images that have left the service's list since the last page
  put(root,
    h("p", { class: "back" }, h("a", { href: hrefOf(space.name, "labels") }, "← All labels")),
    h("h1", { tabindex: "-1" }, "Support images to check"), said, list, h("p", {}, more));
  put(said, working("Comparing the support images with each other …"));
  await page(null);

  async function page(after) {
    const audit = await get(at("audit"), { query: { limit: PAGE, cursor: after }, signal });
    const flagged = audit.rows.filter((row) => row.flagged), last = audit.rows.at(-1);
    cursor = last && (last.flagged || last.kept) ? audit.next_cursor : null; // these come first
    gone = 0;
    more.hidden = cursor === null;
    if (after === null) tell(audit);
    list.append(...flagged.map(row));
  }

  function tell(audit) {
    if (audit.evidence in NOTHING) return put(said, NOTHING[audit.evidence]);
    const alone = audit.alone ? ` ${counted(audit.alone, "image")} cannot be judged: the label has no other one.` : "";
    if (!audit.flagged) return put(list, h("li", {}, empty("No support image looks wrong.", h("p", {}, `${counted(audit.judged, "image")} compared, each with its label made without it.${alone}`))), put(said));
    const right = audit.precision === null ? "" : ` ${share(audit.precision, 0)} of these have a wrong label (estimated).`;
    return put(said, `${count(audit.flagged)} of ${counted(audit.judged, "support image")} look like another label.${right}${alone}`);
  }

  function row(image) {
    const name = fileName(image.source) ?? `support image ${image.id}`;
    const act = (title, run, kind = "") => {
      const button = h("button", { type: "button", class: kind, "aria-label": `${title}: ${name}`, on: { click: () => doing(button, run) } }, title);
      return button;
    };
    const item = h("li", { class: "card doubt" },
      supportFigure(space.name, image),
      h("div", { class: "words" },
        h("p", { class: "registered" }, "Registered as ", h("bdi", {}, image.label), h("span", { class: "quiet" }, `, right with ${likely(image.probability)}`)),
        h("p", { class: "title" }, "Looks like ", h("bdi", {}, image.looks_like), h("span", { class: "quiet" }, `, ${likely(image.looks_like_probability)}`)),
        h("p", { class: "quiet file" }, h("bdi", {}, name), image.proposed && " (proposed)", image.judged_by === "image" && " (judged without text)"),
        may("write") && h("div", { class: "row" }, act("Move it there", move, "primary"), act("Remove", remove), act("Keep: it is right", keep))));

    async function move() {
      const { ids } = await post(at("move-supports"), { json: { ids: [image.id], label: image.looks_like }, signal });
      done(`“${name}” is a support image of “${image.looks_like}” now.`, async () => {
        await post(at("remove-supports"), { json: { ids } });
        await post(at("restore-supports"), { json: { ids: [image.id] } });
      }, 1);
    }

    async function remove() {
      await post(at("remove-supports"), { json: { ids: [image.id] }, signal });
      done(`“${name}” is removed.`, () => post(at("restore-supports"), { json: { ids: [image.id] } }), 1);
    }

    async function keep() {
      await post(at("keep-supports"), { json: { ids: [image.id] }, signal });
      done(`“${name}” is kept.`, () => post(at("keep-supports"), { json: { ids: [image.id], keep: false } }));
    }

    /** Take the image off the list, and offer to take the act back. */
    function done(text, undo, left = 0) {
      gone += left;
      const next = item.nextElementSibling ?? item.previousElementSibling;
      item.remove();
      (next?.querySelector("button") ?? root.querySelector("h1")).focus();
      if (!list.children.length && more.hidden) put(list, h("li", {}, empty("All of them are checked.")));
      notice(text, { name: "Undo", run: () => doing(null, async () => {
        await undo();
        gone -= left;
        if (list.querySelector(".empty")) put(list);
        list.prepend(item);
        item.querySelector("button").focus();
      }) });
    }

    return item;
  }
}
