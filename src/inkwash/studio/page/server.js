// What the page asks of the studio, what the studio tells by itself, and how a refusal is said.
import { duration, t } from "./i18n.js";

const BATCH = 16_000_000; // bytes of files in one request
const AT_ONCE = 100; // files in one request

/** Why something was not done: the HTTP status (0: nobody answered), the API's code, words and parameter. */
class Problem extends Error {
  constructor(status, { code = "", message = "", param = null } = {}, wait = 1) {
    super(message);
    Object.assign(this, { status, code, param, wait });
  }
}

/** An address of the studio as the API writes it, "/api/...", from wherever the studio's root is: the page's base. */
export const local = (path) => `.${path}`;

/** JSON, with whole numbers as text where JavaScript would round them. */
const parse = (text) =>
  JSON.parse(text, (_, value, { source } = {}) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) && source ? source : value,
  );

/** What `read` makes of the answer; a Problem for a refusal, and where nobody answers. */
async function ask(read, method, path, body, headers = {}) {
  const isForm = body instanceof FormData;
  const content = isForm || body === undefined ? {} : { "content-type": "application/json" };
  try {
    const sent = isForm || body === undefined ? body : JSON.stringify(body);
    const answer = await fetch(local(path), { method, headers: { ...content, ...headers }, body: sent });
    if (answer.ok) return await read(answer);
    const { error } = await answer.json();
    if (error.code === "not_logged_in") document.dispatchEvent(new Event("signed-out"));
    throw new Problem(answer.status, error, Number(answer.headers.get("retry-after") ?? 1));
  } catch (error) {
    throw error instanceof Problem ? error : new Problem(0); // or a proxy answers, and not the studio
  }
}

const read = async (answer) => (answer.status === 204 ? null : parse(await answer.text()));

export const request = (...what) => ask(read, ...what);

/** A file of the studio. */
export const download = (path) => ask((answer) => answer.blob(), "GET", path);

/** Files become uploads: {sha256, name, media, bytes} each. `unpack`: a zip becomes the files in it. */
export async function upload(files, unpack = false) {
  const batches = [];
  let bytes = Infinity;
  for (const file of files) {
    if (bytes + file.size > BATCH || batches.at(-1).length === AT_ONCE) {
      batches.push([]);
      bytes = 0;
    }
    batches.at(-1).push(file);
    bytes += file.size;
  }
  const uploads = [];
  for (const batch of batches) {
    const body = new FormData();
    for (const file of batch) body.append("files", file, file.name);
    uploads.push(...(await request("POST", `/api/uploads?unpack=${unpack}`, body)));
  }
  return uploads;
}

/** The first so many bytes of a file, as text. */
export const head = (path, bytes) => ask((answer) => beginning(answer, bytes), "GET", path);

async function beginning(answer, bytes) {
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += decoder.decode(part.value, { stream: true });
    if (text.length >= bytes) break;
  }
  reader.cancel();
  return text.slice(0, bytes);
}

/** Does something of which a refusal is said: by `tell`, or in the `.message` line of `node`. */
export async function attempt(node, action, tell = (text) => say(node, text, true)) {
  say(node, "");
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tell(explain(error), error);
  }
}

/** Waits for something that is asked again anyway; that the studio is gone, the stream says. */
export const quietly = (promise) =>
  promise.catch((error) => {
    if (!(error instanceof Problem)) throw error;
  });

export function say(node, text, bad = false) {
  const line = node.querySelector(":scope > .message");
  line.textContent = text;
  line.classList.toggle("bad", bad);
  line.classList.toggle("unreached", text === t("error.reach"));
}

/** That the studio cannot be reached is not true any more. */
export function unsay() {
  for (const line of document.querySelectorAll(".unreached")) say(line.parentElement, "");
}

function explain({ status, code, message, wait }) {
  if (status === 0) return t("error.reach");
  if (code === "not_logged_in") return ""; // the login form says so
  if (code === "wrong_password") return t("error.password");
  if (code === "used_link") return t("login.used");
  if (code === "busy") return t("error.locked", { wait: duration(wait) });
  if (code === "database_lost") return t("error.lost");
  if (status === 429) return t(code === "quota" ? "error.quota" : "error.busy", { wait: duration(wait) });
  if (code === "no_recipe" || code === "invalid_image") return t("error.recipe");
  if (status === 404 && code === "not_found") return t("error.missing");
  if (status === 413) return t("error.large");
  if (status === 507) return t("error.full");
  return t("error.other", { message });
}

/**
 * Hears of all jobs, by one event stream: `onJob` with the whole job each time, `onOpen` whenever it begins (what
 * happened before was perhaps missed), `onGone` when it breaks. The browser mends it by itself, unless the answer was
 * a refusal. A page that nobody looks at has none: a browser keeps only six connections to one host.
 */
export function listen(onJob, onOpen, onGone) {
  let source = null;
  const close = () => source?.close();
  function open() {
    close();
    source = new EventSource(local("/api/events"));
    source.addEventListener("open", onOpen);
    source.addEventListener("job", (event) => onJob(parse(event.data)));
    source.addEventListener("error", () => {
      onGone();
      if (source.readyState === EventSource.CLOSED) setTimeout(reconnect, 3000, source);
    });
  }
  async function reconnect(broken) {
    await quietly(request("GET", "/api/session")); // which says it if the session is over
    if (broken === source && !document.hidden) open();
  }
  const update = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", update);
  update();
  return () => {
    document.removeEventListener("visibilitychange", update);
    close();
    source = null;
  };
}
