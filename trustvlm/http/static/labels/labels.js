// Labels: which there are, one of them with its support images, adding more, those to check, and the trash.

import { showAudit } from "./audit.js";
import { showLabel } from "./labelpage.js";
import { showList } from "./labellist.js";
import { showTrash } from "./trash.js";

export const title = "Labels";

export async function show(root, context) {
  const [name, which] = context.rest; // no label has an empty name
  const special = which === "audit" ? showAudit : showTrash;
  await (name === undefined ? showList : name === "" ? special : showLabel)(root, context);
}
