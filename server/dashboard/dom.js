/* dom.js: making elements, saying and asking things. Text is always set as text, never as HTML. */

export const byId = id => document.getElementById(id);

/* h("td", {class: "number", onclick: f}, "text", child, ...): null and false children are left out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on"))
      element.addEventListener(name.slice(2), value);
    else if (value === true)
      element.setAttribute(name, "");
    else if (value !== false && value != null)
      element.setAttribute(name, value);
  }
  element.append(...children.flat().filter(c => c != null && c !== false));
  return element;
}

/* A sentence at the foot of the page, which screen readers read out. */
let sayTimer;
export function say(text, bad = false) {
  const box = byId("said");
  box.textContent = text;
  box.className = bad ? "bad shown" : "shown";
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => { box.className = ""; }, bad ? 9000 : 4000);
}

/* Asks before something is done. True or the text of the field; null when it was cancelled. */
export function ask({title, text, yes, danger = false, field = null}) {
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-yes").textContent = yes;
  byId("ask-yes").className = danger ? "danger" : "primary";
  byId("ask-field").hidden = !field;
  byId("ask-field").firstElementChild.textContent = field || "";
  byId("ask-input").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  (field ? byId("ask-input") : danger ? byId("ask-no") : byId("ask-yes")).focus();
  return new Promise(resolve => dialog.addEventListener("close", () => {
    const answer = field ? byId("ask-input").value : true;
    resolve(dialog.returnValue === "yes" ? answer : null);
  }, {once: true}));
}

/* The head of a table; above columns of numbers, "#Step", it stands where they do. */
export const heads = titles => h("thead", {}, h("tr", {}, titles.map(t =>
  h("th", {scope: "col", class: t.startsWith("#") && "number"}, t.replace(/^#/, "")))));

/* A bar that is filled to a part, 0 to 1; a signed one, -1 to 1, from the line in its middle. */
export function bar(part, label = null, signed = false) {
  const fill = h("span", {class: part < 0 ? "fill negative" : "fill"});
  const width = Math.min(1, signed ? Math.abs(part) : Math.max(0, part)) * (signed ? 50 : 100);
  fill.style.width = `${width}%`;
  if (signed)
    fill.style.marginLeft = `${part < 0 ? 50 - width : 50}%`;
  return h("span", {class: signed ? "bar signed" : "bar", ...(label ? {role: "img", "aria-label": label} : {})}, fill);
}

/* ---- numbers for people ---------------------------------------------------------------------- */

export function short(x) {
  if (x == null || Number.isNaN(x))
    return "–";
  if (x === 0 || (Math.abs(x) >= 0.001 && Math.abs(x) < 1e6))
    return String(Number(x.toPrecision(4)));
  return x.toExponential(2);
}

function scaled(x, base, units) {
  let i = 0;
  while (Math.abs(x) >= base && i < units.length - 1) {
    x /= base;
    i++;
  }
  return `${Number(x.toPrecision(3))} ${units[i]}`.trim();
}
export const bytes = x => scaled(x, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
export const count = x => scaled(x, 1000, ["", "K", "M", "G", "T"]);
export const shapeText = shape => shape.map(d => d === -1 ? "N" : d).join(" × ") || "scalar";
export const timeText = ms => new Date(ms).toLocaleString([], {dateStyle: "medium", timeStyle: "short"});
