/**
 * The page of the bench: contestants side by side, driven by bench/remote.py, which can only pass JSON.
 *
 * A contestant is a module (ours.js, ort-web.js, …) that exports
 *
 *     start(setup)   → Promise<Runtime>   bring the library up, threads and a first tiny model included
 *     Runtime.create(task) → Promise<Session>
 *     Session.run(inputs)  → Promise<{outputs, ms?}>   typed arrays in, typed arrays out; ms: what the device took
 *     Session.outputs?(outputs)                        the same in ONNX's layout, where the library has another one
 *     Session.dispose()
 *     Runtime.facts()      → Promise<object>           peakBytes, if it is known better than by the Wasm memories made
 *
 * with setup = {root, assets, places, entry, device, threads, tiny} (see Arena in match.py) and task = {url, operator}; `operator` describes a single operator
 * for a contestant that does not read ONNX. A contestant that cannot do something throws an Error that says so.
 */

import * as background from "./background.js";
import { watchMemories } from "./memories.js";
import { encode, fetchTensors } from "./tensors.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */
/** @typedef {{data: any, dims: readonly number[], type: string}} Output */
/** @typedef {{run: (inputs: Record<string, Tensor>) => Promise<{outputs: Record<string, Output>, ms?: number}>,
 *   outputs?: (outputs: Record<string, Output>) => Record<string, Output>, tune?: (seconds: number) => Promise<any>,
 *   report?: () => Promise<any>, timings?: () => Promise<Record<string, number>>, kernelMs?: (repeat: number) => Promise<number>, events?: {at: number, status: string}[], pause?: () => Promise<void>,
 *   resume?: () => Promise<void>, dispose: () => unknown}} Session */
/** @typedef {{create: (task: any) => Promise<Session>, facts?: () => Promise<any>}} Runtime */
/** @typedef {{runtime: Runtime | null, session: Session | null, outputs: Record<string, Output>, inputs: Record<string, Tensor>}} Contestant */

const WARM_RUNS = [3, 20];
const WARM_MS = 4000;

/** A turn goes on for so long, ms; short inferences come many in a row. */
const TURN_MS = 20;

const memories = watchMemories();
/** @type {Map<string, Contestant>} */
const contestants = new Map();

/** @param {string} name @returns {Contestant} */
function contestant(name) {
  const found = contestants.get(name);
  if (!found) throw new Error(`${name} was not started`);
  memories.owner = name;
  return found;
}

/** @param {string} name @returns {Session} */
function sessionOf(name) {
  const { session } = contestant(name);
  if (!session) throw new Error(`${name} has no model`);
  return session;
}

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One inference of `name`. @param {string} name @returns {Promise<{wall: number, device: number | null}>} */
async function inference(name) {
  const one = contestant(name);
  const session = sessionOf(name);
  const begin = performance.now();
  const { outputs, ms } = await session.run(one.inputs);
  const wall = performance.now() - begin;
  one.outputs = outputs;
  return { wall, device: ms ?? null };
}

/**
 * A turn of `name`: after a pause, in which the others' threads come to rest, inferences without a break, of which the
 * quickest counts. The pause itself costs those with threads more than their work: the Linux of an idle virtual machine
 * likes to wake two of them on one core, and takes some milliseconds to notice.
 * @param {string} name
 * @param {number} pauseMs
 */
async function turn(name, pauseMs) {
  await sleep(pauseMs);
  const end = performance.now() + TURN_MS;
  let best = await inference(name);
  while (performance.now() < end) {
    const next = await inference(name);
    if (next.wall < best.wall) best = next;
  }
  return best;
}

/** Run until the time stops falling. @param {string} name */
async function warm(name) {
  const end = performance.now() + WARM_MS;
  let best = Infinity;
  let stale = 0;
  for (let runs = 0; runs < WARM_RUNS[1] && stale < WARM_RUNS[0]; runs++) {
    const { wall } = await inference(name);
    stale = wall < 0.95 * best ? 0 : stale + 1;
    best = Math.min(best, wall);
    if (runs + 1 >= WARM_RUNS[0] && performance.now() > end) return;
  }
}

