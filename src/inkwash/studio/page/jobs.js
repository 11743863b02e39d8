// The jobs that are open, and those that ended last: a card each, as the studio last told of it.
import { emit, make, setText } from "./dom.js";
import { addResults } from "./gallery.js";
import { called, duration, label, t, translate } from "./i18n.js";
import { tile } from "./media.js";
import { findVerb, titleOf } from "./registry.js";
import { open } from "./result.js";
import { attempt, quietly, request } from "./server.js";

const MAX_CARDS = 12; // cards: a program may have put thousands in the queue
const MAX_PLACES = 16; // places of results that are still to come, at most
const INTERVAL = 4000; // milliseconds
const DAY = 86_400; // seconds
const OPEN = ["queued", "running", "paused"];
const container = document.getElementById("jobs");
const cards = new Map(); // by the job's id
const removed = new Set();

const isLasting = ({ system, verb }) => findVerb(system, verb)?.lasting ?? false;
const hasEnded = (job) => !OPEN.includes(job.status);
const areOpen = () => [...cards.values()].map((card) => card.job).filter((job) => !hasEnded(job));

/** Takes in what a job is now; news that come late are ignored. */
export function show(job) {
  addResults(job.results);
  if (removed.has(job.id) || (!cards.has(job.id) && cards.size >= MAX_CARDS && job.status !== "running")) return;
  const card = cards.get(job.id) ?? newCard(job);
  if (job.changed < card.job.changed || (hasEnded(card.job) && job.changed === card.job.changed)) return;
  const made = job.results.findLast(({ model }) => model)?.model;
  const isNew = job.results.length > card.job.results.length || job.status !== card.job.status;
  card.job = job;
  render(card);
  if (made && isNew) emit(card.isUsed && job.status === "done" ? "use-model" : "models", made);
}

/** Asks for what was perhaps missed: jobs that are open now, and those on the page that were. */
export async function catchUp() {
  const query = OPEN.map((status) => `status=${status}`).join("&");
  const found = await request("GET", `/api/jobs?${query}&limit=${MAX_CARDS}`);
  const missed = areOpen().filter((job) => !found.some(({ id }) => id === job.id));
  const ended = await Promise.all(missed.map((job) => request("GET", `/api/jobs/${job.id}`)));
  [...ended, ...found.reverse()].forEach(show);
}

/** Trainings that failed not long ago: they can go on from their last checkpoint. */
export async function recall() {
  const failed = await request("GET", `/api/jobs?status=failed&limit=${MAX_CARDS}`);
  const isRecent = ({ changed }) => changed > Date.now() / 1000 - DAY;
  failed.filter((job) => isRecent(job) && isLasting(job)).reverse().forEach(show);
}

export function clearEnded() {
  for (const card of cards.values()) if (hasEnded(card.job)) remove(card);
}

export function clearAll() {
  for (const card of cards.values()) remove(card);
  removed.clear();
}

function remove(card) {
  card.node.remove();
  cards.delete(card.job.id);
  removed.add(card.job.id);
}

function newCard(job) {
  const node = document.getElementById("job").content.cloneNode(true).firstElementChild;
  const card = { node, job: { ...job, status: "queued", changed: 0, results: [] }, tiles: new Map(), isUsed: false };
  node.querySelector("h3").textContent = titleOf(job);
  for (const name of ["pause", "resume", "stop", "cancel"]) {
    node.querySelector(`.${name}`).onclick = () => {
      if (name === "stop") card.isUsed = true;
      return attempt(node, () => change(job, name));
    };
  }
  node.querySelector(".again").onclick = () => attempt(node, () => again(job));
  translate(node);
  const old = [...cards.values()].find((card) => hasEnded(card.job));
  if (cards.size >= MAX_CARDS && old) remove(old);
  cards.set(job.id, card);
  container.prepend(node);
  return card;
}

async function change(job, how) {
  show(await request("POST", `/api/jobs/${job.id}/${how}`));
  await catchUp(); // those behind it have come nearer
}

/** The same once more, by chance another. */
async function again({ system, verb, request: { seed, ...values } }) {
  show(await request("POST", `/api/jobs/${system}/${verb}`, values));
}

