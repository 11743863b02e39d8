// The form of a verb of a system: what can be asked, how long it will take, and its submission.
import { make, setText } from "./dom.js";
import { control, isLong } from "./fields.js";
import { duration, examples, explained, label, t } from "./i18n.js";
import { clearEnded, show } from "./jobs.js";
import { findSystem, findVerb, isOffered, load, loadModels, models, modelsOf, systems, takesFiles } from "./registry.js";
import { attempt, quietly, request, say } from "./server.js";

const HOME = "pictures/generate"; // where the address names no other
const LEFT_OUT = { n: () => 4, size: (usual) => (usual < 256 ? 256 : null) }; // what the page asks for by itself,
const SLOW = ["checkpoints", "engines"]; // but not of these systems
const PAUSE = 400; // milliseconds without a change, then the plan is asked for

const form = document.getElementById("create");
const [systemMenu, verbs, help, main, more, plan, submit] = "system verbs help main more plan submit"
  .split(" ")
  .map((id) => document.getElementById(id));
const forms = new Map(); // by system and verb: what was filled in stays when another is shown
let current = null; // {system, verb, controls, model}
let unsure = {}; // what was sent, but perhaps not received: sent again, it is not made twice

export async function prepare() {
  await load();
  route();
}

/** Shows what the address names. */
function route() {
  const [system, verb] = location.hash.slice(1).split("/");
  const [home, first] = HOME.split("/");
  const named = findSystem(system);
  const found = (named && isOffered(named) ? named : findSystem(home)) ?? systems[0];
  const shown = findVerb(found.name, verb) ?? findVerb(found.name, first) ?? found.verbs[0];
  const address = `#${found.name}/${shown.name}`;
  // what the address named wrongly gets no place of its own in the history, else Back would end there
  if (location.hash && location.hash !== address) history.replaceState(null, "", document.baseURI + address);
  open(found.name, shown.name);
}

function open(systemName, verbName) {
  const key = `${systemName}/${verbName}`;
  const isNew = !forms.has(key);
  if (isNew) forms.set(key, build(findSystem(systemName), findVerb(systemName, verbName)));
  if (current !== forms.get(key)) {
    current = forms.get(key);
    const { controls, model, isForemost } = current;
    const others = controls.filter((one) => one !== model);
    const shape = ({ field }) => (isLong(field) ? 0 : takesFiles(field) ? 2 : 1);
    const nodes = (wanted) => others.filter(({ field }) => wanted(field)).map(({ node }) => node);
    main.replaceChildren(...nodes(isForemost));
    others.sort((one, other) => shape(one) - shape(other)); // of a shape side by side
    more.replaceChildren(...nodes((field) => !isForemost(field)));
    document.getElementById("model").replaceChildren(...(model ? [model.node] : []));
    more.closest("details").open = !main.childElementCount;
    say(form, "");
  }
  if (location.hash.slice(1) !== key && (location.hash || key !== HOME)) location.hash = key;
  render();
}

function build(system, verb) {
  const hasChoices = (field) => (model) => model.limits?.[verb.name]?.[field.name]?.choices?.length;
  const isForemost = (field) =>
    field.argument ||
    field.required ||
    (verb.lasting && takesFiles(field)) ||
    (field.kind === "str" && !field.choices.length && modelsOf(system.name).some(hasChoices(field))); // as its styles
  const controls = verb.fields.map((field) => control(field, isForemost(field)));
  const model = controls.find(({ field }) => field.name === "model");
  if (model) model.onDelete = removeModel;
  return { system, verb, controls, model, isForemost };
}

/** All that depends on the language, the models there are, and the one that is chosen. */
function render() {
  if (!current) return;
  const { system, verb, model } = current;
  const option = ({ name }) => new Option(label("system", name), name);
  systemMenu.replaceChildren(...systems.filter((one) => one === system || isOffered(one)).map(option));
  systemMenu.value = system.name;
  verbs.replaceChildren(...system.verbs.map((one) => tab(system, one, one === verb)));
  submit.textContent = label("verb", verb.name);
  submit.disabled = !system.available;
  if (!system.available) say(form, t("form.missing", { missing: system.missing }), true);
  model?.offer(modelsOf(system.name));
  narrow();
}

