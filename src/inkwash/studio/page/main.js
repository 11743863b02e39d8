// Who comes in, what is shown to whom, and what holds for the whole page.
import { prepare, recover } from "./create.js";
import { clear, list } from "./gallery.js";
import { catchUp, clearAll, show } from "./jobs.js";
import { attempt, listen, quietly, request } from "./server.js";
import { other, preferred, speak } from "./words.js";

const part = (id) => document.getElementById(id);
let stop = () => {}; // listening to the studio

/** Shows the studio to who is logged in, the door to others. */
async function enter() {
  const session = await attempt(part("login"), () => request("GET", "/api/session"));
  if (!session) return shut();
  clearAll();
  clear();
  part("who").textContent = session.name === "local" ? "" : session.name;
  part("leave").hidden = session.name === "local"; // who came by the link could not come back
  part("door").hidden = true;
  part("studio").hidden = false;
  await attempt(part("ask"), prepare);
  stop();
  stop = listen(show, here, () => (part("gone").hidden = false));
  if (matchMedia("(hover: hover)").matches) part("ask").elements.prompt.focus(); // else a keyboard covers the page
}

function here() {
  part("gone").hidden = true;
  list();
  quietly(catchUp());
}

function shut() {
  stop();
  part("picture").close();
  part("studio").hidden = part("leave").hidden = part("gone").hidden = true;
  part("who").textContent = "";
  part("door").hidden = false;
}

part("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, password } = event.target.elements;
  const body = { name: name.value, password: password.value };
  if (!(await attempt(event.target, () => request("POST", "/api/login", body)))) return;
  event.target.reset();
  await enter();
});
part("leave").addEventListener("click", async () => {
  await attempt(part("ask"), () => request("POST", "/api/logout"));
  location.replace("/"); // nothing of theirs stays in the page
});
part("language").addEventListener("click", () => {
  localStorage.setItem("language", other());
  speak(other());
});
document.addEventListener("stranger", shut);

document.addEventListener("dragover", (event) => {
  if (event.dataTransfer.types.includes("Files")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  if (!file) return;
  event.preventDefault(); // else the browser would leave the page for it
  if (part("studio").hidden) return;
  part("picture").close();
  recover(file);
});

part("used").hidden = !new URLSearchParams(location.search).has("used");
history.replaceState(null, "", "/");
await speak(preferred());
await enter();
