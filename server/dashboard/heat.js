/* heat.js: a heat map on a canvas: a row for each layer, a column for each recorded step, colours on
 * a logarithmic or linear scale with their legend. The value under the pointer, or under a cursor that
 * the arrow keys move, is said in words. */
import {h, short} from "./dom.js";

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* Dark to bright with even steps of lightness (matplotlib's viridis), so that it also reads in grey. */
const STOPS = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];
const ROW = {min: 11, max: 24}, FOOT = 24, DECADES = 12, FONT = "11px system-ui, sans-serif";

function color(part) {
  const at = Math.max(0, Math.min(1, part)) * (STOPS.length - 1), i = Math.min(STOPS.length - 2, Math.floor(at));
  const mixed = STOPS[i].map((from, k) => Math.round(from + (at - i) * (STOPS[i + 1][k] - from)));
  return `rgb(${mixed.join(" ")})`;
}

/* Ends of the scale. A logarithmic one shows at most DECADES powers of ten: a layer whose gradient is
 * gone should not take the colours of all others. */
function scaleOf(rows, kind) {
  const all = rows.flatMap(r => r.values).filter(v => v !== null);
  const used = kind === "log" ? all.filter(v => v > 0) : all;
  let low = used.reduce((a, b) => Math.min(a, b), Infinity), high = used.reduce((a, b) => Math.max(a, b), -Infinity);
  if (kind === "share")
    [low, high] = [0, 1];
  if (!used.length)
    [low, high] = [kind === "log" ? 1e-3 : 0, 1];
  const cut = kind === "log" && low < high * 10 ** -DECADES;
  if (cut)
    low = high * 10 ** -DECADES;
  const place = kind === "log" ? Math.log10 : v => v;
  const part = v => place(high) === place(low) ? 0.5 : (place(v) - place(low)) / (place(high) - place(low));
  return {kind, low, high, cut, zeros: kind === "log" && all.some(v => v === 0), part};
}

const fill = (scale, value) => scale.kind === "log" && value === 0 ? css("--zero") : color(scale.part(value));

/* ---- the map --------------------------------------------------------------------------------- */

function fitText(ctx, text, width) {
  if (ctx.measureText(text).width <= width)
    return text;
  let n = text.length;
  while (n > 1 && ctx.measureText(`…${text.slice(text.length - n)}`).width > width)
    n--;
  return `…${text.slice(text.length - n)}`;
}

function measure(map) {
  const width = map.canvas.parentElement.clientWidth, rows = map.rows.length;
  const row = Math.max(ROW.min, Math.min(ROW.max, Math.floor(420 / Math.max(1, rows))));
  const ctx = map.canvas.getContext("2d");
  ctx.font = FONT;
  const longest = map.rows.reduce((most, r) => Math.max(most, ctx.measureText(r.name).width), 0);
  const left = Math.min(Math.ceil(longest) + 12, Math.round(width * 0.3));
  return {width, row, left, height: rows * row + FOOT, cell: (width - left) / Math.max(1, map.steps.length)};
}

function paintLabels(ctx, map, m) {
  const every = Math.ceil(11 / m.row);
  ctx.fillStyle = css("--quiet");
  ctx.font = FONT;
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  map.rows.forEach((r, i) => {
    if (i % every === 0)
      ctx.fillText(fitText(ctx, r.name, m.left - 12), m.left - 6, (i + 0.5) * m.row);
  });
  const n = map.steps.length, count = Math.max(1, Math.min(n, Math.floor((m.width - m.left) / 90)));
  for (let k = 0; k < count; k++) {
    const i = count === 1 ? n - 1 : Math.round(k * (n - 1) / (count - 1));
    ctx.textAlign = k === count - 1 ? "right" : k ? "center" : "left";
    const x = k === count - 1 ? m.width : m.left + (i + (k ? 0.5 : 0)) * m.cell;
    ctx.fillText(`${k ? "" : "step "}${map.steps[i].toLocaleString()}`, x, m.height - FOOT / 2);
  }
}

function paintCursor(ctx, map, m) {
  if (!map.at)
    return;
  ctx.strokeStyle = css("--text");
  ctx.lineWidth = 2;
  ctx.strokeRect(m.left + map.at.column * m.cell, map.at.row * m.row, Math.max(3, m.cell), m.row);
}