function tab(system, verb, isCurrent) {
  const node = make("a", { className: "tab", href: `#${system.name}/${verb.name}`, title: verb.help });
  node.textContent = label("verb", verb.name);
  if (isCurrent) node.setAttribute("aria-current", "page");
  return node;
}

/** What the chosen model knows, of all that the verb does. */
function narrow() {
  const { system, verb, controls, model } = current;
  const chosen = models.find(({ name }) => name === model?.value);
  const limits = chosen?.limits?.[verb.name] ?? {};
  introduce(chosen);
  for (const one of controls) {
    const limit = limits[one.field.name] ?? {};
    const isLeft = verb.lasting || limit.absent || SLOW.includes(system.name);
    const preset = isLeft ? null : LEFT_OUT[one.field.name]?.(limit.default ?? one.field.default);
    one.leftOut = preset ?? undefined;
    one.narrow(preset ? { ...limit, default: preset } : limit);
  }
  askForPlan();
}

/** What the verb does and the model makes, in a newcomer's words, and what may be asked of it. */
function introduce(chosen) {
  const { system, verb, controls } = current;
  const about = chosen && !verb.lasting ? explained(`model.${chosen.name}`, chosen.about) : "";
  help.textContent = t("form.about", { help: explained(`${system.name}/${verb.name}`, verb.help), about });
  const prompt = controls.find(({ field }) => field.name === "prompt");
  if (!prompt) return;
  const texts = chosen ? examples(chosen.name) : [];
  const first = make("span", { className: "faint", data: { text: "form.examples" } });
  prompt.node.querySelector(".examples")?.remove();
  prompt.node.append(make("div", { className: "examples", hidden: !texts.length }, first, ...texts.map(suggestion)));

  function suggestion(textContent) {
    const onclick = () => {
      prompt.value = textContent;
      submit.focus({ preventScroll: true }); // in the text, a phone's keyboard would cover the page
      askForPlan();
    };
    return make("button", { type: "button", textContent, onclick });
  }
}

function values() {
  const found = current.controls.map((one) => [one.field.name, one.value ?? one.leftOut]);
  return Object.fromEntries(found.filter(([, value]) => value !== undefined));
}

let pause;
let plans = 0; // so far: an answer that comes late is not shown

function askForPlan() {
  clearTimeout(pause);
  const turn = ++plans;
  const { system, verb, controls } = current;
  const isAsked = ({ field, value }) => field.argument && !takesFiles(field) && value === undefined;
  const isEmpty = verb.lasting && !Object.keys(values()).length; // a training of nothing is refused
  const isWrong = (one) => one.problem(values()) || isAsked(one);
  if (!system.available || isEmpty || controls.some(isWrong)) return setText(plan, "");
  pause = setTimeout(async () => {
    const found = await quietly(request("POST", `/api/plans/${system.name}/${verb.name}`, values()));
    if (turn !== plans) return;
    setText(plan, typeof found?.seconds === "number" ? t("plan.seconds", { time: duration(found.seconds) }) : "");
  }, PAUSE);
}

async function send() {
  const { system, verb, controls } = current;
  await Promise.all(controls.map(({ ready }) => ready));
  controls.forEach((one) => mark(one, ""));
  const body = values();
  const wrong = controls.find((one) => one.problem(body));
  if (wrong) return complain(wrong, wrong.problem(body));
  const path = `/api/jobs/${system.name}/${verb.name}`;
  const text = path + JSON.stringify(body);
  if (unsure.text !== text) unsure = { text, key: String(crypto.getRandomValues(new BigUint64Array(2))) };
  const job = await attempt(form, () => request("POST", path, body, { "idempotency-key": unsure.key }), refuse);
  if (!job) return;
  unsure = {};
  clearEnded();
  show(job);
}

