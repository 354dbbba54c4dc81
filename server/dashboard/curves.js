/* curves.js: the curves of the model that is shown, and of those it is compared with.
 *
 * Points come sampled by the daemon first (max_points), then one by one: for the model that is shown
 * as events, for others by asking for what is new, since a browser keeps few connections open. When a
 * curve has grown too long to draw well it is asked for anew. */
import {call, modelPath, follow} from "./api.js";
import {byId, h, heads, short} from "./dom.js";
import {drawChart, destroyChart, restyleChart} from "./plot.js";

const POINTS = 1000, MOST = 3000, POLL_MS = 2000, DRAW_MS = 250;
/* Charts in this order, then the others by name. "samples" says nothing as a curve. */
const FIRST = ["loss", "accuracy", "mAP50-95", "mAP50", "mAP75", "precision", "recall", "grad_norm", "batch_grad_norm", "lr"];
const HIDDEN = new Set(["samples"]);
const COLORS = 6; /* --curve-0 ... of style.css */

const shown = {
  name: null,
  models: new Map(), /* name -> {cursor, series: Map(name -> [{revision, step, time_ms, value}])} */
  stream: null,
  state: ""
};

/* ---- what is known --------------------------------------------------------------------------- */

function order() {
  return [...shown.models.keys()];
}

/* A model keeps its colour for as long as it is drawn. */
export function colorOf(name) {
  const at = shown.models.get(name)?.color;
  return at === undefined ? null
    : getComputedStyle(document.documentElement).getPropertyValue(`--curve-${at % COLORS}`).trim();
}

function freeColor() {
  const used = new Set([...shown.models.values()].map(m => m.color));
  let color = 0;
  while (used.has(color))
    color++;
  return color;
}

function points(columns) {
  return columns.revision.map((revision, i) => ({revision, step: columns.step[i],
    time_ms: columns.time_ms[i], value: columns.value[i]}));
}

/* Asks for all curves anew. Events that come meanwhile stay behind what the answer has. */
async function load(name, model) {
  const answer = await call("GET", modelPath(name, `/metrics?max_points=${POINTS}`));
  const newer = [...model.series].map(([key, s]) => [key, s.filter(p => p.revision > answer.last_revision)]);
  model.cursor = answer.cursor;
  model.series = new Map(Object.entries(answer.series).map(([key, s]) => [key, points(s)]));
  for (const [key, list] of newer)
    list.forEach(point => add(model, key, point));
}

async function reload(name, model) {
  if (model.loading)
    return;
  model.loading = true;
  await load(name, model).finally(() => { model.loading = false; });
  draw();
}

/* A row of the revision that was there last takes its place, as in the daemon. */
function add(model, key, point) {
  if (!model.series.has(key))
    model.series.set(key, []);
  const list = model.series.get(key);
  if (list.at(-1)?.revision === point.revision)
    list.pop();
  list.push(point);
}

function addEvent(model, {revision, step, time_ms, values}) {
  for (const [key, value] of Object.entries(values))
    add(model, key, {revision, step, time_ms, value});
}

/* What is new of a model that has no stream. */
async function poll(name) {
  const model = shown.models.get(name);
  if (!model || name === shown.name || model.cursor === null || document.hidden)
    return;
  const since = encodeURIComponent(model.cursor);
  const answer = await call("GET", modelPath(name, `/metrics?since=${since}&max_points=${POINTS}`));
  if (answer.cursor === model.cursor)
    return;
  model.cursor = answer.cursor;
  for (const [key, columns] of Object.entries(answer.series))
    for (const point of points(columns))
      add(model, key, point);
  draw();
}

/* ---- which models ---------------------------------------------------------------------------- */

async function take(name) {
  const model = {cursor: null, series: new Map(), color: freeColor()};
  shown.models.set(name, model);
  await load(name, model);
}

function setState(state) {
  const words = {live: "live", waiting: "reconnecting…", gone: "deleted", "": ""};
  shown.state = state;
  byId("live").textContent = words[state];
  byId("live").className = `badge ${state}`;
}

/* Shows `name`, or nothing, with the curves of `others` over it. */
export async function open(name, others) {
  shown.stream?.stop();
  shown.stream = null;
  setState("");
  shown.name = name;
  shown.models.clear();
  clearCharts();
  if (!name)
    return;
  await take(name);
  const model = shown.models.get(name);
  if (!model || shown.name !== name || shown.stream)
    return; /* another was opened meanwhile */
  shown.stream = follow(name, model.cursor, {row: data => { addEvent(model, data); draw(); },
                                             state: setState});
  await compare(others);
}

