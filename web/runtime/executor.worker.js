/**
 * The executor: owns a device, answers inferences, measures candidates. Its first client is the context that compiles
 * (Pyodide's worker); the page gets a port of its own. One request runs at a time; inferences and new plans go first,
 * also between two samples of a measurement.
 */

import { takeChecks } from "./checks.js";
import { Courtesy } from "./courtesy.js";
import { openDevice } from "./devices.js";
import { UnsupportedError, VerificationError } from "./errors.js";
import { evaluate } from "./expressions.js";
import { bindSymbols, checkIndices, checkInputs, describeInputs } from "./inputs.js";
import { laneBytes } from "./lane.js";
import { Lanes } from "./lane-server.js";
import { Channel, transferring } from "./rpc.js";
import { WeightFiles } from "./weights.js";

/** @typedef {import("./types.js").Device} Device */
/** @typedef {import("./types.js").Plan} Plan */
/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {import("./inputs.js").Signature} Signature */
/** @typedef {{work: () => any, resolve: (value: any) => void, reject: (error: unknown) => void}} Job */

/** @type {Device | null} */
let device = null;
/** @type {Lanes | null} where the device has memory for them */
let lanes = null;
/** @type {Signature | null} */
let signature = null;
/** @type {Map<number, Plan>} the newest first */
let plans = new Map();
/** @type {Map<string, Promise<any>>} compilations under way, by the inputs that they are for */
const compiling = new Map();
/** @type {Set<Promise<any>>} inferences that wait for their plan to be compiled */
const firstRuns = new Set();

/** @type {Job[]} */
const urgent = [];
/** @type {Job[]} */
const patient = [];
let busy = false;
/** Called when something urgent is asked for while something patient has its turn. @type {() => void} */
let asked = () => {};

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
    else if (queue === urgent) asked();
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

/** Let messages in. */
async function letIn() {
  lanes?.poll();
  await /** @type {Promise<void>} */ (
    new Promise((resolve) => {
      awaitingTick.push(resolve);
      ticks.port2.postMessage(null);
    })
  );
}

async function serveUrgent() {
  for (let job = urgent.shift(); job; job = urgent.shift()) await perform(job);
}

/** Let messages in, and serve what is urgent; a measurement awaits this between two samples. */
async function pause() {
  await letIn();
  await serveUrgent();
}

const courtesy = new Courtesy();
/** How long to wait for an inference that is expected until asking again whether it is, ms. */
const WAIT_MS = 2;

/** Whether work in the background waits until it may go on. */
let resting = false;

/** Wait for an inference, or a moment, and serve it at once. */
async function rest() {
  resting = true;
  await new Promise((resolve) => {
    asked = () => resolve(undefined);
    setTimeout(asked, WAIT_MS);
  });
  // While this waits, the executor may also wait blocked for the next inference: see lane-server.js.
  await serveUrgent();
  resting = false;
}

/**
 * A `pause` for work in the background: it lasts until a slice is hardly noticed.
 * @returns {import("./types.js").Pause}
 */
function polite() {
  let resumed = performance.now();
  /** ms of inferences while something else was waited for. */
  let crowded = 0;
  return async ({ idle = false, beside, ms, until = () => false } = {}) => {
    if (idle || beside !== undefined) {
      const { total } = courtesy;
      await pause();
      resumed = performance.now();
      crowded += courtesy.total - total;
      if (beside === undefined) return;
      const { threads, hardwareConcurrency } = theDevice().facts;
      if (threads >= hardwareConcurrency) courtesy.crowded(Math.min(crowded, beside), threads);
      crowded = 0;
      return;
    }
    courtesy.took(resumed, performance.now());
    await letIn();
    if (urgent.length) courtesy.asked();
    if (!courtesy.mayDelay(ms)) {
      await serveUrgent();
      while (!until() && !courtesy.mayBegin(performance.now(), ms)) await rest();
    }
    resumed = performance.now();
  };
}