const page = {
  /**
   * Bring a contestant's library up; milliseconds that it took.
   * @param {string} name
   * @param {string} module
   * @param {object} setup
   */
  async start(name, module, setup) {
    contestants.set(name, { runtime: null, session: null, outputs: {}, inputs: {} });
    const one = contestant(name);
    const begin = performance.now();
    const { start } = await import(module);
    one.runtime = await start(setup);
    return performance.now() - begin;
  },

  /**
   * Give a contestant its model and, untimed, the inputs.
   * @param {string} name
   * @param {{url: string, operator: any, inputs: Record<string, {url: string, dims: number[], type: string}>}} task
   */
  async create(name, task) {
    const one = contestant(name);
    one.inputs = await fetchTensors(task.inputs);
    memories.owner = name;
    const begin = performance.now();
    one.session = await /** @type {Runtime} */ (one.runtime).create(task);
    return performance.now() - begin;
  },

  /** The first inference; milliseconds. @param {string} name */
  async first(name) {
    return (await inference(name)).wall;
  },

  /** Warm a contestant up alone, so that its failure is its own. @param {string} name */
  async warm(name) {
    await warm(name);
  },

  /**
   * Times of `repeat` turns of each, which start with another contestant each time.
   * @param {string[]} names
   * @param {number} repeat
   * @param {number} pauseMs
   */
  async alternate(names, repeat, pauseMs) {
    /** @type {Record<string, {wall: number[], device: (number | null)[]}>} */
    const samples = Object.fromEntries(names.map((name) => [name, { wall: [], device: [] }]));
    for (let round = 0; round < repeat; round++) {
      for (let n = 0; n < names.length; n++) {
        const name = names[(round + n) % names.length];
        const { wall, device } = await turn(name, pauseMs);
        samples[name].wall.push(wall);
        samples[name].device.push(device);
      }
    }
    return samples;
  },

  /** @param {string} name @param {number} seconds */
  async tune(name, seconds) {
    const begin = performance.now();
    await sessionOf(name).tune?.(seconds);
    return (performance.now() - begin) / 1000;
  },

  /**
   * Milliseconds of the kernels of each of ours, by `repeat` profiles in turns that start with another one each time.
   * @param {string[]} names
   * @param {number} repeat
   */
  async kernels(names, repeat) {
    /** @type {Record<string, (number | undefined)[]>} */
    const samples = Object.fromEntries(names.map((name) => [name, []]));
    for (let round = 0; round < repeat; round++) {
      for (let n = 0; n < names.length; n++) {
        const name = names[(round + n) % names.length];
        samples[name].push(await sessionOf(name).kernelMs?.(1));
      }
    }
    return samples;
  },

  /** Milliseconds of the parts of loading one of ours. @param {string} name */
  async timings(name) {
    return await sessionOf(name).timings?.();
  },

  /** Latencies while `name` tunes itself, beside `untuned`: see background.js. @param {string} name @param {string} untuned
   * @param {number} seconds */
  async curve(name, untuned, seconds) {
    return await background.curve(sessionOf(name), () => inference(name), () => inference(untuned), seconds);
  },

  /** See visit.js. @param {any} visited @param {number} tune */
  async visit(visited, tune) {
    const { visit } = await import("./visit.js");
    return await visit(visited, tune);
  },

  /** Open the page anew; the answer is the new page's. */
  reload() {
    location.reload();
    return new Promise(() => {});
  },

  /** The last inference's outputs, their bytes in base64. @param {string} name */
  async outputs(name) {
    const { outputs } = contestant(name);
    return await encode(sessionOf(name).outputs?.(outputs) ?? outputs);
  },

  /** What is known about a contestant after its runs. @param {string} name */
  async facts(name) {
    const { runtime, session } = contestant(name);
    const said = { ...(await runtime?.facts?.()), ...(await session?.report?.()) };
    return { peakBytes: memories.bytes(name), ...said };
  },

  /** @param {string} name */
  async dispose(name) {
    const one = contestant(name);
    await one.session?.dispose();
    one.session = null;
    one.outputs = {};
  },

  /**
   * See ceilings.js.
   * @param {"fma" | "copy"} what
   * @param {object} options
   */
  async ceiling(what, options) {
    const ceilings = await import("./ceilings.js");
    return await ceilings[what](options);
  },

  /**
   * See space.js.
   * @param {"open" | "microbench" | "place" | "measure" | "profile"} what
   * @param {any[]} parameters
   */
  async space(what, ...parameters) {
    const space = await import("./space.js");
    const method = /** @type {(...parameters: any[]) => Promise<unknown>} */ (space[what]);
    return await method(...parameters);
  },
};

/**
 * A function of the page: { value }, or { failure } with the message of what it threw.
 * @param {keyof typeof page} name
 * @param {any[]} parameters
 */
async function call(name, parameters) {
  try {
    const method = /** @type {(...parameters: any[]) => Promise<unknown>} */ (page[name]);
    return { value: (await method(...parameters)) ?? null };
  } catch (error) {
    return { failure: error instanceof Error ? error.message || String(error) : String(error) };
  }
}

/** Take calls from bench/remote.py: the body of a request is the last call's answer, the response is the next call. */
async function serve() {
  const channel = /** @type {string} */ (new URLSearchParams(location.search).get("channel"));
  /** @type {object | null} */
  let answer = { value: "ready" };
  for (;;) {
    const response = await fetch(channel, { method: "POST", body: JSON.stringify(answer) });
    const next = await response.json();
    answer = next && (await call(next[0], next[1]));
  }
}

serve();
