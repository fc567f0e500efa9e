// Images with known labels that can be evaluated and calibrated on: a folder's, embedded once; or those that the space has stored.
// A source: {title, counted, picture(item): an <img> or null, evaluate(options, hooks), calibrate(options, hooks)}.

import { path, pictureAddress, post } from "../api.js";
import { runJob } from "../jobs.js";
import { formOf, groups, room } from "../uploads.js";

const DIGITS = 9; // a float32 comes back from so many as it was
const PER_NUMBER = DIGITS + 6; // in JSON: "-0.0" before it, a comma behind it, and one more 0 here and there
const PER_IMAGE = 200; // its label and its file's name

/** How many images' embeddings fit into a request. */
export async function mostImages(space, signal) {
  const { body_bytes, json_values } = await room(signal);
  const values = space.classifier_dim + (space.verifier === "same" ? 0 : space.verifier_dim);
  return Math.floor(Math.min(body_bytes / (PER_NUMBER * values + PER_IMAGE), json_values / (values + 2)));
}

/** The images that the space has stored. */
export function storedSource(space, usable) {
  const run = (verb) => (json, hooks) => runJob(path("spaces", space.name, "observations", verb), json, hooks);
  return { title: "the stored images", images: usable, stored: true, failures: [], picture: (item) => storedPicture(space, item), evaluate: run("evaluate"), calibrate: run("calibrate") };
}

/** The thumbnail of a stored image; null where it has none. */
function storedPicture(space, { observation, pictured }) {
  if (!pictured) return null;
  const image = document.createElement("img");
  image.alt = "";
  image.decoding = "async";
  pictureAddress(space.name, observation, "observations").then((address) => { image.src = address; }, () => image.remove());
  return image;
}

/** A folder's images ([{file, truth}]), embedded some at a time: what is kept here is their embeddings, so that calibrating on
 *  them asks for no second upload. `told(done, total)` hears of the progress; `signal` stops it; `left`: the view is left. */
export async function folderSource(space, images, { told, signal, left }) {
  const kept = { classifier: [], verifier: [], truth: [], files: [], thumbnails: [] };
  const failures = [];
  let start = 0;
  for await (const group of groups(images.map((one) => one.file), signal)) {
    told(start, images.length);
    let found = null;
    try {
      found = await post(path("spaces", space.name, "embed"), { form: formOf(group, { thumbnails: true }), signal });
    } catch (error) {
      if (error.name === "AbortError" || group.length > 1 || ![413, 422].includes(error.status)) throw error;
      failures.push({ source: group[0].name, reason: error.message }); // one file that is too large does not spoil the others
    }
    if (found) {
      for (const side of ["classifier", "verifier"]) if (found[side]) kept[side].push(...found[side].map(rounded));
      kept.thumbnails.push(...found.thumbnails);
      for (const place of found.places) {
        kept.truth.push(images[start + place].truth);
        kept.files.push(group[place]);
      }
      failures.push(...found.failures);
    }
    start += group.length;
  }
  told(images.length, images.length);
  const sources = kept.files.map((file) => file.webkitRelativePath.split("/").slice(-2).join("/") || file.name);
  const body = { classifier: kept.classifier, truth: kept.truth, sources };
  if (kept.verifier.length) body.verifier = kept.verifier;
  const run = (verb, more = {}) => (json, hooks) => runJob(path("spaces", space.name, verb), { ...body, ...more, ...json }, hooks);
  const thumbnails = await fitting(kept.thumbnails, space, signal);
  return { title: "the folder", images: kept.files.length, stored: false, failures, picture: pictures(kept.files, left), evaluate: run("evaluate"), calibrate: run("calibrate", { thumbnails }) };
}

/** As many thumbnails as the request has room for beside the embeddings; null for the others. */
async function fitting(thumbnails, space, signal) {
  const { body_bytes } = await room(signal);
  const values = space.classifier_dim + (space.verifier === "same" ? 0 : space.verifier_dim);
  let free = body_bytes - thumbnails.length * (PER_NUMBER * values + PER_IMAGE);
  return thumbnails.map((one) => { free -= one.length + 3; return free > 0 ? one : null; });
}

const rounded = (row) => row.map((value) => Number(value.toPrecision(DIGITS)));

/** Images of the files by place, their addresses given back when the view is left. */
function pictures(files, left) {
  const addresses = new Map();
  left.addEventListener("abort", () => addresses.forEach((address) => URL.revokeObjectURL(address)), { once: true });
  return ({ index }) => {
    if (!addresses.has(index)) addresses.set(index, URL.createObjectURL(files[index]));
    const image = document.createElement("img");
    image.alt = "";
    image.decoding = "async";
    image.src = addresses.get(index);
    return image;
  };
}
