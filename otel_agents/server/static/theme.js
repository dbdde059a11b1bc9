// Runs before the page is drawn, so that a chosen theme never flashes in late.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("otel-agents.theme");
  } catch {
    // Storage can be switched off: the system's theme it is.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
