// What the page has just asked, as a command to run in a shell.

import { hasKey } from "./api.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
/** A file's name as curl reads it in a form. */
const escaped = (name) => name.replaceAll("\\", "\\\\").replaceAll('"', '\\"');

/** The command for one call. `file`: the name of an image file, with `fields` ({name: value}) beside it in a form; `json`: a
 *  body; neither: a GET with the fields in the query. */
export function curlOf(where, { file = null, fields = {}, json = null }) {
  const parts = ["curl"];
  const address = new URL(where, document.baseURI);
  if (file === null && json === null) address.search = new URLSearchParams(fields);
  if (hasKey()) parts.push('-H "Authorization: Bearer $TRUSTVLM_KEY"');
  if (file !== null) parts.push(`-F ${quoted(`images=@"${escaped(file)}"`)}`, ...Object.entries(fields).map(([name, value]) => `-F ${quoted(`${name}=${value}`)}`));
  if (json !== null) parts.push(`--json ${quoted(JSON.stringify(json))}`);
  return [...parts, quoted(address.href)].join(" ");
}
