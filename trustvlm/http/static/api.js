// The service's HTTP API, as the page uses it.

const KEY = "trustvlm-key";
const TRIES = 4;
const SENDABLE = /^[\x21-\x7e]+$/;
const SCOPES = ["read", "write", "admin"];
let askForKey = async () => null;
let caller = { scope: "read", space: null };

/** What the service answered that was no success. */
export class ApiError extends Error {
  constructor(status, kind, message, requestId) {
    super(message);
    Object.assign(this, { status, kind, requestId });
  }
}

/** Whether the calls of the page carry a key. */
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** Who is asked when the service wants a key, and told why: `ask(message)` resolves to one, or to null. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** The spaces that the key opens. What the key may do is known from then on: see `may`. */
export async function listSpaces(signal) {
  const { spaces, scope, key_space: space } = await get("v1/spaces", { signal });
  caller = { scope, space };
  return spaces;
}

/** Whether the scope of the key covers this one: the page offers no action that the service would refuse. */
export const may = (scope) => SCOPES.indexOf(caller.scope) >= SCOPES.indexOf(scope);

/** The name of the only space that the key opens; null: it opens all. */
export const keySpace = () => caller.space;

/** The path of something in a space, relative to the page, which a proxy may show anywhere. Each part is encoded: names may
 *  hold slashes, and one of dots alone, which would be a step through the path, ends with a character that no name has. */
export function path(...parts) {
  return "v1/" + parts.map((part) => encodeURIComponent(part) + (part === "." || part === ".." ? "%1F" : "")).join("/");
}

/** The address of a view of the page, "#/space/view/…". */
export const hrefOf = (...parts) => "#/" + parts.map(encodeURIComponent).join("/");

export const get = (where, options) => call("GET", where, options);
export const post = (where, options) => call("POST", where, options);
export const patch = (where, options) => call("PATCH", where, options);
export const remove = (where, options) => call("DELETE", where, options);

/** One call. Options: `json`, `form` (FormData) or `file` ({content, type}) as body, `signal`, `query` ({name: value}).
 *  Writes carry an idempotency key, so that a repeated one is done once. Busy services are asked again, as they say when. */
async function call(method, where, { json, form, file, signal, query } = {}) {
  const headers = { Accept: "application/json" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (file) headers["Content-Type"] = file.type;
  if (method !== "GET") headers["Idempotency-Key"] = randomId();
  const address = query ? `${where}?${new URLSearchParams(withoutNothing(query))}` : where;
  const body = form ?? file?.content ?? (json === undefined ? undefined : JSON.stringify(json));
  const response = await send(address, { method, headers, body, signal });
  return response.json();
}

async function send(address, request) {
  for (let tried = 1; ; tried += 1) {
    const key = sessionStorage.getItem(KEY);
    const headers = key ? { ...request.headers, Authorization: `Bearer ${key}` } : request.headers;
    let response;
    try {
      response = await fetch(address, { ...request, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "Unavailable", "The service does not answer. Is it still running?");
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (response.status === 401) {
      problem.message = key ? "This key is unknown, revoked or expired." : "This service asks for a key.";
      const given = await keyOfUser(problem.message);
      if (!given) throw problem;
      sessionStorage.setItem(KEY, given);
    } else if ((response.status === 429 || response.status === 503) && tried < TRIES) {
      const seconds = Number(response.headers.get("retry-after")) || 1;
      await pause(Math.min(seconds, 5) * 1000, request.signal);
    } else throw problem;
  }
}

/** The key that the user gives, or null; asks again for one with signs that no header can carry. */
async function keyOfUser(message) {
  const given = await askForKey(message);
  return given && !SENDABLE.test(given) ? keyOfUser("This is no key: a key has letters without accents, digits, “-” and “_”, and no spaces.") : given;
}

async function problemOf(response) {
  const requestId = response.headers.get("x-request-id");
  try {
    const { error } = await response.json();
    return new ApiError(response.status, error.kind, error.message, error.request_id);
  } catch {
    const away = [502, 503, 504].includes(response.status); // of a proxy in front
    const message = away ? `The service does not answer its proxy (status ${response.status}). Is it still running?` : `The service answered with status ${response.status}.`;
    return new ApiError(response.status, away ? "Unavailable" : "Unexpected", message, requestId);
  }
}

/** Where an <img> finds a support image, or another `kind` that has thumbnails: its address, or with a key, which images cannot send, a blob. */
export async function pictureAddress(space, id, kind = "supports") {
  return imageAt(path("spaces", space, kind, id, "thumbnail"));
}

/** The same of any image of the service. */
export async function imageAt(address) {
  if (!sessionStorage.getItem(KEY)) return address;
  const response = await send(address, { method: "GET", headers: {} });
  return URL.createObjectURL(await response.blob());
}

/** The end of a job: its result. `told(job)` hears of its progress.
 *  Throws an ApiError when the job fails, is cancelled, or was cut off. */
export async function jobEnd(job, told = () => {}, signal) {
  let wait = 150;
  let now = job;
  while (now.state === "queued" || now.state === "running") {
    told(now);
    await pause(wait, signal);
    wait = Math.min(wait * 1.3, 1500);
    now = await get(path("jobs", job.id), { signal });
  }
  told(now);
  if (now.state === "done") return now.result;
  const said = now.error ?? { kind: "Unavailable", message: `The job is ${now.state}.` };
  throw new ApiError(0, said.kind, said.message);
}

function withoutNothing(query) {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== ""));
}

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16).padStart(8, "0")).join("");
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("left", "AbortError"));
    }, { once: true });
  });
}
