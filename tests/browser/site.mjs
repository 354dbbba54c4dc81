/* site.mjs: what the browser tests share: a daemon with a model of digits, a browser, and TAP. */
import {execFileSync, spawn} from "node:child_process";
import {existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync} from "node:fs";
import {createRequire} from "node:module";
import {tmpdir} from "node:os";
import {join, resolve} from "node:path";

const build = process.env.BUILD || "build";
const modules = resolve(build, "browser");
export const shots = join(build, "browser", "shots");

export const sleep = ms => new Promise(done => setTimeout(done, ms));

/* ---- the daemon ------------------------------------------------------------------------------ */

export class Daemon {
  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "backpropd-browser-"));
  }

  async start() {
    const port = join(this.folder, "port");
    rmSync(port, {force: true});
    this.process = spawn(`${build}/backpropd`, ["--listen", this.address || "127.0.0.1:0", "--data",
      join(this.folder, "data"), "--port-file", port], {stdio: ["ignore", "ignore", "inherit"]});
    for (let i = 0; !existsSync(port) && i < 500; i++)
      await sleep(20);
    this.address = readFileSync(port, "utf8").trim();
    this.url = `http://${this.address}`;
  }

  async stop() {
    const ended = new Promise(done => this.process.once("exit", done));
    this.process.kill("SIGTERM");
    return ended;
  }

  /* A key that it takes at SIGHUP. */
  addKey(name, role) {
    return execFileSync(`${build}/backpropd`, ["keys", "add", "--name", name, "--role", role,
      join(this.folder, "data")], {encoding: "utf8"}).trim();
  }

  async call(method, path, body) {
    const response = await fetch(this.url + path, {method, body: body && JSON.stringify(body),
      headers: body ? {"Content-Type": "application/json"} : {}});
    const answer = await response.json();
    if (!response.ok)
      throw new Error(`${method} ${path}: ${answer.error}`);
    return answer;
  }
}

/* ---- digits ---------------------------------------------------------------------------------- */

export const rows = file => readFileSync(`tests/data/optdigits/${file}`, "utf8").trim().split("\n")
  .map(line => line.split(",").map(Number));

export const digits = {
  inputs: [{name: "image", datatype: "FP32", shape: [-1, 1, 8, 8]}],
  layers: [{name: "conv1", op: "conv2d", out_channels: 16, kernel_size: 3, padding: 1, bias: false},
    {name: "bn1", op: "batch_norm2d"}, {op: "relu"}, {op: "max_pool2d", kernel_size: 2}, {op: "flatten"},
    {name: "fc", op: "linear", out_features: 10}],
  loss: {op: "cross_entropy"}, optimizer: {op: "adamw", lr: 0.003},
  schedule: {op: "cosine", total_steps: 2000, warmup_steps: 50}, seed: 1,
  labels: ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
};

/* Trains `name` step after step until stop(), which waits for the last one. */
export function train(daemon, name, all, batch = 32) {
  let going = true, at = 0, pause = 0;
  const run = async () => {
    while (going) {
      const part = Array.from({length: batch}, () => all[(at = (at + 977) % all.length)]);
      await daemon.call("POST", `/v2/models/${name}/train_step`, {
        inputs: [{name: "image", datatype: "FP32", shape: [batch, 1, 8, 8],
                  data: part.flatMap(r => r.slice(0, 64).map(v => v / 16))}],
        targets: part.map(r => r[64])});
      await sleep(pause);
    }
  };
  const done = run();
  return {stop() { going = false; return done; }, slow(ms) { pause = ms; }};
}

/* ---- the browser ----------------------------------------------------------------------------- */

const chromiumFile = () => execFileSync("sh", ["-c", "command -v chromium"], {encoding: "utf8"}).trim();

export function launch(folder) {
  mkdirSync(shots, {recursive: true});
  const {chromium} = createRequire(join(modules, "package.json"))("playwright-core");
  return chromium.launchPersistentContext(join(folder, "profile"), {
    executablePath: process.env.CHROMIUM || chromiumFile(), headless: true, viewport: {width: 1280, height: 860},
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"]});
}

/* ---- TAP ------------------------------------------------------------------------------------- */

export async function runTests(tests) {
  let failed = 0, n = 0;
  for (const [name, test] of tests) {
    n++;
    try {
      await test();
      console.log(`ok ${n} - ${name}`);
    } catch (error) {
      failed++;
      console.log(`not ok ${n} - ${name}`);
      console.log(String(error.stack || error).replace(/^/gm, "# "));
    }
  }
  console.log(`1..${n}`);
  return failed;
}
