// Commands of the terminal that the page shows: they run as they are copied.

const PLAIN = /^[\w@%+=:,./-]+$/;

/** A text as one word of a shell command. */
export const word = (text) => (PLAIN.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

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
