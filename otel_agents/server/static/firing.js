// The count of firing alerts in the header: asked for every few seconds on every page.
import { announce } from "./frame.js";

const SECONDS = 15;

export function firing() {
  const badge = document.getElementById("firing");
  if (!badge) return;
  const show = (count) => {
    const before = Number(badge.textContent) || 0;
    badge.textContent = count || "";
    badge.hidden = !count;
    badge.setAttribute("aria-label", `${count} firing`);
    if (count > before) announce(count === 1 ? "1 alert fires" : `${count} alerts fire`);
  };
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/api/alerts/count");
      if (answer.status === 401) clearInterval(timer);
      else if (answer.ok) show((await answer.json()).data.firing);
    } catch {
      // The server is away; what was said last stands until it is back.
    }
  }, SECONDS * 1000);
}
