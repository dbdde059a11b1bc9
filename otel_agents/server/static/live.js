// The feed page: events as they are stored, newest first. All text is set as text.
import { feed } from "./feed.js";
import { icon } from "./frame.js";
import { clock, duration } from "./times.js";

const MOST = 500; // rows that are kept
const KINDS = new Set([
  "run", "iteration", "phase", "agent", "task", "gate", "validation", "delivery", "human", "worker",
  "tool", "model", "runtime", "breaker",
]);
const LOOKS = {
  success: ["check", "good"], failure: ["cross", "bad"], error: ["cross", "bad"],
  timeout: ["hand", "wait"], cancellation: ["stop", "off"], skip: ["minus", "off"],
};
// What a browser would obey or hide inside a line is written out, as the server does.
const OBEYED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

function plain(value) {
  return String(value).replace(OBEYED, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function note(payload) {
  const said = [];
  if (payload.phase && payload.kind !== "phase") said.push(payload.phase);
  if (payload.error?.type) said.push([payload.error.type, payload.error.message].filter(Boolean).join(": "));
  const given = payload.attributes;
  if (payload.kind === "runtime" && given && typeof given === "object") {
    for (const key of ["otelagents.runtime.operation", "otelagents.runtime.reason_code", "otelagents.runtime.entity.id"]) {
      if (Object.hasOwn(given, key)) said.push(given[key]);
    }
  }
  if (payload.kind === "breaker" && given && Object.hasOwn(given, "otelagents.breaker.state")) {
    said.push(given["otelagents.breaker.state"]);
  }
  return plain(said.join(" · "));
}

function row(event) {
  const payload = event.payload ?? {};
  const made = document.getElementById("event").content.cloneNode(true).firstElementChild;
  const at = (name) => made.querySelector(name);
  const time = at("time");
  time.dateTime = String(event.timestamp);
  time.textContent = clock(event.timestamp);
  time.title = String(event.timestamp);
  const kind = KINDS.has(payload.kind) ? payload.kind : "span";
  at(".kind").classList.add(`kind-${kind}`);
  at(".kind").title = kind;
  icon(at(".kind"), `k-${kind}`);
  at(".type").textContent = plain(event.type);
  const name = at(".what a");
  name.textContent = plain(payload.name || (payload.kind === "iteration" ? payload.iteration ?? "" : ""));
  const run = at("a.run");
  if (event.run_id) {
    const address = `/runs/${encodeURIComponent(event.run_id)}`;
    name.href = payload.agent_id && payload.kind === "agent" ? `/agents/${encodeURIComponent(payload.agent_id)}` : address;
    run.href = address;
    run.textContent = plain(event.run_id);
    run.title = plain(event.run_id);
  }
  const badge = at(".badge");
  if (payload.result && Object.hasOwn(LOOKS, payload.result)) {
    const [sign, tone] = LOOKS[payload.result];
    badge.classList.add(`tone-${tone}`);
    icon(badge, sign);
    badge.querySelector("span").textContent = payload.result;
  } else badge.remove();
  at(".note").textContent = note(payload);
  at(".took").textContent = typeof payload.duration_seconds === "number" ? duration(payload.duration_seconds) : "";
  return made;
}

export function live() {
  if (document.body.dataset.feed === undefined) return;
  const list = document.getElementById("events");
  const form = document.querySelector("[data-live-filters]");
  const pause = document.getElementById("pause");
  const empty = document.getElementById("feed-empty");
  let kept = []; // what was received, newest last: filters are applied to it anew
  let waiting = [];
  let held = false;
  let frame = 0;

  const wanted = ({ type, run_id, payload }) => {
    const kind = form.elements.type.value;
    const run = form.elements.run.value.trim().toLowerCase();
    if (kind && payload?.kind !== kind && String(type).split(".")[0] !== kind) return false;
    return !run || String(run_id ?? "").toLowerCase().includes(run);
  };

  const count = () => {
    document.getElementById("feed-count").textContent = String(list.children.length);
    document.getElementById("feed-held").textContent = held ? ` · paused, ${waiting.length} waiting` : "";
    empty.hidden = kept.length > 0;
  };

  const flush = () => {
    frame = 0;
    if (!held) {
      const rows = waiting.splice(0).map((event) => {
        kept.push(event);
        if (event.type === "gap") return gap(event);
        return wanted(event) ? row(event) : null;
      });
      const fresh = document.createDocumentFragment();
      for (const each of rows.reverse()) if (each) fresh.append(each);
      for (const each of fresh.children) each.classList.add("new");
      list.prepend(fresh);
      if (kept.length > MOST) kept = kept.slice(-MOST);
      while (list.children.length > MOST) list.lastElementChild.remove();
    }
    count();
  };

  const gap = (event) => {
    const made = document.getElementById("gap").content.cloneNode(true).firstElementChild;
    made.querySelector("span").textContent = `events ${event.from} to ${event.to} are no longer stored`;
    return made;
  };

  const take = (event) => {
    waiting.push(event);
    if (held && waiting.length > MOST) waiting.shift();
    frame ||= setTimeout(flush, 50);
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
    count();
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
    count();
  });
  feed({ since: Number(document.body.dataset.since), onEvent: take, onGap: take });
}
