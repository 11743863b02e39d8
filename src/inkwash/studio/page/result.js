// One result, large: what it is, how it was made, and what can be done with it.
import { register, show, shut } from "./dialogs.js";
import { button, deleting, emit, link, make } from "./dom.js";
import { called, label, moment, size, t, translate } from "./i18n.js";
import { preview, textBlock } from "./media.js";
import { findSystem, findVerb, inWords, isOffered, models, systems, takes, takesFiles } from "./registry.js";
import { attempt, download, local, request, say } from "./server.js";

const WITH_RECIPE = ["image/png", "image/webp", "image/gif", "image/x-icon", "image/svg+xml"]; // which can be taken out
const MAX_PREVIEWS = 12; // files that are shown; all can be downloaded
const dialog = document.getElementById("result");
const facts = dialog.querySelector(".facts");
const find = (what) => dialog.querySelector(what);
let result = null;

export function open(opened) {
  result = opened;
  find("h2").textContent = result.title;
  find(".files").replaceChildren(...result.files.map(figure));
  find("[name=recipe]").checked = false;
  find(".share").hidden = !result.files.length;
  find(".deleting").replaceWith(deleting("delete.button", remove));
  say(facts, "");
  render();
  showShare(null);
  show(dialog, result.id);
  find(".scroll").scrollTop = 0;
  check();
}

/** Opens a result again, where it still is. */
async function reopen(id) {
  const found = await attempt(document.getElementById("results"), () => request("GET", `/api/results/${id}`));
  if (found && history.state?.detail === id) open(found); // not if one has gone back meanwhile
}

const path = () => `/api/results/${result.id}`;

/** Does something to the result, and says in the dialog if it was refused. */
const act = (action, refuse) => attempt(facts, action, refuse);

/** What is there no more, as it was deleted elsewhere, is not shown any longer. */
function leaveMissing(text, { status }) {
  if (status === 404) emit("deleted", result.id);
  else say(facts, text, true);
}

/** Whether it is shared; and whether it is there. */
const check = () => changeShare("GET", undefined, leaveMissing);

function figure(file, index) {
  const view = index < MAX_PREVIEWS ? preview(file, result.title) : null;
  const caption = make("figcaption", {}, make("span", { textContent: file.name }), make("span", { className: "faint", textContent: size(file.bytes) }));
  const address = local(file.url);
  caption.append(link("result.save", address, true));
  if (WITH_RECIPE.includes(file.media)) caption.append(link("result.bare", `${address}?recipe=false`, true));
  return make("figure", {}, ...(view ? [view] : []), caption);
}

/** All that is told in the language of the page. */
function render() {
  if (!result) return;
  const { system, verb, recipe, row, created, model } = result;
  find(".kind").textContent = `${label("system", system)} · ${label("verb", verb)} · ${moment(created)}`;
  find(".actions").replaceChildren(...actions());
  const { text = "", ...cells } = row;
  find(".table").replaceChildren(...(text ? [textBlock(text)] : []));
  const values = { ...recipe, ...cells, hash: recipe.hash?.slice(0, 12) };
  const entries = Object.entries(values).filter(([name, value]) => isTelling(name, value));
  find("dl").replaceChildren(...entries.flatMap(([name, value]) => [cell("dt", label("option", name, system)), cell("dd", wordsOf(name, value))]));
  const made = commandOf(result);
  find(".command").hidden = !made.length;
  find("code").replaceChildren(...made.flatMap((words) => [make("span", { textContent: words }), " "]));
}

function isTelling(name, value) {
  const isEmpty = value === null || value === undefined || value === "" || value === false || value.length === 0;
  const isTitle = name === nameOfTitle() && inWords(value) === result.title;
  return !isEmpty && !isTitle && !["system", "verb", "run"].includes(name);
}

const nameOfTitle = () => findVerb(result.system, result.verb)?.fields.find(({ argument }) => argument)?.name;

function wordsOf(name, value) {
  if (value === true) return t("result.yes");
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return name === "model" ? called("model", value) : called("choice", inWords(value));
}

const cell = (tag, textContent) => make(tag, { textContent });

/** What the verb that made the result was asked for, with what it chose by itself. */
function settings() {
  const names = (findVerb(result.system, result.verb)?.fields ?? []).map(({ name }) => name);
  return Object.fromEntries(Object.entries(result.recipe).filter(([name, value]) => names.includes(name) && value !== null));
}

