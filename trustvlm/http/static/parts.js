// Pieces that several views are made of.

import { may, pictureAddress } from "./api.js";
import { freshId, h, put } from "./dom.js";

const MOST_NOTICES = 4;

/** Tell what happened, beside the page; with `action` ({name, run}) a button, "Undo" most often. Stays longer then, and as long as the pointer or the focus
 *  is on it. Of more than four the oldest goes; one without an action that says what another says takes its place, with how often it was said. */
export function notice(text, action = null, { kind = "plain" } = {}) {
  const all = document.getElementById("notices");
  const equal = action ? null : [...all.children].find((one) => one.dataset.said === `${kind} ${text}`);
  const times = Number(equal?.dataset.times ?? 0) + 1;
  equal?.remove();
  while (all.children.length >= MOST_NOTICES) (all.querySelector(".notice:not(.acting)") ?? all.firstElementChild).remove();
  const box = h("div", { class: `notice ${kind} ${action ? "acting" : ""}`, role: kind === "bad" ? "alert" : null }, h("p", {}, text, times > 1 && ` (${times} times)`));
  if (!action) Object.assign(box.dataset, { said: `${kind} ${text}`, times });
  const close = () => box.remove();
  if (action) {
    box.append(h("button", { type: "button", class: "plain", on: { click: () => (close(), action.run()) } }, action.name));
  }
  box.append(h("button", { type: "button", class: "plain close", "aria-label": "Dismiss", on: { click: close } }, "×"));
  all.append(box);
  let timer;
  const wait = () => { clearTimeout(timer); timer = setTimeout(close, action ? 20_000 : kind === "bad" ? 12_000 : 5_000); };
  for (const name of ["mouseenter", "focusin"]) box.addEventListener(name, () => clearTimeout(timer));
  for (const name of ["mouseleave", "focusout"]) box.addEventListener(name, wait);
  wait();
}

/** Run a user's action: while it lasts, `control` is disabled; what goes wrong is told in words. */
export async function doing(control, work) {
  if (control) control.disabled = true;
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") notice(error.message, null, { kind: "bad" });
    return undefined;
  } finally {
    if (control) control.disabled = false;
  }
}

/** A message of the service for the caller: a key that may only read cannot run what changes something. */
export const forCaller = (message) => (may("write") ? message
  : message.replace(/\brun 'trustvlm [^']*'/g, "this needs a key that may write").replace(/'trustvlm [^']*\brestore\b[^']*'/g, "a key that may write")
    .replace(/, 'trustvlm purge' deletes it for good/, " until it is deleted for good"));

/** A problem where the content would have been. */
export function problem(error) {
  const id = error.requestId && h("p", { class: "quiet" }, `Request ${error.requestId}`);
  return h("div", { class: "problem", role: "alert" }, h("p", {}, forCaller(error.message)), id);
}

/** Where nothing is yet: what that means, and what to do. */
export function empty(title, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "title" }, title), ...more);
}

/** Work of unknown length. */
export const working = (text) => h("p", { class: "working", role: "status" }, text);

/** A support image with a caption, or another `kind` of stored image; one that came as an embedding,
 *  or is not `pictured`, shows a placeholder. */
export function supportFigure(space, support, caption = null, { size = "" } = {}) {
  const name = support.source ?? `support image ${support.id}`;
  const frame = h("div", { class: "picture" });
  pictureInto(frame, space, support, `${support.label ? `${support.label}: ` : ""}${name}`);
  return h("figure", { class: `support ${size}`, title: name }, frame, caption && h("figcaption", {}, caption));
}

async function pictureInto(frame, space, { id, kind, pictured = true }, alt) {
  const none = () => put(frame, h("span", { class: "none" }, "no picture"));
  if (!pictured) { none(); return; }
  try {
    const address = await pictureAddress(space, id, kind);
    const image = h("img", { alt, loading: "lazy", decoding: "async", on: { error: none } });
    image.src = address;
    put(frame, image);
  } catch {
    none(); // one that is gone, or came as an embedding, has none: the caption still says what it is
  }
}

/** A support image so small that it is no more than a hint; what stands beside it says the rest. */
export function thumb(space, id) {
  const image = h("img", { alt: "", loading: "lazy", decoding: "async", width: 40, height: 40, on: { error: () => image.classList.add("none") } });
  pictureAddress(space.name, id).then((address) => { image.src = address; }, () => image.classList.add("none"));
  return image;
}

/** Where image files are dropped, pasted or chosen; `taken(files)` gets the images among them.
 *  `paste`: listens to pastes anywhere on the page until `signal` aborts. */
export function dropzone({ title, hint, multiple = true, paste = null, taken }) {
  const id = freshId("files");
  const input = h("input", {
    type: "file", id, accept: "image/*", multiple,
    on: { change: () => { give(input.files); input.value = ""; } },
  });
  const zone = h("label", { class: "dropzone", for: id }, h("span", { class: "title" }, title), h("span", { class: "quiet" }, hint), input);
  const give = (list) => {
    const images = [...list].filter((file) => file.type.startsWith("image/"));
    if (!images.length && list.length) notice("These are no images.", null, { kind: "bad" });
    else if (images.length) taken(multiple ? images : images.slice(0, 1));
  };
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    give(event.dataTransfer.files);
  });
  if (paste) {
    const pasted = (event) => { if (event.clipboardData?.files.length) give(event.clipboardData.files); };
    document.addEventListener("paste", pasted, { signal: paste });
  }
  return zone;
}

/** An image file of the user as an element; its memory is given back when `signal` aborts. */
export function localImage(file, alt, signal) {
  const image = h("img", { alt });
  image.src = URL.createObjectURL(file);
  signal?.addEventListener("abort", () => URL.revokeObjectURL(image.src), { once: true });
  return image;
}

/** Put a text into the clipboard, and say what it is. */
export async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    notice(`The ${what} is copied.`);
  } catch {
    notice(`Copy this ${what}: ${text}`); // the browser gives no clipboard to pages without https
  }
}

/** Let the browser save a text. */
export function save(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A modal dialog; resolves to what `close(value)` is given, or null when it is dismissed.
 *  `content(close)` makes what stands in it. */
export function dialog(title, content) {
  const before = document.activeElement;
  return new Promise((resolve) => {
    const heading = freshId("dialog");
    const box = h("dialog", { "aria-labelledby": heading });
    // At once, not in the event "close", which comes later: the next key may be pressed in between, and needs the focus in its place.
    const close = (given = null) => {
      if (!box.isConnected) return;
      box.close();
      box.remove();
      before?.focus?.();
      resolve(given);
    };
    box.append(h("h2", { id: heading }, title), ...[content(close)].flat());
    box.addEventListener("cancel", (event) => { if (event.target === box) { event.preventDefault(); close(); } }); // not that of a file field
    box.addEventListener("close", () => close());
    box.addEventListener("click", (event) => { if (event.target === box) close(); });
    document.body.append(box);
    box.showModal();
  });
}
