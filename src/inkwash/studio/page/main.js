// Who comes in, what is shown to whom, and what holds for the whole page.
import { prepare, recover } from "./create.js";
import { clear, list, nameSystems } from "./gallery.js";
import { other, preferred, size, setLanguage, t } from "./i18n.js";
import { catchUp, clearAll, recall, show } from "./jobs.js";
import { attempt, listen, quietly, request } from "./server.js";

const byId = (id) => document.getElementById(id);
let session = null;
let stop = () => {}; // listening to the studio

/** Shows the studio to who is logged in, the login form to others. */
async function enter() {
  session = await attempt(byId("login"), () => request("GET", "/api/session"));
  if (!session) return signedOut();
  clearAll();
  clear();
  byId("who").textContent = session.name === "local" ? "" : session.name;
  byId("sign-out").hidden = session.name === "local"; // who came by the link could not come back
  renderDisk();
  byId("entrance").hidden = true;
  byId("studio").hidden = false;
  await attempt(byId("create"), prepare);
  nameSystems();
  stop();
  stop = listen(show, reconnected, () => (byId("gone").hidden = false));
  if (matchMedia("(hover: hover)").matches) byId("main").querySelector("textarea")?.focus(); // else a keyboard covers the page
}

function reconnected() {
  byId("gone").hidden = true;
  list();
  quietly(recall().then(catchUp));
}

function signedOut() {
  stop();
  byId("result").close();
  byId("studio").hidden = byId("sign-out").hidden = byId("gone").hidden = true;
  byId("who").textContent = byId("disk").textContent = "";
  byId("entrance").hidden = false;
}

function renderDisk() {
  const { disk, disk_used: used } = session ?? {};
  byId("disk").textContent = disk ? t("account.disk", { used: size(used), all: size(disk) }) : "";
}

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, password } = event.target.elements;
  const body = { name: name.value, password: password.value };
  if (!(await attempt(event.target, () => request("POST", "/api/login", body)))) return;
  event.target.reset();
  await enter();
});
byId("sign-out").addEventListener("click", async () => {
  await attempt(byId("create"), () => request("POST", "/api/logout"));
  location.replace("/"); // nothing of theirs stays in the page
});
byId("language").addEventListener("click", () => {
  localStorage.setItem("language", other());
  setLanguage(other());
});
document.addEventListener("signed-out", signedOut);
document.addEventListener("language", renderDisk);

document.addEventListener("dragover", (event) => {
  if (event.dataTransfer.types.includes("Files")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  if (!file) return;
  event.preventDefault(); // else the browser would leave the page for it
  if (byId("studio").hidden) return;
  byId("result").close();
  recover(file);
});

byId("used").hidden = !new URLSearchParams(location.search).has("used");
history.replaceState(null, "", `/${location.hash}`);
await setLanguage(preferred());
await enter();