export function paintHeat(map) {
  const m = map.size = measure(map), ratio = devicePixelRatio || 1, canvas = map.canvas;
  if (!m.width)
    return; /* not on show */
  canvas.width = Math.round(m.width * ratio);
  canvas.height = Math.round(m.height * ratio);
  canvas.style.height = `${m.height}px`;
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  map.rows.forEach((r, y) => r.values.forEach((value, x) => {
    if (value === null)
      return;
    ctx.fillStyle = fill(map.scale, value);
    ctx.fillRect(m.left + x * m.cell, y * m.row, m.cell + 0.5, m.row - (m.row > 14 ? 1 : 0));
  }));
  paintLabels(ctx, map, m);
  paintCursor(ctx, map, m);
}

/* ---- the legend ------------------------------------------------------------------------------ */

function legend(scale) {
  const strip = h("canvas", {width: 160, height: 10, "aria-hidden": "true"}), ctx = strip.getContext("2d");
  for (let x = 0; x < 160; x++) {
    ctx.fillStyle = color(x / 159);
    ctx.fillRect(x, 0, 1, 10);
  }
  const zero = scale.zeros && h("span", {class: "zero"}, h("span", {class: "swatch", "aria-hidden": "true"}), "0");
  return [zero, h("span", {}, `${scale.cut ? "≤ " : ""}${short(scale.low)}`), strip,
          h("span", {}, `${short(scale.high)}${scale.kind === "log" ? " (log)" : ""}`)].filter(Boolean);
}

/* ---- values ---------------------------------------------------------------------------------- */

function say(map) {
  const {row, column} = map.at, r = map.rows[row], value = r.values[column];
  map.said.textContent = `${r.name} at step ${map.steps[column].toLocaleString()}: ` +
    (value === null ? "not seen" : `${map.label} ${short(value)}`);
}

function moveTo(map, row, column) {
  const rows = map.rows.length, columns = map.steps.length;
  if (!rows || !columns)
    return;
  map.at = {row: Math.max(0, Math.min(rows - 1, row)), column: Math.max(0, Math.min(columns - 1, column))};
  say(map);
  paintHeat(map);
}

function point(map, event) {
  const box = map.canvas.getBoundingClientRect(), m = map.size;
  if (m && m.width)
    moveTo(map, Math.floor((event.clientY - box.top) / m.row), Math.floor((event.clientX - box.left - m.left) / m.cell));
}

function keys(map, event) {
  const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
  if (!step)
    return;
  event.preventDefault();
  const at = map.at || {row: 0, column: map.steps.length - 1};
  moveTo(map, at.row + (map.at ? step[0] : 0), at.column + (map.at ? step[1] : 0));
}

/* ---- all of it ------------------------------------------------------------------------------- */

export function makeHeat() {
  const canvas = h("canvas", {class: "heat", role: "img", tabindex: 0});
  const map = {canvas, said: h("output", {class: "said"}), legend: h("p", {class: "legend"}), rows: [],
               steps: [], at: null};
  canvas.addEventListener("pointermove", event => point(map, event));
  canvas.addEventListener("pointerdown", event => point(map, event));
  canvas.addEventListener("keydown", event => keys(map, event));
  new ResizeObserver(() => paintHeat(map)).observe(canvas);
  return map;
}

/* `rows`: [{name, values}] with a value or null for each of `steps`; `kind`: log, linear or share. */
export function drawHeat(map, rows, steps, kind, label) {
  Object.assign(map, {rows, steps, label, scale: scaleOf(rows, kind)});
  if (map.at && (map.at.row >= rows.length || map.at.column >= steps.length))
    map.at = null;
  map.legend.replaceChildren(...legend(map.scale));
  map.canvas.setAttribute("aria-label", `${label} of ${rows.length} layers over ${steps.length} steps, ` +
    `${short(map.scale.low)} to ${short(map.scale.high)}; arrow keys read the values`);
  if (map.at)
    say(map);
  else
    map.said.textContent = "Point at a cell for its value.";
  paintHeat(map);
}
