// The form: what shall be drawn, and how.
import { clearEnded, show } from "./jobs.js";
import { attempt, request, say } from "./server.js";
import { called, t } from "./words.js";

const PREVIEWS = 4; // of each picture on its way
const form = document.getElementById("ask");
const field = form.elements;
let models = [];
let unsure = {}; // what was sent, but perhaps not received: sent again, it is not drawn twice

export async function prepare() {
  models = await request("GET", "/api/models");
  nameAll();
}

const chosen = () => models.find((model) => model.name === field.model.value) ?? models[0];
const choice = (value, text = value) => new Option(text, value);

/** The choices there are, called by their names in the language. What was chosen stays chosen. */
function nameAll() {
  if (!models.length) return;
  refill(field.model, models.map(({ name }) => choice(name, called("model", name))));
  field.model.parentElement.hidden = models.length === 1;
  const { styles, sizes, samplers, sampler, steps, guidance, transparent } = chosen();
  const style = form.querySelector("[name=style]:checked")?.value ?? "";
  const chips = [chip("", t("ask.any")), ...styles.map((name) => chip(name, called("style", name)))];
  document.getElementById("styles").replaceChildren(...chips);
  choose(style);
  const size = sizes.includes(Number(field.size.value)) ? field.size.value : sizes.at(-1);
  refill(field.size, sizes.map((size) => choice(size)), size);
  refill(field.sampler, [choice("", t("ask.usual", { value: sampler })), ...samplers.map((name) => choice(name))]);
  field.steps.placeholder = t("ask.usual", { value: steps });
  field.guidance.placeholder = t("ask.usual", { value: guidance });
  field.transparent.parentElement.hidden = !transparent;
}

function refill(select, options, value = select.value) {
  select.replaceChildren(...options);
  select.value = value;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

function chip(value, text) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "style", value });
  label.className = "chip";
  label.append(input, text);
  return label;
}

function choose(style) {
  const chips = [...form.querySelectorAll("[name=style]")];
  (chips.find((chip) => chip.value === style) ?? chips[0]).checked = true;
}

function settings() {
  const number = (name) => (field[name].value === "" ? null : field[name].valueAsNumber);
  return {
    prompt: field.prompt.value.trim(),
    negative: field.negative.value.trim(),
    model: chosen().name,
    style: field.style.value || null,
    n: number("n"),
    seed: field.seed.value || null, // as text: JavaScript rounds numbers above 2^53
    sampler: field.sampler.value || null,
    steps: number("steps"),
    guidance: number("guidance"),
    size: Number(field.size.value),
    transparent: chosen().transparent && field.transparent.checked,
    previews: PREVIEWS,
  };
}

/** Takes over the settings of a picture, from its recipe. Those that it lacks are as usual. */
function use(recipe) {
  const known = models.some((model) => model.name === recipe.model);
  if (known) field.model.value = recipe.model;
  nameAll();
  choose(recipe.style ?? "");
  for (const name of ["prompt", "negative", "seed", "steps", "guidance"]) field[name].value = recipe[name] ?? "";
  const sizes = [...field.size.options].map((option) => option.value);
  if (recipe.size && !sizes.includes(String(recipe.size))) field.size.add(choice(recipe.size));
  if (recipe.size) field.size.value = recipe.size;
  refill(field.sampler, [...field.sampler.options], recipe.sampler === chosen().sampler ? "" : recipe.sampler);
  field.transparent.checked = recipe.transparent === true;
  form.querySelector("details").open = true;
  say(form, known ? t("ask.recovered") : t("ask.elsewhere", { model: recipe.model }));
  field.prompt.focus();
  form.scrollIntoView();
}

/** Says which number cannot be, as the browser would if its field were not folded away. */
function complaint() {
  if (!field.prompt.value.trim()) return [field.prompt, t("ask.empty")];
  const wrong = [...form.querySelectorAll("[type=number]")].find((input) => !input.checkValidity());
  if (!wrong) return null;
  const name = wrong.parentElement.textContent.trim();
  return [wrong, t("ask.range", { name, min: wrong.min, max: wrong.max })];
}

async function draw() {
  const [wrong, why] = complaint() ?? [];
  if (wrong) {
    if (wrong !== field.prompt) form.querySelector("details").open = true;
    say(form, why, true);
    return wrong.focus();
  }
  const body = settings();
  const text = JSON.stringify(body);
  if (unsure.text !== text) unsure = { text, key: String(crypto.getRandomValues(new BigUint64Array(2))) };
  const job = await attempt(form, () => request("POST", "/api/jobs", body, { "idempotency-key": unsure.key }));
  if (!job) return;
  unsure = {};
  clearEnded();
  show(job);
}

/** Reads the settings in a PNG. */
export async function recover(file) {
  const body = new FormData();
  body.append("file", file);
  const found = await attempt(form, () => request("POST", "/api/recipe", body));
  if (found) use(found.recipe);
  else form.scrollIntoView();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  draw();
});
field.prompt.addEventListener("keydown", (event) => {
  // while Chinese is typed, Enter takes a word
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  form.requestSubmit();
});
field.model.addEventListener("change", nameAll);
document.addEventListener("language", () => {
  say(form, "");
  nameAll();
});
document.addEventListener("use", (event) => use(event.detail));
document.getElementById("recover").addEventListener("change", async (event) => {
  await recover(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
