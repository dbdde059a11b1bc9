// The theme, the help, the drawer, copying, and what follows a deletion.
const THEMES = ["system", "light", "dark"];
const ICONS = { system: "system", light: "sun", dark: "moon" };
const SAID = { system: "as the system has it", light: "light", dark: "dark" };

export function announce(text) {
  document.getElementById("announce").textContent = text;
}

// The pill that says whether the page is live; `state` is as the feed says it.
export function feedState(state) {
  const pill = document.getElementById("feed");
  pill.hidden = false;
  pill.dataset.state = state;
  pill.querySelector(".word").textContent = state;
}

export function icon(element, name) {
  const use = element.querySelector("use");
  use.setAttribute("href", use.getAttribute("href").replace(/#.*/, `#${name}`));
}

function theme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const show = (name) => {
    icon(button, ICONS[name]);
    button.setAttribute("aria-label", `Theme: ${SAID[name]}`);
  };
  let now = root.dataset.theme ?? "system";
  show(now);
  button.addEventListener("click", () => {
    now = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    if (now === "system") delete root.dataset.theme;
    else root.dataset.theme = now;
    try {
      if (now === "system") localStorage.removeItem("otel-agents.theme");
      else localStorage.setItem("otel-agents.theme", now);
    } catch {
      // Not kept, but in force on this page.
    }
    show(now);
    announce(`Theme: ${SAID[now]}`);
    document.dispatchEvent(new Event("theme"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.dispatchEvent(new Event("theme"));
  });
}

export function closeDrawer() {
  const drawer = document.getElementById("drawer");
  if (!drawer.children.length) return false;
  drawer.replaceChildren();
  const address = new URL(location.href);
  for (const name of ["scope", "span"]) address.searchParams.delete(name);
  history.replaceState(null, "", address);
  opener?.isConnected && opener.focus({ preventScroll: true });
  return true;
}

let opener = null;

export function frame() {
  theme();
  const help = document.getElementById("help");
  document.getElementById("help-open").addEventListener("click", () => help.showModal());
  help.addEventListener("click", (event) => {
    if (event.target === help) help.close();
  });
  document.addEventListener("click", async (event) => {
    const close = event.target.closest("[data-close]");
    if (close) {
      if (close.closest("dialog")) help.close();
      else closeDrawer();
      return;
    }
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      try {
        await navigator.clipboard.writeText(copy.dataset.copy);
        icon(copy, "check");
        announce("Copied");
        setTimeout(() => copy.isConnected && icon(copy, "copy"), 1500);
      } catch {
        announce("The browser does not allow copying here");
      }
    }
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const source = event.detail?.ctx?.sourceElement;
    if (!source?.matches?.('[hx-target="#drawer"]')) return;
    opener = source;
    const wanted = new URL(source.href, location.href);
    if (wanted.pathname === location.pathname) history.replaceState(null, "", wanted);
    document.getElementById("drawer").focus({ preventScroll: true });
  });
  document.addEventListener("htmx:before:response", (event) => {
    // A session that ran out: the whole page goes to the form, not a part of it.
    const raw = event.detail?.ctx?.response?.raw;
    if (raw?.redirected && new URL(raw.url).pathname === "/login") location.assign("/login?next="
      + encodeURIComponent(location.pathname + location.search));
  });
  document.addEventListener("htmx:after:request", (event) => {
    const { sourceElement, response } = event.detail?.ctx ?? {};
    const next = sourceElement?.dataset?.after;
    if (!next) return;
    if (response?.status < 300) location.assign(next);
    else announce("It could not be deleted");
  });
}
