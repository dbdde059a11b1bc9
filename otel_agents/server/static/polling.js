// The runtime page: asks every few seconds, and says what changed in the queue since.
import { announce } from "./frame.js";
import { refresh } from "./refresh.js";
import { ago } from "./times.js";

function counts() {
  const found = new Map();
  for (const each of document.querySelectorAll("[data-state][data-count]")) {
    found.set(each.dataset.state, Number(each.dataset.count));
  }
  return found;
}

export function polling() {
  const seconds = Number(document.body.dataset.poll);
  if (!seconds) return;
  let before = counts();
  let last = Date.now();
  let since = last;
  const told = document.getElementById("polled");
  document.addEventListener("refreshed", () => {
    last = Date.now();
    const now = counts();
    for (const each of document.querySelectorAll("[data-state][data-count]")) {
      const change = now.get(each.dataset.state) - (before.get(each.dataset.state) ?? 0);
      const sign = change > 0 ? "+" : "−";
      const delta = each.querySelector("[data-delta]");
      delta.textContent = change ? `${sign}${Math.abs(change)}` : "";
      delta.title = change ? `since ${new Date(since).toLocaleTimeString()}` : "";
    }
    before = now;
    since = last;
    told.textContent = "just now";
  });
  setInterval(() => {
    if (document.hidden) return;
    if (Date.now() - last >= seconds * 1000) refresh();
    else told.textContent = Date.now() - last < 2000 ? "just now" : ago(last);
  }, 1000);
  document.getElementById("refresh").addEventListener("click", async () => {
    await refresh();
    announce("Refreshed");
  });
}
