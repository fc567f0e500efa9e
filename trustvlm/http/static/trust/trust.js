// Trust: how much can be accepted automatically, choosing a threshold by looking at its consequences, and the history.

import { answerCard } from "./answer.js";
import { logCard } from "./answers.js";
import { bench } from "./bench.js";
import { h, put } from "../dom.js";
import { historyCard } from "./history.js";
import { measureCard } from "./measure.js";
import { doing, notice } from "../parts.js";
import { promiseState } from "./promises.js";
import { loadRules } from "../rules.js";
import { storedSource } from "./sources.js";

export const title = "Trust";

export async function show(root, context) {
  const { space, signal } = context;
  let [state] = await Promise.all([promiseState(context), loadRules(signal)]);
  const asked = { risk: state.current?.max_risk ?? 0.05, confidence: state.current?.confidence ?? 0.9, rule: "this", shown: null };
  const [now, measuring, results, list, log] = [0, 1, 2, 3, 4].map(() => h("div", { class: "stack" }));
  put(root, h("h1", {}, "Trust"), h("p", { class: "lead" }, "How many images can be accepted without a person, and how sure that is."), h("div", { class: "stack" }, now, results, measuring, list, log));
  const measure = measureCard(context, state.observations, measured);
  put(measuring, measure.root);
  put(log, logCard(context));
  promises();

  function promises() {
    put(now, answerCard(context, state, asked, renewed));
    put(list, historyCard(context, state, reread));
  }

  async function reread() {
    state = await promiseState(context);
    measure.count(state.observations);
    promises();
  }

  async function renewed(said) {
    notice(said);
    await reread();
    if (results.firstChild) await doing(null, () => measured(storedSource(space, state.observations.usable), { signal }));
  }

  /** Evaluate a source and show what came out; `made`: a calibration that was just made on it. */
  async function measured(source, hooks, made = null) {
    hooks.told?.();
    const { current } = state;
    const json = { items: true, risk: asked.risk, confidence: asked.confidence, draws: 0 };
    if (current && !current.other_encoders) json.params = { [current.rule]: current.params };
    const evaluation = await source.evaluate(json, hooks);
    const again = () => doing(results.querySelector("button"), () => measured(source, { signal }));
    const { root: cards } = bench({ evaluation, source, state, asked, space, signal, again, calibrated: (done) => calibrated(source, done), made });
    put(results, cards);
    if (made) results.querySelector(".good-news")?.scrollIntoView({ block: "center" });
    else results.querySelector("h2").focus();
  }

  async function calibrated(source, made) {
    await reread();
    if (made.failed) return;
    // The images are stored now: their verdicts can be opened.
    const stored = source.stored ? source : storedSource(space, state.observations.usable);
    await measured(stored, { signal }, made);
  }
}
