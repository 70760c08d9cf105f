/**
 * A stand-in for runtime/nnjit.js with the same interface, for tests of the page alone: quick, and able to fail on
 * demand. The model's address says what happens: `fake:transformer`, `fake:decoder`, `fake:image`, `fake:error/<code>`, `fake:slow`.
 * Every output is twice the first input.
 */

const MODELS = {
  transformer: {
    inputs: [
      { name: "input_ids", dtype: "int64", shape: ["batch", "sequence"] },
      { name: "attention_mask", dtype: "int64", shape: ["batch", "sequence"] },
      { name: "token_type_ids", dtype: "int64", shape: ["batch", "sequence"] },
    ],
    outputs: [{ name: "logits", dtype: "float32", shape: ["batch", "sequence"] }],
  },
  image: {
    inputs: [{ name: "pixel_values", dtype: "float32", shape: ["batch", 3, "height", "width"] }],
    outputs: [{ name: "doubled", dtype: "float32", shape: ["batch", 3, "height", "width"] }],
  },
  decoder: {
    inputs: [{ name: "ids", dtype: "int64", shape: [1, "sequence"] }],
    outputs: ["logits", ...[0, 1, 2].flatMap((layer) => [`present.${layer}.key`, `present.${layer}.value`])].map(
      (name) => ({ name, dtype: "float32", shape: [1, "sequence"] }),
    ),
  },
  vector: {
    inputs: [{ name: "x", dtype: "float32", shape: ["n"] }],
    outputs: [{ name: "doubled", dtype: "float32", shape: ["n"] }],
  },
};

const KERNELS = [
  ["matmul 128×768×3072 + gelu", "matmul", 12, 1.9, "tile 6×8 k4 pack"],
  ["matmul 128×3072×768 + add", "matmul", 12, 1.8, "tile 4×8 k8 pack"],
  ["matmul 128×768×768 + add", "matmul", 48, 0.47, "tile 6×8 k4 pack"],
  ["attention 12 heads, 128×64", "attention", 12, 0.4, "rows 8 vector 4"],
  ["layer norm 128×768", "normalize", 25, 0.05, "rows 1 vector 4"],
  ["softmax 12×128×128", "reduce", 12, 0.11, "vector 4"],
  ["gather 30522×768", "map", 1, 0.06, ""],
  ["tanh 768", "map", 1, 0.002, ""],
];

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class CodedError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export async function prepare() {}

export async function keepsPlans() {
  return false;
}

/** What was "tuned": nothing until a file is imported. */
let kernels = { format: "nnjit-kernels", version: 1, groups: [] };

export async function exportKernels() {
  return JSON.stringify(kernels);
}

export async function importKernels(file) {
  const text = await file.text();
  if (!text.startsWith("{")) throw new CodedError("kernel-file", "The kernel file is not JSON: it begins with #.");
  kernels = JSON.parse(text);
  return { message: "1 schedule for 1 kernel imported. 1 record left out: groups[0]: no." };
}

export async function load(source, { signal, onProgress }) {
  const url = typeof source === "string" ? source : `fake:${source.name.replace(".onnx", "")}`;
  const pace = url.includes("slow") ? 900 : 40;
  const stop = () => {
    if (signal?.aborted) throw new DOMException("stopped", "AbortError");
  };
  onProgress({ stage: "compiler", message: "Pyodide" });
  await sleep(pace);
  const [, code] = /error\/(.+)/.exec(url) ?? [];
  for (let loaded = 0; loaded <= 90e6; loaded += 30e6) {
    onProgress({ stage: "download", loaded, total: 90e6, secondsLeft: (90e6 - loaded) / 30e6 });
    await sleep(pace);
    stop();
  }
  onProgress({ stage: "graph" });
  await sleep(pace);
  if (code) {
    throw new CodedError(
      code,
      "Node “/encoder/Unique_3” uses Unique (opset 17), which is not supported: its output's size depends on values.",
    );
  }
  onProgress({ stage: "kernels", loaded: 3, total: 8 });
  await sleep(pace);
  onProgress({ stage: "weights", loaded: 10e6, total: 90e6 });
  await sleep(pace);
  const name = /fake:([a-z]+)/.exec(url)?.[1] ?? "";
  return new FakeModel(MODELS[name] ?? MODELS.transformer);
}

