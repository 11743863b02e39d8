// What results look like: pictures, sounds, films, tables and texts. Nothing of a file is ever taken for markup.
import { button, emit, make } from "./dom.js";
import { called, label } from "./i18n.js";
import { head, local } from "./server.js";

const CARD = 600; // characters of a text on a card
const PAGE = 20_000; // and on a page of its own
const PIXELS = 128; // of a side up to which a picture's pixels are shown as they are
const MAX_TRIES = 6; // to fetch what could not be: after 2 seconds, 4, 8...
const TEXTS = /^(text|chemical)\/|json|csv|xml|yaml|toml|x-ndjson/;

/** A result as a button that opens it; `isLarge`: from its files rather than its thumbnail. */
export function tile(result, open, isLarge = false) {
  const inside = face(result, isLarge);
  const isPicture = inside.tagName === "IMG";
  const opener = make("button", { type: "button", className: "open", title: result.title, onclick: () => open(result) }, inside);
  const kind = `${label("system", result.system)} · ${label("verb", result.verb)}`;
  const caption = inside.textContent === result.title ? kind : result.title;
  if (!isPicture) opener.append(make("span", { className: "caption", textContent: caption }));
  const node = make("article", { className: isPicture ? "tile" : "tile wide", data: { id: result.id } }, opener);
  const [first] = result.files;
  if (kindOf(first) === "audio") node.append(sound(first));
  if (result.model) node.append(button("model.use", () => emit("use-model", result.model), "use"));
  return node;
}

function face(result, isLarge) {
  const [first] = result.files;
  const isPicture = kindOf(first) === "image";
  if (result.thumbnail && !(isLarge && isPicture)) return picture(result.thumbnail, result.title);
  if (isPicture) return picture(first.url, result.title);
  if (result.model) return make("strong", { textContent: called("model", result.model) });
  if (result.row.text) return textBlock(result.row.text.slice(0, CARD));
  if (kindOf(first) === "video") return player(first, "video", { muted: true, preload: "metadata" });
  if (kindOf(first) === "text") return lines(first, CARD);
  if (first) return make("strong", { textContent: first.name });
  return make("strong", { textContent: label("verb", result.verb) });
}

/** A text: the lines of a table as they are, others as wide as there is place. */
export function textBlock(text, isTable = /^\s*\|/m.test(text)) {
  return make("pre", { className: isTable ? "" : "prose", textContent: text });
}

/** A file, as large as there is place. */
export function preview(file, alt) {
  const kind = kindOf(file);
  if (kind === "image") return picture(file.url, alt);
  if (kind === "audio") return sound(file);
  if (kind === "video") return player(file, "video", { controls: true, loop: true });
  if (kind === "text") return lines(file, PAGE);
  return null;
}

function kindOf(file) {
  if (!file) return "";
  const [kind] = file.media.split("/");
  return ["image", "audio", "video"].includes(kind) ? kind : TEXTS.test(file.media) ? "text" : "";
}

function picture(src, alt) {
  const address = local(src);
  const image = make("img", { loading: "lazy", src: address, alt });
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= PIXELS));
  return mending(image, () => (image.src = address));
}

function player({ url, name }, tag, options) {
  const node = make(tag, { src: local(url), ariaLabel: name, ...options });
  return mending(node, () => node.load());
}

const sound = (file) => player(file, "audio", { controls: true, preload: "none" });

const broken = new Map(); // what could not be fetched, and what fetches it again

/** A node whose file is fetched again where that failed: a few times, and when the studio is there again. */
function mending(node, fetchAgain) {
  let tries = 0;
  const again = () => broken.delete(node) && node.isConnected && fetchAgain();
  node.addEventListener("error", () => {
    broken.set(node, again);
    if (tries < MAX_TRIES) setTimeout(again, 2000 * 2 ** tries++);
  });
  return node;
}

/** The first lines of a file, which are fetched when they come in sight. */
function lines(file, length) {
  const node = Object.assign(textBlock("", file.media !== "text/plain"), { file, length });
  if (length === PAGE) node.tabIndex = 0; // it may be scrolled
  watcher.observe(node);
  return mending(node, () => watcher.observe(node));
}

const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    const failed = () => target.dispatchEvent(new Event("error"));
    head(target.file.url, target.length).then((text) => (target.textContent = text), failed);
  }
});

document.addEventListener("reconnected", () => [...broken.values()].forEach((again) => again()));
