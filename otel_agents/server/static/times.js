// Keeps "12s ago" and running durations true between two refreshes.
const UNITS = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];

function largest(seconds) {
  const [size, letter] = UNITS.find(([least]) => seconds >= least) ?? UNITS[3];
  return `${Math.floor(seconds / size)}${letter}`;
}

export function ago(when, now = Date.now()) {
  const seconds = (now - when) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (seconds < -1) return `in ${largest(-seconds)}`;
  return seconds < 1 ? "now" : `${largest(seconds)} ago`;
}

export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)}ms`;
  if (seconds < 60) return `${seconds.toFixed(1)}s`;
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
  return `${Math.floor(whole / 86400)}d ${Math.floor((whole % 86400) / 3600)}h`;
}

export function clock(text) {
  const when = new Date(text);
  if (Number.isNaN(when.getTime())) return text;
  const two = (number, digits = 2) => String(number).padStart(digits, "0");
  return `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}.${two(when.getMilliseconds(), 3)}`;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function zones() {
  // The server writes UTC; the reader's own zone stands in the tooltip and in the clocks.
  for (const each of document.querySelectorAll("time[data-ago], time[data-clock]")) {
    const when = new Date(each.dateTime);
    if (Number.isNaN(when.getTime())) continue;
    const title = when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
    if (each.title !== title) each.title = title;
    if ("clock" in each.dataset) put(each, clock(each.dateTime));
  }
}

function tick() {
  const now = Date.now();
  for (const each of document.querySelectorAll("time[data-ago]")) {
    put(each, ago(Date.parse(each.dateTime), now));
  }
  for (const each of document.querySelectorAll("[data-lasting]")) {
    const seconds = (now - Date.parse(each.dataset.lasting)) / 1000;
    if (seconds >= 0) put(each, seconds < 60 ? `${Math.floor(seconds)}s` : duration(seconds));
  }
}

export function times() {
  zones();
  tick();
  setInterval(() => document.hidden || tick(), 1000);
  document.addEventListener("htmx:after:swap", () => {
    zones();
    tick();
  });
}
