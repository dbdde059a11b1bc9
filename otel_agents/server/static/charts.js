// Small charts by uPlot, drawn in the colours of the theme.
const drawn = new Map();

function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function faint(text, share) {
  return `color-mix(in srgb, ${text} ${share}%, transparent)`;
}

const short = (number) =>
  number == null ? "–" : Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(number);
const money = (usd) => (usd == null ? "no price" : `$${usd < 1 ? usd.toFixed(4) : usd.toFixed(2)}`);

function tip(words) {
  const box = document.createElement("div");
  box.className = "tip";
  box.hidden = true;
  return {
    hooks: {
      init: (chart) => chart.over.append(box),
      setCursor: (chart) => {
        const { idx, left } = chart.cursor;
        box.hidden = idx == null || left < 0;
        if (box.hidden) return;
        box.textContent = words(idx);
        const most = chart.over.clientWidth - box.offsetWidth;
        box.style.left = `${Math.max(0, Math.min(most, left - box.offsetWidth / 2))}px`;
        box.style.top = "2px";
      },
    },
  };
}

function size(element) {
  return { width: Math.max(60, element.clientWidth), height: element.clientHeight };
}

const QUIET = { legend: { show: false }, cursor: { y: false, drag: { x: false, y: false }, points: { show: false } } };

const MAKERS = {
  days(element, rows) {
    const ink = colour("accent");
    const label = (row) => `${row.day} · ${row.runs} runs · ${money(row.usd)} · ${short(row.tokens)} tokens`;
    const spend = rows.some((row) => row.usd);
    const data = [rows.map((_, at) => at), rows.map((row) => (spend ? row.usd ?? 0 : row.runs))];
    return new uPlot({
      ...size(element), ...QUIET,
      padding: [6, 0, 0, 0],
      scales: { x: { time: false, range: [-0.6, rows.length - 0.4] }, y: { range: (_, least, most) => [0, most || 1] } },
      axes: [{ show: false }, { show: false }],
      series: [{}, {
        stroke: ink, fill: faint(ink, 62), width: 0, points: { show: false },
        paths: uPlot.paths.bars({ size: [0.66, 26], radius: 0.25 }),
      }],
      plugins: [tip((at) => label(rows[at]))],
    }, data, element);
  },
  growth(element, rows) {
    const [ink, second, soft, line] = ["accent", "tool-bar", "soft", "line"].map(colour);
    const data = [0, 1, 2].map((at) => rows.map((row) => row[at]));
    const font = "11px Inter, sans-serif";
    const axis = { stroke: soft, font, ticks: { show: false }, grid: { stroke: line, width: 1 } };
    const seconds = (value) => (value < 120 ? `${value}s` : `${+(value / 60).toFixed(1)}m`);
    return new uPlot({
      ...size(element), ...QUIET,
      padding: [10, 0, 0, 0],
      scales: { x: { time: false }, y: { range: (_, least, most) => [0, most || 1] }, agents: { range: (_, least, most) => [0, Math.max(2, most * 2.5)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, values: (_, all) => all.map(seconds) },
        { ...axis, size: 52, values: (_, all) => all.map(short), space: 26 },
      ],
      series: [{},
        { stroke: ink, width: 1.8, fill: faint(ink, 12), paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } },
        { stroke: second, width: 1.4, scale: "agents", paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } },
      ],
      plugins: [tip((at) => `${seconds(Math.round(data[0][at]))} · ${short(data[1][at])} tokens · ${data[2][at]} at work`)],
    }, data, element);
  },
};

function draw() {
  if (typeof uPlot === "undefined") return;
  for (const [element, { chart }] of drawn) {
    if (!element.isConnected) {
      chart.destroy();
      drawn.delete(element);
    }
  }
  for (const element of document.querySelectorAll("[data-plot]")) {
    const { plot, series } = element.dataset;
    const kept = drawn.get(element);
    if (kept?.series === series || !Object.hasOwn(MAKERS, plot)) continue;
    kept?.chart.destroy();
    element.replaceChildren();
    drawn.set(element, { series, chart: MAKERS[plot](element, JSON.parse(series)) });
  }
}

function anew() {
  for (const { chart } of drawn.values()) chart.destroy();
  drawn.clear();
  draw();
}

export function charts() {
  draw();
  document.addEventListener("htmx:after:swap", draw);
  document.addEventListener("theme", anew);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    for (const [element, { chart }] of drawn) chart.setSize(size(element));
  });
}
