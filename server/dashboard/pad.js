/* pad.js: paper to draw on, and what a net sees of it: the mean of the ink in each of width x height
 * cells, 0 to 1. */
import {h} from "./dom.js";

const SIDE = 280; /* pixels of the longer side */

/* `drawn` is called after each stroke. */
export function pad(width, height, drawn) {
  const scale = SIDE / Math.max(width, height);
  const canvas = h("canvas", {class: "pad", tabindex: 0, role: "img", width: Math.round(width * scale),
    height: Math.round(height * scale), "aria-label": "Paper to draw on"});
  const ctx = canvas.getContext("2d", {willReadFrequently: true});
  const pen = {x: canvas.width / 2, y: canvas.height / 2, down: false};
  const thick = SIDE / 12;

  const clear = () => { ctx.clearRect(0, 0, canvas.width, canvas.height); };
  const line = (x, y) => {
    ctx.strokeStyle = "#fff";
    ctx.lineWidth = thick;
    ctx.lineCap = ctx.lineJoin = "round";
    ctx.beginPath();
    ctx.moveTo(pen.x, pen.y);
    ctx.lineTo(x, y);
    ctx.stroke();
    Object.assign(pen, {x, y});
  };
  const at = event => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * canvas.width / box.width,
            (event.clientY - box.top) * canvas.height / box.height];
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    [pen.x, pen.y] = at(event);
    pen.down = true;
    line(pen.x + 0.1, pen.y);
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", event => { if (pen.down) line(...at(event)); });
  const up = () => {
    if (pen.down)
      drawn();
    pen.down = false;
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("keydown", event => keys(event, canvas, pen, line, drawn));
  return {element: canvas, clear, cells: fit => cells(canvas, ctx, width, height, fit)};
}

/* Cells as grey pixels of a canvas of their size. */
export function showCells(canvas, ink, width) {
  const ctx = canvas.getContext("2d"), image = ctx.createImageData(width, ink.length / width);
  ink.forEach((v, i) => image.data.set([255 * v, 255 * v, 255 * v, 255], 4 * i));
  ctx.putImageData(image, 0, 0);
}

/* Arrows move the pen by half its width; with shift, or after space, they draw. */
function keys(event, canvas, pen, line, drawn) {
  const by = SIDE / 24;
  const [dx, dy] = {ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by]}[event.key] || [0, 0];
  if (event.key !== " " && !dx && !dy)
    return;
  event.preventDefault();
  const x = Math.max(0, Math.min(canvas.width, pen.x + dx)), y = Math.max(0, Math.min(canvas.height, pen.y + dy));
  if (event.key === " " || event.shiftKey) {
    line(x + 0.1, y);
    drawn();
  }
  Object.assign(pen, {x, y});
  canvas.setAttribute("aria-label", `Paper to draw on, pen at ${Math.round(100 * x / canvas.width)} % ` +
    `across, ${Math.round(100 * y / canvas.height)} % down`);
}

/* The ink's bounding box; the whole when there is none. */
function inkBox(image) {
  const box = {left: image.width, top: image.height, right: -1, bottom: -1};
  for (let i = 3, at = 0; i < image.data.length; i += 4, at++) {
    if (image.data[i] < 32)
      continue;
    const x = at % image.width, y = Math.floor(at / image.width);
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x);
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y);
  }
  return box.right < 0 ? {left: 0, top: 0, right: image.width - 1, bottom: image.height - 1} : box;
}

/* Sets of digits have them in the middle and as large as the frame: `fit` does that to a drawing. */
function cells(canvas, ctx, width, height, fit) {
  const image = ctx.getImageData(0, 0, canvas.width, canvas.height);
  const all = {left: 0, top: 0, right: canvas.width - 1, bottom: canvas.height - 1};
  const box = fit ? inkBox(image) : all;
  const side = fit ? Math.max((box.right - box.left + 1) / width, (box.bottom - box.top + 1) / height)
    : canvas.width / width; /* pixels of a cell */
  const x0 = (box.left + box.right + 1 - side * width) / 2, y0 = (box.top + box.bottom + 1 - side * height) / 2;
  const out = [];
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++)
      out.push(mean(image, x0 + column * side, y0 + row * side, side));
  return out;
}

function mean(image, x, y, side) {
  let sum = 0, n = 0;
  for (let v = Math.floor(y); v < y + side; v++)
    for (let u = Math.floor(x); u < x + side; u++, n++)
      if (u >= 0 && v >= 0 && u < image.width && v < image.height)
        sum += image.data[4 * (v * image.width + u) + 3];
  return n ? sum / n / 255 : 0;
}
