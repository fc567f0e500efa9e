// Verdicts as a file, with the columns of the library and of `trustvlm score --format csv|jsonl`.

const APART = new Set(["index", "source", "evidence", "terms"]);

/** Verdict items as rows: the image's name as `source`, then the columns of a verdict. */
const rowsOf = (items, { evidence }) => items.map(({ query, verdict }) => ({
  source: query.name,
  ...Object.fromEntries(Object.entries(verdict).filter(([name]) => !APART.has(name))),
  ...(evidence && verdict.evidence ? { evidence: verdict.evidence } : {}),
}));

/** A header and a line each; lists are joined by "|". */
export function asCsv(items) {
  const rows = rowsOf(items, { evidence: false });
  const lines = [Object.keys(rows[0]), ...rows.map((row) => Object.values(row).map(cell))];
  return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
}

export const asJsonLines = (items) => rowsOf(items, { evidence: true }).map((row) => JSON.stringify(row)).join("\n") + "\n";

function cell(value) {
  if (value === null) return "";
  if (Array.isArray(value)) return value.map(cell).join("|");
  return typeof value === "string" ? harmless(value) : String(value);
}

/** A text that no spreadsheet computes: what cannot be printed is escaped, and what begins like a formula gets an apostrophe. */
function harmless(text) {
  const marked = text.replace(/\\(?=x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})/g, "\\x5c"); // so that no two texts look alike
  const plain = marked.replace(/(?! )[\p{C}\p{Z}]/gu, escaped);
  return /^\s*[=+\-@＝＋－＠]/.test(plain) ? `'${plain}` : plain;
}

function escaped(character) {
  const code = character.codePointAt(0);
  const [sign, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return `\\${sign}${code.toString(16).padStart(digits, "0")}`;
}

const quoted = (text) => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