/** Says what the API refuses, at the field that it names. */
function refuse(text, { param }) {
  const names = String(param).split(".");
  const wrong = current.controls.find(({ field, node }) => names.includes(field.name) && !node.hidden);
  if (wrong) complain(wrong, text);
  else say(form, text, true);
}

function complain(one, text) {
  if (more.contains(one.node)) more.closest("details").open = true;
  mark(one, text).focus();
}

function mark({ node }, text) {
  const input = node.querySelector("input, select, textarea");
  say(node, text, true);
  input.setAttribute("aria-invalid", String(Boolean(text)));
  return input;
}

/** Takes over settings. Those that are lacking are as usual. */
function use({ system, verb, values = {}, text = "" }) {
  open(system, verb);
  const { controls, model } = current;
  if (model) model.value = values.model;
  narrow();
  for (const one of controls) {
    mark(one, "");
    if (one !== model) one.value = values[one.field.name];
  }
  askForPlan();
  const isElsewhere = model && values.model && model.value !== values.model;
  say(form, isElsewhere ? t("form.elsewhere", { model: values.model }) : text);
  form.scrollIntoView();
}

const recovered = (verb) => t("form.recovered", { verb: label("verb", verb) });

/** Reads the settings in a result's file. */
export async function recover(file) {
  const body = new FormData();
  body.append("file", file);
  const found = await attempt(form, () => request("POST", "/api/recipe", body));
  if (found && !findVerb(found.system, found.verb)) return say(form, t("error.recipe"), true);
  if (found) use({ ...found, values: found.request, text: recovered(found.verb) });
  else form.scrollIntoView();
}

/** Opens the form of the first verb that uses a model. */
function useModel(name) {
  const { system } = models.find((model) => model.name === name) ?? {};
  const hasModel = ({ fields }) => fields.some((field) => field.name === "model");
  const able = findSystem(system)?.verbs.filter(hasModel) ?? [];
  const verb = able.find(({ lasting }) => !lasting) ?? able[0];
  if (!verb) return say(form, t("error.missing"), true);
  open(system, verb.name);
  current.model.value = name;
  narrow();
  form.scrollIntoView();
}

async function refreshModels() {
  const before = JSON.stringify(models);
  await loadModels();
  if (JSON.stringify(models) !== before) render(); // else nothing loses the focus
}

async function removeModel(name) {
  await attempt(form, () => request("DELETE", `/api/models/${encodeURIComponent(name)}`));
  await quietly(refreshModels());
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
form.addEventListener("keydown", (event) => {
  // while Chinese is typed, Enter takes a word
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  if (event.target.enterKeyHint !== "go") return;
  event.preventDefault();
  form.requestSubmit();
});
form.addEventListener("input", askForPlan);
form.addEventListener("change", (event) => (event.target.name === "model" ? narrow() : askForPlan()));
systemMenu.addEventListener("change", (event) => {
  event.stopPropagation();
  open(systemMenu.value, findSystem(systemMenu.value).verbs[0].name);
});
window.addEventListener("hashchange", () => systems.length && route());
document.addEventListener("language", render);
document.addEventListener("models", () => quietly(refreshModels()));
document.addEventListener("use", ({ detail }) => use({ ...detail, text: recovered(detail.verb) }));
document.addEventListener("use-model", async ({ detail }) => {
  await quietly(refreshModels());
  useModel(detail);
});
document.addEventListener("use-file", async ({ detail: { system, verb, field, file, values, isSent } }) => {
  if (values) use({ system, verb, values });
  else open(system, verb);
  form.scrollIntoView();
  await current.controls.find((one) => one.field.name === field.name).take([file]);
  if (isSent) send();
});
document.getElementById("recover").addEventListener("change", async (event) => {
  event.stopPropagation();
  await recover(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