/** @returns {Device} */
function theDevice() {
  if (!device) throw new VerificationError("The executor has no device: open it first.");
  return device;
}

/** @typedef {{plan: number, environment: import("./types.js").Environment}} Chosen */
/**
 * What was found for inputs that come again: a lane gives the same object for requests of the same shapes.
 * @type {{inputs: Record<string, Tensor> | null, plans: Map<number, Plan>, chosen: Chosen | null}}
 */
let latest = { inputs: null, plans, chosen: null };

/**
 * The newest plan that fits, with its symbols bound.
 * @param {Record<string, Tensor>} inputs
 * @returns {Chosen | null}
 */
function choosePlan(inputs) {
  if (latest.inputs === inputs && latest.plans === plans) return latest.chosen;
  for (const [id, plan] of plans) {
    const environment = bindSymbols(plan, inputs);
    if (!environment) continue;
    const chosen = { plan: id, environment };
    const byShape = [...plans.values()].every(({ symbols }) => symbols.every(({ from }) => from[0] === "dim"));
    latest = { inputs: byShape ? inputs : null, plans, chosen };
    return chosen;
  }
  return null;
}

/** Inputs that were found right. @type {WeakSet<Record<string, Tensor>>} */
const checked = new WeakSet();

/** @typedef {{inputs: Record<string, Tensor>, space?: import("./types.js").Space}} Request */

/**
 * One inference, if a plan fits; null otherwise.
 * @param {Request} request
 */
async function infer(request) {
  const chosen = choosePlan(request.inputs);
  if (!chosen) return null;
  const plan = plans.get(chosen.plan);
  if (plan) checkIndices(plan, chosen.environment, request.inputs);
  const start = performance.now();
  const outputs = await theDevice().run({ ...chosen, ...request });
  if (plan) takeChecks(plan, outputs);
  const end = performance.now();
  courtesy.served(start, end);
  return { outputs, plan: chosen.plan, ms: end - start };
}

/**
 * An inference when its turn comes; the compiler is asked for a plan when none fits.
 * @param {Request} request
 */
