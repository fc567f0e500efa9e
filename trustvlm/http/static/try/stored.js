// Images that the service has: examples for an empty screen, and links that open a verdict again.

import { get, hrefOf, path, pictureAddress } from "../api.js";
import { freshId, h } from "../dom.js";
import { scoresImages } from "../encoders.js";
import { curlOf } from "../command.js";
import { copyText, empty, supportFigure } from "../parts.js";

const EXAMPLES = 8;

/** An address behind the view's name, "support/12" or "observation/7", as parts; null: it is none. */
export function addressOf([kind, id, ...rest]) {
  return ["support", "observation"].includes(kind) && /^[1-9]\d{0,15}$/.test(id ?? "") && !rest.length ? { kind, id: Number(id) } : null;
}

/** The item that an address leads to; its verdict is still to come. Throws where there is nothing to score. */
export async function itemAt(space, { kind, id }, signal) {
  if (kind === "observation") return { query: { observation: id, name: `stored image ${id}` } };
  const name = `support image ${id}`;
  const response = await fetch(await pictureAddress(space.name, id), { signal });
  if (!response.ok) throw new Error(`There is no picture of ${name} in the space “${space.name}”.`);
  return { query: { support: id, name, file: new File([await response.blob()], `${name}.jpg`, { type: "image/jpeg" }) } };
}

/** The address of the page that shows an item's verdict again; null: its image is not stored. A person's image is stored as
 *  `support` image or as `observation` (id or row) once they teach it. */
export function linkOf(space, { query, support = query.support, observation = query.observation }) {
  const [kind, id] = support ? ["support", support] : ["observation", observation?.id ?? observation];
  if (!id) return null;
  const page = new URL(location);
  page.hash = hrefOf(space.name, "try", kind, id);
  return page.href;
}

/** A button that copies a text. */
export const copying = (name, text, what) => h("button", { type: "button", class: "plain", on: { click: () => copyText(text, what) } }, name);

/** Beneath a verdict: its link, or why it has none. */
export function linkLine(space, item) {
  const address = linkOf(space, item);
  const command = commandOf(space, item);
  return h("div", { class: "link-line" },
    address ? h("p", { class: "quiet" }, copying("Copy link", address, "link"), " It opens this image again, scored with the labels that the space has then.")
      : h("p", { class: "quiet" }, "This image is not stored. When you close this tab, it is gone."),
    command && h("p", { class: "quiet" }, copying("Copy as curl", command, "command"), " It asks the service for this verdict, in a shell."));
}

/** The call that gives an item's verdict, or what is said of a `claimed` label; null where the image came as an embedding, or is a support image. */
export function commandOf(space, { query, chosen: { rule, part } }, claimed = null) {
  const fields = rule === null ? {} : { rule };
  if (query.observation) return curlOf(path("spaces", space.name, "observations", query.observation, "verdict"), { fields: part ? { ...fields, filter: part.text } : fields });
  fields.review = "false"; // as the page asks: to try is no incoming image
  if (part) fields.labels = JSON.stringify(part.filter);
  if (claimed !== null) fields.claimed = claimed;
  if (query.probabilities) fields.probabilities = JSON.stringify([query.probabilities]);
  return query.file && !query.support ? curlOf(path("spaces", space.name, "score"), { file: query.name, fields }) : null;
}

/** Some stored images to begin with; or what has to be done first. */
export async function examples({ space, signal }) {
  const labels = h("a", { href: hrefOf(space.name, "labels") }, "Labels");
  if (!space.label_count) return empty("This space has no labels yet.", h("p", {}, "Add the first ones in ", labels, ": an image is compared with them."));
  const { observations } = await get(path("spaces", space.name, "observations", "pictured"), { query: { limit: EXAMPLES }, signal });
  if (observations.length) {
    return listed(space, "These images are stored with their true labels, as a person gave them.", "observation",
      observations.map(({ id, truth }) => ({ id, label: truth ?? "none of the labels" })));
  }
  if (!scoresImages(space)) return null;
  if (!space.support_count) return empty("No label has a support image yet.", h("p", {}, "Add some in ", labels, ": without them only the names of the labels can be compared with an image."));
  const { labels: rows } = await get(path("spaces", space.name, "labels"), { query: { limit: 50, thumbnails: 1 }, signal });
  const some = rows.filter((row) => row.supports.length).slice(0, EXAMPLES);
  return some.length > 0 && listed(space, "These are support images: each is most like itself, so the answer is surer than for a new image.", "support",
    some.map(({ name, supports: [id] }) => ({ id, label: name })));
}

function listed(space, said, kind, images) {
  const title = freshId("examples");
  return h("section", { class: "examples" },
    h("h2", { id: title }, "Or try an image that the space has"), h("p", { class: "quiet" }, said),
    h("ul", { "aria-labelledby": title }, images.map(({ id, label }) => h("li", {},
      h("a", { href: hrefOf(space.name, "try", kind, id), title: label },
        supportFigure(space.name, { id, label, source: null, kind: `${kind}s` }, h("bdi", {}, label)))))));
}