function actions() {
  const { system, verb, files, model } = result;
  const foundVerb = findVerb(system, verb);
  const closing = (action) => async () => {
    await shut(dialog);
    action();
  };
  const found = [];
  if (model) found.push(button("model.use", closing(() => emit("use-model", model))));
  if (foundVerb && !foundVerb.lasting) found.push(button("result.use", closing(() => emit("use", { system, verb, values: settings() }))));
  const varied = foundVerb?.fields.find((field) => takes(field, files[0]?.media));
  if (varied && !foundVerb.lasting) {
    const { seed, ...values } = settings();
    found.push(button("result.vary", () => pass({ system, verb, field: varied, values, isSent: true })));
  }
  const uses = usesOf(files[0]?.media);
  if (uses.length) found.push(menuOf(uses));
  return found;
}

/** The fields of all verbs that take such a file. */
function usesOf(media) {
  return systems
    .filter((system) => system.available && isOffered(system))
    .flatMap((system) =>
      system.verbs.flatMap((verb) =>
        verb.fields.filter((field) => takes(field, media)).map((field) => ({ system: system.name, verb: verb.name, field })),
      ),
    );
}

function menuOf(uses) {
  const nameOf = ({ system, verb, field }) => [label("system", system), label("verb", verb), label("option", field.name, system)].join(" · ");
  const menu = make("select", { data: { label: "result.use_as" } }, new Option(t("result.use_as"), ""));
  menu.append(...uses.map((use, index) => new Option(nameOf(use), index)));
  menu.onchange = () => pass(uses[menu.value]);
  return menu;
}

/** Gives the first file to a field of a verb. */
function pass(use) {
  const [{ url, name, media }] = result.files;
  return act(async () => {
    const data = await download(url);
    await shut(dialog);
    emit("use-file", { ...use, file: new File([data], name, { type: media }) });
  });
}

/** The words of the command that makes the result again, none where the studio has files of it that a command line has not. */
function commandOf({ system, verb }) {
  const foundVerb = findVerb(system, verb);
  const values = settings();
  const isOwn = models.find(({ name }) => name === values.model)?.owned;
  if (!foundVerb || foundVerb.lasting || isOwn || foundVerb.fields.some((field) => takesFiles(field) && values[field.name])) return [];
  const { command, verbs } = findSystem(system);
  const name = command && verbs[0] === foundVerb ? command : `${system} ${verb}`;
  const changed = foundVerb.fields.filter((field) => values[field.name] !== undefined && values[field.name] !== field.default);
  const options = changed.filter((field) => !field.argument).flatMap((field) => optionsOf(field, values[field.name]));
  const argument = changed.filter((field) => field.argument).map((field) => String(values[field.name]));
  const start = argument[0]?.startsWith("-") ? ["--"] : []; // else it would be an option itself
  return ["inkwash", name, ...options, ...start, ...argument.map((word) => quote(word, true))];
}

function optionsOf(field, value) {
  const name = field.name.replaceAll("_", "-");
  if (field.kind === "bool") return [value ? `--${name}` : `--no-${name}`];
  return [value].flat().map((one) => `--${name} ${quote(one)}`);
}

/** A word as a shell takes it. */
function quote(value, always = false) {
  const text = String(value);
  if (!always && /^[\w.:/+-]+$/.test(text)) return text;
  return /["$`\\!%]/.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : `"${text}"`;
}

function showShare(share) {
  const { href } = new URL(local(share?.url ?? ""), document.baseURI);
  const address = find(".shared a");
  find(".shared").hidden = find(".end").hidden = !share;
  find(".begin").hidden = Boolean(share);
  const isFixed = !WITH_RECIPE.includes(result.files[0]?.media); // whose settings cannot be taken out
  find("[name=recipe]").disabled = Boolean(share) || isFixed;
  if (share || isFixed) find("[name=recipe]").checked = share ? share.recipe : true;
  address.textContent = address.href = share ? href : "";
}

function changeShare(method, body, refuse) {
  const { id } = result;
  return act(async () => {
    const share = await request(method, `${path()}/share`, body);
    if (result.id === id) showShare(share); // not if another was opened meanwhile
  }, refuse);
}

function remove() {
  const { id } = result;
  return act(async () => {
    await request("DELETE", path());
    emit("deleted", id);
  }, leaveMissing);
}

register(dialog, reopen);
find(".begin").onclick = () => changeShare("PUT", { recipe: find("[name=recipe]").checked });
find(".end").onclick = () => changeShare("DELETE");
dialog.addEventListener("close", () => find(".files").replaceChildren()); // which ends sounds and films
document.addEventListener("deleted", ({ detail }) => detail === result?.id && dialog.close());
document.addEventListener("reconnected", () => dialog.open && check());
document.addEventListener("language", render);
