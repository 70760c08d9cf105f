/**
 * The executor: owns a device, answers inferences, measures candidates. Its first client is the context that compiles
 * (Pyodide's worker); the page gets a port of its own. One request runs at a time; inferences and new plans go first,
 * also between two samples of a measurement.
 */

import { openDevice } from "./devices.js";
import { UnsupportedError, VerificationError } from "./errors.js";
import { evaluate } from "./expressions.js";
import { bindSymbols, checkInputs, describeInputs } from "./inputs.js";
import { Channel, transferring } from "./rpc.js";
import { WeightFiles } from "./weights.js";

/** @typedef {import("./types.js").Device} Device */
/** @typedef {import("./types.js").Plan} Plan */
/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {import("./inputs.js").Signature} Signature */
/** @typedef {{work: () => any, resolve: (value: any) => void, reject: (error: unknown) => void}} Job */

/** @type {Device | null} */
let device = null;
/** @type {Signature | null} */
let signature = null;
/** @type {Map<number, Plan>} the newest first */
let plans = new Map();
/** @type {Map<number, import("./types.js").Environment>} symbols of each plan's latest inference */
const environments = new Map();
/** @type {Map<string, Promise<any>>} compilations under way, by the inputs that they are for */
const compiling = new Map();
/** @type {Set<Promise<any>>} inferences that wait for their plan to be compiled */
const firstRuns = new Set();

/** @type {Job[]} */
const urgent = [];
/** @type {Job[]} */
const patient = [];
let busy = false;

/**
 * Run `work` when its turn comes.
 * @param {Job[]} queue
 * @param {() => any} work
 * @returns {Promise<any>}
 */
function enqueue(queue, work) {
  return new Promise((resolve, reject) => {
    queue.push({ work, resolve, reject });
    if (!busy) drain();
  });
}

async function drain() {
  busy = true;
  for (let job = next(); job; job = next()) await perform(job);
  busy = false;
}

function next() {
  return urgent.shift() ?? patient.shift();
}

/** @param {Job} job */
async function perform({ work, resolve, reject }) {
  try {
    resolve(await work());
  } catch (error) {
    reject(error);
  }
}

const ticks = new MessageChannel();
/** @type {(() => void)[]} */
const awaitingTick = [];
ticks.port1.onmessage = () => awaitingTick.shift()?.();

/** Let messages in, and serve what is urgent; a measurement awaits this between two samples. */
async function pause() {
  await /** @type {Promise<void>} */ (
    new Promise((resolve) => {
      awaitingTick.push(resolve);
      ticks.port2.postMessage(null);
    })
  );
  for (let job = urgent.shift(); job; job = urgent.shift()) await perform(job);
}

/** @returns {Device} */
function theDevice() {
  if (!device) throw new VerificationError("The executor has no device: open it first.");
  return device;
}

/**
 * The newest plan that fits, with its symbols bound.
 * @param {Record<string, Tensor>} inputs
 */
function choosePlan(inputs) {
  for (const [id, plan] of plans) {
    const environment = bindSymbols(plan, inputs);
    if (environment) return { plan: id, environment };
  }
  return null;
}

/**
 * One inference, if a plan fits; null otherwise.
 * @param {Record<string, Tensor>} inputs
 */
async function infer(inputs) {
  const chosen = choosePlan(inputs);
  if (!chosen) return null;
  const start = performance.now();
  const outputs = await theDevice().run({ ...chosen, inputs });
  environments.set(chosen.plan, chosen.environment);
  return { outputs, plan: chosen.plan, ms: performance.now() - start };
}

/**
 * @param {{inputs: Record<string, Tensor>}} request
 */
async function run({ inputs }) {
  if (!signature) throw new VerificationError("run came before setSignature.");
  checkInputs(signature, inputs);
  let result = await enqueue(urgent, () => infer(inputs));
  if (!result) {
    const firstRun = compileFor(inputs).then(() => enqueue(urgent, () => infer(inputs)));
    firstRuns.add(firstRun);
    try {
      result = await firstRun;
    } finally {
      firstRuns.delete(firstRun);
    }
    if (!result) throw new VerificationError("The plan that was compiled for these inputs does not fit them.");
  }
  const buffers = Object.values(result.outputs).map(({ data }) => /** @type {ArrayBuffer} */ (data.buffer));
  return transferring(result, buffers);
}

/**
 * Have the compiler add a plan that fits; requests for the same shapes share one compilation.
 * @param {Record<string, Tensor>} inputs
 */
function compileFor(inputs) {
  const description = describeInputs(inputs, /** @type {Signature} */ (signature));
  const key = JSON.stringify(description);
  let compilation = compiling.get(key);
  if (!compilation) {
    compilation = compiler.call("needPlan", { inputs: description }).finally(() => compiling.delete(key));
    compiling.set(key, compilation);
  }
  return compilation;
}

/** @param {{json: string, blobs: Uint8Array[]}} request */
function addPlan({ json, blobs }) {
  return enqueue(urgent, async () => {
    const plan = /** @type {Plan} */ (JSON.parse(json));
    if (plan.format !== 1) throw new UnsupportedError(`This runtime reads plans of format 1, not ${plan.format}.`);
    if (plan.device !== theDevice().facts.device) {
      throw new VerificationError(`A plan for ${plan.device} was given to the device ${theDevice().facts.device}.`);
    }
    const added = await theDevice().addPlan(plan, blobs);
    plans = new Map([[added.plan, plan], ...plans]);
    return added;
  });
}

/**
 * Measure when nothing urgent waits. Measurements replay the latest inference, so the one that a new plan was compiled
 * for comes first, even when the compiler asks to measure the plan before that inference is back in the queue.
 * @param {() => any} work
 */
async function afterFirstRuns(work) {
  await Promise.allSettled(firstRuns);
  return enqueue(patient, work);
}

/**
 * Times of all units on the latest inputs, with the work that they claim to do.
 * @param {{plan: number, repeat: number}} request
 */
async function profile(request) {
  const times = await theDevice().profile(request, pause);
  const units = plans.get(request.plan)?.units ?? [];
  const environment = environments.get(request.plan) ?? {};
  const sum = (/** @type {any[]} */ steps, /** @type {"flops" | "bytes"} */ what) =>
    steps.reduce((total, step) => total + evaluate(step[what], environment), 0);
  return times.map(({ unit, ms }) => {
    const { steps } = units[unit];
    return { unit, ms, flops: sum(steps, "flops"), bytes: sum(steps, "bytes") };
  });
}

/** What any client may ask for. */
const forPages = {
  run,
  stats: () => theDevice().stats(),
};

const compiler = new Channel(/** @type {any} */ (self), {
  ...forPages,
  open: async (/** @type {any} */ options) => {
    device = await openDevice(options);
    return device.facts;
  },
  setSignature: (/** @type {Signature} */ given) => {
    signature = given;
  },
  setFiles: (/** @type {Record<string, ArrayBuffer | Blob>} */ files) => theDevice().setFiles(new WeightFiles(files)),
  addPlan,
  measure: (/** @type {any} */ request) => afterFirstRuns(() => theDevice().measure(request, pause)),
  profile: (/** @type {any} */ request) => afterFirstRuns(() => profile(request)),
  microbench: (/** @type {any} */ probe) => afterFirstRuns(() => theDevice().microbench(probe, pause)),
  swap: (/** @type {any} */ request) => enqueue(patient, () => theDevice().swap(request)),
  connect: (/** @type {{port: MessagePort}} */ { port }) => {
    new Channel(port, forPages);
  },
  dispose: () => {
    device?.dispose();
    device = null;
    self.close();
  },
});