function render(card) {
  const { node, job } = card;
  const { status, system, verb, notes } = job;
  const find = (what) => node.querySelector(what);
  const lasts = isLasting(job);
  const kind = [label("system", system), label("verb", verb), ...(job.model ? [called("model", job.model)] : [])];
  setText(find(".kind"), kind.join(" · "));
  setText(find(".state"), stateOf(job));
  find(".state").classList.toggle("bad", status === "failed");
  setText(find(".step"), stepOf(job));
  setText(find(".notes"), notes.join("\n"));
  find(".pause").hidden = !lasts || status !== "running";
  find(".resume").hidden = status !== "paused" && !(lasts && status === "failed");
  find(".stop").hidden = !lasts || !["running", "paused"].includes(status);
  find(".cancel").hidden = hasEnded(job);
  find(".again").hidden = lasts || !hasEnded(job);
  find("progress").hidden = status !== "running";
  renderBar(find("progress"), job);
  renderResults(card, find(".results"));
}

function stateOf({ status, queue_position: position, error }) {
  if (status === "queued") return position ? t("jobs.ahead", { position }) : t("jobs.next");
  return t(`jobs.${status}`, { error });
}

const countOf = ({ request: { n } }) => (Number.isInteger(n) ? n : 1);

function stepOf(job) {
  const { status, progress, plan } = job;
  const isPlanned = status === "queued" && typeof plan?.seconds === "number";
  if (!progress) return isPlanned ? t("plan.seconds", { time: duration(plan.seconds) }) : "";
  const { place, done, total, seconds_left: secondsLeft } = progress;
  const parts = [];
  if (countOf(job) > 1 && place !== null) parts.push(t("jobs.place", { place: place + 1, n: countOf(job) }));
  if (total) parts.push(t("jobs.step", { done, total }));
  if (typeof secondsLeft === "number") parts.push(t("jobs.left", { time: duration(secondsLeft) }));
  return parts.join(" · ");
}

function renderBar(bar, job) {
  const { progress, results } = job;
  const finished = results.filter(({ place }) => place !== null).length;
  const isForming = progress?.total && !results.some(({ place }) => place === progress.place);
  const fraction = isForming ? progress.done / progress.total : 0;
  bar.value = countOf(job) > 1 ? (finished + fraction) / countOf(job) : fraction;
}

/** The results that are there, and, where they are pictures, the places of those to come. */
function renderResults({ job, tiles }, strip) {
  const { results, progress } = job;
  const arePictures = progress?.preview || results.some(({ media }) => media.startsWith("image/"));
  const isDue = (place) => !hasEnded(job) && arePictures && !results.some((result) => result.place === place);
  const places = Array.from({ length: Math.min(MAX_PLACES, countOf(job)) }, (_, place) => place).filter(isDue);
  const cached = (key, create) => tiles.get(key) ?? tiles.set(key, create()).get(key);
  const nodes = results.map((result) => cached(result.id, () => tile(result, open, true)));
  nodes.push(...places.map((place) => renderForming(cached(place, newForming), place, progress)));
  const isSame = nodes.length === strip.children.length && nodes.every((node, index) => node === strip.children[index]);
  if (!isSame) strip.replaceChildren(...nodes); // else nothing loses the focus
  strip.hidden = !nodes.length;
}

const newForming = () => make("div", { className: "tile coming" }, make("img", { className: "small", hidden: true }));

/** What a picture looks like so far, or an empty sheet. */
function renderForming(node, place, progress) {
  const image = node.firstElementChild;
  image.alt = t("jobs.forming", { place: place + 1 });
  if (place !== progress?.place || !progress.preview) return node;
  node.classList.add("forming");
  image.src = `data:image/png;base64,${progress.preview}`;
  image.hidden = false;
  return node;
}

setInterval(() => {
  // a stream tells of a job that waits only when it is its turn; and some proxies hold streams back
  if (areOpen().length && !document.hidden) quietly(catchUp());
}, INTERVAL);
document.addEventListener("language", () => cards.forEach(render));
document.addEventListener("deleted", ({ detail }) => {
  for (const card of cards.values()) {
    card.job = { ...card.job, results: card.job.results.filter(({ id }) => id !== detail) };
    render(card);
  }
});
