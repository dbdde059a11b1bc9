// How events look in the feed: those of a type the program named, and all the others by scope.
import { icon } from "./frame.js";
import { clock, duration } from "./times.js";

const KINDS = new Set([
  "run", "iteration", "phase", "agent", "task", "gate", "validation", "delivery", "human", "worker",
  "tool", "model", "runtime", "breaker",
]);
// By type of event: its icon, and the fields that its row begins with.
const TYPES = {
  task_queued: { sign: "k-task", name: "task_id" },
  agent_started: { sign: "k-agent", name: "agent" },
  agent_completed: { sign: "k-agent-done", name: "agent" },
  validation_complete: { sign: "k-validation", name: "task_id" },
  hitl_escalated: { sign: "k-human", name: "task_id" },
  budget_warning: { sign: "k-budget", name: "scope" },
  budget_exceeded: { sign: "k-budget-over", name: "scope" },
  critic_decision: { sign: "k-critic", name: "agent" },
};
const LOOKS = {
  success: ["check", "good"], failure: ["cross", "bad"], error: ["cross", "bad"],
  timeout: ["hand", "wait"], cancellation: ["stop", "off"], skip: ["minus", "off"],
  failed: ["cross", "bad"], approved: ["check", "good"], rejected: ["cross", "bad"],
  passed: ["check", "good"],
};
const MOST_FIELDS = 12;
const LONGEST = 300;
// What a browser would obey or hide inside a line is written out, as the server does.
const OBEYED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

