// Dialogs that Back closes: while it is open, a dialog has a place in the history.
const openers = new Map(); // by the dialog's id: what shows it again, when one goes forward or loads the page anew

history.scrollRestoration = "manual"; // else Back, by which a dialog closes, undoes the scrolling that follows it

const isPlaced = (dialog) => history.state?.dialog === dialog.id;

/** A dialog with its ways out. `reopen` is called with the `detail` with which it was shown. */
export function register(dialog, reopen) {
  openers.set(dialog.id, reopen);
  dialog.querySelector(".close").onclick = () => dialog.close();
  dialog.addEventListener("mousedown", ({ target }) => target === dialog && dialog.close()); // beside it
  dialog.addEventListener("close", () => isPlaced(dialog) && history.back());
}

export function show(dialog, detail = null) {
  if (!dialog.open) dialog.showModal();
  const place = { dialog: dialog.id, detail };
  if (isPlaced(dialog)) history.replaceState(place, "");
  else history.pushState(place, "");
}

/** Closes a dialog. Then it has left the history, too: what comes next may change the address. */
export async function shut(dialog) {
  const left = dialog.open && isPlaced(dialog) && new Promise((done) => window.addEventListener("popstate", done, { once: true }));
  dialog.close();
  await left;
}

/** Shows the dialog that the place in the history is of, and no other. */
export function restore() {
  const { dialog: id, detail } = history.state ?? {};
  for (const dialog of document.querySelectorAll("dialog[open]")) if (dialog.id !== id) dialog.close();
  openers.get(id)?.(detail);
}

window.addEventListener("popstate", restore);
