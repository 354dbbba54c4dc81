/* dashboard.mjs: the dashboard in a real browser: curves move while a model trains, values are shown
 * under the pointer, a version is restored, a digit that is drawn is read, all by mouse or by
 * keyboard, light and dark, wide and narrow. Pictures of it are left in build/browser/shots. */
import assert from "node:assert/strict";
import {readFileSync, rmSync} from "node:fs";
import {join} from "node:path";
import {Daemon, digits, launch, rows, runTests, shots, sleep, train} from "./site.mjs";

const daemon = new Daemon(), all = rows("optdigits.tra");
await daemon.start();
await daemon.call("PUT", "/v2/models/digits", digits);
await daemon.call("PUT", "/v2/models/digits-sgd", {...digits, optimizer: {op: "sgd", lr: 0.05}});
await daemon.call("PUT", "/v2/models/photos", {
  inputs: [{name: "image", shape: [-1, 3, 32, 32]}], preprocess: {fit: "crop"},
  layers: [{op: "conv2d", out_channels: 8, kernel_size: 3}, {op: "relu"}, {op: "flatten"},
           {op: "linear", out_features: 2}],
  loss: {op: "cross_entropy"}, labels: ["cat", "dog"]});

const browser = await launch(daemon.folder);
const page = browser.pages()[0];
const problems = []; /* what the browser complains of: errors of scripts, and of the policy */
page.on("pageerror", error => problems.push(String(error)));
page.on("console", message => {
  if (message.type() === "error" && !/Failed to load resource|net::ERR/.test(message.text()))
    problems.push(message.text());
});
page.setDefaultTimeout(15000);

const open = (name, panel) => page.goto(`${daemon.url}/#/${name}/${panel}`);
const shot = (name, fullPage = true) => page.screenshot({path: join(shots, `${name}.png`), fullPage});
/* The last value of a chart of the first model, as the page shows it. */
const last = series => page.locator(`[data-series="${series}"] .last b`).first().textContent();
const stepShown = async () => Number(/step (\d+)/.exec(await page.textContent("#counters"))[1]);

/* A picture of what a canvas shows, to see whether it changed. */
const pixels = series => page.locator(`[data-series="${series}"] canvas`).evaluate(c => c.toDataURL());

