/* layers.js: the architecture of a model as a table, and the description that it was made from. */
import {call, modelPath} from "./api.js";
import {h, bar, count, bytes, heads, say, shapeText} from "./dom.js";

/* What the description says of a layer besides its name and operator. */
function attributes(description, name) {
  const layers = description.layers || [];
  const place = /^layers\.(\d+)$/.exec(name);
  const layer = layers.find(l => l.name === name) || (place && layers[Number(place[1])]) || {};
  return Object.entries(layer).filter(([key]) => key !== "name" && key !== "op")
    .map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
}

function layerRow(description, layer, most) {
  const share = most ? Math.round(100 * layer.flops_per_sample / most) : 0;
  return h("tr", {}, h("th", {scope: "row", "data-label": "Layer"}, layer.name),
    h("td", {"data-label": "Operator"}, layer.op),
    h("td", {class: "quiet", "data-label": "Attributes"}, attributes(description, layer.name) || "–"),
    h("td", {class: "number", "data-label": "Output"}, shapeText(layer.output_shape)),
    h("td", {class: "number", "data-label": "Parameters"}, layer.parameter_count.toLocaleString()),
    h("td", {class: "number", "data-label": "FLOPs"}, h("span", {class: "measure"},
      count(layer.flops_per_sample), bar(share / 100, `${share} % of the largest`))));
}

function parameterRow(p) {
  return h("tr", {}, h("th", {scope: "row", "data-label": "Name"}, p.name),
    h("td", {class: "number", "data-label": "Shape"}, shapeText(p.shape)),
    h("td", {class: "number", "data-label": "Size"}, p.shape.reduce((a, b) => a * b, 1).toLocaleString()),
    h("td", {"data-label": "Kind"}, p.buffer ? "buffer" : p.frozen ? "frozen parameter" : "parameter"));
}

function table(caption, titles, rows, foot) {
  return h("div", {class: "scroll"}, h("table", {class: "cards"},
    h("caption", {class: "unseen"}, caption),
    heads(titles), h("tbody", {}, rows), foot && h("tfoot", {}, foot)));
}

/* ---- where the time of a step goes ---- */

function passCells(pass, which) {
  const cell = (label, text) => h("td", {class: "number", "data-label": `${which} ${label}`}, text);
  if (!pass)
    return [cell("ms", "–"), cell("GFLOP/s", "–"), cell("of peak", "–")];
  return [cell("ms", pass.milliseconds.toFixed(3)), cell("GFLOP/s", pass.gflops_per_second.toFixed(1)),
          cell("of peak", `${Math.round(100 * pass.peak_share)} %`)];
}

function profileRow(layer) {
  const time = (layer.forward?.time_share || 0) + (layer.backward?.time_share || 0);
  const share = Math.round(100 * time);
  return h("tr", {}, h("th", {scope: "row", "data-label": "Layer"}, layer.name || "–"),
    h("td", {"data-label": "Operator"}, layer.op), passCells(layer.forward, "Forward"),
    passCells(layer.backward, "Backward"),
    h("td", {class: "number", "data-label": "Time"}, h("span", {class: "measure"},
      `${share} %`, bar(share / 100, `${share} % of a step`))));
}

async function showProfile(name, place) {
  const answer = await call("POST", modelPath(name, "/profile"), {});
  const head = pass => ["ms", "GFLOP/s", "of peak"].map(t => `${pass} ${t}`);
  place.replaceChildren(
    h("p", {}, `${answer.milliseconds.toFixed(2)} ms a step of ${answer.batch} random samples (${answer.mode}), ` +
      `${answer.examples_per_second.toFixed(0)} a second; large matrices reach ` +
      `${answer.peak_gflops_per_second.toFixed(0)} GFLOP/s here.`),
    table(`Time of a step of ${name}`, ["Layer", "Operator", ...head("Forward"), ...head("Backward"), "Time"],
      answer.layers.map(profileRow)));
}

function profileView(name) {
  const place = h("div", {id: "profile"});
  const button = h("button", {type: "button", id: "profile-run"}, "Measure where the time goes");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await showProfile(name, place);
    } catch (e) {
      say(e.message, true);
    }
    button.disabled = false;
  });
  return h("div", {}, button, place);
}

export async function open(name, panel) {
  const [config, model] = await Promise.all([call("GET", modelPath(name, "/config")),
                                             call("GET", modelPath(name))]);
  const most = Math.max(...config.layers.map(l => l.flops_per_sample));
  const inputs = model.inputs.map(i => `${i.name} ${i.datatype} ${shapeText(i.shape)}`).join(", ");
  const total = h("tr", {}, h("th", {scope: "row", colspan: 4}, "Total"),
    h("td", {class: "number", "data-label": "Parameters"}, model.parameter_count.toLocaleString()),
    h("td", {class: "number", "data-label": "FLOPs"}, h("span", {class: "measure"},
      count(model.flops_per_sample), h("span", {class: "bar none"}))));
  panel.replaceChildren(
    h("p", {}, `Takes ${inputs}. One sample forward is ${count(model.flops_per_sample)} FLOPs; ` +
      `the model holds ${bytes(model.memory_bytes.model)} of memory.`),
    table(`Layers of ${name}`, ["Layer", "Operator", "Attributes", "#Output", "#Parameters", "#FLOPs"],
      config.layers.map(l => layerRow(config.description, l, most)), total),
    profileView(name),
    h("details", {}, h("summary", {}, `Parameters and buffers (${config.parameters.length})`),
      table(`Parameters of ${name}`, ["Name", "#Shape", "#Size", "Kind"], config.parameters.map(parameterRow))),
    h("details", {}, h("summary", {}, "Description as JSON"),
      h("pre", {tabindex: 0}, JSON.stringify(config.description, null, 2))));
}
