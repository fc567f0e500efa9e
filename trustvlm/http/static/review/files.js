// The queue as a file, to answer it elsewhere: in a spreadsheet or in Label Studio; and the answers back.

import { get, may, path } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { runJob } from "../jobs.js";
import { doing, problem, save } from "../parts.js";
import { progressBox } from "../progress.js";
import { counted } from "../words.js";

const FORMATS = { csv: ["csv", "text/csv"], "label-studio": ["json", "application/json"] };
const SHOWN = 20; // answers that could not be stored

/** The panel. `tray()`: the tray that is shown, null: both; `imported()` is called when answers came in. */
export function filesPanel({ space, signal }, { tray, imported }) {
  const here = (verb) => path("spaces", space.name, "review", verb);
  const id = freshId("answers");
  const said = h("div", { "aria-live": "polite" });
  const exporter = (format, title) => {
    const button = h("button", { type: "button", on: { click: () => doing(button, () => exported(format)) } }, title);
    return button;
  };
  const input = h("input", { id, type: "file", accept: ".csv,.json,text/csv,application/json", on: { change: () => send(input.files[0]) } });
  const root = h("details", { class: "elsewhere" }, h("summary", {}, "Answer elsewhere: CSV, Label Studio"),
    h("div", { class: "card stack" },
      h("div", {}, h("h3", {}, "Export what waits"), h("p", { class: "quiet" }, "The file has the images of the group that is shown. Fill in the column “truth” of the CSV, or answer the tasks in Label Studio."),
        h("div", { class: "row" }, exporter("csv", "Export CSV"), exporter("label-studio", "Export for Label Studio"))),
      may("write") && h("div", { class: "field" }, h("label", { for: id }, "Import answers"), input,
        h("p", { class: "quiet" }, "The same CSV, or what Label Studio exports as JSON. Each answer is stored by itself; to import a file again does no harm.")),
      said));
  return root;

  async function exported(format) {
    const { items, content } = await get(here("export"), { query: { format, tray: tray() }, signal });
    const [ending, type] = FORMATS[format];
    save(`${space.name.replace(/[^\p{L}\p{N}._-]/gu, "_")}-review.${ending}`, content, type);
    put(said, h("p", {}, `Exported ${counted(items, "image")}.`));
  }

  async function send(file) {
    const stopped = new AbortController();
    const box = progressBox(() => stopped.abort());
    put(said, box.root);
    input.disabled = true;
    try {
      box.tell("Storing the answers …");
      const told = ({ done, total }) => box.tell("Storing the answers …", done, total);
      const result = await runJob(here("import"), { content: await file.text() }, { told, signal: AbortSignal.any([signal, stopped.signal]) });
      put(said, outcome(result));
    } catch (error) {
      put(said, error.name === "AbortError" ? h("p", { class: "quiet" }, "Cancelled. The answers that were stored before stay.") : problem(inFile(error, file)));
    } finally {
      input.disabled = false;
      input.value = "";
    }
    if (!signal.aborted) await doing(null, imported);
  }
}

/** The service calls the text of the file its content. */
function inFile(error, file) {
  error.message = error.message.replace(/^content\b/, () => file.name);
  return error;
}

function outcome({ answered, same, unanswered, failures }) {
  const parts = [`Stored ${counted(answered, "answer")}.`, same && `${counted(same, "image")} had this answer already.`, unanswered && `${counted(unanswered, "image")} of the file ${unanswered === 1 ? "has" : "have"} none.`];
  return h("div", { class: answered ? "outcome" : "outcome nothing" }, h("p", {}, parts.filter(Boolean).join(" ")),
    failures.length > 0 && [h("p", {}, `${counted(failures.length, "answer")} could not be stored:`),
      h("ul", { class: "failures" }, failures.slice(0, SHOWN).map(([id, reason]) => h("li", {}, `Image ${id}: ${reason}`)),
        failures.length > SHOWN && h("li", {}, `and ${counted(failures.length - SHOWN, "other")}`))]);
}
