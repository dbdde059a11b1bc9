// Folds the rows of a waterfall; what is folded stays so when the page is refreshed.
const folded = new Set();

function rows() {
  return [...document.querySelectorAll("[data-waterfall] .w-row")];
}

function draw() {
  const all = rows();
  if (!all.length) return;
  const hidden = new Set();
  // Rows stand as a tree read from the top, so a parent is decided before its children.
  for (const row of all) {
    const { key, parent } = row.dataset;
    const away = folded.has(parent) || hidden.has(parent);
    if (away) hidden.add(key);
    if (row.hidden !== away) row.hidden = away;
    if (row.hasAttribute("aria-expanded")) {
      row.setAttribute("aria-expanded", String(!folded.has(key)));
      row.querySelector("button.fold").setAttribute(
        "aria-label",
        folded.has(key) ? "Unfold" : "Fold",
      );
    }
  }
  const button = document.querySelector("[data-fold]");
  if (button) button.textContent = folded.size ? "Unfold all" : "Fold all";
}

export function fold(row, close) {
  const { key } = row.dataset;
  if (!row.hasAttribute("aria-expanded") || folded.has(key) === close) return false;
  if (close) folded.add(key);
  else folded.delete(key);
  draw();
  return true;
}

export function folding() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.fold");
    if (button) {
      const row = button.closest(".w-row");
      fold(row, !folded.has(row.dataset.key));
    } else if (event.target.closest("[data-fold]")) {
      const tops = rows().filter(
        (row) => row.hasAttribute("aria-expanded") && Number(row.getAttribute("aria-level")) > 1,
      );
      if (folded.size) folded.clear();
      else for (const row of tops) folded.add(row.dataset.key);
      draw();
    }
  });
  document.addEventListener("htmx:after:swap", draw);
}
