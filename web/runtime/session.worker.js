/**
 * Where the models of a page are loaded, and their executors commanded from. Python, which compiles them, has a worker of
 * its own (compiler.worker.js): the download, the start of a plan that an earlier visit kept, and inferences with it do
 * not wait for Python to start.
 */

import { DeviceError } from "./errors.js";
import { startAhead } from "./executor.js";
import { ModelBytes } from "./model-bytes.js";
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

/** @type {Map<number, Session>} */
const sessions = new Map();

/** @type {Map<number, Promise<any>>} what Python says of each model; with a kept plan, inferences do not wait for it */
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

/** @type {(port: MessagePort) => void} */
let connect = () => {};
/** To the compiler's worker. @type {Promise<Channel>} */
const compiler = new Promise((resolve) => {
  connect = (port) => resolve(new Channel(port, forCompiler));
});

/**
 * @param {string} method
 * @param {any} [args]
 */
async function callCompiler(method, args) {
  return (await compiler).call(method, args);
}

/** What the compiler asks for: see RemoteSession. @type {Record<string, import("./rpc.js").Handler>} */
const forCompiler = {
  ask: ({ id, method, args }) => /** @type {any} */ (sessionOf(id))[method](...args),

  lend: async ({ id }) => {
    const model = await sessionOf(id).modelBytes();
    return transferring(model.parts, model.buffers);
  },

  place: ({ id, signature, parts }) => sessionOf(id).place(signature, new ModelBytes(parts)),

  compiles: ({ id }) => sessions.get(id)?.useCompiler((inputs) => callCompiler("compile", { id, inputs })),

  progress: ({ id, progress }) => sessions.get(id)?.progress(progress),

  event: (event) => page.notify("event", event),

  starting: (message) => {
    starting = message;
    for (const listener of listeners) listener({ stage: "compiler", message });
  },
};

const page = new Channel(/** @type {any} */ (self), {
  connect: ({ port }) => connect(port),

  ready: () => callCompiler("ready"),

  load: async ({ id, options }) => {
    /** @param {Progress} progress */
    const onProgress = (progress) => page.notify("progress", { id, progress });
    const { tune, without = [] } = options;
    // What an incomplete code generator makes is not for others.
    const generator = without.length ? undefined : site.then((parts) => parts.generator).catch(() => undefined);
    const session = new Session({ ...options, onProgress, generator }, urls);
    sessions.set(id, session);
    onProgress({ stage: "compiler", message: starting });
    listeners.add(onProgress);
    try {
      // What fails without Python fails at once.
      const kept = await session.startFromKept();
      const loading = callCompiler("load", { id, name: session.name, tune, without });
      loads.set(id, loading);
      if (kept) loading.catch(session.failCompiler);
      const described = kept ? { ...kept, facts: await session.opening } : await loading;
      const port = await session.executor.connect();
      return transferring({ ...described, port }, [port]);
    } catch (error) {
      session.dispose();
      throw error;
    } finally {
      listeners.delete(onProgress);
      startAhead(urls.executor);
    }
  },

  call: async ({ id, method, args }) => {
    await loads.get(id);
    return callCompiler("call", { id, method, args });
  },

  exportKernels: () => callCompiler("exportKernels"),

  importKernels: (args) => callCompiler("importKernels", args),

  leave: () => callCompiler("leave"),

  dispose: async ({ id }) => {
    sessions.get(id)?.dispose();
    // Python may still be loading it, behind a kept plan; only then does it know the model.
    await loads.get(id)?.catch(() => {});
    loads.delete(id);
    await callCompiler("dispose", { id });
    sessions.delete(id);
  },
});
