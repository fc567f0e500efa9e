// Labels: which there are, one of them with its support images, and adding more.

import { showLabel } from "./labelpage.js";
import { showList } from "./labellist.js";

export const title = "Labels";

export async function show(root, context) {
  await (context.rest.length ? showLabel : showList)(root, context);
}
