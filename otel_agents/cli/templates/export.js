// Filters the events by type and text. Without it all of them are there to read.
const form = document.getElementById("filters");
if (form) {
  const rows = [...document.querySelectorAll("#feed > li")];
  const type = document.getElementById("type");
  const text = document.getElementById("text");
  const shown = document.getElementById("shown");
  const types = new Map(rows.map((row) => [row, row.querySelector("code").textContent]));
  const texts = new Map();
  const has = (row, wanted) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row).includes(wanted);
  };
  const filter = () => {
    const wanted = text.value.trim().toLowerCase();
    let number = 0;
    for (const row of rows) {
      const gap = row.className === "gap";
      const kept = gap
        ? !type.value && !wanted
        : (!type.value || types.get(row) === type.value) && (!wanted || has(row, wanted));
      row.hidden = !kept;
      if (kept && !gap) number += 1;
    }
    shown.textContent = `${number.toLocaleString("en")} shown`;
  };
  let timer = 0;
  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(filter, rows.length > 2000 ? 120 : 0);
  });
  type.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();
}
