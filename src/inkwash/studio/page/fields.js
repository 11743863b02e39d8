// A control for each field of a verb: {field, node, value, narrow(limit), problem()}. `value` is undefined where the
// field is left as the verb has it; `limit` is what a model narrows.
import { deleting, frame, identify, make } from "./dom.js";
import { fileField } from "./files.js";
import { called, example, size, t } from "./i18n.js";
import { takesFiles } from "./registry.js";

const LONG_TEXT = 500; // characters, from which on a text has an area
const MAX_CHIPS = 9; // choices that are shown beside each other

export function control(field, isForemost) {
  if (field.name === "model") return modelField(field);
  if (takesFiles(field)) return fileField(field);
  return field.kind === "bool" ? boxField(field) : valueField(field, isForemost);
}

function boxField(field) {
  const input = make("input", { type: "checkbox", name: field.name, checked: field.default === true });
  const node = frame(field, input);
  node.classList.add("check");
  return {
    field,
    node,
    get value() {
      return node.hidden || input.checked === Boolean(field.default) ? undefined : input.checked;
    },
    set value(value) {
      input.checked = value ?? field.default === true;
    },
    narrow: ({ absent }) => (node.hidden = Boolean(absent)),
    problem: () => "",
  };
}

function modelField(field) {
  const input = make("select", { name: "model" });
  const remove = deleting("model.delete", () => self.onDelete(input.value));
  const node = frame(field, input);
  input.after(remove);
  let models = [];
  const self = {
    field,
    node,
    onDelete: () => {},
    get value() {
      return input.value || undefined;
    },
    set value(value) {
      const name = value ?? (models.some((model) => model.name === field.default) ? field.default : "");
      choose(input, name);
    },
    /** The models there are; the one that was chosen stays chosen. */
    offer(offered) {
      const { value } = self;
      models = offered;
      const none = field.required || field.default ? [] : [option("", t("form.default"))];
      input.replaceChildren(...none, ...models.map((model) => option(model.name, describe(model))));
      self.value = value;
      self.narrow();
    },
    narrow() {
      for (const one of input.options) {
        const model = models.find(({ name }) => name === one.value);
        one.textContent = model ? describe(model) : t("form.default");
      }
      remove.hidden = !models.some((model) => model.owned && model.name === input.value);
    },
    problem: () => (field.required && !input.value ? t("form.no_model") : ""),
  };
  return self;
}

const describe = ({ name, owned, bytes }) =>
  [called("model", name), ...(owned ? [t("model.own"), size(bytes)] : [])].join(" · ");

