// The control of a field that takes files: chosen or dropped, sent at once, named by their content in the request.
import { frame, make } from "./dom.js";
import { size, t } from "./i18n.js";
import { attempt, upload } from "./server.js";

const MAX_NAMES = 6;

export function fileField(field) {
  const isFolder = field.kind === "folder";
  const hasMany = isFolder || field.many;
  let chosen = []; // {sha256, name}
  let isOne = true; // one file in a folder's place: sent as it is
  let ready = Promise.resolve();

  const input = make("input", { type: "file", name: field.name, multiple: hasMany, accept: isFolder ? "" : field.media });
  const folder = make("input", { type: "file", webkitdirectory: true, data: { label: "files.folder" } });
  const picker = (node, text) => make("label", { className: "button picker" }, node, make("span", { data: { text } }));
  const list = make("ul", { className: "files" });
  const node = frame(
    field,
    input,
    make(
      "div",
      { className: "drop" },
      picker(input, hasMany ? "files.many" : "files.one"),
      ...(isFolder ? [picker(folder, "files.folder")] : []),
      make("span", { className: "faint", data: { text: "files.drop" } }),
      list,
    ),
  );
  const self = {
    field,
    node,
    get ready() {
      return ready;
    },
    get value() {
      if (!chosen.length) return undefined;
      const bare = chosen.map(({ sha256, name }) => ({ sha256, name }));
      return field.many || (isFolder && !isOne) ? bare : bare[0];
    },
    set value(value) {
      isOne = !Array.isArray(value);
      chosen = [value ?? []].flat().filter((file) => file.sha256);
      render();
    },
    narrow({ absent }) {
      node.hidden = Boolean(absent);
      render();
    },
    problem: () => (field.required && !chosen.length ? t("form.required") : ""),
    /** Sends files; those of a folder have their paths in `path`. */
    take(files, isDirectory = false) {
      ready = attempt(node, () => send([...files], isDirectory));
      return ready;
    },
  };

  async function send(files, isDirectory) {
    if (!files.length) return;
    node.classList.add("busy");
    try {
      const zips = isFolder ? files.filter(isZip) : [];
      const others = files.filter((file) => !zips.includes(file));
      const sent = await upload(others);
      const named = sent.map((file, index) => ({ ...file, name: pathOf(others[index]) }));
      const found = [...named, ...(zips.length ? await upload(zips, true) : [])];
      chosen = field.many ? [...chosen, ...found] : hasMany ? found : found.slice(0, 1);
      isOne = !isDirectory && !zips.length && chosen.length === 1;
    } finally {
      node.classList.remove("busy");
    }
    render();
    node.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function render() {
    const names = chosen.slice(0, MAX_NAMES).map((file) => item(file.name, file.bytes, () => without(file)));
    const more = chosen.length - MAX_NAMES;
    const rest = more > 0 ? [item(t("files.more", { n: more }), total(chosen.slice(MAX_NAMES)), () => without())] : [];
    list.replaceChildren(...names, ...rest);
  }

  function without(file) {
    chosen = file ? chosen.filter((one) => one !== file) : chosen.slice(0, MAX_NAMES);
    render();
    node.dispatchEvent(new Event("change", { bubbles: true }));
  }

  for (const one of [input, folder]) {
    one.addEventListener("change", async (event) => {
      event.stopPropagation(); // the form hears of it when the files are there
      await self.take(one.files, one === folder);
      one.value = ""; // so that the same file can be chosen again
    });
  }
  node.addEventListener("dragover", () => node.classList.add("over"));
  for (const end of ["dragleave", "drop"]) node.addEventListener(end, () => node.classList.remove("over"));
  node.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    const isDirectory = isFolder && entries.some((entry) => entry.isDirectory);
    const files = [...event.dataTransfer.files];
    self.take(isDirectory ? (await Promise.all(entries.map((entry) => filesIn(entry)))).flat() : files, isDirectory);
  });
  return self;
}

function item(name, bytes, remove) {
  const close = make("button", { type: "button", textContent: "×", onclick: remove });
  close.setAttribute("aria-label", t("files.remove", { name }));
  return make("li", {}, make("span", { textContent: name }), bytes ? make("span", { className: "faint", textContent: size(bytes) }) : "", close);
}

const total = (files) => files.reduce((sum, { bytes = 0 }) => sum + bytes, 0);
const isZip = (file) => file.type === "application/zip" || file.name.toLowerCase().endsWith(".zip");

/** A file's path in the folder that was chosen, without the folder's own name. */
const pathOf = (file) => file.path ?? (file.webkitRelativePath.split("/").slice(1).join("/") || file.name);

/** All files of a folder that was dropped, each with its `path` in it. */
async function filesIn(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [Object.assign(file, { path: path + file.name })];
  }
  const reader = entry.createReader();
  const entries = [];
  for (let some = true; some; ) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    entries.push(...batch);
    some = batch.length > 0;
  }
  return (await Promise.all(entries.map((one) => filesIn(one, one.isFile ? path : `${path}${one.name}/`)))).flat();
}
