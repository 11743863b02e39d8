// What the browser keeps for the studio, as far as it may: storage can be forbidden, or full.
export const keep = (area, key, value) => trying(() => window[area].setItem(key, value));
export const kept = (area, key) => trying(() => window[area].getItem(key));

function trying(action) {
  try {
    return action();
  } catch {
    return null;
  }
}
