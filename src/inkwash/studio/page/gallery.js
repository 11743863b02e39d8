// All results that were ever made, newest first, found by their system and their words.
import { emit } from "./dom.js";
import { label, t } from "./i18n.js";
import { tile } from "./media.js";
import { isOffered, systems } from "./registry.js";
import { open } from "./result.js";
import { attempt, request } from "./server.js";

const PAGE = 48;
const MAX_LISTED = 200; // at once
const PAUSE = 250; // milliseconds without a key, then it is searched
const [container, all, more, none, search, filter] = ["results", "all", "older", "none", "search", "filter"].map((id) =>
  document.getElementById(id),
);
const tiles = new Map(); // by the result's id: {node, result}
const deleted = new Set(); // ids: news that come late do not bring them back
let listed = null; // the query that the list was asked for
let lists = 0; // so far: an answer that comes late is not shown

/**
 * Lists from the newest on, or, `further`, on from the last that is there. What came meanwhile stays; what was
 * deleted elsewhere goes.
 */
export async function list(further = false) {
  const turn = ++lists;
  const wanted = new URLSearchParams({ words: search.value, ...(filter.value && { system: filter.value }) }).toString();
  const before = [...tiles.keys()];
  const count = further || wanted !== listed ? PAGE : Math.min(Math.max(tiles.size, PAGE), MAX_LISTED);
  const from = further ? `&before=${all.lastElementChild.dataset.id}` : "";
  more.disabled = true;
  const found = await attempt(container, () => request("GET", `/api/results?${wanted}&limit=${count}${from}`));
  if (turn !== lists) return;
  more.disabled = false;
  if (!found) return;
  const joins = further || (wanted === listed && found.some(({ id }) => tiles.has(id)));
  if (!joins) before.forEach(remove);
  else if (!further) forget(before, found, found.length < count ? -Infinity : found.at(-1).created);
  if (further || !joins) more.hidden = found.length < PAGE;
  found.forEach(add);
  listed = wanted;
  sayWhetherEmpty();
  watcher.unobserve(more);
  watcher.observe(more); // which tells anew whether it is in sight
}

export function clear() {
  [...tiles.keys()].forEach(remove);
  listed = null;
}

/** Of these ids, those that were made since a moment and are not among the results were deleted elsewhere. */
function forget(ids, results, since) {
  const isMissing = (id) => tiles.get(id)?.result.created >= since && !results.some((result) => result.id === id);
  for (const id of ids) if (isMissing(id)) emit("deleted", id);
}

/** The results of a job that has ended are all that there are of it. */
export function forgetOthers({ id, results }) {
  forget([...tiles.keys()].filter((key) => tiles.get(key).result.job === id), results, -Infinity);
}

export const isDeleted = ({ id }) => deleted.has(id);

/** Results that were just made, if they are what is searched for. */
export function addResults(results) {
  const words = search.value.toLowerCase().split(/\s+/);
  const isWanted = ({ title, system }) =>
    (!filter.value || system === filter.value) && words.every((word) => title.toLowerCase().includes(word));
  for (const result of results.filter(isWanted)) {
    const last = tiles.get(all.lastElementChild?.dataset.id)?.result;
    const comesLater = !more.hidden && last && result.created < last.created; // with a further list
    if (!comesLater) add(result);
  }
  sayWhetherEmpty();
}

function add(result) {
  if (tiles.has(result.id) || isDeleted(result)) return;
  const node = tile(result, open);
  const older = [...all.children].find((one) => tiles.get(one.dataset.id).result.created < result.created);
  all.insertBefore(node, older ?? null);
  tiles.set(result.id, { node, result });
}

function remove(id) {
  tiles.get(id)?.node.remove();
  tiles.delete(id);
  sayWhetherEmpty();
}

function sayWhetherEmpty() {
  none.hidden = tiles.size > 0 || listed === null;
  none.textContent = t(search.value.trim() || filter.value ? "results.nothing" : "results.none");
}

/** The systems to choose from, by their names in the language. */
export function nameSystems() {
  const { value } = filter;
  const options = systems.filter(isOffered).map(({ name }) => new Option(label("system", name), name));
  filter.replaceChildren(new Option(t("results.all"), ""), ...options);
  filter.value = value;
}

const watcher = new IntersectionObserver(([entry]) => entry.isIntersecting && more.click());
more.addEventListener("click", () => list(true));
let pause;
search.addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(list, PAUSE);
});
filter.addEventListener("change", () => list());
document.addEventListener("deleted", ({ detail }) => {
  deleted.add(detail);
  remove(detail);
});
document.addEventListener("language", () => {
  nameSystems();
  sayWhetherEmpty();
});
