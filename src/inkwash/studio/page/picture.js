// One picture, large: how it was made, and what can be done with it.
import { attempt, request, say } from "./server.js";
import { called, moment, t } from "./words.js";

const FACTS = [
  "style negative seed sampler steps guidance size transparent strength border",
  "model created hash runtime device version",
].flatMap((names) => names.split(" "));
const dialog = document.getElementById("picture");
const find = (what) => dialog.querySelector(what);
let picture = null;

export function open(which) {
  picture = which;
  const { recipe, url, width } = picture;
  const image = find("img");
  image.src = url;
  image.alt = recipe.prompt;
  image.classList.toggle("small", width <= 128);
  find("h2").textContent = recipe.prompt;
  find(".save").href = url;
  find(".bare").href = `${url}?recipe=false`;
  find("[name=words]").checked = false;
  say(dialog, "");
  askWhetherSure(false);
  tell();
  showShare(null);
  dialog.showModal();
  changeShare("GET");
}

const path = () => `/api/pictures/${picture.id}`;

/** Does something to the picture, and says in the dialog if it was refused. */
const act = (action) => attempt(dialog, action);

/** The facts and the command, which are told in the language of the page. */
function tell() {
  if (!picture) return;
  const { recipe, created } = picture;
  const facts = { ...recipe, created: moment(created), hash: recipe.hash?.slice(0, 12) };
  if (recipe.style) facts.style = called("style", recipe.style);
  if (recipe.transparent) facts.transparent = t("recipe.yes");
  const there = FACTS.filter((name) => ![undefined, null, "", false].includes(facts[name]));
  find("dl").replaceChildren(...there.flatMap((name) => [cell("dt", t(`recipe.${name}`)), cell("dd", facts[name])]));
  find("code").textContent = command(recipe);
  find(".command").hidden = Boolean(recipe.image); // which the studio does not keep
}

function cell(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}

/** The command that makes the picture again. */
function command(recipe) {
  const options = ["style", "seed", "sampler", "steps", "guidance", "negative", "size", "model"]
    .filter((name) => (recipe[name] ?? "") !== "")
    .map((name) => `--${name} ${quoted(recipe[name])}`);
  if (recipe.transparent) options.push("--transparent");
  const start = recipe.prompt.startsWith("-") ? "-- " : ""; // else it would be an option itself
  return ["inkwash generate", ...options, start + quoted(recipe.prompt, true)].join(" ");
}

/** A word as a shell takes it. */
function quoted(value, always = false) {
  const text = String(value);
  if (!always && /^[\w.:/+-]+$/.test(text)) return text;
  return /["$`\\!%]/.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : `"${text}"`;
}

function showShare(share) {
  const { href } = new URL(share?.url ?? "", location);
  const link = find(".shared a");
  find(".shared").hidden = find(".end").hidden = !share;
  find(".begin").hidden = Boolean(share);
  find("[name=words]").disabled = Boolean(share);
  if (share) find("[name=words]").checked = share.recipe;
  link.textContent = link.href = share ? href : "";
}

function askWhetherSure(asks) {
  find(".sure").hidden = !asks;
  find(".delete").hidden = asks;
}

function changeShare(method, body) {
  const { id } = picture;
  return act(async () => {
    const share = await request(method, `${path()}/share`, body);
    if (picture.id === id) showShare(share); // not if another was opened meanwhile
  });
}

function remove() {
  const { id } = picture;
  return act(async () => {
    await request("DELETE", path());
    if (picture.id === id) dialog.close();
    emit("deleted", id);
  });
}

const emit = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));

find(".close").onclick = () => dialog.close();
find(".use").onclick = () => {
  dialog.close();
  emit("use", picture.recipe);
};
find(".begin").onclick = () => changeShare("PUT", { recipe: find("[name=words]").checked });
find(".end").onclick = () => changeShare("DELETE");
find(".delete").onclick = () => {
  askWhetherSure(true);
  find(".no").focus();
};
find(".no").onclick = () => {
  askWhetherSure(false);
  find(".delete").focus();
};
find(".yes").onclick = remove;
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // beside it
});
document.addEventListener("language", tell);
