/* app.js: the page: which model and which of its panels are shown (in the address, after '#'), the
 * list of models, the server's line. What a panel holds is its own module's. */
import {call} from "./api.js";
import {byId, h, short, bytes, say} from "./dom.js";
import * as curves from "./curves.js";
import * as predict from "./predict.js";
import * as versions from "./versions.js";
import * as signals from "./signals.js";
import * as layers from "./layers.js";

const panels = {curves, predict, versions, signals, layers};
const LIST_MS = 2000, SERVER_MS = 5000;

const page = {
  models: [],         /* as GET /v2/models lists them */
  unloaded: [],       /* names of those that are not in memory */
  name: null,         /* the model that is shown */
  panel: "curves",
  compared: new Set() /* names of others whose curves are drawn too */
};

/* ---- the address: #/NAME/PANEL --------------------------------------------------------------- */

const address = (name, panel) => `#/${encodeURIComponent(name)}/${panel}`;

function readAddress() {
  const [, name, panel] = location.hash.split("/");
  const wanted = name ? decodeURIComponent(name) : null;
  const there = page.models.some(m => m.name === wanted);
  show(there ? wanted : page.models[0]?.name ?? null, panel in panels ? panel : "curves");
}

function show(name, panel) {
  const changed = name !== page.name;
  page.name = name;
  page.panel = panel;
  page.compared.delete(name);
  byId("title").hidden = !name;
  byId("name").textContent = name || "";
  document.title = name ? `${name} · backpropd` : "backpropd";
  for (const key of Object.keys(panels)) {
    const tab = byId(`tab-${key}`), on = key === panel && Boolean(name);
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    byId(`panel-${key}`).hidden = !on;
  }
  if (changed)
    curves.open(name, [...page.compared]).then(drawList);
  if (name && panel !== "curves")
    panels[panel].open(name, byId(`panel-${panel}`), refresh);
  if (panel === "curves")
    curves.redraw();
  drawList();
}

function tabKeys(event) {
  const keys = Object.keys(panels), at = keys.indexOf(page.panel), n = keys.length;
  const to = {ArrowRight: (at + 1) % n, ArrowLeft: (at + n - 1) % n, Home: 0, End: n - 1}[event.key];
  if (to === undefined)
    return;
  event.preventDefault();
  location.hash = address(page.name, keys[to]);
  byId(`tab-${keys[to]}`).focus();
}

/* ---- the list of models ---------------------------------------------------------------------- */

function toggleCompared(name, on) {
  if (on)
    page.compared.add(name);
  else
    page.compared.delete(name);
  curves.compare([...page.compared]).then(drawList);
}

/* Items are kept and changed in place, so that the keyboard's focus stays where it is. */
function listItem(model) {
  const box = h("input", {type: "checkbox", "aria-label": `Draw the curves of ${model.name} too`,
                          onchange: e => toggleCompared(model.name, e.target.checked)});
  const link = h("a", {}, h("span", {class: "model-name"}), h("span", {class: "facts"}));
  return h("li", {"data-name": model.name}, h("label", {class: "compare", title: "Compare"}, box,
    h("span", {class: "swatch", "aria-hidden": "true"})), link);
}

/* A model that is not in memory has nothing to show, but can be brought back. */
function unloadedItem(name) {
  const load = async () => {
    await call("POST", `/v2/repository/models/${encodeURIComponent(name)}/load`);
    refresh();
  };
  return h("li", {class: "unloaded", "data-unloaded": name}, h("span", {class: "model-name"}, name),
    h("button", {type: "button", "aria-label": `Load ${name}`, onclick: load}, "Load"));
}

function drawItem(item, model) {
  const here = model.name === page.name, compared = page.compared.has(model.name);
  const box = item.querySelector("input"), link = item.querySelector("a");
  box.checked = here || compared;
  box.disabled = here;
  item.classList.toggle("here", here);
  const color = curves.colorOf(model.name);
  item.querySelector(".swatch").style.background = color || "transparent";
  link.href = address(model.name, page.panel);
  if (here)
    link.setAttribute("aria-current", "page");
  else
    link.removeAttribute("aria-current");
  link.querySelector(".model-name").textContent = model.name;
  const loss = model.last_loss == null ? "" : ` · loss ${short(model.last_loss)}`;
  link.querySelector(".facts").textContent =
    `step ${model.step.toLocaleString()}${loss}`;
}