export async function compare(others) {
  const wanted = new Set(others);
  for (const name of order())
    if (name !== shown.name && !wanted.has(name))
      shown.models.delete(name);
  await Promise.all(others.filter(name => !shown.models.has(name)).map(take));
  redraw();
}

/* ---- drawing --------------------------------------------------------------------------------- */

const cards = new Map(); /* series -> {card, chart, ...} of chart.js */
let drawTimer = null;

function draw() {
  drawTimer ??= setTimeout(() => { drawTimer = null; redraw(); }, DRAW_MS);
}

/* Where a chart stands among the others. */
function place(key) {
  const at = FIRST.indexOf(key);
  return at < 0 ? FIRST.length : at;
}

/* Evaluations that were recorded ("val_loss") are drawn into the chart of what training says. */
const chartOf = key => key.replace(/^val_/, "");

/* Names of the charts: those of classes ("mAP50/cat") are left to the table of the last values. */
function names() {
  const all = new Set();
  for (const model of shown.models.values())
    for (const key of model.series.keys())
      if (!HIDDEN.has(key) && !key.includes("/"))
        all.add(chartOf(key));
  return [...all].sort((a, b) => place(a) - place(b) || a.localeCompare(b));
}

/* The curves of a chart: of each model what training says, and broken what evaluations do. */
function curvesOf(key) {
  const val = `val_${key}`, alone = shown.models.size === 1;
  const any = order().some(name => shown.models.get(name).series.has(val));
  const label = {[key]: name => alone && any ? "training" : name,
                 [val]: name => alone ? "evaluation" : `${name}, evaluation`};
  return order().flatMap(name => [key, val].filter(k => shown.models.get(name).series.has(k)).map(k =>
    ({name: label[k](name), color: colorOf(name), points: shown.models.get(name).series.get(k), dashed: k === val})));
}

function clearCharts() {
  cards.forEach(destroyChart);
  cards.clear();
  byId("charts").replaceChildren();
}

export function redraw() {
  if (!shown.name || byId("panel-curves").hidden)
    return;
  for (const [name, model] of shown.models)
    if ([...model.series.values()].some(s => s.length > MOST))
      reload(name, model);
  const keys = names(), options = {smoothing: Number(byId("smoothing").value), axis: byId("axis").value};
  for (const key of keys)
    drawChart(cards, byId("charts"), key, curvesOf(key), {...options, rank: place(key),
      smoothing: key === "lr" ? 0 : options.smoothing} /* it is no measurement */);
  drawClasses();
  byId("no-curves").hidden = keys.length > 0;
  byId("smoothing-value").textContent = options.smoothing.toFixed(2);
}

/* The last evaluation by class, a row each; its series are called "mAP50/cat". */
function drawClasses() {
  const series = shown.models.get(shown.name)?.series || new Map();
  const keys = [...series.keys()].filter(key => key.includes("/"));
  const metrics = [...new Set(keys.map(key => key.slice(0, key.indexOf("/"))))]
    .sort((a, b) => place(a) - place(b) || a.localeCompare(b));
  const classes = [...new Set(keys.map(key => key.slice(key.indexOf("/") + 1)))].sort((a, b) => a.localeCompare(b));
  const rows = classes.map(name => {
    const last = metrics.map(metric => series.get(`${metric}/${name}`)?.at(-1));
    const step = Math.max(...last.filter(Boolean).map(p => p.step));
    return h("tr", {}, h("th", {scope: "row"}, name),
      last.map(p => h("td", {class: "number"}, short(p?.value))), h("td", {class: "number"}, step.toLocaleString()));
  });
  byId("classes")?.remove();
  if (rows.length)
    byId("charts").append(h("figure", {id: "classes", class: "card"},
      h("figcaption", {}, h("h3", {}, "By class")), h("div", {class: "scroll"}, h("table", {},
        heads(["Class", ...[...metrics, "Step"].map(t => `#${t}`)]), h("tbody", {}, rows)))));
}

export function restyle() {
  cards.forEach(restyleChart);
  redraw();
}

export function start() {
  byId("curve-options").addEventListener("input", redraw);
  byId("curve-options").addEventListener("submit", event => event.preventDefault());
  const again = async () => {
    await Promise.all(order().map(name => poll(name).catch(() => {})));
    setTimeout(again, POLL_MS);
  };
  setTimeout(again, POLL_MS);
}
