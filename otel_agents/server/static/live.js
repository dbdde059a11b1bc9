// The feed page: events as they are stored, newest first, below the KPIs.
import { echo, eventType, gapRow, row } from "./events.js";
import { feed } from "./feed.js";
import { feedState, icon } from "./frame.js";
import { kpis } from "./kpis.js";

const MOST = 500; // rows that are kept

export function live() {
  if (document.body.dataset.feed === undefined) return;
  const list = document.getElementById("events");
  const form = document.querySelector("[data-live-filters]");
  const pause = document.getElementById("pause");
  const empty = document.getElementById("feed-empty");
  const count = kpis();
  let kept = []; // what was received, newest last: filters are applied to it anew
  let waiting = [];
  let held = false;
  let frame = 0;

  const wanted = (event) => {
    const { type, run_id, payload } = event;
    const [how, name] = form.elements.type.value.split(":");
    if (!how && echo(event)) return false;
    const run = form.elements.run.value.trim().toLowerCase();
    if (how === "event" && eventType(event) !== name) return false;
    if (how === "scope" && payload?.kind !== name && String(type).split(".")[0] !== name) return false;
    return !run || String(run_id ?? "").toLowerCase().includes(run);
  };

  const told = () => {
    const rows = list.children.length;
    document.getElementById("feed-count").textContent = String(rows);
    document.getElementById("feed-held").textContent = held ? ` · paused, ${waiting.length} waiting` : "";
    empty.hidden = kept.length > 0;
    document.getElementById("feed-none").hidden = rows > 0 || kept.length === 0;
  };

  const flush = () => {
    frame = 0;
    if (!held) {
      const rows = waiting.splice(0).map((event) => {
        kept.push(event);
        if (event.type === "gap") return gapRow(event);
        return wanted(event) ? row(event) : null;
      });
      const fresh = document.createDocumentFragment();
      for (const each of rows.reverse()) if (each) fresh.append(each);
      for (const each of fresh.children) each.classList.add("new");
      list.prepend(fresh);
      if (kept.length > MOST) kept = kept.slice(-MOST);
      while (list.children.length > MOST) list.lastElementChild.remove();
    }
    told();
  };

  const take = (event) => {
    waiting.push(event);
    if (held && waiting.length > MOST) waiting.shift();
    frame ||= setTimeout(flush, 50);
    if (event.type === "gap" || eventType(event)) count();
  };

  const redraw = () => {
    list.replaceChildren(...kept.filter((event) => event.type !== "gap" && wanted(event)).reverse().map(row));
    const address = new URL(location.href);
    for (const name of ["type", "run"]) {
      const value = form.elements[name].value.trim();
      if (value) address.searchParams.set(name, value);
      else address.searchParams.delete(name);
    }
    history.replaceState(null, "", address);
    told();
  };

  form.addEventListener("input", redraw);
  form.addEventListener("submit", (event) => event.preventDefault());
  pause.addEventListener("click", () => {
    held = !held;
    pause.setAttribute("aria-pressed", String(held));
    pause.querySelector(".word").textContent = held ? "Go on" : "Pause";
    icon(pause, held ? "play" : "pause");
    flush();
  });
  document.getElementById("clear").addEventListener("click", () => {
    kept = [];
    waiting = [];
    list.replaceChildren();
    told();
  });
  feed({
    since: Number(document.body.dataset.since),
    onEvent: take, onGap: take, onState: feedState, onBack: () => count(),
  });
}