export function plain(value) {
  return String(value).replace(OBEYED, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// Whether a signal repeats what another row says: a task's state, its dispatching, a sign of life.
export function echo(event) {
  const { kind, edge, attributes } = event.payload ?? {};
  if (eventType(event)) return false;
  if (edge === "progress") return !Object.keys(attributes ?? {}).some((key) => key.includes("progress"));
  if (kind === "runtime") return ["TASK", "HEARTBEAT"].includes(attributes?.["otelagents.runtime.operation"]);
  return kind === "task" && edge === "fact";
}

// The type and payload that a program gave, or null where an event was not told in that way.
function given(event) {
  const told = event.payload?.attributes;
  if (!told || typeof told !== "object" || !Object.hasOwn(told, "otelagents.event.type")) return null;
  const type = told["otelagents.event.type"];
  const payload = told["otelagents.event.payload"];
  return Object.hasOwn(TYPES, type) && payload && typeof payload === "object" ? { type, payload } : null;
}

// The type of event that a signal is, also where a scope stands for it; null where it is none.
export function eventType(event) {
  const named = given(event);
  if (named) return named.type;
  const { kind, edge, attributes } = event.payload ?? {};
  // A start that the program told of in words of its own is not one more.
  if (attributes && Object.hasOwn(attributes, "otelagents.event.type")) return null;
  if (kind === "agent" && edge === "start") return "agent_started";
  if (kind === "agent" && edge === "end") return "agent_completed";
  if (kind === "validation" && edge === "end") return "validation_complete";
  if (kind === "task" && edge === "fact" && attributes?.["otelagents.task.state"] === "PENDING") return "task_queued";
  return null;
}

function worded(name, value) {
  if (value === null || value === undefined) return "unknown";
  if (typeof value === "number") {
    if (/(^|_)(cost|usd)(_|$)/.test(name)) return `$${value < 1 ? +value.toFixed(4) : value.toFixed(2)}`;
    if (name.endsWith("_ms")) return duration(value / 1000);
    if (name === "timestamp") return clock(new Date(value * 1000).toISOString());
    return String(+value.toFixed(4));
  }
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) value = value.join(", ");
  const said = typeof value === "object" ? JSON.stringify(value) : String(value);
  return said.length > LONGEST ? `${said.slice(0, LONGEST)}…` : said;
}

function verdict(type, payload) {
  if (type === "critic_decision") return payload.rejected === true ? "rejected" : "approved";
  if (type === "agent_completed") return payload.status;
  if (type !== "validation_complete") return "";
  return payload.result === true ? "passed" : payload.result === false ? "failed" : payload.result;
}

function fields(type, payload) {
  const shown = new Set([TYPES[type].name, "status", "result", "rejected", "duration_ms"]);
  if (type === "budget_warning" || type === "budget_exceeded") shown.add("unit");
  const unit = typeof payload.unit === "string" ? payload.unit : "USD";
  const made = document.createDocumentFragment();
  for (const name of Object.keys(payload).filter((each) => !shown.has(each)).slice(0, MOST_FIELDS)) {
    const field = document.createElement("span");
    const label = document.createElement("span");
    field.className = "field";
    label.className = "label";
    label.textContent = plain(name);
    let said = worded(name, payload[name]);
    if (shown.has("unit") && (name === "limit" || name === "spent")) {
      said = unit === "USD" ? worded("usd", payload[name]) : `${said} ${unit}`;
    }
    field.append(label, ` ${plain(said)}`);
    made.append(field);
  }
  return made;
}

function note(payload) {
  const said = [];
  if (payload.phase && payload.kind !== "phase") said.push(payload.phase);
  if (payload.error?.type) said.push([payload.error.type, payload.error.message].filter(Boolean).join(": "));
  const told = payload.attributes;
  if (payload.kind === "runtime" && told && typeof told === "object") {
    for (const key of ["otelagents.runtime.operation", "otelagents.runtime.reason_code", "otelagents.runtime.entity.id"]) {
      if (Object.hasOwn(told, key)) said.push(told[key]);
    }
  }
  if (payload.kind === "breaker" && told && Object.hasOwn(told, "otelagents.breaker.state")) {
    said.push(told["otelagents.breaker.state"]);
  }
  return plain(said.join(" · "));
}

function judged(badge, word) {
  if (typeof word !== "string" || !Object.hasOwn(LOOKS, word)) {
    badge.remove();
    return "";
  }
  const [sign, tone] = LOOKS[word];
  badge.classList.add(`tone-${tone}`);
  icon(badge, sign);
  badge.querySelector("span").textContent = word;
  return tone;
}

// A row of the feed. All text is set as text.
export function row(event) {
  const payload = event.payload ?? {};
  const named = given(event);
  const made = document.getElementById("event").content.cloneNode(true).firstElementChild;
  const at = (name) => made.querySelector(name);
  const time = at("time");
  time.dateTime = String(event.timestamp);
  time.textContent = clock(event.timestamp);
  time.title = String(event.timestamp);
  const name = at(".what a");
  const sign = at(".kind");
  let seconds = payload.duration_seconds;
  if (named) {
    const { type, payload: said } = named;
    made.dataset.event = type;
    sign.title = type;
    icon(sign, TYPES[type].sign);
    at(".type").textContent = type;
    name.textContent = plain(said[TYPES[type].name] || said.task_id || payload.name || "");
    const tone = judged(at(".badge"), verdict(type, said));
    if (tone) made.dataset.tone = tone;
    at(".note").replaceWith(fields(type, said));
    if (typeof said.duration_ms === "number") seconds = said.duration_ms / 1000;
  } else {
    const kind = KINDS.has(payload.kind) ? payload.kind : "span";
    sign.classList.add(`kind-${kind}`);
    sign.title = kind;
    icon(sign, `k-${kind}`);
    at(".type").textContent = plain(event.type);
    name.textContent = plain(payload.name || (payload.kind === "iteration" ? payload.iteration ?? "" : ""));
    judged(at(".badge"), payload.result);
    at(".note").textContent = note(payload);
  }
  const run = at("a.run");
  if (event.run_id) {
    const address = `/runs/${encodeURIComponent(event.run_id)}`;
    name.href = payload.agent_id && payload.kind === "agent" ? `/agents/${encodeURIComponent(payload.agent_id)}` : address;
    run.href = address;
    run.textContent = plain(event.run_id);
    run.title = plain(event.run_id);
  }
  at(".took").textContent = typeof seconds === "number" ? duration(seconds) : "";
  return made;
}

export function gapRow(event) {
  const made = document.getElementById("gap").content.cloneNode(true).firstElementChild;
  made.querySelector("span").textContent = event.to
    ? `events ${event.from} to ${event.to} are no longer stored`
    : "the store was emptied";
  return made;
}
