// What the studio can do: its systems with their verbs and fields, and the models there are.
import { label } from "./i18n.js";
import { request } from "./server.js";

const NO_PIXELS = ["image/svg+xml", "image/x-icon"]; // none of image/*

export let systems = [];
export let models = [];

export async function load() {
  [systems, models] = await Promise.all([request("GET", "/api/systems"), request("GET", "/api/models")]);
  for (const { name, verbs } of systems) for (const field of verbs.flatMap(({ fields }) => fields)) field.system = name;
}

export async function loadModels() {
  models = await request("GET", "/api/models");
}

export const findSystem = (name) => systems.find((system) => system.name === name);
export const findVerb = (system, name) => findSystem(system)?.verbs.find((verb) => verb.name === name);
export const modelsOf = (system) => models.filter((model) => model.system === system);
const needsModel = ({ fields }) => fields.some(({ name, required }) => name === "model" && required);
/** Whether something can be asked of a system: not where all verbs need a model and there is none. */
export const isOffered = ({ name, verbs }) => modelsOf(name).length > 0 || !verbs.every(needsModel);
export const takesFiles = ({ kind }) => kind === "file" || kind === "folder";

/** Whether a file of this media type is what the field takes. */
export function takes(field, media) {
  const isOf = (kind) => kind === media || (kind.endsWith("/*") && media.startsWith(kind.slice(0, -1)) && !NO_PIXELS.includes(media));
  return takesFiles(field) && Boolean(media) && field.media.split(",").some(isOf);
}

/** A job in a few words: what stands in its foremost field, or else its verb. */
export function titleOf({ system, verb, request: values }) {
  const fields = findVerb(system, verb)?.fields ?? [];
  const foremost = fields.filter((field) => field.argument || field.required);
  return foremost.map((field) => inWords(values[field.name])).find(Boolean) ?? label("verb", verb);
}

/** A value of a request or a recipe as a text. */
export function inWords(value) {
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  if (value && typeof value === "object") return value.name ?? Object.values(value).map(inWords).join(" · ");
  return String(value ?? "");
}
