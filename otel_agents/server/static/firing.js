// The counts in the header, of firing alerts and of open waits for people: asked for every few
// seconds on every page.
import { announce } from "./frame.js";

const SECONDS = 15;

function show(badge, count, word, said) {
  const before = Number(badge.textContent) || 0;
  badge.textContent = count || "";
  badge.hidden = !count;
  badge.setAttribute("aria-label", `${count} ${word}`);
  if (count > before) announce(said);
}

export function firing() {
  const alerts = document.getElementById("firing");
  const waits = document.getElementById("waiting");
  if (!alerts || !waits) return;
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/api/alerts/count");
      if (answer.status === 401) clearInterval(timer);
      else if (answer.ok) {
        const { firing: fire, waiting: wait } = (await answer.json()).data;
        show(alerts, fire, "firing", fire === 1 ? "1 alert fires" : `${fire} alerts fire`);
        show(waits, wait, "waiting", "A person has to decide");
      }
    } catch {
      // The server is away; what was said last stands until it is back.
    }
  }, SECONDS * 1000);
}
