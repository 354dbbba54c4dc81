/* plot.js: one chart: a card with its name, the last values, a switch for a logarithmic scale, and
 * the lines, drawn by Chart.js. */
import {h, short} from "./dom.js";

const DAY_MS = 24 * 60 * 60 * 1000;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* A running mean whose start is not pulled to zero, as TensorBoard draws it. */
function smoothed(points, weight) {
  let mean = 0, scale = 0;
  return points.map(p => {
    if (p.y === null || Number.isNaN(p.y))
      return p;
    mean = weight * mean + (1 - weight) * p.y;
    scale = weight * scale + (1 - weight);
    return {...p, y: mean / scale};
  });
}

/* A gap where the step goes back: a version was restored, and another branch begins. */
function places(points, axis, log) {
  const out = [];
  let last = -Infinity;
  for (const p of points) {
    const x = p[axis];
    if (x < last)
      out.push({x, y: NaN, p});
    out.push({x, y: p.value === null || (log && p.value <= 0) ? NaN : p.value, p});
    last = x;
  }
  return out;
}

function datasets(curves, options, log) {
  const sets = [];
  for (const curve of curves) {
    const raw = places(curve.points, options.axis, log);
    const smoothing = curve.dashed ? 0 : options.smoothing; /* few points, each of a whole set */
    const few = raw.length < 3 || curve.dashed ? 3 : 0, line = {name: curve.name, smoothing,
      borderColor: curve.color, backgroundColor: curve.color, pointRadius: few, pointHoverRadius: 4,
      pointHitRadius: 8};
    if (smoothing > 0 && raw.length > 2)
      sets.push({...line, data: raw, borderColor: `${curve.color}40`, borderWidth: 1, faint: true,
                 pointHoverRadius: 0});
    sets.push({...line, data: smoothing > 0 ? smoothed(raw, smoothing) : raw, borderWidth: 2,
               borderDash: curve.dashed ? [6, 3] : []});
  }
  return sets;
}

/* ---- Chart.js -------------------------------------------------------------------------------- */

/* Of an axis that spans more than a day, times have their date. */
function axisText(axis, value, scale) {
  if (axis !== "time_ms")
    return value.toLocaleString();
  const long = scale.max - scale.min > DAY_MS;
  return new Date(value).toLocaleString([], {...(long ? {dateStyle: "short"} : {}),
                                             timeStyle: long ? "short" : "medium"});
}

const crosshair = {
  id: "crosshair",
  afterDatasetsDraw(chart) {
    const at = chart.tooltip?.getActiveElements?.()[0];
    if (!at)
      return;
    const {ctx, chartArea} = chart;
    ctx.save();
    ctx.strokeStyle = css("--quiet");
    ctx.setLineDash([3, 3]);
    ctx.beginPath();
    ctx.moveTo(at.element.x, chartArea.top);
    ctx.lineTo(at.element.x, chartArea.bottom);
    ctx.stroke();
    ctx.restore();
  }
};

function tooltip(card) {
  return {
    mode: "nearest", axis: "x", intersect: false, displayColors: true, usePointStyle: false,
    filter: item => !item.dataset.faint,
    callbacks: {
      title: items => items.length ? `${card.axis === "time_ms" ? "" : `${card.axis} `}` +
        axisText(card.axis, items[0].parsed.x, items[0].chart.scales.x) : "",
      label: item => {
        const raw = item.raw.p.value;
        return ` ${item.dataset.name}: ${short(raw)}` +
          (item.dataset.smoothing > 0 ? `  (smoothed ${short(item.parsed.y)})` : "");
      }
    }
  };
}

function chartOptions(card) {
  return {
    animation: false, maintainAspectRatio: false, responsive: true,
    interaction: {mode: "nearest", axis: "x", intersect: false},
    elements: {line: {tension: 0}},
    plugins: {legend: {display: false}, tooltip: tooltip(card)},
    scales: {
      x: {type: "linear", ticks: {maxTicksLimit: 6, maxRotation: 0,
                                  callback(v) { return axisText(card.axis, v, this); }}},
      y: {type: "linear", ticks: {maxTicksLimit: 6, callback: v => short(v)}}
    }
  };
}

function paint(card) {
  const {scales, plugins} = card.chart.options;
  for (const scale of Object.values(scales)) {
    scale.ticks.color = css("--quiet");
    scale.grid.color = css("--line");
    scale.grid.borderColor = css("--line");
  }
  Object.assign(plugins.tooltip, {backgroundColor: css("--tip"), titleColor: css("--tip-text"),
                                  bodyColor: css("--tip-text")});
}

/* ---- the card -------------------------------------------------------------------------------- */

function setLog(card, on) {
  card.log = on;
  card.button.setAttribute("aria-pressed", String(on));
  card.redraw();
}

function makeCard(key) {
  const canvas = h("canvas", {role: "img"}), last = h("p", {class: "last"});
  const card = {canvas, last, log: false, redraw() {}};
  card.button = h("button", {type: "button", "aria-pressed": "false", "aria-label":
    `Logarithmic scale for ${key}`, onclick: () => setLog(card, !card.log)}, "log");
  card.element = h("figure", {class: "card", "data-series": key}, h("figcaption", {},
    h("h3", {}, key), last, card.button), h("div", {class: "plot"}, canvas));
  card.chart = new Chart(canvas, {type: "line", data: {datasets: []}, options: chartOptions(card),
                                  plugins: [crosshair]});
  paint(card);
  return card;
}

/* The last values as text: seen without a pointer, and read by screen readers. */
function drawLast(card, key, curves) {
  const items = curves.map(c => ({...c, value: c.points.at(-1)?.value}));
  card.last.replaceChildren(...items.map(c => h("span", {}, h("span", {class: "swatch",
    "aria-hidden": "true"}), items.length > 1 ? `${c.name} ` : "", h("b", {}, short(c.value)))));
  items.forEach((c, i) => { card.last.children[i].firstChild.style.background = c.color; });
  card.canvas.setAttribute("aria-label", `${key}: ` + items.map(c =>
    `${c.name} ${short(c.value)} at step ${c.points.at(-1)?.step}`).join(", "));
}

/* Draws the curves ([{name, color, points, dashed}]) of a series into its card, which is made first. */
export function drawChart(cards, parent, key, curves, options) {
  if (!cards.has(key)) {
    const card = makeCard(key);
    const next = [...parent.children].find(c => c.dataset.rank > options.rank);
    card.element.dataset.rank = options.rank;
    parent.insertBefore(card.element, next || null);
    cards.set(key, card);
  }
  const card = cards.get(key);
  Object.assign(card, options, {redraw: () => drawChart(cards, parent, key, curves, options)});
  card.chart.options.scales.y.type = card.log ? "logarithmic" : "linear";
  card.chart.data.datasets = datasets(curves, options, card.log);
  card.chart.update("none");
  drawLast(card, key, curves);
}

export function restyleChart(card) {
  paint(card);
}

export function destroyChart(card) {
  card.chart.destroy();
}
