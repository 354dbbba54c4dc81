/* histogram.js: counts of equal ranges as bars on a canvas, with the ends in words. */
import {short} from "./dom.js";

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const HEIGHT = 150, FOOT = 20;

function begin(canvas) {
  const width = canvas.parentElement.clientWidth, ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(HEIGHT * ratio);
  canvas.style.height = `${HEIGHT}px`;
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  ctx.font = "11px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  return {ctx, width};
}

function bars(ctx, width, counts) {
  const most = Math.max(1, ...counts), high = HEIGHT - FOOT - 4, step = width / counts.length;
  ctx.fillStyle = css("--accent");
  counts.forEach((n, i) => {
    const tall = n ? Math.max(1, n / most * high) : 0;
    ctx.fillRect(i * step + 0.5, HEIGHT - FOOT - tall, Math.max(1, step - 1), tall);
  });
  ctx.fillStyle = css("--line");
  ctx.fillRect(0, HEIGHT - FOOT, width, 1);
}

function ends(ctx, width, {min, max}) {
  const y = HEIGHT - FOOT / 2, zero = min < 0 && max > 0 ? -min / (max - min) * width : null;
  ctx.fillStyle = css("--quiet");
  ctx.textAlign = "left";
  ctx.fillText(short(min), 0, y);
  ctx.textAlign = "right";
  ctx.fillText(short(max), width, y);
  if (zero !== null && zero > 70 && zero < width - 70) {
    ctx.textAlign = "center";
    ctx.fillText("0", zero, y);
    ctx.fillRect(zero - 0.5, HEIGHT - FOOT, 1, 5);
  }
}

/* `histogram` {min, max, counts}; null: there is none. */
export function drawHistogram(canvas, label, histogram) {
  const {ctx, width} = begin(canvas);
  if (!histogram) {
    ctx.fillStyle = css("--quiet");
    ctx.fillText("frozen: none", 0, HEIGHT / 2);
    canvas.setAttribute("aria-label", `${label}: none, the parameter is frozen`);
    return;
  }
  bars(ctx, width, histogram.counts);
  ends(ctx, width, histogram);
  const all = histogram.counts.reduce((a, b) => a + b, 0);
  canvas.setAttribute("aria-label", `${label}: ${all} numbers from ${short(histogram.min)} to ${short(histogram.max)}`);
}