/* Looks of the page. */
async function dark(on) {
  await page.emulateMedia({colorScheme: on ? "dark" : "light"});
  await sleep(300);
}
async function phone(on) {
  await page.setViewportSize(on ? {width: 390, height: 844} : {width: 1280, height: 860});
  await sleep(300);
}
async function fits(what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${what} is ${wide} pixels too wide for a phone`);
}

let training;

async function listsModels() {
  await page.goto(daemon.url);
  await page.waitForSelector("#models li");
  assert.deepEqual(await page.locator(".model-name").allTextContents(), ["digits", "digits-sgd", "photos"]);
  assert.match(await page.textContent("#server-line"), /ready/);
  await page.waitForSelector("#no-curves:not([hidden])");
}

async function curvesMove() {
  await open("digits", "curves");
  training = train(daemon, "digits", all);
  await page.waitForSelector('[data-series="loss"] canvas');
  await page.waitForSelector(".badge.live");
  await sleep(600);
  const [picture, value, step] = [await pixels("loss"), await last("loss"), await stepShown()];
  for (let i = 0; i < 40 && await last("loss") === value; i++)
    await sleep(100);
  assert.notEqual(await last("loss"), value);
  assert.notEqual(await pixels("loss"), picture);
  await page.waitForFunction(s => Number(/step (\d+)/.exec(document.getElementById("counters").textContent)[1]) > s, step);
  const names = await page.locator("#charts h3").allTextContents();
  assert.deepEqual(names, ["loss", "accuracy", "grad_norm", "lr"]);
}

async function eachPointOnce() {
  await sleep(2500);
  await training.stop();
  await sleep(1000);
  const shownSteps = await page.evaluate(async () => {
    const chart = Chart.getChart(document.querySelector('[data-series="loss"] canvas'));
    return chart.data.datasets.at(-1).data.map(d => d.p.step);
  });
  const {step} = await daemon.call("GET", "/v2/models/digits");
  assert.deepEqual(shownSteps.slice(-20), Array.from({length: 20}, (_, i) => step - 19 + i));
  assert.equal(new Set(shownSteps).size, shownSteps.length);
}

async function valuesUnderThePointer() {
  const canvas = page.locator('[data-series="loss"] canvas');
  await canvas.hover({position: {x: 200, y: 80}});
  const title = await canvas.evaluate(c => Chart.getChart(c).tooltip.title?.[0]);
  assert.match(title, /^step \d+/);
  await shot("curves-light");
}

async function logarithmicAndSmooth() {
  await page.click('[data-series="loss"] button');
  assert.equal(await page.getAttribute('[data-series="loss"] button', "aria-pressed"), "true");
  assert.equal(await page.locator('[data-series="loss"] canvas').evaluate(c => Chart.getChart(c).scales.y.type), "logarithmic");
  const before = await pixels("accuracy");
  await page.fill("#smoothing", "0.95");
  assert.equal(await page.textContent("#smoothing-value"), "0.95");
  assert.notEqual(await pixels("accuracy"), before);
}

async function severalModels() {
  const other = train(daemon, "digits-sgd", all);
  await sleep(1500);
  await page.check('[data-name="digits-sgd"] input');
  const lines = () => page.locator('[data-series="loss"] canvas').evaluate(c =>
    new Set(Chart.getChart(c).data.datasets.map(d => d.name)).size);
  for (let i = 0; i < 50 && await lines() < 2; i++)
    await sleep(100);
  assert.equal(await lines(), 2);
  await other.stop();
  await page.selectOption("#axis", "revision");
  await page.selectOption("#axis", "step");
  await shot("curves-compared");
}

/* A validation curve: in the chart of training's, broken, with the pointer's and the last values. */
async function drawsEvaluations() {
  const batch = {inputs: [{shape: [16, 1, 8, 8], data: all.slice(0, 16).flatMap(r => r.slice(0, 64).map(v => v / 16))}],
                 targets: all.slice(0, 16).map(r => r[64])};
  await page.uncheck('[data-name="digits-sgd"] input');
  for (let i = 0; i < 3; i++) {
    await daemon.call("POST", "/v2/models/digits/evaluate", {...batch, parameters: {record: true}});
    await daemon.call("POST", "/v2/models/digits/train_step", batch);
  }
  const {loss} = await daemon.call("POST", "/v2/models/digits/evaluate", {...batch, parameters: {record: true}});
  const sets = () => page.locator('[data-series="loss"] canvas').evaluate(c =>
    Chart.getChart(c).data.datasets.filter(d => !d.faint).map(d => [d.name, d.data.length, d.borderDash.length]));
  for (let i = 0; i < 50 && (await sets())[1]?.[1] !== 4; i++)
    await sleep(100);
  const [training, evaluation] = await sets();
  assert.deepEqual([training[0], training[2]], ["training", 0]);
  assert.deepEqual(evaluation, ["evaluation", 4, 2]);
  const text = await page.textContent('[data-series="loss"] .last');
  assert.ok(Math.abs(Number(/evaluation ([-\d.e+]+)/.exec(text)[1]) - loss) < 1e-2 * loss, text);
  assert.ok(!(await page.locator("#charts h3").allTextContents()).some(t => t.startsWith("val_")));
  await shot("curves-evaluated");
}

/* Two moments a day apart are told from each other. */
async function datesOfLongRuns() {
  await page.selectOption("#axis", "time_ms");
  const ticks = span => page.locator('[data-series="loss"] canvas').evaluate((c, span) => {
    const scale = Chart.getChart(c).scales.x;
    return scale.options.ticks.callback.call({min: scale.max - span, max: scale.max}, scale.max);
  }, span);
  assert.match(await ticks(3600e3), /^\d+:\d+:\d+/);
  assert.match(await ticks(48 * 3600e3), /\d+\D\d+\D\d+.*\d+:\d+/);
  await page.selectOption("#axis", "step");
}

async function savesAndRestores() {
  await open("digits", "versions");
  await page.fill("#panel-versions input", "before it forgets");
  await page.click("text=Save a version");
  await page.waitForSelector("#panel-versions tbody tr");
  const saved = await stepShown();
  training = train(daemon, "digits", all);
  await page.waitForFunction(s => Number(/step (\d+)/.exec(document.getElementById("counters").textContent)[1]) > s, saved);
  await training.stop();
  await page.click("text=Restore");
  await page.waitForSelector("dialog[open]");
  await shot("restore-asks", false);
  await page.keyboard.press("Escape"); /* it asks, and takes no for an answer */
  assert.notEqual((await daemon.call("GET", "/v2/models/digits")).step, saved);
  await page.click("text=Restore");
  await page.click("#ask-yes");
  await page.waitForFunction(s => Number(/step (\d+)/.exec(document.getElementById("counters").textContent)[1]) === s, saved);
  assert.equal((await daemon.call("GET", "/v2/models/digits")).step, saved);
  await shot("versions-light");
}

async function deletesAsked() {
  await page.click("#panel-versions .danger");
  await page.click("#ask-yes");
  await page.waitForSelector("#panel-versions .empty");
  assert.equal((await daemon.call("GET", "/v2/models/digits/versions")).versions.length, 0);
}

/* What the dialog of a click asks; it stays open. */
async function asked(selector) {
  await page.click(selector);
  await page.waitForSelector("#ask[open]");
  return page.textContent("#ask");
}
const agree = () => page.click("#ask-yes");
const pointsTo = version => page.waitForFunction(v =>
  document.querySelector('#aliases [data-label="Version"]')?.textContent === v, String(version));

/* Set, moved, rolled back and deleted, each only when told so twice. */
async function movesAliases() {
  const aliases = () => daemon.call("GET", "/v2/models/digits/aliases");
  await daemon.call("POST", "/v2/models/digits/versions", {note: "a second"});
  await open("digits", "predict");
  await open("digits", "versions");
  const set = "#alias-form button";
  await page.waitForSelector(set);
  await page.locator("#alias-form input").first().fill("prod");
  await page.locator("#alias-form input").nth(1).fill("it knows digits");
  await page.selectOption("#alias-form select", "1");
  assert.match(await asked(set), /Set prod\?.*point to version 1/s);
  await page.keyboard.press("Escape");
  assert.deepEqual((await aliases()).aliases, []);
  await asked(set);
  await agree();
  await pointsTo(1);
  await page.locator("#alias-form input").first().fill("prod");
  await page.selectOption("#alias-form select", "2");
  assert.match(await asked(set), /Move prod\?.*points to version 1; clients get version 2/s);
  await shot("alias-asks", false);
  await agree();
  await pointsTo(2);
  assert.equal(await page.textContent('tr:has([aria-label="Restore version 2"]) .alias'), "prod");
  assert.equal(await page.locator('tr:has([aria-label="Restore version 1"]) .alias').count(), 0);
  await asked('[aria-label="Delete version 2"]');
  await agree();
  await page.waitForSelector("#said.bad.shown"); /* a version that has an alias stays */
  assert.match(await page.textContent("#said"), /prod/);
  await page.click("#moves summary");
  await shot("aliases-light");
  await dark(true);
  await shot("aliases-dark");
  await phone(true);
  await page.waitForFunction(() => getComputedStyle(document.getElementById("said")).opacity === "0");
  await shot("phone-aliases-dark");
  await fits("aliases");
  await dark(false);
  await shot("phone-aliases-light");
  await phone(false);
  assert.match(await asked('[aria-label="Roll back prod"]'), /goes from version 2 back/);
  await agree();
  await pointsTo(1);
  const {moves} = await aliases();
  assert.deepEqual(moves.map(m => [m.action, m.from, m.to, m.why]),
    [["rollback", 2, 1, ""], ["set", 1, 2, ""], ["set", null, 1, "it knows digits"]]);
  const shownMoves = await page.locator("#moves tbody tr").evaluateAll(rows => rows.map(r => r.children[1].textContent));
  assert.deepEqual(shownMoves, ["rollback", "set", "set"]);
  await asked('[aria-label="Delete prod"]');
  await page.click("#ask-no");
  assert.equal((await aliases()).aliases.length, 1);
  await asked('[aria-label="Delete prod"]');
  await agree();
  await page.waitForSelector("#aliases", {state: "detached"});
  assert.deepEqual((await aliases()).aliases, []);
  assert.equal(await page.locator(".alias").count(), 0);
  await daemon.call("DELETE", "/v2/models/digits/versions/2");
  await open("digits", "predict");
  await open("digits", "versions");
  await page.waitForSelector('[aria-label="Delete version 2"]', {state: "detached"});
}

/* Strokes as fractions of the paper. */
const drawings = {
  one: [[[0.5, 0.08], [0.5, 0.92]]],
  zero: [Array.from({length: 33}, (_, i) => [0.5 + 0.26 * Math.sin(i * Math.PI / 16), 0.5 - 0.4 * Math.cos(i * Math.PI / 16)])],
  seven: [[[0.25, 0.12], [0.75, 0.12], [0.42, 0.9]]]
};

async function draw(strokes) {
  const box = await page.locator(".pad").boundingBox();
  for (const stroke of strokes) {
    const [first, ...rest] = stroke.map(([x, y]) => [box.x + x * box.width, box.y + y * box.height]);
    await page.mouse.move(...first);
    await page.mouse.down();
    for (const point of rest)
      await page.mouse.move(...point, {steps: 6});
    await page.mouse.up();
  }
}

async function readsDigits() {
  await open("digits", "predict");
  await page.waitForSelector(".pad");
  for (const [label, strokes] of Object.entries(drawings)) {
    await page.click("text=Clear");
    await draw(strokes);
    await page.waitForFunction(want => document.querySelector(".best b")?.textContent === want, label);
  }
  await shot("predict-light");
}

async function asksInJson() {
  const panel = page.locator("#panel-predict form");
  await panel.locator("select").selectOption("gradients");
  await panel.locator("button").click();
  await page.waitForSelector(".bar-label:text('conv1.weight')");
  await shot("gradients-light");
  await panel.locator("textarea").fill('{"inputs":[[1,2]]}');
  await panel.locator("button").click();
  await page.waitForSelector(".result .error");
}

async function takesImages() {
  await open("photos", "predict");
  await page.setInputFiles("#file", "tests/data/images/photo.png");
  await page.waitForSelector(".result .picture");
  assert.deepEqual((await page.locator(".bar-label").allTextContents()).sort(), ["cat", "dog"]);
  await shot("photos-light");
}

/* A detector that has learnt one photograph by heart: its last evaluation, a row a class. */
async function evaluatesByClass() {
  const path = "/v2/models/finder", boxes = [[{category: "ring", bbox: [4, 4, 30, 24]}, {category: "disc", bbox: [24, 20, 30, 24]}]];
  const batch = {inputs: [readFileSync("tests/data/images/photo.png").toString("base64")], targets: [{name: "boxes", boxes}]};
  await daemon.call("PUT", path, {template: {name: "yolo_tiny", num_classes: 2, image_size: 64}, preprocess: "yolo",
    labels: ["ring", "disc"], seed: 1, optimizer: {op: "adamw", lr: 0.005}});
  let result;
  for (let i = 0; i < 10 && !(result?.metrics.mAP50 > 0.5); i++) {
    for (let k = 0; k < 20; k++)
      await daemon.call("POST", `${path}/train_step`, batch);
    const {evaluation} = await daemon.call("POST", `${path}/evaluations`);
    await daemon.call("POST", `${path}/evaluations/${evaluation}`, batch);
    result = await daemon.call("POST", `${path}/evaluations/${evaluation}/finish`);
  }
  await open("finder", "curves");
  await page.waitForSelector("#classes tbody tr");
  const rows = await page.locator("#classes tr").evaluateAll(list => list.map(r => [...r.children].map(c => c.textContent)));
  const {step} = await daemon.call("GET", path);
  assert.deepEqual(rows[0], ["Class", "mAP50-95", "mAP50", "Step"]);
  assert.deepEqual(rows.slice(1).map(r => r[0]), ["disc", "ring"]);
  for (const [name, map, map50, at] of rows.slice(1)) {
    assert.ok(Math.abs(Number(map) - result.per_class[name]["mAP50-95"]) < 1e-3, `${name}: ${map}`);
    assert.ok(Math.abs(Number(map50) - result.per_class[name].mAP50) < 1e-3, `${name}: ${map50}`);
    assert.equal(at, String(step));
  }
  assert.ok(Number(rows[1][2]) > 0.5);
  assert.ok((await page.locator("#charts h3").allTextContents()).every(t => !t.includes("/"))); /* no chart of each */
  await shot("classes-light");
  await dark(true);
  await shot("classes-dark");
  await phone(true);
  await shot("phone-classes-dark");
  await fits("classes");
  await phone(false);
  await dark(false);
  await daemon.call("DELETE", path);
  await page.waitForFunction(() => !document.querySelector('[data-name="finder"]'));
}

/* Outputs below zero have bars, too, to the left of the line. */
async function drawsNegativeOutputs() {
  await daemon.call("PUT", "/v2/models/signs", {inputs: [{name: "x", shape: [-1, 3]}],
    layers: [{op: "mul", inputs: ["x", "x"]}, {op: "sub", inputs: ["layers.0", "x"]}, {op: "sub", inputs: ["x", "layers.1"]}]});
  await page.waitForSelector('[data-name="signs"]');
  await open("signs", "predict");
  await page.waitForFunction(() => document.querySelector("#panel-predict textarea")?.value.includes('"shape":[1,3]'));
  const panel = page.locator("#panel-predict form");
  await panel.locator("textarea").fill('{"inputs":[[1,3,0.5]]}'); /* 2x - x^2: 1, -3, 0.75 */
  await panel.locator("button").click();
  await page.waitForSelector(".bar.signed");
  const bars = await page.locator(".bar .fill").evaluateAll(list => list.map(f => [f.style.marginLeft, f.style.width]));
  assert.deepEqual(bars.map(b => b.map(parseFloat).map(Math.round)), [[50, 17], [0, 50], [50, 13]]);
  await shot("predict-signed");
}

/* A model that is taken out of memory is still listed, and can be brought back. */
async function loadsAgain() {
  await daemon.call("POST", "/v2/repository/models/signs/unload");
  await page.waitForSelector('[data-unloaded="signs"]');
  assert.equal(await page.locator('[data-name="signs"]').count(), 0);
  await shot("unloaded-light");
  await page.click('[aria-label="Load signs"]');
  await page.waitForSelector('[data-name="signs"]');
  assert.equal(await page.locator("[data-unloaded]").count(), 0);
  await daemon.call("DELETE", "/v2/models/signs");
  await page.waitForSelector('[data-name="signs"]', {state: "detached"});
}

async function showsTheArchitecture() {
  await open("digits", "layers");
  await page.waitForSelector("#panel-layers tbody tr");
  const text = await page.textContent("#panel-layers table");
  assert.match(text, /conv1.*conv2d.*N × 16 × 8 × 8.*144/);
  await shot("layers-light");
  await page.click("#profile-run");
  await page.waitForSelector("#profile tbody tr");
  assert.match(await page.textContent("#profile table"), /conv2d/);
}

/* Twelve sigmoids without help: its gradients vanish, and the page says so. */
const deep = {
  inputs: [{name: "image", datatype: "FP32", shape: [-1, 1, 8, 8]}],
  layers: [{op: "flatten"}, ...Array.from({length: 12}, (_, i) => [
    {name: `fc${i}`, op: "linear", out_features: 32}, {name: `act${i}`, op: "sigmoid"}]).flat(),
    {name: "head", op: "linear", out_features: 10}],
  loss: {op: "cross_entropy"}, optimizer: {op: "sgd", lr: 0.1}, seed: 1
};

const heat = "#heat canvas.heat";
const heatPicture = () => page.locator(heat).evaluate(c => c.toDataURL());

async function showsSignals() {
  await open("digits", "signals");
  await page.waitForSelector("#no-signals:not([hidden])");
  await page.fill("#signals-every", "2");
  await page.click("#panel-signals form button");
  training = train(daemon, "digits", all);
  await page.waitForSelector("#heat:not([hidden])");
  await page.waitForFunction(() => /over ([4-9]|\d\d+) steps/.test(document.querySelector("#heat canvas.heat").getAttribute("aria-label")));
  await training.stop();
  const {every, step, layers, signals, diagnosis} = await daemon.call("GET", "/v2/models/digits/signals");
  assert.equal(every, 2);
  assert.ok(step.every(s => s % 2 === 0));
  const rows = layers.filter((_, i) => signals.gradient_norm[i]).length;
  await sleep(2500); /* the last steps come */
  assert.match(await page.getAttribute(heat, "aria-label"), new RegExp(`gradient norm of ${rows} layers over [0-9]+ steps`));
  await page.waitForSelector("#histograms:not([hidden])");
  const found = await page.locator(".finding").evaluateAll(list => list.map(f => f.dataset.problem));
  assert.deepEqual(found, diagnosis.map(f => f.problem));
  assert.equal(await page.isVisible("#panel-signals .healthy"), !diagnosis.length);
  await shot("signals-light");
}

/* Under the pointer and under the cursor of the keyboard, what the daemon has. */
async function readsTheHeatMap() {
  const {step, layers, signals} = await daemon.call("GET", "/v2/models/digits/signals?max_points=300");
  const first = layers.findIndex((_, i) => signals.gradient_norm[i]), value = signals.gradient_norm[first].at(-1);
  const box = await page.locator(heat).boundingBox();
  await page.locator(heat).hover({position: {x: box.width - 2, y: 4}});
  const said = await page.textContent("#heat .said");
  assert.ok(said.startsWith(`${layers[first].name} at step ${step.at(-1).toLocaleString("en-US")}: gradient norm`), said);
  assert.ok(Math.abs(Number(said.split(" ").at(-1)) / value - 1) < 1e-3, `${said}, expected ${value}`);
  await page.focus(heat);
  await page.keyboard.press("ArrowLeft");
  assert.match(await page.textContent("#heat .said"), new RegExp(`at step ${step.at(-2).toLocaleString("en-US")}:`));
  const before = await heatPicture();
  await page.selectOption("#heat select", "dead_share");
  assert.notEqual(await heatPicture(), before);
  assert.match(await page.textContent("#heat .legend"), /^01$/);
  await page.selectOption("#heat select", "saturated_share");
  await page.waitForSelector("#heat .empty:not([hidden])");
  await page.selectOption("#heat select", "gradient_norm");
  await page.selectOption("#histograms select", "fc.weight");
  assert.match(await page.locator("#histograms canvas").first().getAttribute("aria-label"), /^weights: 2560 numbers/);
  assert.match(await page.locator("#histograms canvas").last().getAttribute("aria-label"), /^gradients: 2560 numbers/);
}

async function showsTheDiagnosis() {
  await daemon.call("PUT", "/v2/models/sigmoids", {...deep, signals: {every: 1}});
  const other = train(daemon, "sigmoids", all);
  await sleep(1200);
  await other.stop();
  await open("sigmoids", "signals");
  await page.waitForSelector('[data-problem="vanishing_gradients"]');
  assert.match(await page.textContent('[data-problem="vanishing_gradients"]'), /layer 'fc0'.*residual connections/s);
  assert.match(await page.textContent("#heat .legend"), /log/);
  await shot("diagnosis-light");
  await page.emulateMedia({colorScheme: "dark"});
  await sleep(300);
  await shot("diagnosis-dark");
  await page.setViewportSize({width: 390, height: 844});
  await sleep(300);
  await shot("phone-signals-dark");
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `signals is ${wide} pixels too wide for a phone`);
  await page.emulateMedia({colorScheme: "light"});
  await sleep(300);
  await shot("phone-signals-light");
  await page.setViewportSize({width: 1280, height: 860});
  await daemon.call("DELETE", "/v2/models/sigmoids");
  await page.waitForFunction(() => !document.querySelector('[data-name="sigmoids"]'));
}

async function worksByKeyboard() {
  await open("digits", "curves");
  await page.focus("#tab-curves");
  await page.keyboard.press("ArrowRight");
  await page.waitForSelector("#panel-predict:not([hidden]) .pad");
  assert.equal(await page.evaluate(() => document.activeElement.id), "tab-predict");
  await page.focus(".pad");
  for (let i = 0; i < 8; i++)
    await page.keyboard.press("Shift+ArrowUp");
  await page.waitForSelector(".best");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Predict");
  const unnamed = await page.evaluate(() => [...document.querySelectorAll("button, input, select, textarea, a")]
    .filter(e => !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim())).map(e => e.outerHTML));
  assert.deepEqual(unnamed, []);
}

async function darkAndNarrow() {
  await page.emulateMedia({colorScheme: "dark"});
  await open("digits", "curves");
  await page.waitForSelector('[data-series="loss"] canvas');
  await sleep(300);
  await shot("curves-dark");
  await page.setViewportSize({width: 390, height: 844});
  for (const panel of ["curves", "predict", "layers", "versions"]) {
    await open("digits", panel);
    await page.waitForSelector(`#panel-${panel}:not([hidden]) > *`);
    await sleep(300);
    if (panel === "predict")
      await draw(drawings.seven);
    await shot(`phone-${panel}-dark`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${panel} is ${wide} pixels too wide for a phone`);
  }
  await page.click("#theme");
  await open("digits", "curves");
  await sleep(400);
  await shot("phone-curves-light");
  await page.setViewportSize({width: 1280, height: 860});
}

async function survivesARestart() {
  await page.waitForSelector(".badge.live");
  await daemon.stop();
  await page.waitForSelector(".badge.waiting");
  await daemon.start();
  await page.waitForSelector(".badge.live");
  training = train(daemon, "digits", all);
  await sleep(1500);
  await training.stop();
  await sleep(800);
  const {step} = await daemon.call("GET", "/v2/models/digits");
  const label = await page.getAttribute('[data-series="loss"] canvas', "aria-label");
  assert.match(label, new RegExp(`training \\S+ at step ${step}(,|$)`));
}

/* Asked for once; one that is not in force is asked for again; all that the page shows needs it. */
async function asksForAKey() {
  const key = daemon.addKey("ann", "admin");
  daemon.process.kill("SIGHUP");
  await page.waitForSelector("#ask[open]");
  assert.match(await page.textContent("#ask-title"), /key/);
  await shot("key-asked");
  await page.fill("#ask-input", key.replace(/.$/, c => c === "0" ? "1" : "0"));
  await page.click("#ask-yes");
  await page.waitForFunction(() => document.getElementById("ask").open &&
    document.getElementById("ask-input").value === "");
  await page.fill("#ask-input", key);
  await page.click("#ask-yes");
  await page.waitForFunction(() => !document.getElementById("ask").open);
  await page.reload(); /* kept for as long as the tab */
  await page.waitForSelector("#models li");
  await page.waitForSelector(".badge.live");
  assert.match(await page.textContent("#server-line"), /ready/);
  assert.equal(await page.locator("#ask[open]").count(), 0);
}

async function noComplaints() {
  assert.deepEqual(problems, []);
}

const failed = await runTests([
  ["lists models and the server's health", listsModels],
  ["curves move while a model trains", curvesMove],
  ["each point is drawn once", eachPointOnce],
  ["values under the pointer", valuesUnderThePointer],
  ["logarithmic scale and smoothing", logarithmicAndSmooth],
  ["several models over each other", severalModels],
  ["draws recorded evaluations beside training", drawsEvaluations],
  ["long runs have dates", datesOfLongRuns],
  ["saves and restores a version", savesAndRestores],
  ["sets, moves, rolls back and deletes aliases", movesAliases],
  ["deletes a version when told to", deletesAsked],
  ["reads digits that are drawn", readsDigits],
  ["asks in JSON, shows gradients and refusals", asksInJson],
  ["takes images", takesImages],
  ["shows the last evaluation by class", evaluatesByClass],
  ["draws outputs below zero", drawsNegativeOutputs],
  ["loads what is not in memory", loadsAgain],
  ["shows the architecture", showsTheArchitecture],
  ["shows signals of layers as training records them", showsSignals],
  ["reads the heat map by pointer and by keyboard, and the histograms", readsTheHeatMap],
  ["shows the diagnosis, light and dark, wide and narrow", showsTheDiagnosis],
  ["works by keyboard, everything has a name", worksByKeyboard],
  ["dark and narrow", darkAndNarrow],
  ["goes on after a restart of the daemon", survivesARestart],
  ["asks for a key where one is needed", asksForAKey],
  ["the browser has nothing to complain of", noComplaints]
]);
await browser.close();
await daemon.stop();
rmSync(daemon.folder, {recursive: true, force: true});
process.exit(failed ? 1 : 0);