const keyOf = item => item.dataset.name === undefined ? `-${item.dataset.unloaded}` : `+${item.dataset.name}`;

function drawList() {
  const list = byId("models"), kept = new Map([...list.children].map(item => [keyOf(item), item]));
  const items = page.models.map(model => kept.get(`+${model.name}`) || listItem(model));
  page.models.forEach((model, i) => drawItem(items[i], model));
  items.push(...page.unloaded.map(name => kept.get(`-${name}`) || unloadedItem(name)));
  items.forEach((item, i) => {
    if (list.children[i] !== item)
      list.insertBefore(item, list.children[i] || null);
  });
  while (list.children.length > items.length)
    list.lastElementChild.remove();
  byId("no-models").hidden = items.length > 0;
  const model = page.models.find(m => m.name === page.name);
  if (model)
    byId("counters").textContent = `step ${model.step} · revision ${model.revision} · ` +
      `loss ${short(model.last_loss)} · ${model.parameter_count.toLocaleString()} parameters`;
}

async function refresh() {
  try {
    const before = page.models.map(m => m.name).join("\n");
    const [list, index] = await Promise.all([call("GET", "/v2/models"), call("POST", "/v2/repository/index")]);
    page.models = list.models;
    page.unloaded = index.filter(m => m.state === "UNAVAILABLE").map(m => m.name);
    if (before !== page.models.map(m => m.name).join("\n") || !page.name)
      readAddress();
    else
      drawList();
  } catch {
    /* the server's line says it */
  }
}

/* ---- the server ------------------------------------------------------------------------------ */

function drawServer(facts) {
  const used = facts.memory_used_bytes / facts.memory_limit_bytes;
  byId("server-dot").className = "dot good";
  byId("server-line").replaceChildren(`ready · ${bytes(facts.memory_used_bytes)}`,
    h("span", {class: "wide"}, " in use"));
  const row = (name, ...value) => [h("dt", {}, name), h("dd", {}, ...value)];
  byId("server-facts").replaceChildren(
    ...row("version", facts.version), ...row("threads", String(facts.threads)),
    ...row("memory", `${bytes(facts.memory_used_bytes)} of ${bytes(facts.memory_limit_bytes)} `,
           h("meter", {min: 0, max: 1, low: 0.7, high: 0.9, optimum: 0, value: used,
                       "aria-label": "memory in use"})),
    ...row("engine", facts.engine), ...row("interface", h("a", {href: "/v2/routes"}, "paths"), ", ",
           h("a", {href: "/openapi.json"}, "OpenAPI")));
}

async function refreshServer() {
  try {
    await call("GET", "/v2/health/ready");
    drawServer(await call("GET", "/v2"));
  } catch (error) {
    byId("server-dot").className = "dot bad";
    byId("server-line").textContent = error.status ? error.message : "no answer";
  }
}

/* ---- light and dark -------------------------------------------------------------------------- */

const THEME = "backpropd-theme";
function setTheme(theme) {
  if (theme)
    document.documentElement.dataset.theme = theme;
  curves.restyle();
  signals.restyle();
  drawList();
}
function switchTheme() {
  const dark = getComputedStyle(document.documentElement).getPropertyValue("--dark").trim() === "1";
  localStorage.setItem(THEME, dark ? "light" : "dark");
  setTheme(localStorage.getItem(THEME));
}

/* ---- start ----------------------------------------------------------------------------------- */

/* fn every `ms`, not while the page is out of sight, never twice at the same time. */
function every(ms, fn) {
  const again = async () => {
    if (!document.hidden)
      await fn();
    setTimeout(again, ms);
  };
  setTimeout(again, ms);
}

byId("theme").addEventListener("click", switchTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(null));
byId("tabs").addEventListener("keydown", tabKeys);
for (const key of Object.keys(panels))
  byId(`tab-${key}`).addEventListener("click", () => { location.hash = address(page.name, key); });
addEventListener("hashchange", readAddress);
addEventListener("unhandledrejection", event => {
  say(event.reason?.message || "That failed.", true);
  if (event.reason?.status)
    event.preventDefault(); /* a refusal, said to whom it concerns; the rest is the console's, too */
});
curves.start();
signals.start();
setTheme(localStorage.getItem(THEME));
refresh();
refreshServer();
every(LIST_MS, refresh);
every(SERVER_MS, refreshServer);
