// Commands to run in a shell, as the page shows them: they run as they are copied.

import { hasKey } from "./api.js";

const PLAIN = /^[\w@%+=:,./-]+$/;

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
/** A text as one word of a shell command. */
const word = (text) => (PLAIN.test(text) ? text : quoted(text));

/** A command that runs over this service; `names` are quoted, `rest` stands as it is: options and placeholders. */
export function commandOf(verb, names, rest = "") {
  const service = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const dashed = names.some((name) => name.startsWith("-"));
  const given = names.map(word);
  const words = dashed ? [rest, "--", ...given] : [...given, rest];
  return ["trustvlm --url", word(service), verb, ...words.filter(Boolean)].join(" ");
}

/** A command that runs on the machine of the service only, with the folder that is its home. */
export const commandAtHome = (words) => `trustvlm --home HOME ${words}`;

/** A file's name as curl reads it in a form. */
const escaped = (name) => name.replaceAll("\\", "\\\\").replaceAll('"', '\\"');

/** What the page has just asked, as a command for one call. `file`: the name of an image file, with `fields` ({name: value}) beside it in a form; `json`: a
 *  body; neither: a GET with the fields in the query. */
export function curlOf(where, { file = null, fields = {}, json = null }) {
  const parts = ["curl"];
  const address = new URL(where, document.baseURI);
  if (file === null && json === null) address.search = new URLSearchParams(fields);
  if (hasKey()) parts.push('-H "Authorization: Bearer $TRUSTVLM_KEY"');
  if (file !== null) parts.push(`-F ${quoted(`images=@"${escaped(file)}"`)}`, ...Object.entries(fields).map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`));
  if (json !== null) parts.push(`--json ${quoted(JSON.stringify(json))}`);
  return [...parts, quoted(address.href)].join(" ");
}
