// Numbers and counts as people read them.

const whole = new Intl.NumberFormat("en");

export const count = (n) => whole.format(n);

/** "1 label", "1,204 labels". */
export const counted = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A share as a percentage; never rounded up to 100 % or down to 0 %. */
export function percent(share, digits = 1) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const rounded = (100 * share).toFixed(digits);
  if (share < 1 && Number(rounded) === 100) return `>${(100 - 10 ** -digits).toFixed(digits)} %`;
  if (share > 0 && Number(rounded) === 0) return `<${(10 ** -digits).toFixed(digits)} %`;
  return `${rounded} %`;
}

/** The same with no more digits than it needs: "5 %", "92.5 %". For what was asked for, and for headlines. */
export const share = (value, digits = 1) => percent(value, digits).replace(/(\.\d*?)0+ %$/, "$1 %").replace(". %", " %");

/** What a calibration promises: "at most 5 % of accepted answers are wrong (90 % confidence)"; in short, beside what is accepted:
 *  "at most 5 % wrong (90 % confidence)". The service and the command line say the same. */
export const promise = ({ max_risk: risk, confidence }) => `at most ${share(risk, 2)} of accepted answers are wrong ${sureness(confidence)}`;
export const shortPromise = ({ max_risk: risk, confidence }) => `at most ${share(risk, 2)} wrong ${sureness(confidence)}`;
const sureness = (confidence) => `(${share(confidence, 2)} confidence)`;

/** The probability that a label is right, as short as it can be said: "99 %", "99.5 %"; "–": there is none. No finite number of
 *  images shows that something is certain: at the ends it is ">99.9 %" and "<0.1 %". */
export function likely(p) {
  if (p === null || p === undefined || Number.isNaN(p)) return "–";
  if (p < 0.0005) return "<0.1\u00a0%";
  if (p >= 0.9995) return ">99.9\u00a0%";
  const digits = p < 0.01 || p >= 0.99 ? 1 : 0;
  return `${(100 * p).toFixed(digits).replace(/\.0$/, "")}\u00a0%`;
}

/** A similarity or a trust that is no share. */
export const number = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** "today, 14:02" or "3 Nov 2026". */
export function when(text) {
  const time = new Date(text);
  const clock = time.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (time.toDateString() === new Date().toDateString()) return `today, ${clock}`;
  return time.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

/** A source without the folders that it once lay in; null where there is none. */
export const fileName = (source) => (source === null ? null : source.split(/[\\/]/).at(-1));

/** A text as the beginning of a sentence. */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
