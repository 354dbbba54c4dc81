// ort_peer.mjs: onnxruntime-node on an ONNX file, printing a JSON line as `backpropd bench` does.
//   node ort_peer.mjs FOLDER-OF-NODE_MODULES NET FILE THREADS SECONDS
import { createRequire } from "node:module";
const [folder, net, file, threads, seconds] = process.argv.slice(2);
const ort = createRequire(folder + "/")("onnxruntime-node");
const WARM_UP = 3, SAMPLES_FEWEST = 5;

const session = await ort.InferenceSession.create(file, {
  intraOpNumThreads: Number(threads), interOpNumThreads: 1, graphOptimizationLevel: "all",
  executionMode: "sequential",
});
const input = session.inputMetadata[0];
const count = input.shape.reduce((a, b) => a * b, 1);
const data = input.type === "int64"
  ? BigInt64Array.from({ length: count }, (_, i) => BigInt(i * 7 % 65))
  : Float32Array.from({ length: count }, () => 2 * Math.random() - 1);
const feeds = { [session.inputNames[0]]: new ort.Tensor(input.type, data, input.shape) };

for (let i = 0; i < WARM_UP; i++) await session.run(feeds);
const samples = [], begin = performance.now();
while (samples.length < SAMPLES_FEWEST || performance.now() - begin < 1000 * seconds) {
  const at = performance.now();
  await session.run(feeds);
  samples.push((performance.now() - at) / 1000);
}
samples.sort((a, b) => a - b);
const quantile = (q) => samples[Math.floor(samples.length * q)];
console.log(JSON.stringify({
  net, mode: "infer", batch: input.shape[0], threads: Number(threads), steps: samples.length,
  seconds_p25: quantile(0.25), seconds_p50: quantile(0.5), seconds_p75: quantile(0.75),
  examples_per_second: input.shape[0] / quantile(0.5),
  resident_bytes: process.resourceUsage().maxRSS * 1024, version: ort.env.versions.node,
}));
