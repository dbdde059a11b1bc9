// Asks the server for the part of the page that changes, and morphs it in: what has the focus, is
// selected or scrolled stays as it is.
import { feed } from "./feed.js";
import { feedState } from "./frame.js";

const LEAST = 1000; // between two refreshes

let busy = false;
let again = false;
let asked = 0;
let timer = 0;

export async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  asked = Date.now();
  try {
    const here = location.pathname + location.search;
    await htmx.ajax("GET", here, { source: "#fragment", target: "#fragment", swap: "innerMorph" });
    document.dispatchEvent(new Event("refreshed"));
  } finally {
    busy = false;
    if (again) {
      again = false;
      soon();
    }
  }
}

export function soon() {
  if (timer || document.hidden) {
    again ||= document.hidden;
    return;
  }
  timer = setTimeout(() => {
    timer = 0;
    refresh();
  }, Math.max(120, LEAST - (Date.now() - asked)));
}

export function listening() {
  const { live, since, run } = document.body.dataset;
  if (live === undefined) return;
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && again) {
      again = false;
      soon();
    }
  });
  feed({ since: Number(since), runId: run, onEvent: soon, onGap: soon, onBack: soon, onState: feedState });
}

function address(form) {
  const wanted = new URL(form.action);
  const here = new URL(location.href);
  const fields = new Set([...form.elements].map((each) => each.name).filter(Boolean));
  // Filters of other forms on the page stay; a place in the list does not outlive a new filter.
  for (const [name, value] of here.searchParams) {
    if (!fields.has(name) && !["cursor", "all", "scope", "span"].includes(name)) {
      wanted.searchParams.set(name, value);
    }
  }
  for (const [name, value] of new FormData(form)) {
    if (String(value).trim()) wanted.searchParams.set(name, String(value).trim());
  }
  return wanted;
}

export function filters() {
  let typed = 0;
  const apply = (form) => {
    clearTimeout(typed);
    history.replaceState(null, "", address(form));
    refresh();
  };
  document.addEventListener("input", (event) => {
    const form = event.target.closest?.("[data-filters]");
    if (!form || event.target.matches("select")) return;
    clearTimeout(typed);
    typed = setTimeout(() => apply(form), 220);
  });
  document.addEventListener("change", (event) => {
    const form = event.target.closest?.("[data-filters]");
    if (form) apply(form);
  });
  document.addEventListener("submit", (event) => {
    const form = event.target.closest?.("[data-filters]");
    if (!form) return;
    event.preventDefault();
    apply(form);
  });
}
