/* signals.js: what training says of each layer: what is wrong, gradient norms and other signals as a
 * heat map over steps, histograms of weights and gradients. Asked for again while new steps come. */
import {call, modelPath} from "./api.js";
import {byId, h, say, short} from "./dom.js";
import {makeHeat, drawHeat, paintHeat} from "./heat.js";
import {drawHistogram} from "./histogram.js";

const POINTS = 300, POLL_MS = 2000, EVERY = 50;

const KINDS = {
  gradient_norm: ["gradient norm", "log"], update_ratio: ["update to weight ratio", "log"],
  weight_norm: ["weight norm", "log"], activation_std: ["spread of activations", "log"],
  activation_mean: ["mean of activations", "linear"], dead_share: ["share of dead units", "share"],
  saturated_share: ["share of saturated outputs", "share"]
};
const TITLES = {
  vanishing_gradients: "Vanishing gradients", exploding_gradients: "Exploding gradients",
  dead_relus: "Dead ReLUs", saturated_units: "Saturated units",
  learning_rate_too_high: "Learning rate too high?", learning_rate_too_low: "Learning rate too low?"
};

const shown = {name: null, panel: null, answer: null, view: null, signal: "gradient_norm", parameter: null};

/* ---- what is wrong --------------------------------------------------------------------------- */

function finding(f) {
  const figures = Object.entries(f.figures).map(([name, value]) =>
    h("span", {}, `${name.replaceAll("_", " ")} `, h("b", {}, short(value))));
  const others = f.layers.length - 1;
  return h("li", {class: "finding", "data-problem": f.problem},
    h("h3", {}, TITLES[f.problem] || f.problem),
    h("p", {}, `${f.says[0].toUpperCase()}${f.says.slice(1)}.` +
      `${others > 0 ? ` ${others} more ${others > 1 ? "layers share" : "layer shares"} it.` : ""}`),
    h("p", {class: "figures"}, figures),
    h("p", {class: "quiet"}, `What usually helps: ${f.helps}.`));
}

function drawDiagnosis(view, answer) {
  const found = answer.diagnosis || [], step = answer.step.at(-1);
  view.diagnosis.replaceChildren(...found.map(finding));
  view.healthy.hidden = found.length > 0 || step === undefined;
  view.healthy.textContent = `Nothing looks wrong at step ${step?.toLocaleString()}.`;
}

/* ---- the map --------------------------------------------------------------------------------- */

function drawMap(view, answer) {
  const [label, kind] = KINDS[shown.signal];
  const lists = answer.signals[shown.signal];
  const rows = answer.layers.map((layer, i) => ({name: layer.name, values: lists[i]})).filter(r => r.values);
  view.map.hidden = !answer.step.length;
  view.noRows.hidden = rows.length > 0;
  view.heat.canvas.hidden = !rows.length;
  drawHeat(view.heat, rows, answer.step, kind, label);
}

/* ---- histograms ------------------------------------------------------------------------------ */

function drawHistograms(view, answer) {
  const parameters = answer.histograms?.parameters || [];
  view.histograms.hidden = !parameters.length;
  if (!parameters.length)
    return;
  const names = parameters.map(p => p.name);
  if (!names.includes(shown.parameter))
    shown.parameter = names[0];
  if ([...view.parameter.options].map(o => o.value).join() !== names.join())
    view.parameter.replaceChildren(...names.map(name => h("option", {value: name}, name)));
  view.parameter.value = shown.parameter;
  view.when.textContent = `step ${answer.histograms.step.toLocaleString()}`;
  const chosen = parameters.find(p => p.name === shown.parameter);
  drawHistogram(view.weights, "weights", chosen.weights);
  drawHistogram(view.gradients, "gradients", chosen.gradients || null);
}

/* ---- how often ------------------------------------------------------------------------------- */

async function setEvery(every) {
  await call("PATCH", modelPath(shown.name), {signals: {every}});
  say(every ? `Training records every ${every} steps now.` : "Training records no signals any more.");
  await load();
}

