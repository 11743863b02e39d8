// My pictures: all that were ever made, newest first, found by their words.
import { open } from "./picture.js";
import { attempt, request } from "./server.js";
import { t } from "./words.js";

const PAGE = 48;
const PAUSE = 250; // milliseconds without a key, then it is searched
const [place, all, more, none, search] = ["pictures", "all", "more", "none", "search"].map((id) =>
  document.getElementById(id),
);
const tiles = new Map(); // by the picture's id: {node, picture}
let listed = null; // the words that the list was asked for
let asked = 0; // lists so far: an answer that comes late is not shown

/** Lists from the newest on, or, `further`, on from the last that is there. What came meanwhile stays. */
export async function list(further = false) {
  const turn = ++asked;
  const words = search.value;
  const before = [...tiles.keys()];
  const query = new URLSearchParams({ words, limit: PAGE });
  if (further) query.set("before", all.lastElementChild.dataset.id);
  more.disabled = true;
  const found = await attempt(place, () => request("GET", `/api/pictures?${query}`));
  if (turn !== asked) return;
  more.disabled = false;
  if (!found) return;
  const joins = further || (words === listed && found.some(({ id }) => tiles.has(id)));
  if (!joins) before.forEach(remove);
  if (further || !joins) more.hidden = found.length < PAGE;
  found.forEach(add);
  listed = words;
  sayWhetherEmpty();
  watcher.unobserve(more);
  watcher.observe(more); // which tells anew whether it is in sight
}

export function clear() {
  [...tiles.keys()].forEach(remove);
  listed = null;
}

/** Pictures that were just made, if they have the words that are searched for. */
export function addPictures(pictures) {
  const words = search.value.toLowerCase().split(/\s+/);
  const wanted = ({ recipe }) => words.every((word) => recipe.prompt.toLowerCase().includes(word));
  pictures.filter(wanted).forEach((picture) => {
    const last = tiles.get(all.lastElementChild?.dataset.id)?.picture;
    const comesLater = !more.hidden && last && picture.created < last.created; // with a further list
    if (!comesLater) add(picture);
  });
  sayWhetherEmpty();
}

function add(picture) {
  if (tiles.has(picture.id)) return;
  const node = newTile(picture);
  const older = [...all.children].find((one) => tiles.get(one.dataset.id).picture.created < picture.created);
  all.insertBefore(node, older ?? null);
  tiles.set(picture.id, { node, picture });
}

function newTile(picture) {
  const node = Object.assign(document.createElement("button"), { type: "button", className: "tile" });
  const { prompt } = picture.recipe;
  const image = Object.assign(new Image(), { loading: "lazy", src: picture.thumbnail, alt: prompt, title: prompt });
  image.classList.toggle("small", picture.width <= 128);
  node.dataset.id = picture.id;
  node.append(image);
  node.onclick = () => open(picture);
  return node;
}

function remove(id) {
  tiles.get(id)?.node.remove();
  tiles.delete(id);
  sayWhetherEmpty();
}

function sayWhetherEmpty() {
  none.hidden = tiles.size > 0 || listed === null;
  none.textContent = t(search.value.trim() ? "pictures.nothing" : "pictures.none");
}

const watcher = new IntersectionObserver(([entry]) => entry.isIntersecting && more.click());
more.addEventListener("click", () => list(true));
let pause;
search.addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(list, PAUSE);
});
document.addEventListener("deleted", (event) => remove(event.detail));
document.addEventListener("language", sayWhetherEmpty);
