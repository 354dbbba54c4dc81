/* predict.js: trying the model: a digit that is drawn, an image that is dropped, JSON that is pasted. */
import {call, modelPath} from "./api.js";
import {h, bar, short, shapeText} from "./dom.js";
import {pad, showCells} from "./pad.js";

const BARS = 10;

export async function open(name, panel) {
  const [model, config] = await Promise.all([call("GET", modelPath(name)),
                                             call("GET", modelPath(name, "/config"))]);
  const result = h("div", {class: "result", "aria-live": "polite"});
  const ways = [];
  const input = model.inputs.length === 1 ? model.inputs[0] : null;
  if (input && input.shape.length === 4 && input.shape[1] === 1 && input.shape[2] > 1 && input.shape[3] > 1)
    ways.push(drawing(name, model, input, result));
  if (config.description.preprocess)
    ways.push(dropping(name, model, result));
  ways.push(pasting(name, model, result));
  panel.replaceChildren(h("div", {class: "try"}, h("div", {class: "ways"}, ways),
    h("div", {class: "card answer"}, h("h3", {}, "Answer"), result)));
  result.replaceChildren(h("p", {class: "quiet"}, "Nothing has been asked yet."));
}

/* ---- the answer ------------------------------------------------------------------------------ */

async function answer(result, ask) {
  try {
    result.replaceChildren(...await ask());
  } catch (error) {
    result.replaceChildren(h("p", {class: "error"}, error.message));
  }
}

/* [{label, value}] as bars, where there are values below 0 from a line in the middle. */
function bars(rows, most, text = short) {
  const signed = rows.some(r => r.value < 0);
  return h("ol", {class: "bars"}, rows.map(r => h("li", {}, h("span", {class: "bar-label"}, r.label),
    bar(r.value / (most || 1), null, signed), h("span", {class: "bar-value"}, text(r.value)))));
}

const percent = x => `${(100 * x).toFixed(1)} %`;

function classes(labels, row) {
  const all = row.map((value, i) => ({label: labels?.[i] ?? String(i), value}));
  const best = [...all].sort((a, b) => b.value - a.value);
  return [h("p", {class: "best"}, h("b", {}, best[0].label), ` ${percent(best[0].value)}`),
          bars(all.length <= BARS ? all : best.slice(0, BARS), 1, percent)];
}

const probabilities = model => model.outputs_on_request?.some(o => o.name === "probabilities");

/* What a row of the first output is: classes by probability, or plain numbers. */
function shownOutput(model, got) {
  const output = got.outputs[0], width = output.data.length / (output.shape[0] || 1);
  const row = output.data.slice(0, width);
  if (output.name === "probabilities" && output.shape.length === 2)
    return classes(model.labels, row);
  if (width > 64)
    return [h("p", {}, `${output.name}: ${shapeText(output.shape)}`), raw(got)];
  const largest = Math.max(...row.map(Math.abs));
  return [bars(row.map((value, i) => ({label: model.labels?.[i] ?? String(i), value})), largest)];
}

function raw(got) {
  return h("details", {}, h("summary", {}, "As JSON"),
    h("pre", {tabindex: 0}, JSON.stringify(got, null, 1).slice(0, 20000)));
}

function footer(got) {
  const at = got.parameters || got;
  return h("p", {class: "quiet"}, at.step === undefined ? "" : `answered at step ${at.step}`);
}

async function infer(name, model, inputs) {
  const body = {inputs};
  if (probabilities(model))
    body.outputs = [{name: "probabilities"}];
  const got = await call("POST", modelPath(name, "/infer"), body);
  return [...shownOutput(model, got), footer(got)];
}

/* ---- drawing --------------------------------------------------------------------------------- */

function drawing(name, model, input, result) {
  const [, , height, width] = input.shape;
  const range = h("select", {}, [["0 to 1", 0, 1], ["−1 to 1", -1, 1], ["0 to 16", 0, 16],
    ["0 to 255", 0, 255]].map(([text, low, high]) => h("option", {value: `${low},${high}`}, text)));
  const fit = h("input", {type: "checkbox", checked: true});
  const ask = () => answer(result, () => {
    const [low, high] = range.value.split(",").map(Number), ink = paper.cells(fit.checked);
    showCells(seen, ink, width);
    const data = ink.map(v => low + v * (high - low));
    return infer(name, model, [{name: input.name, datatype: "FP32", shape: [1, 1, height, width], data}]);
  });
  const seen = h("canvas", {class: "seen", width, height, role: "img", "aria-label": "What the model sees"});
  const paper = pad(width, height, ask);
  const button = (text, onclick, kind) => h("button", {type: "button", class: kind, onclick}, text);
  range.addEventListener("change", ask);
  fit.addEventListener("change", ask);
  return h("div", {class: "card"}, h("h3", {}, "Draw"), h("div", {class: "papers"},
      paper.element, h("figure", {}, seen, h("figcaption", {class: "quiet"}, `as ${width} × ${height}`))),
    h("p", {class: "quiet"}, "With the keyboard: arrows move the pen, with Shift they draw."),
    h("div", {class: "row"}, button("Predict", ask, "primary"), button("Clear", () => { paper.clear(); showCells(seen, paper.cells(false), width); }),
      h("label", {}, "Ink from ", range), h("label", {}, fit, " fit to the frame")));
}