function everyForm() {
  const input = h("input", {type: "number", min: 0, max: 1000000, step: 1, value: EVERY, id: "signals-every"});
  const form = h("form", {class: "row", onsubmit: event => { event.preventDefault(); setEvery(Number(input.value)); }},
    h("label", {}, "Record every ", input, " steps"), h("button", {type: "submit"}, "Set"),
    h("span", {class: "quiet"}, "0: none; steps that are not recorded cost nothing"));
  return {form, input};
}

/* ---- all of it ------------------------------------------------------------------------------- */

function build() {
  const view = {heat: makeHeat(), diagnosis: h("ul", {class: "findings"}), healthy: h("p", {class: "healthy"}),
                every: everyForm(), parameter: h("select", {"aria-label": "Parameter"}), when: h("span", {class: "quiet"})};
  const pick = h("select", {"aria-label": "Signal"}, Object.entries(KINDS).map(([key, [label]]) =>
    h("option", {value: key}, label)));
  pick.value = shown.signal;
  pick.addEventListener("change", () => { shown.signal = pick.value; draw(); });
  view.parameter.addEventListener("change", () => { shown.parameter = view.parameter.value; draw(); });
  view.noRows = h("p", {class: "empty"}, "No layer of this model has that.");
  view.weights = h("canvas", {role: "img"});
  view.gradients = h("canvas", {role: "img"});
  view.map = h("figure", {class: "card", id: "heat"}, h("figcaption", {}, h("h3", {}, "By layer"), pick, view.heat.legend),
    h("div", {}, view.heat.canvas), view.noRows, view.heat.said);
  view.histograms = h("figure", {class: "card", id: "histograms"},
    h("figcaption", {}, h("h3", {}, "Histograms"), view.parameter, view.when),
    h("div", {class: "pair"}, [["Weights", view.weights], ["Gradients", view.gradients]].map(([title, canvas]) =>
      h("div", {}, h("p", {class: "quiet"}, title), h("div", {class: "histogram"}, canvas)))));
  new ResizeObserver(() => shown.answer && drawHistograms(view, shown.answer)).observe(view.weights.parentElement);
  view.none = h("p", {class: "empty", id: "no-signals"}, "No step was recorded yet. Choose above how often training should.");
  return view;
}

function draw() {
  const {view, answer} = shown;
  if (!view || !answer)
    return;
  view.none.hidden = answer.step.length > 0;
  drawDiagnosis(view, answer);
  drawMap(view, answer);
  drawHistograms(view, answer);
}

async function load() {
  const name = shown.name;
  const answer = await call("GET", modelPath(name, `/signals?max_points=${POINTS}&histograms=1`));
  if (shown.name !== name)
    return; /* another was opened meanwhile */
  shown.answer = answer;
  if (document.activeElement !== shown.view.every.input)
    shown.view.every.input.value = answer.every ?? (answer.step.length ? 0 : EVERY);
  draw();
}

export async function open(name, panel) {
  if (name !== shown.name || !shown.view) {
    Object.assign(shown, {name, panel, answer: null, view: build()});
    const {every, healthy, diagnosis, map, histograms, none} = shown.view;
    for (const part of [healthy, map, histograms, none])
      part.hidden = true;
    panel.replaceChildren(every.form, healthy, diagnosis, map, histograms, none);
  }
  await load();
}

/* Whether there is a newer step costs little to ask. */
async function poll() {
  if (!shown.answer || document.hidden || byId("panel-signals").hidden)
    return;
  const since = shown.answer.last_revision;
  const newer = await call("GET", modelPath(shown.name, `/signals?since=${since}&max_points=1`));
  if (newer.step.length)
    await load();
}

export function restyle() {
  if (!shown.view || byId("panel-signals").hidden)
    return;
  paintHeat(shown.view.heat);
  draw();
}

export function start() {
  const again = async () => {
    await poll().catch(() => {});
    setTimeout(again, POLL_MS);
  };
  setTimeout(again, POLL_MS);
}
