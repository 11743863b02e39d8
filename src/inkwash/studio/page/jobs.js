// The jobs that are being drawn, and those that were drawn last: a card each, as the studio last told of it.
import { addPictures } from "./gallery.js";
import { open } from "./picture.js";
import { attempt, quietly, request } from "./server.js";
import { t, translate } from "./words.js";

const MOST = 12; // cards: a program may have put thousands in the queue
const AGAIN = 4000; // milliseconds
const place = document.getElementById("jobs");
const cards = new Map(); // by the job's id
const removed = new Set();

const hasEnded = (job) => job.status !== "queued" && job.status !== "running";
const areOpen = () => [...cards.values()].map((card) => card.job).filter((job) => !hasEnded(job));

/** Takes in what a job is now; news that come late are ignored. */
export function show(job) {
  addPictures(job.pictures);
  if (removed.has(job.id) || (!cards.has(job.id) && cards.size >= MOST && job.status !== "running")) return;
  const card = cards.get(job.id) ?? newCard(job);
  if (hasEnded(card.job) || job.changed < card.job.changed) return;
  card.job = job;
  render(card);
}

/** Asks for what was perhaps missed: jobs that are open now, and those on the page that were. */
export async function catchUp() {
  const open = await request("GET", `/api/jobs?status=queued&status=running&limit=${MOST}`);
  const missed = areOpen().filter((job) => !open.some(({ id }) => id === job.id));
  const ended = await Promise.all(missed.map((job) => request("GET", `/api/jobs/${job.id}`)));
  [...ended, ...open.reverse()].forEach(show);
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
  const slots = Array.from({ length: job.ask.n }, newSlot);
  const card = { node, slots, job: { ...job, status: "queued" } };
  node.querySelector("h3").textContent = job.ask.prompt;
  node.querySelector(".slots").append(...slots);
  slots.forEach((slot, index) => (slot.onclick = () => open(pictureAt(card.job, index))));
  node.querySelector(".cancel").onclick = () => attempt(node, () => cancel(job));
  translate(node);
  const old = [...cards.values()].find((card) => hasEnded(card.job));
  if (cards.size >= MOST && old) remove(old);
  cards.set(job.id, card);
  place.prepend(node);
  return card;
}

async function cancel(job) {
  show(await request("POST", `/api/jobs/${job.id}/cancel`));
  await catchUp(); // those behind it have come nearer
}

function newSlot() {
  const slot = Object.assign(document.createElement("button"), { type: "button", className: "slot" });
  slot.append(Object.assign(document.createElement("img"), { hidden: true, alt: "" }));
  return slot;
}

const pictureAt = (job, index) => job.pictures.find((picture) => picture.place === index);

function render({ node, job, slots }) {
  const { status, ask, progress, pictures } = job;
  const find = (what) => node.querySelector(what);
  setText(find(".state"), stateOf(job));
  find(".state").classList.toggle("bad", status === "failed");
  const at = progress && { place: progress.place + 1, n: ask.n, step: progress.step, steps: progress.steps };
  find(".step").textContent = at?.steps ? t("jobs.step", at) : "";
  find(".cancel").hidden = hasEnded(job);
  find("progress").hidden = status !== "running";
  find(".slots").hidden = status === "queued" && !pictures.length; // it may wait long
  const part = at?.steps && !pictureAt(job, progress.place) ? at.step / at.steps : 0;
  find("progress").value = (pictures.length + part) / ask.n;
  slots.forEach((slot, index) => renderSlot(slot, job, index));
}

function stateOf({ status, ahead, error }) {
  if (status === "queued") return ahead ? t("jobs.ahead", { ahead }) : t("jobs.next");
  return t(`jobs.${status}`, { error });
}

/** A picture that is there, one that forms, or an empty sheet. */
function renderSlot(slot, job, index) {
  const picture = pictureAt(job, index);
  const forming = job.progress?.place === index && job.progress.preview;
  const image = slot.firstElementChild;
  slot.hidden = hasEnded(job) && !picture;
  slot.disabled = !picture;
  slot.classList.toggle("forming", !picture && Boolean(forming));
  image.classList.toggle("small", Boolean(picture) && picture.width <= 128);
  image.alt = picture ? job.ask.prompt : t("jobs.forming", { place: index + 1 });
  const source = picture?.url ?? (forming ? `data:image/png;base64,${forming}` : null);
  if (source && image.getAttribute("src") !== source) image.src = source;
  if (source) image.hidden = false;
}

/** Screen readers read a status aloud each time it is written. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

setInterval(() => {
  // a stream tells of a job that waits only when it is its turn; and some proxies hold streams back
  if (areOpen().length && !document.hidden) quietly(catchUp());
}, AGAIN);
document.addEventListener("language", () => cards.forEach(render));
document.addEventListener("deleted", ({ detail }) => {
  for (const card of cards.values()) {
    card.job.pictures = card.job.pictures.filter(({ id }) => id !== detail);
    render(card);
  }
});
