/**
 * Where the models of a page are loaded, and their executors commanded from. Python, which compiles them, has a worker of
 * its own (compiler.worker.js), and is started when something needs it: a model of which no plan is kept, inputs that no
 * plan fits, a question about kernels. Where an earlier visit kept a plan, inferences begin without it; if that plan was
 * tuned to the end, nothing else is done, otherwise Python goes on tuning it, but starts only when inferences pause.
 */

import { CompilerClient } from "./compiler-client.js";
import { DeviceError } from "./errors.js";
import { startAhead } from "./executor.js";
import { ModelBytes } from "./model-bytes.js";
import { markAllUntuned } from "./plan-store.js";
import { Channel, transferring } from "./rpc.js";
import { Session } from "./session.js";
import { site } from "./site.js";

/** @typedef {import("./session.js").Progress} Progress */

const urls = {
  executor: new URL("executor.worker.js", import.meta.url).href,
  pool: new URL("pool.worker.js", import.meta.url).href,
  quarantine: new URL("quarantine.worker.js", import.meta.url).href,
};
startAhead(urls.executor);

/** Python that nobody waits for starts when no inference came for so long, ms, or when it has waited for so long. */
const QUIET_MS = 1000;
const PATIENCE_MS = 10_000;

/** @type {Map<number, Session>} */
const sessions = new Map();

/** @typedef {{tune: string, without: string[]}} HowToCompile */
/** Of each model, for when Python is to load it. @type {Map<number, HowToCompile>} */
const wishes = new Map();

/** What Python says of each model that it knows, or is about to. @type {Map<number, Promise<any>>} */
const loads = new Map();

/** What of Python's start is under way, and who wants to hear of it. */
let starting = "Python";
/** @type {Set<(progress: Progress) => void>} */
const listeners = new Set();

/** @param {number} id */
function sessionOf(id) {
  const session = sessions.get(id);
  if (!session) throw new DeviceError("The model was disposed of.");
  return session;
}

/** What the compiler asks for: see RemoteSession. @type {Record<string, import("./rpc.js").Handler>} */
const forCompiler = {
  ask: ({ id, method, args }) => /** @type {any} */ (sessionOf(id))[method](...args),

  lend: async ({ id }) => {
    const model = await sessionOf(id).modelBytes();
    return transferring(model.parts, model.buffers);
  },

  place: ({ id, signature, parts }) => sessionOf(id).place(signature, new ModelBytes(parts)),

  compiles: ({ id }) => sessions.get(id)?.useCompiler((inputs) => compiler.call("compile", { id, inputs })),

  progress: ({ id, progress }) => sessions.get(id)?.progress(progress),

  event: (event) => page.notify("event", event),

  starting: (message) => {
    starting = message;
    tellStart();
  },
};

const compiler = new CompilerClient(new URL("compiler.worker.js", import.meta.url), forCompiler, () => {
  starting = "Python";
  loads.clear();
});

function tellStart() {
  for (const listener of listeners) listener({ stage: "compiler", message: starting });
}

function startPython() {
  const { ready } = compiler.start();
  tellStart();
  return ready;
}

/**
 * Let Python, which is starting, compile something before it is asked to, if no inferences can be disturbed by that.
 * @param {import("./types.js").Facts | null} facts of the device, where it is known
 */
function warmUp(facts) {
  const others = [...sessions.values()].some(({ kept }) => kept);
  if (!others) compiler.running?.channel.notify("warmUp", { facts });
}

/**
 * Have Python know a model; after a failure, it is tried again.
 * @param {number} id
 * @returns {Promise<import("./inputs.js").Signature & {facts: import("./types.js").Facts}>}
 */
function loadInPython(id) {
  const known = loads.get(id);
  if (known) return known;
  const { name } = sessionOf(id);
  const tell = (/** @type {object} */ event) => sessions.has(id) && page.notify("event", { id, event });
  tell({ event: "compiler", status: "compiler" });
  startPython();
  const load = compiler.call("load", { id, name, .../** @type {HowToCompile} */ (wishes.get(id)) });
  loads.set(id, load);
  load.catch((error) => {
    if (loads.get(id) === load) loads.delete(id);
    tell({ event: "compiler", status: "failed", message: error.message });
  });
  return load;
}

/**
 * Let Python go on with a model whose inferences run already, as soon as it disturbs few of them.
 * @param {number} id
 */
async function loadWhenQuiet(id) {
  const latest = performance.now() + PATIENCE_MS;
  let quiet = false;
  while (!quiet && performance.now() < latest) {
    await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    const session = sessions.get(id);
    if (!session || loads.has(id) || wishes.get(id)?.tune === "off") return;
    quiet = await session.executor.quiet(QUIET_MS).catch(() => true);
  }
  if (sessions.has(id) && wishes.get(id)?.tune !== "off") loadInPython(id).catch(() => {});
}

const page = new Channel(/** @type {any} */ (self), {
  prepare: () => {
    const ready = startPython();
    warmUp(null);
    return ready;
  },

  load: async ({ id, options }) => {
    /** @param {Progress} progress */
    const onProgress = (progress) => page.notify("progress", { id, progress });
    const { tune, without = [] } = options;
    // What an incomplete code generator makes is not for others.
    const generator = without.length ? undefined : site.then((parts) => parts.generator).catch(() => undefined);
    const needPython = () => loadInPython(id);
    const session = new Session({ ...options, onProgress, generator, needPython }, urls);
    sessions.set(id, session);
    wishes.set(id, { tune, without });
    listeners.add(onProgress);
    try {
      if (!(await session.mayBeKept())) {
        startPython();
        session.opening.then(warmUp, () => {});
      }
      // What fails without Python fails at once.
      const kept = await session.startFromKept();
      if (kept) compiler.running?.channel.notify("endWarmUp");
      const tuned = session.kept?.tuned ?? false;
      const described = kept ? { ...kept, facts: await session.opening } : await loadInPython(id);
      const port = await session.executor.connect();
      if (kept && !tuned) void loadWhenQuiet(id);
      return transferring({ ...described, python: kept ? "off" : "on", tuned, port }, [port]);
    } catch (error) {
      session.dispose();
      throw error;
    } finally {
      listeners.delete(onProgress);
      startAhead(urls.executor);
    }
  },

  call: async ({ id, method, args }) => {
    const wish = wishes.get(id);
    if (wish && method === "pause_tuning" && !loads.has(id)) {
      wish.tune = "off";
      return;
    }
    await loadInPython(id);
    return compiler.call("call", { id, method, args });
  },

  exportKernels: () => compiler.call("exportKernels"),

  importKernels: async (args) => {
    const imported = await compiler.call("importKernels", args);
    await markAllUntuned();
    return imported;
  },

  leave: () => (compiler.running ? compiler.call("leave") : undefined),

  dispose: async ({ id }) => {
    sessions.get(id)?.dispose();
    wishes.delete(id);
    const load = loads.get(id);
    if (load) {
      // Python may still be loading it, behind a kept plan; only then does it know the model.
      await load.catch(() => {});
      loads.delete(id);
      if (compiler.running) await compiler.call("dispose", { id });
    }
    sessions.delete(id);
  },
});
