// The risk–coverage curves, drawn as large as there is room, with a threshold that can be dragged or moved by keys.

import { h, put, svg } from "../dom.js";
import { nearest, positionOf } from "./outcomes.js";
import { share } from "../words.js";

const EDGE = { left: 68, right: 16, top: 20, bottom: 44 };
const HEIGHT = 340;

/** The chart. `moved(position)`: the threshold is moved; `spoken(position)`: the position in words, for the slider.
 *  show({view, reference, calibration, maxRisk}) draws; place(position) moves the threshold without redrawing. */
export function curveChart({ moved, spoken, signal }) {
  const picture = svg("svg", { "aria-hidden": "true", focusable: "false" });
  const handle = h("div", { class: "handle", role: "slider", tabindex: 0, "aria-label": "Threshold", "aria-valuemin": 0, on: { keydown: keyed } },
    h("span", { class: "grip", "aria-hidden": "true" }));
  const root = h("div", { class: "curve" }, picture, handle);
  let [width, now, position] = [0, null, 0];

  root.addEventListener("pointerdown", (event) => {
    if (!now || event.button !== 0) return;
    event.preventDefault();
    handle.focus({ preventScroll: true });
    root.setPointerCapture(event.pointerId);
    root.classList.add("dragging");
    pointed(event);
  });
  root.addEventListener("pointermove", (event) => { if (root.hasPointerCapture(event.pointerId)) pointed(event); });
  for (const end of ["pointerup", "pointercancel"]) root.addEventListener(end, () => root.classList.remove("dragging"));
  const sizes = new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 1) return;
    width = entry.contentRect.width;
    draw();
  });
  sizes.observe(root);
  signal.addEventListener("abort", () => sizes.disconnect(), { once: true });

  function pointed(event) {
    const x = event.clientX - root.getBoundingClientRect().left - EDGE.left;
    moved(nearest(now.view, x / (width - EDGE.left - EDGE.right)));
  }

  function keyed(event) {
    const { last } = now.view;
    const leap = Math.max(1, Math.round(last / 10));
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: leap, PageDown: -leap, Home: -last, End: last };
    if (!(event.key in steps)) return;
    event.preventDefault();
    moved(Math.min(last, Math.max(0, position + steps[event.key])));
  }

  function place(to) {
    position = to;
    if (!now || !width) return;
    const { accepted, errors } = now.view.at(to);
    const { x, y } = scales(width, now.top);
    handle.style.setProperty("left", `${x(now.view.coverage(to))}px`);
    handle.style.setProperty("--at", `${y(accepted ? errors / accepted : 0)}px`);
    handle.setAttribute("aria-valuemax", now.view.last);
    handle.setAttribute("aria-valuenow", to);
    handle.setAttribute("aria-valuetext", spoken(to));
  }

  function show(next) {
    now = { ...next, top: topOf(next) };
    draw();
  }

  function draw() {
    if (!now || !width) return;
    for (const [name, value] of Object.entries({ width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` })) picture.setAttribute(name, value);
    put(picture, ...layers(now, scales(width, now.top)));
    place(position);
  }

  return { root, show, place };
}

/** The largest risk that is shown: that of the curves beyond their first few images, and of the promise. */
function topOf({ view, calibration, maxRisk }) {
  const settled = view.evaluation.rules.flatMap((rule) => rule.curve.filter(([coverage]) => coverage > 0.25).map(([, risk]) => risk));
  const wanted = Math.max(...settled, maxRisk * 1.5, calibration ? calibration.risk_bound : 0, 0.01) * 1.15;
  return Math.min(1, wanted);
}

const scales = (width, top) => ({
  x: (coverage) => EDGE.left + coverage * (width - EDGE.left - EDGE.right),
  y: (risk) => HEIGHT - EDGE.bottom - (Math.min(risk, top) / top) * (HEIGHT - EDGE.top - EDGE.bottom),
  top, right: width - EDGE.right,
});

function layers({ view, reference, calibration, own, maxRisk }, scale) {
  const { x, y } = scale;
  const shown = view.rule;
  const others = view.evaluation.rules.filter((rule) => rule !== shown);
  const points = shown.thresholds.map((one, place) => [view.coverage(place + 1), one.errors / one.accepted]);
  const line = (pairs) => pairs.map(([coverage, risk], place) => `${place ? "L" : "M"}${x(coverage).toFixed(1)} ${y(risk).toFixed(1)}`).join("");
  return [
    axes(scale),
    proved(view, scale),
    ...others.map((rule) => svg("path", { d: line(rule.curve), class: `line other ${rule.kind}` })),
    svg("path", { d: line(points), class: `line main ${shown.kind}` }),
    svg("line", { x1: EDGE.left, x2: scale.right, y1: y(maxRisk), y2: y(maxRisk), class: "promise" }),
    svg("text", { x: x(0.42), y: y(maxRisk) - 7, class: "note middle" }, `at most ${share(maxRisk, 2)} wrong`),
    ...(calibration && calibration.threshold !== null ? inForce(calibration, own ? view.coverage(own) : null, scale) : []),
    svg("line", { x1: x(view.coverage(reference)), x2: x(view.coverage(reference)), y1: EDGE.top, y2: HEIGHT - EDGE.bottom, class: "reference" }),
  ];
}

/** The thresholds that are proved, as a band over what they accept. */
function proved(view, { x }) {
  const range = view.rule.threshold_range;
  if (!range) return null;
  const [loose, strict] = range.map((threshold) => view.coverage(positionOf(view, threshold)));
  return svg("rect", { x: x(strict), width: Math.max(2, x(loose) - x(strict)), y: EDGE.top, height: HEIGHT - EDGE.bottom - EDGE.top, class: "proved" });
}

/** The calibration in force as it was proved: its coverage and risk there, up to its bound; and its threshold on this curve. */
function inForce({ coverage, errors, accepted, risk_bound: most }, here, { x, y }) {
  const [cx, cy] = [x(coverage), y(accepted ? errors / accepted : 0)];
  return [
    here !== null && svg("line", { x1: x(here), x2: x(here), y1: EDGE.top, y2: HEIGHT - EDGE.bottom, class: "standing" }),
    svg("line", { x1: cx, x2: cx, y1: cy, y2: y(most), class: "whisker" }),
    svg("line", { x1: cx - 5, x2: cx + 5, y1: y(most), y2: y(most), class: "whisker" }),
    svg("path", { d: `M${cx} ${cy - 7}l7 7l-7 7l-7 -7z`, class: "diamond" }),
  ];
}

function axes({ x, y, top, right }) {
  const [floor, step] = [HEIGHT - EDGE.bottom, tick(top)];
  const rows = Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => i * step);
  const narrow = right < 500;
  return svg("g", { class: "axes" },
    rows.map((risk) => [svg("line", { x1: EDGE.left, x2: right, y1: y(risk), y2: y(risk) }), svg("text", { x: EDGE.left - 8, y: y(risk) + 4, class: "end" }, share(risk, 2))]),
    (narrow ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]).map((coverage) => svg("text", { x: x(coverage), y: floor + 18, class: coverage === 1 ? "end" : "middle" }, share(coverage))),
    svg("text", { x: (EDGE.left + right) / 2, y: HEIGHT - 6, class: "middle name" }, "Accepted, of all images"),
    svg("text", { x: -(EDGE.top + floor) / 2, y: 13, class: "middle name", transform: "rotate(-90)" }, "Wrong, of the accepted"));
}

/** A round step, so that there are three to seven. */
function tick(top) {
  const raw = top / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw);
}
