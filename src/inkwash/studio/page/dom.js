// Elements, events, the frame of a field, and a button that asks first.
import { translate } from "./i18n.js";

/** An element with properties, data-* names and children; its texts by `data` are filled in. */
export function make(tag, { data = {}, ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  Object.assign(node.dataset, data);
  node.append(...children);
  translate(node);
  return node;
}

export const button = (text, onclick, className = "") =>
  make("button", { type: "button", className, onclick, data: { text } });

export const link = (text, href, download = false) =>
  make("a", { className: "button", href, data: { text }, ...(download && { download }) });

export const emit = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));

/** Screen readers read a status aloud each time it is written. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A field: its name above what it is filled in with; below it what it means, and what is wrong with it. */
export function frame(field, input, shown = input) {
  const id = `field-${field.name}`;
  const { system } = field;
  const name = make("label", { htmlFor: id, id: `${id}-name`, className: "name", data: { name: `option/${field.name}`, system } });
  const help = make("p", { className: "hint", id: `${id}-help`, data: { help: field.name, fallback: field.help, system } });
  const error = make("p", { className: "message", id: `${id}-error`, role: "status" });
  identify(input, id);
  return make("div", { className: "field", data: { field: field.name } }, name, shown, help, error);
}

export function identify(input, id) {
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-help ${id}-error`);
}

/** A button that deletes something once one is sure. */
export function deleting(text, action, sure = "delete.sure") {
  const close = () => {
    question.hidden = true;
    first.hidden = false;
  };
  const first = button(text, () => {
    first.hidden = true;
    question.hidden = false;
    no.focus();
  }, "delete bad");
  const no = button("delete.no", () => {
    close();
    first.focus();
  }, "no");
  const yes = button("delete.yes", () => {
    close();
    action();
  }, "yes bad");
  const question = make("span", { className: "sure", hidden: true }, make("span", { data: { text: sure } }), yes, no);
  return make("span", { className: "deleting" }, first, question);
}