class FakeModel {
  constructor({ inputs, outputs }) {
    this.python = "on";
    this.tuned = false;
    this.inputs = inputs;
    this.outputs = outputs;
    this.facts = {
      device: "wasm",
      threads: 2,
      hardwareConcurrency: 2,
      relaxedSimd: true,
      adapter: null,
      notes: [],
    };
    this.listeners = [];
    this.gains = KERNELS.map(() => 1);
    this.tried = KERNELS.map(() => []);
    this.timer = 0;
  }

  async runTimed(inputs) {
    const start = performance.now();
    return { outputs: await this.run(inputs), ms: performance.now() - start };
  }

  async run(inputs) {
    const [first] = Object.values(inputs);
    if (first.dims.includes(13))
      throw new CodedError("input", "Input “x” has 13 elements; this model does not take 13.");
    await sleep(10 + 30 / this.gains[0] + 4 * Math.random());
    if (this.disposed) throw new CodedError("device", "The model was disposed of.");
    if (!this.timer) this.#tune();
    const data = Float32Array.from(first.data, (value) => 2 * Number(value));
    return Object.fromEntries(this.outputs.map(({ name }) => [name, { data, dims: first.dims, type: "float32" }]));
  }

  on(event, listener) {
    if (event === "tune") this.listeners.push(listener);
  }

  #emit(event) {
    for (const listener of this.listeners) listener(event);
  }

  #tune() {
    let turn = 0;
    this.timer = setInterval(() => {
      const index = Math.floor(turn / 16);
      if (index > 4) {
        clearInterval(this.timer);
        this.#emit({ status: "done" });
        return;
      }
      const [label, , , ms] = KERNELS[index];
      const schedule = `tile ${1 + (turn % 8)}×${turn % 2 ? 8 : 16} k${1 << (turn % 3)} pack`;
      const status = turn % 7 === 6 ? "wrong" : turn % 11 === 10 ? "compile-error" : "ok";
      const took = status !== "ok" ? null : ms * (0.55 + 0.9 * Math.abs(Math.sin(turn * 1.7)));
      this.tried[index].push({ schedule, ms: took, status });
      this.#emit({
        task: label,
        label,
        candidate: 1 + (turn % 16),
        of: 16,
        schedule,
        ms: took,
        best: ms * 0.6,
        status,
        secondsLeft: 20 - turn / 4,
      });
      if (turn % 16 === 15) {
        this.gains[index] = 1.7;
        this.#emit({
          task: label,
          label,
          schedule,
          ms: took,
          best: ms * 0.6,
          status: "swapped",
          secondsLeft: 20 - turn / 4,
        });
      }
      turn++;
    }, 60);
  }

  async resumeTuning() {
    this.#tune();
  }

  async pauseTuning() {
    clearInterval(this.timer);
  }

  #schedule(index) {
    const winner = this.gains[index] > 1 && this.tried[index].find((entry) => entry.status === "ok");
    return winner ? winner.schedule : KERNELS[index][4];
  }

  async report() {
    const total = KERNELS.reduce((sum, [, , uses, ms]) => sum + uses * ms, 0);
    const kernels = KERNELS.flatMap(([label, op, uses, ms, schedule], index) =>
      Array.from({ length: uses }, (_, use) => ({
        unit: index * 100 + use,
        label,
        node: `/encoder/layer.${use}/${op}`,
        op,
        task: schedule ? label : null,
        share: ms / total,
        ms: ms / this.gains[index],
        schedule:
          this.gains[index] > 1
            ? (this.tried[index].find((entry) => entry.ms)?.schedule ?? schedule)
            : schedule,
        gain: this.gains[index],
        gflops: op === "matmul" ? 32 * this.gains[index] : null,
        kernels: [`${op}_${index}`],
      })),
    );
    const tasks = KERNELS.slice(0, 6).map(([label, , , ms, schedule], index) => ({
      key: label,
      label,
      schedule: this.#schedule(index),
      default: schedule,
      ms: ms / this.gains[index],
      gain: this.gains[index],
      waiting: 16 - this.tried[index].length,
      candidates: this.tried[index],
    }));
    return { device: this.facts, kernels, tasks, memory: {} };
  }

  async source(kernel) {
    await sleep(20);
    const body = Array.from(
      { length: 40 },
      (_, line) =>
        `    (local.set $acc${line % 12} (f32x4.relaxed_madd (local.get $a) (local.get $b${line % 2}) (local.get $acc${line % 12})))`,
    );
    return [
      `(module`,
      `  (func (export "${kernel}") (param $a i32) (param $b i32) (param $c i32) (param $lo i32) (param $hi i32)`,
      ...body,
      "  ))",
    ].join("\n");
  }

  dispose() {
    this.disposed = true;
    clearInterval(this.timer);
  }
}
