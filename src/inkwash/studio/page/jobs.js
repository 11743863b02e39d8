// The jobs that are open, and those that ended last: a card each, as the studio last told of it.
import { deleting, emit, make, setText } from "./dom.js";
import { addResults, forgetOthers, isDeleted } from "./gallery.js";
import { called, duration, label, t, translate } from "./i18n.js";
import { tile } from "./media.js";
import { findVerb, titleOf } from "./registry.js";
import { open } from "./result.js";
import { attempt, quietly, request } from "./server.js";

const MAX_CARDS = 12; // of one's own, and as many of programs, which may have put thousands in the queue
const MAX_PLACES = 16; // places of results that are still to come, at most
const INTERVAL = 4000; // milliseconds
const DAY = 86_400; // seconds
const OPEN = ["queued", "running", "paused"];
const FRUITLESS = ["failed", "cancelled"];
const PROGRAMS = ["api", "openai", "a1111"];
const own = document.querySelector("#jobs > .own");
const programs = document.querySelector("#jobs > .programs");
const cards = new Map(); // by the job's id
const versions = new Map(); // by the job's id: the newest that was heard of
const removed = new Set();

const isLasting = ({ system, verb }) => findVerb(system, verb)?.lasting ?? false;
const isOwn = ({ api }) => !PROGRAMS.includes(api);
const hasEnded = (job) => !OPEN.includes(job.status);
export const shown = () => [...cards.values()].map((card) => card.job);
const areOpen = () => shown().filter((job) => !hasEnded(job));
const cardsBeside = (job) => [...cards.values()].filter((card) => isOwn(card.job) === isOwn(job));

/** Takes in what a job is now; news that come late are ignored. */
export function show(news) {
  if (news.version < versions.get(news.id)) return;
  versions.set(news.id, news.version);
  const job = { ...news, results: news.results.filter((result) => !isDeleted(result)) };
  addResults(job.results);
  if (hasEnded(job)) forgetOthers(job);
  if (!cards.has(job.id) && !hasPlace(job)) return;
  const card = cards.get(job.id) ?? addCard(job);
  const made = job.results.findLast(({ model }) => model)?.model;
  const isNew = job.results.length > card.job.results.length || job.status !== card.job.status;
  card.job = job;
  render(card);
  if (hasEnded(job) && !isOwn(job) && !programs.open) drop(card); // nobody looks at it
  renderPrograms();
  if (isNew && FRUITLESS.includes(job.status)) emit("past");
  if (made && isNew) emit(card.isUsed && job.status === "done" ? "use-model" : "models", made);
}

/** Whether a job that has no card gets one. */
function hasPlace(job) {
  if (removed.has(job.id) || (hasEnded(job) && !isOwn(job))) return false;
  return job.status === "running" || cardsBeside(job).length < MAX_CARDS;
}

/** Asks for what was perhaps missed: jobs that are open now, and those that the page knows. */
export async function catchUp(known = areOpen()) {
  const found = (await Promise.all([["page"], PROGRAMS].map(listOpen))).flat();
  const missed = known.filter((job) => !found.some(({ id }) => id === job.id));
  const ended = await Promise.all(missed.map(({ id }) => request("GET", `/api/jobs/${id}`).catch(unlessMissing(id))));
  [...ended.filter(Boolean), ...found.reverse()].forEach(show);
}

/** What was said of a job: that it is there no more, as it was deleted elsewhere, takes it from the page. */
const unlessMissing = (id) => (problem) => {
  if (problem.status !== 404) throw problem;
  emit("erased", id);
};

function listOpen(apis) {
  const query = [...OPEN.map((status) => ["status", status]), ...apis.map((api) => ["api", api]), ["limit", MAX_CARDS]];
  return request("GET", `/api/jobs?${new URLSearchParams(query)}`);
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
  for (const card of cards.values()) drop(card);
  for (const known of [versions, removed]) known.clear();
  renderPrograms();
}

function remove(card) {
  drop(card);
  removed.add(card.job.id);
}

function drop(card) {
  card.node.remove();
  cards.delete(card.job.id);
}

function addCard(job) {
  const card = createCard(job);
  const beside = cardsBeside(job);
  const old = beside.find((card) => hasEnded(card.job));
  if (beside.length >= MAX_CARDS && old) remove(old);
  cards.set(job.id, card);
  (isOwn(job) ? own : programs.lastElementChild).prepend(card.node);
  return card;
}

/** A card, for `render` to fill in. */
export function createCard(job) {
  const node = document.getElementById("job").content.cloneNode(true).firstElementChild;
  const card = { node, job: { ...job, status: "queued", results: [] }, tiles: new Map(), isUsed: false };
  node.querySelector("h3").textContent = titleOf(job);
  for (const name of ["pause", "resume", "stop", "cancel"]) {
    node.querySelector(`.${name}`).onclick = () => {
      if (name === "stop") card.isUsed = true;
      return attempt(node, () => change(job, name));
    };
  }
  node.querySelector(".again").onclick = () => attempt(node, () => again(job));
  const erased = deleting("delete.button", () => attempt(node, () => erase(card.job)), "jobs.sure");
  node.querySelector(".deleting").replaceWith(erased);
  translate(node);
  return card;
}

async function change(job, how) {
  show(await request("POST", `/api/jobs/${job.id}/${how}`));
  emit("past"); // a failed one that is resumed is none of them
  await catchUp(); // those behind it have come nearer
}

/** The same once more, by chance another. */
async function again({ system, verb, request: { seed, ...values } }) {
  show(await request("POST", `/api/jobs/${system}/${verb}`, values));
}

/** Deletes a job and its words. */
async function erase(job) {
  const path = `/api/jobs/${job.id}`;
  const isOpen = isLasting(job) && job.status === "failed"; // it might go on
  const missing = unlessMissing(job.id);
  if (isOpen) await request("POST", `${path}/cancel`).catch(missing);
  await request("DELETE", path).catch(missing);
  emit("erased", job.id);
}

function renderPrograms() {
  const count = [...cards.values()].filter(({ job }) => !isOwn(job)).length;
  programs.hidden = !count;
  const n = count < MAX_CARDS ? count : `${MAX_CARDS}+`;
  setText(programs.firstElementChild, t("jobs.programs", { n }));
}

export function render(card) {
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
  find(".deleting").hidden = !hasEnded(job);
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
document.addEventListener("language", () => {
  cards.forEach(render);
  renderPrograms();
});
document.addEventListener("erased", ({ detail }) => {
  if (cards.has(detail)) remove(cards.get(detail));
  renderPrograms();
});
document.addEventListener("deleted", ({ detail }) => {
  for (const card of cards.values()) {
    card.job = { ...card.job, results: card.job.results.filter(({ id }) => id !== detail) };
    render(card);
  }
});
