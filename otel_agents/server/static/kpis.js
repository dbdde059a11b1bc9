// The tiles of the KPIs: asked for anew as events come, with a small line of how each went.
import { duration } from "./times.js";

const LEAST = 1000; // milliseconds between two requests
const AFTER = 5_000; // until it is asked once more: a server that is busy answers with what it had
const IDLE = 30_000; // and while nothing is said: agents may be at work all the same
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 120;
const HEIGHT = 30;

const percent = (share) => [`${+(share * 100).toFixed(share && share < 0.1 ? 1 : 0)}`, "%"];
const money = (usd) => `$${usd && usd < 1 ? usd.toFixed(usd < 0.01 ? 4 : 3) : usd.toFixed(2)}`;
const many = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

// For each: the value and its unit, and what it is made of.
const TILES = {
  agent_utilization: {
    value: percent,
    note: (counts) => (counts.agents_active ? `${many(counts.agents_active, "agent")} at work` : `${duration(counts.active_seconds)} of ${duration(counts.window_seconds)}`),
  },
  cost_per_feature: {
    value: (usd) => [money(usd), ""],
    note: (counts) => `${money(counts.total_cost_usd)} for ${many(counts.features_completed, "feature")}`,
    none: (counts) => (counts.unpriced_agents ? ["not known", `${many(counts.unpriced_agents, "attempt")} without a price`] : null),
  },
  average_retry_count: {
    value: (number) => [String(+number.toFixed(2)), "per task"],
    note: (counts) => `${counts.retries === 1 ? "1 retry" : `${counts.retries} retries`} of ${many(counts.tasks, "task")}`,
  },
  critic_rejection_rate: {
    value: percent,
    note: (counts) => `${counts.critic_rejections} of ${many(counts.critic_decisions, "decision")}`,
  },
  validation_pass_rate: {
    value: percent,
    note: (counts) => `${counts.validations_passed} of ${many(counts.validations, "validation")}`,
  },
  time_to_completion: {
    value: (seconds) => [duration(seconds), ""],
    note: (counts) => `mean of ${many(counts.tasks_completed, "task")}`,
  },
};

function line(values, least, most) {
  const x = (at) => 2 + (at * (WIDTH - 4)) / Math.max(1, values.length - 1);
  const y = (value) => HEIGHT - 3 - ((value - least) * (HEIGHT - 6)) / (most - least || 1);
  const parts = [];
  values.forEach((value, at) => {
    if (value === null) return;
    const go = at && values[at - 1] !== null ? "L" : "M";
    // A point that stands alone is a stroke of no length, whose ends are round.
    parts.push(`${go}${x(at).toFixed(1)} ${y(value).toFixed(1)}`, go === "M" ? "h0" : "");
  });
  return parts.join("");
}

function spark(svg, values, said) {
  const known = values.filter((value) => value !== null);
  const part = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const parts = [part("path", { class: "ground", d: `M2 ${HEIGHT - 1}H${WIDTH - 2}` })];
  if (known.length) {
    const [least, most] = [Math.min(0, ...known), Math.max(...known)];
    parts.push(part("path", { class: "line", d: line(values, least, most) }));
    const now = values.at(-1);
    if (now !== null) {
      const last = values.map((value, at) => (at === values.length - 1 ? value : null));
      parts.push(part("path", { class: "now", d: line(last, least, most) }));
    }
  }
  svg.replaceChildren(...parts);
  svg.setAttribute("aria-label", known.length ? said(known) : "Nothing to draw yet");
}

function show(data) {
  const span = data.window === "1h" ? "the last hour" : "the last 24 hours";
  for (const tile of document.querySelectorAll("[data-kpi]")) {
    const name = tile.dataset.kpi;
    const { value, note, none } = TILES[name];
    const found = data.kpis[name];
    const [nothing, why] = none?.(data.counts) ?? ["nothing to count yet", ""];
    const [number, unit] = found === null ? [nothing, ""] : value(found);
    tile.querySelector(".value").textContent = number;
    tile.querySelector(".unit").textContent = unit;
    tile.classList.toggle("none", found === null);
    tile.querySelector("small").textContent = found === null ? why : note(data.counts);
    const words = (each) => value(each).join(" ").trim();
    spark(tile.querySelector(".spark"), data.trend[name], (known) =>
      `Over ${span}: between ${words(Math.min(...known))} and ${words(Math.max(...known))}`);
  }
}

// Returns what is to be called when something happened that the KPIs count.
export function kpis() {
  const section = document.getElementById("kpis");
  const problem = section.querySelector(".problem");
  const choice = document.querySelectorAll('[name="window"]');
  let timer = 0;
  let busy = false;
  let again = false;
  let asked = 0;
  let stirred = false;

  const ask = async () => {
    timer = 0;
    busy = true;
    again = false;
    asked = Date.now();
    const wanted = document.querySelector('[name="window"]:checked').value;
    const later = stirred ? AFTER : IDLE;
    stirred = false;
    try {
      const answer = await fetch(`/api/kpis?window=${wanted}`, { headers: { Accept: "application/json" } });
      const { data, error } = await answer.json();
      if (error) throw new Error(error.message);
      show(data);
      section.dataset.window = data.window;
      problem.textContent = "";
    } catch (error) {
      problem.textContent = `The KPIs cannot be read: ${error.message}`;
    }
    busy = false;
    if (again) soon();
    else timer ||= setTimeout(() => (document.hidden ? (timer = 0) : ask()), later);
  };

  const soon = (least = LEAST) => {
    stirred = true;
    if (busy || document.hidden) {
      again = true;
      return;
    }
    clearTimeout(timer);
    timer = setTimeout(ask, Math.max(60, least - (Date.now() - asked)));
  };

  document.addEventListener("visibilitychange", () => document.hidden || soon());
  for (const each of choice) {
    each.addEventListener("change", () => {
      const address = new URL(location.href);
      if (each.value === "24h") address.searchParams.delete("window");
      else address.searchParams.set("window", each.value);
      history.replaceState(null, "", address);
      soon(0);
    });
  }
  ask();
  return soon;
}