/* ---- images ---------------------------------------------------------------------------------- */

function dropping(name, model, result) {
  const ask = file => answer(result, async () => {
    const image = new Blob([file], {type: file.type || "image/jpeg"});
    const [got, drawn] = await Promise.all([call("POST", modelPath(name, "/infer"), image),
      call("POST", modelPath(name, "/infer"), image, {Accept: "image/png"}).catch(() => null)]);
    const picture = h("img", {class: "picture", alt: "the image with the answer drawn on it",
                              src: URL.createObjectURL(drawn || image)});
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
    const best = got.predictions?.[0];
    const rows = best && best.every(p => "probability" in p)
      ? [bars(best.map(p => ({label: p.label ?? String(p.index), value: p.probability})), 1, percent)]
      : [raw(got)];
    return [picture, ...rows, footer(got)];
  });
  const file = h("input", {type: "file", accept: "image/png,image/jpeg", class: "unseen", id: "file",
                           onchange: () => file.files[0] && ask(file.files[0])});
  const over = on => event => { event.preventDefault(); zone.classList.toggle("over", on); };
  const zone = h("label", {class: "drop", for: "file", ondragover: over(true), ondragleave: over(false),
    ondrop: event => { over(false)(event); if (event.dataTransfer.files[0]) ask(event.dataTransfer.files[0]); }},
    "Drop a JPEG or PNG here, or choose one");
  return h("div", {class: "card"}, h("h3", {}, "Image"), file, zone);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

function example(model, targets) {
  const zeros = t => ({name: t.name, datatype: t.datatype, shape: t.shape.map(d => d === -1 ? 1 : d),
    data: Array(t.shape.reduce((a, d) => a * (d === -1 ? 1 : d), 1)).fill(0)});
  const body = {inputs: model.inputs.map(zeros)};
  if (targets)
    body.targets = model.targets.map(zeros);
  return JSON.stringify(body);
}

/* Norms of the gradients by parameter, in the order of the layers. */
function gradientBars(got) {
  const rows = got.gradients.filter(g => g.norm != null).map(g => ({label: g.name, value: g.norm}));
  return [h("p", {}, `Loss ${short(got.loss)}, norm of all gradients ${short(got.grad_norm)}. By parameter:`),
          bars(rows, Math.max(...rows.map(r => r.value)))];
}

const verbs = {
  infer: (model, got) => shownOutput(model, got),
  evaluate: (model, got) => [bars([{label: "loss", value: got.loss}, ...Object.entries(got.metrics || {})
    .map(([label, value]) => ({label, value}))].filter(r => typeof r.value === "number"), 1)],
  gradients: (model, got) => gradientBars(got)
};

function pasting(name, model, result) {
  const verb = h("select", {}, h("option", {value: "infer"}, "predict"),
    model.targets?.length ? [h("option", {value: "evaluate"}, "evaluate"),
                             h("option", {value: "gradients"}, "gradients by layer")] : []);
  const box = h("textarea", {rows: 6, spellcheck: "false", "aria-label": "Body of the request as JSON"});
  box.value = example(model, false);
  verb.addEventListener("change", () => { box.value = example(model, verb.value !== "infer"); });
  const ask = event => {
    event.preventDefault();
    answer(result, async () => {
      let body = box.value;
      if (verb.value === "infer" && probabilities(model) && !/"outputs"/.test(body))
        body = JSON.stringify({...JSON.parse(body), outputs: [{name: "probabilities"}]});
      const got = await call("POST", modelPath(name, `/${verb.value}`), body);
      return [...verbs[verb.value](model, got), footer(got), raw(got)];
    });
  };
  return h("form", {class: "card", onsubmit: ask}, h("h3", {}, "JSON"), box, h("div", {class: "row"},
    h("label", {}, "Ask for ", verb), h("button", {type: "submit", class: "primary"}, "Send")));
}
