// Labels: which there are, one of them with its support images, adding more, and the trash.

import { showLabel } from "./labelpage.js";
import { showList } from "./labellist.js";
import { showTrash } from "./trash.js";

export const title = "Labels";

export async function show(root, context) {
  const [name] = context.rest; // no label has an empty name
  await (name === undefined ? showList : name === "" ? showTrash : showLabel)(root, context);
}