/** Words and numbers: written, or one of the choices that the field or the model has. */
function valueField(field, isForemost) {
  let limit = {};
  let input = make("input");
  const node = frame(field, input);
  let given = ""; // by a recipe, not written by hand

  function bounds(more = 0) {
    const { low, high } = { low: limit.low ?? field.low, high: limit.high ?? field.high };
    const isExact = field.kind !== "int" || input.value === given; // a recipe's number is sent as its text
    return { low, high: isExact ? high : Math.min(high ?? Infinity, Number.MAX_SAFE_INTEGER - more) };
  }

  function render() {
    const { value } = input;
    const defaultText = formatted(field, limit.default ?? field.default);
    const fresh = widget(defaultText);
    identify(fresh, input.id);
    input.replaceWith(fresh);
    input = fresh;
    write(value);
  }
  function widget(defaultText) {
    const choices = (limit.choices?.length ? limit.choices : field.choices).map(String);
    const hint = defaultText ? t("form.default_is", { value: called("choice", defaultText) }) : example(field.name);
    if (!field.many && choices.length) {
      const none = defaultText ? hint : t(field.required ? "form.choose" : "form.default");
      const options = [["", none], ...choices.map((value) => [value, called("choice", value)])];
      return isForemost && choices.length <= MAX_CHIPS ? chips(field.name, options) : menu(field.name, options);
    }
    if (isLong(field)) {
      const area = make("textarea", { name: field.name, rows: 2, placeholder: hint || (field.many ? t("form.lines") : "") });
      if (field.longest && !field.many) area.maxLength = field.longest;
      if (isForemost && !field.many) area.enterKeyHint = "go"; // Enter sends the form
      return area;
    }
    if (isWords(field)) return make("input", { name: field.name, placeholder: hint, maxLength: field.longest ?? 10000 });
    // no type="number": browsers pass over signs that they do not take, and "1,5" would become 15
    const inputMode = field.many || (field.low ?? -1) < 0 ? "text" : field.kind === "int" ? "numeric" : "decimal";
    return make("input", { name: field.name, placeholder: hint || (field.many ? t("form.list") : ""), inputMode });
  }
  function write(value) {
    if (input.tagName === "SELECT") choose(input, value);
    else input.value = value;
  }
  function problem({ n = 1 }) {
    if (node.hidden) return "";
    const { value } = self;
    if (value === undefined) return field.required ? t("form.required") : "";
    const limits = bounds(field.name === "seed" ? n - 1 : 0); // each result has the next seed
    const isRight = isWords(field) || [value].flat().every((one) => fits(one, limits));
    return isRight ? "" : t(field.kind === "int" ? "form.whole" : "form.number", { range: range(limits) });
  }
  function fits(value, { low, high }) {
    const number = Number(value);
    const isOver = (low !== null && number < low) || (high !== null && number > high);
    const isAtEnd = (field.low_open && number === field.low) || (field.high_open && number === field.high);
    return Number.isFinite(number) && !isOver && !isAtEnd && (field.kind !== "int" || Number.isInteger(number));
  }
  function range({ low, high }) {
    const from = low === null ? "" : t(field.low_open && low === field.low ? "form.above" : "form.from", { low });
    const to = high === null ? "" : t(field.high_open && high === field.high ? "form.below" : "form.to", { high });
    return from + to;
  }
  const self = {
    field,
    node,
    get value() {
      return node.hidden ? undefined : parse(field, input.value.trim());
    },
    set value(value) {
      given = formatted(field, value);
      write(given);
    },
    narrow(narrowed) {
      limit = narrowed;
      node.hidden = Boolean(limit.absent);
      render();
    },
    problem,
  };
  return self;
}

const isWords = ({ kind }) => kind === "str";
export const isLong = (field) => isWords(field) && !field.choices.length && (field.many || field.longest >= LONG_TEXT);

/** What a text says, as the request holds it; whole numbers that JavaScript would round stay text. */
function parse(field, text) {
  if (text === "") return undefined;
  if (isWords(field)) return field.many ? text.split(/\s*\n\s*/) : text;
  return field.many ? text.split(/[\s,;，；、]+/).filter(Boolean).map(number) : number(text);
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** The number that a text is, in full-width digits, too; NaN for any other. */
function number(text) {
  const plain = text.normalize("NFKC");
  const value = NUMBER.test(plain) ? Number(plain) : NaN;
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? plain : value;
}

const formatted = (field, value) => [value ?? ""].flat().join(isWords(field) ? "\n" : ", ");

const option = (value, text) => new Option(text, value);

function choose(select, value) {
  select.value = value;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

function menu(name, options) {
  return make("select", { name }, ...options.map(([value, text]) => option(value, text)));
}

/** Buttons of which one is pressed; as a select it has a value. */
function chips(name, options) {
  const chip = ([value, text]) =>
    make("label", { className: "chip" }, make("input", { type: "radio", name, value }), text);
  const node = make("div", { className: "chips", role: "radiogroup" }, ...options.map(chip));
  node.setAttribute("aria-labelledby", `field-${name}-name`);
  Object.defineProperty(node, "value", {
    get: () => node.querySelector(":checked").value,
    set: (value) => {
      const all = [...node.querySelectorAll("input")];
      (all.find((one) => one.value === value) ?? all[0]).checked = true;
    },
  });
  return node;
}
