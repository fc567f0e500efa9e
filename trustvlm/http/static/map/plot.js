// Points on a canvas: drawn, found under a pointer, walked through by arrow keys, zoomed and moved.

import { h } from "../dom.js";

const FARTHEST = 40; // times that the map can be enlarged
const STEP = 1.6;
const NAMED = 30; // labels whose names are written on the map
const COLOURED = 12; // labels that have colours of their own
const NEAR = 14; // pixels
const MARGIN = 24;

/** A canvas with `points` ({kind, label, x, y, error}). `over(point)`: the one under the pointer or reached by keys; null: none.
 *  `seen(labels, all)`: how many labels have a point in view. `open(point)`: one was chosen. `about`: what the map shows, for who cannot see it. */
export function plot({ points, about, over, seen, open, signal }) {
  const canvas = h("canvas", { tabindex: 0, role: "img", "aria-label": about });
  const names = medians(points);
  const colours = new Map(names.length <= COLOURED ? names.map(({ label }, i) => [label, i]) : []);
  const state = { zoom: 1, x: 0, y: 0, at: null, label: null };

  const size = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
  const unit = () => (Math.min(canvas.clientWidth, canvas.clientHeight) / 2 - MARGIN) * state.zoom;
  /** The place of a point on the canvas, in CSS pixels. */
  const place = (point) => {
    const { width, height } = size();
    return [width / 2 + (point.x - state.x) * unit(), height / 2 - (point.y - state.y) * unit()];
  };

  function draw() {
    const { width, height } = size();
    if (!width || !height) return;
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    const look = palette(canvas);
    pen.scale(scale, scale);
    const inView = new Set();
    for (const point of points) { // errors come last, on top
      const [x, y] = mark(pen, point, look);
      if (x >= 0 && y >= 0 && x <= width && y <= height) inView.add(point.label);
    }
    if (state.at) ring(pen, state.at, look);
    if (names.length <= NAMED) for (const name of names) write(pen, name, look);
    seen(inView.size, names.length);
  }

  function mark(pen, point, look) {
    const [x, y] = place(point);
    const colour = point.error ? look.bad : colours.has(point.label) ? look.label(colours.get(point.label), colours.size) : look.quiet;
    pen.globalAlpha = state.label === null || point.label === state.label || point.truth === state.label ? 1 : 0.12;
    pen.strokeStyle = pen.fillStyle = colour;
    pen.beginPath();
    if (point.error) {
      pen.lineWidth = 2.2;
      for (const [dx, dy] of [[1, 1], [1, -1]]) { pen.moveTo(x - 5 * dx, y - 5 * dy); pen.lineTo(x + 5 * dx, y + 5 * dy); }
      pen.stroke();
    } else if (point.kind === "observation") {
      pen.lineWidth = 1.4;
      pen.arc(x, y, 3.4, 0, 7);
      pen.stroke();
    } else {
      pen.arc(x, y, 3, 0, 7);
      pen.fill();
    }
    pen.globalAlpha = 1;
    return [x, y];
  }

  function ring(pen, point, look) {
    const [x, y] = place(point);
    pen.strokeStyle = look.ink;
    pen.lineWidth = 2.5;
    pen.beginPath();
    pen.arc(x, y, 10, 0, 7);
    pen.stroke();
  }

  function write(pen, name, look) {
    const { width, height } = size();
    const [at, y] = place(name);
    if (at < 0 || y < 0 || at > width || y > height) return;
    pen.globalAlpha = state.label === null || state.label === name.label ? 1 : 0.2;
    pen.font = "600 13px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = look.card;
    const half = pen.measureText(name.short).width / 2 + 4;
    const x = Math.max(half, Math.min(at, width - half)); // not cut off at the edge
    pen.strokeText(name.short, x, y - 8);
    pen.fillStyle = look.ink;
    pen.fillText(name.short, x, y - 8);
    pen.globalAlpha = 1;
  }

  const look = (point) => {
    if (point === state.at) return;
    state.at = point;
    over(point);
    draw();
  };

  function nearest(event) {
    const frame = canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
    let best = null, least = event.pointerType === "touch" ? 2 * NEAR : NEAR;
    for (const point of points) {
      const [x, y] = place(point);
      const far = Math.hypot(x - px, y - py);
      if (far <= least) [best, least] = [point, far];
    }
    return best;
  }

  /** Enlarge by a factor, so that a place of the canvas stays where it is. */
  function zoom(factor, event = null) {
    const before = unit();
    const { width, height } = size();
    const frame = canvas.getBoundingClientRect();
    const [dx, dy] = event ? [event.clientX - frame.left - width / 2, height / 2 - (event.clientY - frame.top)] : [0, 0];
    state.zoom = Math.min(Math.max(state.zoom * factor, 1), FARTHEST);
    state.x += dx / before - dx / unit();
    state.y += dy / before - dy / unit();
    settle();
  }

  function move(dx, dy) {
    state.x -= dx / unit();
    state.y += dy / unit();
    settle();
  }

  function settle() {
    const room = 1 - 1 / state.zoom;
    state.x = Math.min(Math.max(state.x, -room), room);
    state.y = Math.min(Math.max(state.y, -room), room);
    canvas.style.setProperty("touch-action", state.zoom > 1 ? "none" : "pan-y");
    draw();
  }

  /** The nearest point in a direction, for the arrow keys. */
  function step(dx, dy) {
    if (!state.at) return look(points.at(-1));
    const [x, y] = place(state.at);
    let best = null, least = Infinity;
    for (const point of points) {
      const [px, py] = place(point);
      const along = (px - x) * dx + (py - y) * dy, across = Math.abs((px - x) * dy - (py - y) * dx);
      if (along > 0.5 && across <= along && along + across < least) [best, least] = [point, along + across];
    }
    if (best) { look(best); reveal(best); }
    return undefined;
  }

  /** Move the map so that a point is seen. */
  function reveal(point) {
    const [x, y] = place(point), { width, height } = size();
    if (x < 0 || y < 0 || x > width || y > height) { [state.x, state.y] = [point.x, point.y]; settle(); }
  }

  const keys = {
    ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
    "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), 0: () => zoom(0), Escape: () => look(null),
    Enter: () => state.at && open(state.at),
  };
  // A browser says that the mouse moved, too, where the page moved under a mouse that rests: that must not undo what a key or a finger chose.
  let mouse = "";
  const whereOf = (event) => `${event.screenX} ${event.screenY}`;
  const rests = (event) => event.pointerType === "mouse" && whereOf(event) === mouse;
  document.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") mouse = whereOf(event); }, { signal });
  let held = null, moved = 0;
  const fingers = new Map();
  const listen = (name, listener) => canvas.addEventListener(name, listener, { signal });
  listen("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  listen("pointerdown", (event) => {
    fingers.set(event.pointerId, event);
    [held, moved] = [event, 0];
    canvas.setPointerCapture(event.pointerId);
  });
  listen("pointermove", (event) => {
    if (fingers.size === 2 && fingers.has(event.pointerId)) return pinch(event);
    if (!held) return rests(event) ? undefined : look(nearest(event));
    const [dx, dy] = [event.clientX - held.clientX, event.clientY - held.clientY];
    moved += Math.abs(dx) + Math.abs(dy);
    held = event;
    if (moved > 4) move(dx, dy);
    return undefined;
  });
  listen("pointerup", (event) => {
    const still = held && moved <= 4;
    drop(event);
    if (!still) return;
    const point = nearest(event);
    look(point);
    if (point && event.pointerType === "mouse") open(point); // a finger shows it first, with a link
  });
  listen("pointercancel", (event) => drop(event));
  listen("pointerleave", (event) => { if (event.pointerType === "mouse" && !held && !rests(event)) look(null); });
  listen("dblclick", (event) => { if (!nearest(event)) zoom(STEP, event); });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the wheel alone scrolls the page
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 100), event);
  }, { signal, passive: false });

  function drop(event) {
    fingers.delete(event.pointerId);
    held = null;
  }

  function pinch(event) {
    const [other] = [...fingers.values()].filter((one) => one.pointerId !== event.pointerId);
    const before = fingers.get(event.pointerId);
    const far = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    fingers.set(event.pointerId, event);
    moved = 99;
    zoom(far(event) / Math.max(far(before), 1), event);
  }

  const sizes = new ResizeObserver(draw);
  sizes.observe(canvas);
  const themes = new MutationObserver(draw);
  themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  signal.addEventListener("abort", () => { sizes.disconnect(); themes.disconnect(); }, { once: true });

  return {
    canvas,
    enlarge: () => zoom(STEP),
    reduce: () => zoom(1 / STEP),
    whole: () => zoom(0),
    only(label) { state.label = label; draw(); },
    show(point) { look(point); reveal(point); },
  };
}

/** Where the names of labels stand: in the middle of their points. */
function medians(points) {
  const of = new Map();
  for (const point of points) of.set(point.label, [...(of.get(point.label) ?? []), point]);
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  return [...of].map(([label, some]) => ({
    label, short: label.length > 24 ? `${[...label].slice(0, 23).join("")}…` : label,
    x: middle(some.map((one) => one.x)), y: middle(some.map((one) => one.y)),
  }));
}

/** The colours of the page as it looks now. */
function palette(canvas) {
  const style = getComputedStyle(canvas);
  const of = (name) => style.getPropertyValue(name).trim();
  const dark = document.documentElement.dataset.theme === "dark";
  return {
    // not near to the red of errors; two that follow each other differ in lightness, too
    bad: of("--bad"), ink: of("--ink"), card: of("--card"), quiet: of("--line-strong"),
    label: (i, n) => `hsl(${70 + (220 * i) / n} ${dark ? "60%" : "62%"} ${(dark ? 66 : 36) + 8 * (i % 2)}%)`,
  };
}
