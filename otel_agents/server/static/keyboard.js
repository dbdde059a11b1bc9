// Moves through rows, opens the search and the help, goes to sections.
import { fold } from "./folding.js";
import { closeDrawer } from "./frame.js";

const SECTIONS = { r: "/runs", a: "/agents", t: "/traces", l: "/live", f: "/alerts", w: "/hitl", s: "/admin/runtime" };

function rows() {
  return [...document.querySelectorAll("[data-row]")].filter((row) => !row.hidden);
}

function step(by) {
  const all = rows();
  if (!all.length) return false;
  const at = all.findIndex((row) => row.contains(document.activeElement));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
  const target = next.querySelector("[data-open]:not([hidden])") ?? next;
  if (target === next && !next.hasAttribute("tabindex")) next.tabIndex = -1;
  target.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
  return true;
}

function typing(element) {
  return element.matches?.("input, select, textarea, [contenteditable]");
}

export function keyboard() {
  let going = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const help = document.getElementById("help");
    if (help.open) return;
    if (event.key === "Escape") {
      if (!closeDrawer() && typing(event.target)) event.target.blur();
      return;
    }
    if (typing(event.target)) return;
    if (Date.now() - going < 1200) {
      going = 0;
      if (Object.hasOwn(SECTIONS, event.key)) location.assign(SECTIONS[event.key]);
      return;
    }
    const row = event.target.closest?.("[data-row]");
    const actions = {
      "/": () => {
        const search = document.querySelector('input[type="search"]');
        search?.focus();
        search?.select();
        return Boolean(search);
      },
      "?": () => help.showModal() ?? true,
      g: () => (going = Date.now()),
      j: () => step(1),
      k: () => step(-1),
      ArrowDown: () => row && step(1),
      ArrowUp: () => row && step(-1),
      ArrowLeft: () => row?.dataset.key && fold(row, true),
      ArrowRight: () => row?.dataset.key && fold(row, false),
    };
    if (Object.hasOwn(actions, event.key) && actions[event.key]()) event.preventDefault();
  });
}
