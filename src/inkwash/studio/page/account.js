// One's account: how much of the disk one has, the password, and keys for programs.
import { register, show } from "./dialogs.js";
import { deleting, emit, make } from "./dom.js";
import { moment, size, t } from "./i18n.js";
import { attempt, request, say } from "./server.js";

const dialog = document.getElementById("account");
const find = (what) => dialog.querySelector(what);
const [password, keys] = [find(".password"), find(".keys")];
let known = []; // the keys there are

/** What the page says of who is logged in. */
export function renderAccount(session) {
  const { name = "", disk, disk_used: used, has_password: hasPassword } = session ?? {};
  const text = disk ? t("account.disk", { used: size(used), all: size(disk) }) : "";
  for (const node of [document.getElementById("disk"), find(".disk")]) node.textContent = text;
  find("h2").textContent = name === "local" ? t("account.title") : name;
  password.hidden = !hasPassword;
}

function open() {
  for (const form of dialog.querySelectorAll("form")) form.reset();
  for (const node of [password, keys]) say(node, "");
  showNew("");
  show(dialog);
  find(".scroll").scrollTop = 0;
  emit("account");
  listKeys();
}

async function listKeys() {
  known = (await attempt(keys, () => request("GET", "/api/keys"))) ?? known;
  renderKeys();
}

function renderKeys() {
  find("ul").replaceChildren(...known.map(item));
}

function item({ id, name, created }) {
  const words = make("span", {}, name || t("keys.unnamed"), " ", make("span", { className: "faint", textContent: moment(created) }));
  return make("li", {}, words, deleting("delete.button", () => revoke(id), "keys.sure"));
}

async function revoke(id) {
  await attempt(keys, () => request("DELETE", `/api/keys/${id}`));
  await listKeys();
}

/** A key that was just made. */
function showNew(key) {
  find("code").textContent = key;
  find(".new").hidden = !key;
}

find(".keys form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name } = event.target.elements;
  const made = await attempt(keys, () => request("POST", "/api/keys", { name: name.value }));
  if (!made) return;
  name.value = "";
  showNew(made.key);
  await listKeys();
});
find(".copy").addEventListener("click", () => {
  getSelection().selectAllChildren(find("code"));
  document.execCommand("copy"); // navigator.clipboard is not there without TLS, as in a house's own network
  say(keys, t("keys.copied"));
});
password.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { old: password.elements.old.value, new: password.elements.new.value };
  const refuse = (text, { code }) => say(password, code === "wrong_password" ? t("password.wrong") : text, true);
  if ((await attempt(password, () => request("POST", "/api/password", body), refuse)) === undefined) return;
  password.reset();
  say(password, t("password.changed"));
  await listKeys();
});
document.getElementById("who").addEventListener("click", open);
document.addEventListener("language", renderKeys);
register(dialog, open);
