// The log of answers: switched on and off, how many rows it keeps, and the newest of them.

import { get, may, path, post } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { doing, notice } from "../parts.js";
import { count, counted, fileName, likely, when } from "../words.js";

const SHOWN = 10;
const COLUMNS = ["Answered", "Decision", "Probability", "Label", "Image"];

/** The card; it reads the log when it is opened. */
export function logCard(context) {
  const { space, signal } = context;
  const body = h("div", { class: "stack" }), where = (name) => path("spaces", space.name, name);
  const details = h("details", { on: { toggle: () => details.open && doing(null, look) } }, h("summary", {}, "Log of answers"), body);
  return h("section", { class: "card answers" }, details);

  async function look() {
    const status = await get(where("verdict-log"), { signal });
    const page = await get(where("verdicts"), { signal, query: { limit: SHOWN } });
    draw(status, page.verdicts);
  }

  function draw(status, rows) {
    const days = field("Days", "days", status.days, { min: 0.001, max: 36500, step: "any" });
    const most = field("Rows", "rows", status.rows, { min: 1, max: 10000000, step: 1 });
    const button = h("button", { type: "submit" }, status.logging ? "Save" : "Start the log");
    const stop = status.logging && h("button", { type: "button", class: "plain", on: { click: () => change(stop, { logging: false }) } }, "Stop the log");
    const form = may("write") && h("form", { class: "actions", on: { submit: (event) => {
      event.preventDefault();
      change(button, { logging: true, days: days.input.valueAsNumber, rows: most.input.valueAsNumber });
    } } }, days.root, most.root, button, stop);
    put(body,
      h("p", { class: "quiet" }, "Keeps what this space answers over HTTP, in Python and on the command line: the time, the request, the label, the decision, and the name of the image if it has one. It never keeps images. What you try on this page is left out."),
      h("p", {}, h("span", { class: `badge ${status.logging ? "good" : ""}` }, status.logging ? "Answers are logged" : "Answers are not logged"),
        ` ${counted(status.stored, "row")}${status.stored ? `: ${count(status.accept)} accept, ${count(status.review)} review, ${count(status.unknown)} unknown` : ""}${status.dropped ? `; ${count(status.dropped)} came too fast and are missing` : ""}.`),
      form, rows.length > 0 && table(rows));
  }

  async function change(control, json) {
    await doing(control, async () => {
      await post(where("verdict-log"), { json, signal });
      notice(json.logging ? "From now on, answers are logged." : "No further answers are logged. Rows stay until they are old.");
      await look();
    });
  }
}

function field(name, key, value, limits) {
  const id = freshId(key);
  const input = h("input", { id, type: "number", required: true, value, ...limits });
  return { input, root: h("span", {}, h("label", { for: id }, name), " ", input) };
}

function table(rows) {
  const cells = ({ at, decision, probability, label, source }) => [when(at), decision, probability === null ? "–" : likely(probability), h("bdi", {}, label), source === null ? "–" : h("bdi", { title: source }, fileName(source))];
  return h("table", {}, h("caption", {}, "The newest answers"), h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, cells(row).map((cell) => h("td", {}, cell))))));
}
