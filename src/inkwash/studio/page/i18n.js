// The texts of the page, in the language that was chosen or else the browser's. A key that is missing shows itself.
import { kept } from "./storage.js";

const NAMES = { en: "English", zh: "中文" };
const TAGS = { en: "en", zh: "zh-Hans" };
let texts = {};
export let language = "en";

export const t = (key, values = {}) => (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);

/** What people call a model or a choice; those that somebody added are called by their own name. */
export const called = (kind, name) => texts[`${kind}.${name}`] ?? String(name);

/** What an empty field may show, "" for most. */
export const example = (name) => texts[`hint.${name}`] ?? "";

/** What may be asked of a model, in words that can be clicked. */
export const examples = (model) => texts[`examples.${model}`]?.split(" | ") ?? [];

/** What people call a system, a verb or an option, which one system may call otherwise than the others: "max_length" is
 * "Max length" where no text says better. */
export function label(kind, name, system) {
  const words = name.replaceAll("_", " ");
  return texts[`${kind}.${system}/${name}`] ?? texts[`${kind}.${name}`] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/** What a verb or an option of a system says of itself, in the language if a text does. */
export const explained = (name, help, system) => texts[`help.${system}/${name}`] ?? texts[`help.${name}`] ?? help;

export const other = () => (language === "en" ? "zh" : "en");

export function preferred() {
  const languages = [kept("localStorage", "language"), ...navigator.languages].map((tag) => tag?.slice(0, 2));
  return languages.find((tag) => tag in NAMES) ?? "en";
}

/** Whether the page now speaks the language, of which the texts may not come. */
export async function setLanguage(tag) {
  const found = await fetch(`static/${tag}.json`).then((answer) => answer.ok && answer.json()).catch(() => null);
  if (!found) return false;
  texts = found;
  language = tag;
  document.documentElement.lang = TAGS[tag];
  const button = document.getElementById("language");
  button.textContent = NAMES[other()];
  button.lang = TAGS[other()];
  translate(document.documentElement);
  document.dispatchEvent(new Event("language"));
  return true;
}

/**
 * Fills in what is named by data-text, data-name (a kind and a name, for `label`), data-help (with what the API says;
 * both with data-system), data-hint (in an empty field) and data-label (for screen readers).
 */
export function translate(root) {
  const all = (name) => [...(root.matches(name) ? [root] : []), ...root.querySelectorAll(name)];
  for (const node of all("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of all("[data-name]")) node.textContent = label(...node.dataset.name.split("/"), node.dataset.system);
  for (const node of all("[data-help]")) {
    const { help, fallback, system } = node.dataset;
    node.textContent = explained(help, fallback, system);
  }
  for (const node of all("[data-hint]")) node.placeholder = t(node.dataset.hint);
  for (const node of all("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
}

const amount = (value, unit, unitDisplay) =>
  new Intl.NumberFormat(TAGS[language], { style: "unit", unit, unitDisplay, maximumFractionDigits: 1 }).format(value);

export function duration(seconds) {
  const [per, unit] = seconds < 100 ? [1, "second"] : seconds < 6000 ? [60, "minute"] : [3600, "hour"];
  return amount(Math.ceil(seconds / per), unit, "long");
}

export function size(bytes) {
  const [per, unit] = bytes < 1e6 ? [1e3, "kilobyte"] : bytes < 1e9 ? [1e6, "megabyte"] : [1e9, "gigabyte"];
  return amount(Math.max(bytes / per, 0.1), unit, "short");
}

export const moment = (seconds) => new Date(1000 * seconds).toLocaleString(TAGS[language]);
