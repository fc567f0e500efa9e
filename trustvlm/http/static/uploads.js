// What goes to the service in several requests: each of them has an end, a folder of photographs has none.

import { get } from "./api.js";

const MOST_FILES = 16; // so that progress shows
const MOST_BYTES = 12 * 2 ** 20;
const FRAME = 0.9; // of a body: the rest is names, fields and what holds them together
let known = null;

/** How much the service takes in a request, asked once: {body_bytes, json_values}. A part of it is left for names. */
export async function room(signal) {
  known ??= await get("v1/limits", { signal });
  return { body_bytes: FRAME * known.body_bytes, json_values: FRAME * known.json_values };
}

/** Files, or what has a `size` of bytes, in groups that are small enough for a request each; one that is not is alone in its. */
export async function* groups(items, signal, { size = (file) => file.size, most = MOST_FILES } = {}) {
  const mostBytes = Math.min(MOST_BYTES, (await room(signal)).body_bytes);
  let group = [];
  let bytes = 0;
  for await (const item of items) {
    if (group.length && (group.length === most || bytes + size(item) > mostBytes)) {
      yield group;
      [group, bytes] = [[], 0];
    }
    group.push(item);
    bytes += size(item);
  }
  if (group.length) yield group;
}

/** A form with these images and fields ({name: value}; null ones are left out). */
export function formOf(files, fields = {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== null && value !== "") form.append(name, value);
  for (const file of files) form.append("images", file, file.name);
  return form;
}