async function run(request) {
  if (!signature) throw new VerificationError("run came before setSignature.");
  if (!checked.has(request.inputs)) checkInputs(signature, request.inputs);
  checked.add(request.inputs);
  const result = await enqueue(urgent, () => infer(request));
  if (result) return result;
  lanes?.listen(); // This takes long, and others may ask meanwhile.
  const firstRun = compileFor(request.inputs).then(() => enqueue(urgent, () => infer(request)));
  firstRuns.add(firstRun);
  try {
    const first = await firstRun;
    if (!first) throw new VerificationError("The plan that was compiled for these inputs does not fit them.");
    return first;
  } finally {
    firstRuns.delete(firstRun);
  }
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
    if (plan.format !== 2) throw new UnsupportedError(`This runtime reads plans of format 2, not ${plan.format}.`);
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
 * @param {{plan: number, repeat: number, background?: boolean}} request
 */
async function profile(request) {
  const { environment, times } = await theDevice().profile(request, request.background ? polite() : pause);
  const units = plans.get(request.plan)?.units ?? [];
  const sum = (/** @type {any[]} */ steps, /** @type {"flops" | "read" | "written"} */ what) =>
    steps.reduce((total, step) => total + evaluate(step[what], environment), 0);
  return times.map(({ unit, ms }) => {
    const { steps } = units[unit];
    return { unit, ms, flops: sum(steps, "flops"), read: sum(steps, "read"), written: sum(steps, "written") };
  });
}

/**
 * Exchange units between two inferences; packing their weights keeps the next one waiting.
 * @param {{plan: number, replacements: import("./types.js").Replacement[]}} request
 */
async function swap(request) {
  const start = performance.now();
  try {
    return await theDevice().swap(request);
  } finally {
    courtesy.took(start, performance.now());
  }
}

/** @type {Channel[]} to all clients */
const channels = [];

/** Whether the executor has nothing to do, and no message of a client is on its way. */
function mayBlock() {
  const received = channels.reduce((sum, channel) => (sum + channel.announced) | 0, 0);
  const idle = !busy || (resting && !courtesy.mayBegin(performance.now()));
  return idle && !urgent.length && !patient.length && !firstRuns.size && received === device?.laneHost?.bell.announced;
}

/** @param {() => boolean} awaited */
function prepareNext(awaited) {
  if (!busy) device?.prepareNext(awaited);
}

/** @param {Channel} channel */
function offerBell(channel) {
  if (lanes) channel.notify("bell", lanes.host.bell.offer);
}

/**
 * Serve a client: inferences by message or through a lane of its own, and what else it may ask for.
 * @param {any} port
 * @param {Record<string, import("./rpc.js").Handler>} [more]
 * @returns {Channel}
 */
function serve(port, more = {}) {
  /** @type {import("./lane-server.js").LaneServer | null} */
  let lane = null;
  const channel = new Channel(port, {
    run: async (/** @type {{inputs: Record<string, Tensor>, mayOpenLane: boolean}} */ { inputs, mayOpenLane }) => {
      lanes?.poll(); // What was asked before goes first.
      const bytes = lanes && mayOpenLane ? laneBytes(inputs) : null;
      if (lanes && bytes && (!lane || (lane.idle && lane.bytes < bytes))) lane = lanes.open(bytes, lane, answerInLane);
      const result = await run({ inputs });
      setTimeout(prepareNext, 0, () => urgent.length > 0);
      return movable(lane && !lane.used ? { ...result, lane: lane.offer } : result);
    },
    stats: () => theDevice().stats(),
    ...more,
  });
  channels.push(channel);
  /** @param {import("./lane-server.js").LaneServer} lane @param {import("./lane-server.js").LaneRequest} request */
  async function answerInLane(lane, { id, inputs, space }) {
    try {
      const result = await run({ inputs, space });
      if (!lane.answer(result)) channel.answer(id, movable(result));
    } catch (error) {
      lane.decline();
      channel.refuse(id, error);
    }
  }
  return channel;
}

/**
 * A result as a message moves it: outputs that were left in shared memory are copied out of it.
 * @param {{outputs: Record<string, Tensor>}} result
 */
function movable(result) {
  const outputs = Object.fromEntries(
    Object.entries(result.outputs).map(([name, output]) => {
      const shared = !(output.data.buffer instanceof ArrayBuffer);
      return [name, shared ? { ...output, data: output.data.slice() } : output];
    }),
  );
  return transferring(
    { ...result, outputs },
    Object.values(outputs).map(({ data }) => /** @type {ArrayBuffer} */ (data.buffer)),
  );
}

const compiler = serve(self, {
  open: async (/** @type {any} */ options) => {
    device = await openDevice(options);
    if (device.laneHost) lanes = new Lanes(device.laneHost, mayBlock, prepareNext);
    offerBell(compiler);
    return device.facts;
  },
  setSignature: (/** @type {Signature} */ given) => {
    signature = given;
  },
  setFiles: (/** @type {Record<string, ArrayBuffer | Blob>} */ files) => theDevice().setFiles(new WeightFiles(files)),
  addPlan,
  measure: (/** @type {any} */ request) => afterFirstRuns(() => theDevice().measure(request, request.background ? polite() : pause)),
  profile: (/** @type {any} */ request) => afterFirstRuns(() => profile(request)),
  microbench: (/** @type {any} */ probe) => afterFirstRuns(() => theDevice().microbench(probe, probe.background ? polite() : pause)),
  quiet: ({ ms }) => !firstRuns.size && performance.now() - courtesy.ended > ms,
  swap: (/** @type {any} */ request) => enqueue(patient, () => swap(request)),
  connect: (/** @type {{port: MessagePort}} */ { port }) => {
    offerBell(serve(port));
  },
  dispose: () => {
    device?.dispose();
    device = null;
    self.close();
  },
});
