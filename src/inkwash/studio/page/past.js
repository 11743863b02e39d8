// Jobs that failed or were cancelled, with their words, until they are deleted.
import { createCard, render } from "./jobs.js";
import { attempt, request } from "./server.js";

const PAGE = 12;
const fold = document.getElementById("past");
const [all, more] = ["div", "button"].map((tag) => fold.querySelector(`:scope > ${tag}`));
let cards = [];
let lists = 0; // so far: an answer that comes late is not shown

/** Lists from the newest on, or, `further`, on from the last that is there; while it is folded it asks if there is one. */
export async function listPast(further = false) {
  const turn = ++lists;
  const count = fold.open ? PAGE : 1;
  const from = further ? `&before=${cards.at(-1).job.id}` : "";
  const found = await attempt(fold, () =>
    request("GET", `/api/jobs?status=failed&status=cancelled&limit=${count}${from}`),
  );
  if (!found || turn !== lists) return;
  const before = further ? cards : [];
  const others = fold.open ? found.map((job) => Object.assign(createCard(job), { job })) : [];
  cards = [...before, ...others];
  cards.slice(before.length).forEach(render);
  all.replaceChildren(...cards.map(({ node }) => node));
  more.hidden = found.length < PAGE;
  fold.hidden = !found.length && !before.length;
}

fold.addEventListener("toggle", () => listPast());
more.addEventListener("click", () => listPast(true));
for (const change of ["past", "erased", "deleted"]) document.addEventListener(change, () => listPast());
document.addEventListener("language", () => cards.forEach(render));
