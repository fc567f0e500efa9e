// What was removed and can still be brought back; emptying it deletes for good.

import { get, hrefOf, may, path, post, remove } from "../api.js";
import { h, put } from "../dom.js";
import { dialog, doing, empty, notice } from "../parts.js";
import { counted, fileName } from "../words.js";

/** The address of a space's trash: no label has an empty name. */
export const trashHref = (space) => hrefOf(space.name, "labels", "", "trash");

export async function showTrash(root, context) {
  const { space, signal } = context;
  const where = path("spaces", space.name, "removed");
  const list = h("ul", { class: "labels trash" });
  const said = h("p", { class: "lead", role: "status" });
  const all = may("write") && h("button", { type: "button", class: "danger", on: { click: () => emptied() } }, "Empty the trash …");
  put(root,
    h("p", { class: "back" }, h("a", { href: hrefOf(space.name, "labels") }, "← All labels")),
    h("div", { class: "row spread head" }, h("h1", {}, "Trash"), all), said, list);
  await show();

  async function show() {
    const { removed, more, undo_seconds: window } = await get(where, { signal });
    put(list, removed.map(row));
    if (all) all.hidden = !removed.length;
    put(said, removed.length
      ? `${more ? "The newest of what was removed" : "What was removed"}, and for how long it can be restored. After ${span(window)} of running time it is deleted for good.`
      : null);
    if (!removed.length) put(list, h("li", {}, empty("The trash is empty.", h("p", {}, `What you remove here can be restored for ${span(window)}.`))));
  }

  function row(one) {
    const label = one.kind === "label";
    const name = label ? one.label : fileName(one.source) ?? `support image ${one.id}`;
    const button = may("write") && h("button", { type: "button", "aria-label": `Restore ${name}`, on: { click: () => restore(one, name, button) } }, "Restore");
    return h("li", { class: "trash-row" },
      h("span", { class: "names" }, h("bdi", { class: "name" }, name),
        label ? h("span", { class: "about" }, `label with ${counted(one.support_count, "support image")}`) : h("span", { class: "about" }, "support image of ", h("bdi", {}, one.label))),
      h("span", { class: "quiet left" }, one.seconds_left > 0 ? `${span(one.seconds_left)} left` : "goes with the next change"), button);
  }

  async function restore(one, name, button) {
    await doing(button, async () => {
      const back = one.kind === "label" ? ["labels", one.label] : ["supports", one.id];
      await post(path("spaces", space.name, ...back, "restore"));
      notice(`“${name}” is back.`);
      await show();
      (list.querySelector("button") ?? root.querySelector("a")).focus();
    });
  }

  async function emptied() {
    const sure = await dialog("Delete all of it for good?", (close) => [
      h("p", {}, "The removed labels and support images of this space, with their vectors and pictures, cannot be restored after this. Backups that were made before keep them."),
      h("div", { class: "actions" }, h("button", { type: "button", class: "danger", on: { click: () => close(true) } }, "Delete for good"), h("button", { type: "button", on: { click: () => close() } }, "Cancel")),
    ]);
    if (!sure) return;
    await doing(all, async () => {
      const { purged } = await remove(where);
      notice(`Deleted ${counted(purged, "row")} for good.`);
      await show();
    });
  }
}

/** "23 h 10 min", "4 min", "less than a minute". */
function span(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return "less than a minute";
  const hours = Math.floor(minutes / 60), rest = minutes % 60;
  if (!hours) return `${minutes} min`;
  return rest ? `${hours} h ${rest} min` : counted(hours, "hour");
}
