// Who comes in, what is shown to whom, and what holds for the whole page.
import { renderAccount } from "./account.js";
import { prepare, recover } from "./create.js";
import { restore, shut } from "./dialogs.js";
import { emit } from "./dom.js";
import { clear, list, nameSystems } from "./gallery.js";
import { language, other, preferred, setLanguage, t } from "./i18n.js";
import { catchUp, clearAll, recall, show, shown } from "./jobs.js";
import { listPast } from "./past.js";
import { systems } from "./registry.js";
import { attempt, listen, quietly, request, say, unsay } from "./server.js";
import { keep, kept } from "./storage.js";

const RETRY = 3000; // milliseconds, while nobody answers
const TOKEN = "token"; // of a one-time link: this tab has it until it is used, the address and the history do not
const byId = (id) => document.getElementById(id);
const tabs = new BroadcastChannel("session"); // tells the browser's other tabs that one signed in or out, for all
let session = null;
let last = null; // the session before: what they wrote stays for them, and for nobody who comes next
let stop = () => {}; // listening to the studio

/** Takes a one-time link's token out of the address. */
function takeToken() {
  const [, token] = location.hash.match(/^#token=(.*)/) ?? [];
  if (token) keep("sessionStorage", TOKEN, token);
  history.replaceState(history.state, "", document.baseURI + (token ? "" : location.hash));
  return Boolean(token);
}

/** Shows the studio to who is logged in, the login form to others, and to who has a link its button. */
async function enter() {
  if (kept("sessionStorage", TOKEN)) return showEntrance("link");
  session = await request("GET", "/api/session").catch(({ code }) => (code === "not_logged_in" ? null : undefined));
  byId("gone").hidden = session !== undefined;
  if (session === undefined) return setTimeout(enter, RETRY);
  if (!session) return; // which the event "signed-out" has told
  if (last && !last.guest && last.name !== session.name) return leave();
  last = session;
  unsay();
  clearAll();
  clear();
  renderSession();
  byId("entrance").hidden = true;
  byId("studio").hidden = false;
  await load();
  stop();
  stop = listen(show, reconnected, () => (byId("gone").hidden = false));
  restore();
  if (matchMedia("(hover: hover)").matches) byId("main").querySelector("textarea")?.focus(); // else a keyboard covers the page
}

async function load() {
  await attempt(byId("create"), prepare);
  nameSystems();
}

/** Loads the page anew: nothing of who was here stays in it. */
const leave = () => location.replace(document.baseURI);

/** Who is logged in now: another tab may have changed it. */
async function renew() {
  const found = await quietly(request("GET", "/api/session"));
  if (!found) return;
  if (found.name !== session?.name) return enter();
  session = found;
  renderSession();
}

async function reconnected() {
  byId("gone").hidden = true;
  unsay();
  renew();
  if (!systems.length) await load();
  list();
  listPast();
  emit("models");
  emit("reconnected");
  quietly(recall().then(() => catchUp(shown())));
}

function signedOut() {
  session = null;
  stop();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  byId("studio").hidden = byId("gone").hidden = true;
  renderSession();
  showEntrance("login");
}

function showEntrance(form) {
  for (const id of ["link", "login"]) byId(id).hidden = id !== form;
  byId("entrance").hidden = false;
}

function renderSession() {
  const isLocal = session?.name === "local"; // who came by the link could not come back
  byId("guest").hidden = !session?.guest;
  byId("who").hidden = !session || session.guest;
  byId("who").textContent = isLocal ? t("account.title") : (session?.name ?? "");
  byId("who").title = t("account.title");
  byId("sign-out").hidden = isLocal;
  renderAccount(session);
}

byId("link").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("used").hidden = true;
  const body = { token: kept("sessionStorage", TOKEN) };
  const refuse = (text, { code }) => {
    byId("used").hidden = code !== "used_link";
    if (code !== "used_link") say(event.target, text, true);
  };
  const entered = await attempt(event.target, () => request("POST", "/api/enter", body), refuse);
  if (!entered && byId("used").hidden) return;
  keep("sessionStorage", TOKEN, "");
  await enter();
  tabs.postMessage("");
});
byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, password } = event.target.elements;
  const body = { name: name.value, password: password.value };
  if (!(await attempt(event.target, () => request("POST", "/api/login", body)))) return;
  byId("used").hidden = true;
  event.target.reset();
  await enter();
  tabs.postMessage("");
});
byId("sign-in").addEventListener("click", () => {
  showEntrance("login");
  byId("login").elements.name.focus();
});
byId("sign-out").addEventListener("click", async () => {
  if ((await attempt(byId("account").querySelector(".scroll"), () => request("POST", "/api/logout"))) === undefined) return;
  await shut(byId("account"));
  tabs.postMessage("");
  leave();
});
byId("language").addEventListener("click", async () => {
  if (await setLanguage(other())) keep("localStorage", "language", language);
});
tabs.addEventListener("message", renew);
document.addEventListener("account", renew); // what the disk holds has changed
document.addEventListener("signed-out", signedOut);
document.addEventListener("language", renderSession);
window.addEventListener(
  "hashchange",
  (event) => {
    if (!takeToken()) return;
    event.stopImmediatePropagation(); // it names no form
    location.reload();
  },
  true,
);

document.addEventListener("dragover", (event) => {
  if (event.dataTransfer.types.includes("Files")) event.preventDefault();
});
document.addEventListener("drop", async (event) => {
  const [file] = event.dataTransfer.files;
  if (!file) return;
  event.preventDefault(); // else the browser would leave the page for it
  if (byId("studio").hidden) return;
  await shut(byId("result"));
  recover(file);
});

takeToken();
while (!(await setLanguage(preferred()))) await new Promise((again) => setTimeout(again, RETRY));
await enter();
