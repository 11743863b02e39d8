// Who comes in, what is shown to whom, and what holds for the whole page.
import { prepare, recover } from "./create.js";
import { clear, list, nameSystems } from "./gallery.js";
import { other, preferred, size, speak, t } from "./i18n.js";
import { catchUp, clearAll, recall, show } from "./jobs.js";
import { attempt, listen, quietly, request } from "./server.js";

const part = (id) => document.getElementById(id);
let session = null;
let stop = () => {}; // listening to the studio

/** Shows the studio to who is logged in, the login form to others. */
async function enter() {
  session = await attempt(part("login"), () => request("GET", "/api/session"));
  if (!session) return shut();
  clearAll();
  clear();
  part("who").textContent = session.name === "local" ? "" : session.name;
  part("sign-out").hidden = session.name === "local"; // who came by the link could not come back
  tellDisk();
  part("entrance").hidden = true;
  part("studio").hidden = false;
  await attempt(part("create"), prepare);
  nameSystems();
  stop();
  stop = listen(show, here, () => (part("gone").hidden = false));
  if (matchMedia("(hover: hover)").matches) part("main").querySelector("textarea")?.focus(); // else a keyboard covers the page
}

function here() {
  part("gone").hidden = true;
  list();
  quietly(recall().then(catchUp));
}

function shut() {
  stop();
  part("result").close();
  part("studio").hidden = part("sign-out").hidden = part("gone").hidden = true;
  part("who").textContent = part("disk").textContent = "";
  part("entrance").hidden = false;
}

function tellDisk() {
  const { disk, disk_used: used } = session ?? {};
  part("disk").textContent = disk ? t("account.disk", { used: size(used), all: size(disk) }) : "";
}

part("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, password } = event.target.elements;
  const body = { name: name.value, password: password.value };
  if (!(await attempt(event.target, () => request("POST", "/api/login", body)))) return;
  event.target.reset();
  await enter();
});
part("sign-out").addEventListener("click", async () => {
  await attempt(part("create"), () => request("POST", "/api/logout"));
  location.replace("/"); // nothing of theirs stays in the page
});
part("language").addEventListener("click", () => {
  localStorage.setItem("language", other());
  speak(other());
});
document.addEventListener("signed-out", shut);
document.addEventListener("language", tellDisk);

document.addEventListener("dragover", (event) => {
  if (event.dataTransfer.types.includes("Files")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  if (!file) return;
  event.preventDefault(); // else the browser would leave the page for it
  if (part("studio").hidden) return;
  part("result").close();
  recover(file);
});

part("used").hidden = !new URLSearchParams(location.search).has("used");
history.replaceState(null, "", `/${location.hash}`);
await speak(preferred());
await enter();
