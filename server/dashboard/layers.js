/* layers.js: the architecture of a model as a table, and the description that it was made from. */
import {call, modelPath} from "./api.js";
import {h, bar, count, bytes, heads, shapeText} from "./dom.js";

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
    h("details", {}, h("summary", {}, `Parameters and buffers (${config.parameters.length})`),
      table(`Parameters of ${name}`, ["Name", "#Shape", "#Size", "Kind"], config.parameters.map(parameterRow))),
    h("details", {}, h("summary", {}, "Description as JSON"),
      h("pre", {tabindex: 0}, JSON.stringify(config.description, null, 2))));
}
