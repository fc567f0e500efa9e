// The rules of the service, and trust as people read it: in per cent where a rule's trust is a probability.

import { get } from "./api.js";
import { percent } from "./words.js";

let table = null;

/** {rules, default}, read once; a view that shows trust waits for it. */
export async function loadRules(signal) {
  table ??= await get("v1/rules", { signal });
  return table;
}

/** Whether the trust of a rule is a probability. */
export const isProbability = (rule) => table.rules.find((one) => one.name === rule)?.probability ?? false;

/** A trust or a threshold under a rule: a probability in per cent, with the digits that tell it from 100 %; else a number of
 *  four significant digits. Neither is rounded up to 1. */
export function trustText(value, rule) {
  if (value === null || value === undefined) return "–";
  const text = isProbability(rule) ? probabilityText(value) : numberText(value);
  return text.replace("-", "−");
}

const MOST_DIGITS = 4;

function probabilityText(value) {
  const digits = value > 0.99 ? Math.min(MOST_DIGITS, Math.floor(-Math.log10(1 - value)) - 1) : 1;
  return percent(Math.min(value, 1 - Number.EPSILON), digits);
}

function numberText(value) {
  const text = value.toPrecision(4);
  return value < 1 && Number(text) === 1 ? String(Math.floor(1e6 * value) / 1e6) : text;
}

/** A rule with its parameters. */
export function ruleName(rule, params) {
  const parts = Object.entries(params).map(([name, value]) => `${name} ${typeof value === "number" ? Number(value.toPrecision(3)) : value ?? "fitted"}`);
  return parts.length ? `${rule} (${parts.join(", ")})` : rule;
}
