// The texts of the page, in the language that was chosen or else the browser's. A key that is missing shows itself.
const NAMES = { en: "English", zh: "中文" };
const TAGS = { en: "en", zh: "zh-Hans" };
let texts = {};
export let language = "en";

export const t = (key, values = {}) => (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);

/** What people call a style or a model; those that somebody added are called by their own name. */
export const called = (kind, name) => texts[`${kind}.${name}`] ?? name;

export const other = () => (language === "en" ? "zh" : "en");

export function preferred() {
  const wishes = [localStorage.getItem("language"), ...navigator.languages].map((wish) => wish?.slice(0, 2));
  return wishes.find((wish) => wish in NAMES) ?? "en";
}

export async function speak(wish) {
  texts = await (await fetch(`/static/${wish}.json`)).json();
  language = wish;
  document.documentElement.lang = TAGS[wish];
  const button = document.getElementById("language");
  button.textContent = NAMES[other()];
  button.lang = TAGS[other()];
  translate(document);
  document.dispatchEvent(new Event("language"));
}

/** Fills in what the HTML names by data-text, data-hint (in an empty field) and data-label (for screen readers). */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of root.querySelectorAll("[data-hint]")) node.placeholder = t(node.dataset.hint);
  for (const node of root.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
}

export function duration(seconds) {
  const [per, unit] = seconds < 100 ? [1, "second"] : seconds < 6000 ? [60, "minute"] : [3600, "hour"];
  const format = new Intl.NumberFormat(TAGS[language], { style: "unit", unit, unitDisplay: "long" });
  return format.format(Math.ceil(seconds / per));
}

export const moment = (seconds) => new Date(1000 * seconds).toLocaleString(TAGS[language]);
