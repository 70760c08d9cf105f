/**
 * The compiler of a page: Pyodide, numpy and the nnjit wheel, shared by all models of the page. A model's download and
 * its executor start at once, while Python may still be starting.
 */

import { errorFromPlain, NnjitError } from "./errors.js";
import { startAhead } from "./executor.js";
import * as kernelStore from "./kernel-store.js";
import { Channel, transferring } from "./rpc.js";
import { Session } from "./session.js";

/** @typedef {import("./session.js").Progress} Progress */

const urls = {
  executor: new URL("executor.worker.js", import.meta.url).href,
  pool: new URL("pool.worker.js", import.meta.url).href,
  quarantine: new URL("quarantine.worker.js", import.meta.url).href,
};

/** @type {Map<number, Session>} */
const sessions = new Map();

/** @type {Map<number, Promise<any>>} what Python says of each model; with a kept plan, inferences do not wait for it */
const loads = new Map();

/** Progress of the start, and who wants to hear of it. */
let starting = "Python";
/** @type {Set<(progress: Progress) => void>} */
const listeners = new Set();

/** @param {string} message */
function report(message) {
  starting = message;
  for (const listener of listeners) listener({ stage: "compiler", message });
}

/** Where the parts of the site are. */
const siteUrl = new URL("site.json", import.meta.url);
const site = fetchOrThrow(siteUrl).then((response) => response.json());
site.catch(() => {});

/** The kernel file that the site ships; a site may have none. @type {Promise<string>} */
const sharedKernels = site
  .then(({ kernels }) => (kernels ? fetchOrThrow(new URL(kernels, siteUrl)) : null))
  .then((response) => response?.text() ?? "")
  .catch((error) => {
    console.warn(`Kernels that others tuned are not used: ${error.message}`);
    return "";
  });

/**
 * Start Python and import the compiler.
 * @returns {Promise<any>} the Python module nnjit.runtime.page
 */
async function startPython() {
  const parts = await site;
  const indexURL = new URL(parts.pyodide, siteUrl).href;
  const wheel = fetchOrThrow(new URL(parts.wheel, siteUrl)).then((response) => response.arrayBuffer());
  wheel.catch(() => {});
  const { loadPyodide } = await import(new URL("pyodide.mjs", indexURL).href);
  const pyodide = await loadPyodide({ indexURL, packages: ["numpy"] });
  report("nnjit");
  pyodide.unpackArchive(await wheel, "wheel");
  const page = pyodide.pyimport("nnjit.runtime.page");
  listeners.clear();
  return page;
}

/** @param {URL} url */
async function fetchOrThrow(url) {
  const response = await fetch(url);
  if (!response.ok) throw new NnjitError(`${url}: the server answered ${response.status}; the site is incomplete.`);
  return response;
}

startAhead(urls.executor);
const python = startPython();
python.catch(() => {});

/**
 * Call a function of nnjit.runtime.page; it answers with JSON: {"result"} or {"error"}.
 * @param {string} name
 * @param {...any} args
 */
async function callPython(name, ...args) {
  const answer = JSON.parse(await (await python)[name](...args));
  if (answer.error) throw errorFromPlain(answer.error);
  return answer.result;
}

const page = new Channel(/** @type {any} */ (self), {
  ready: async () => {
    await python;
  },

  load: async ({ id, options }) => {
    /** @param {Progress} progress */
    const onProgress = (progress) => page.notify("progress", { id, progress });
    // What an incomplete code generator makes is not for others.
    const complete = !options.without?.length;
    const generator = complete ? site.then((parts) => parts.generator).catch(() => undefined) : undefined;
    const session = new Session({ ...options, onProgress, sharedKernels, generator }, urls);
    sessions.set(id, session);
    onProgress({ stage: "compiler", message: starting });
    listeners.add(onProgress);
    try {
      // What fails without Python fails at once.
      const kept = await session.startFromKept();
      const onEvent = (/** @type {string} */ json) => page.notify("event", { id, event: JSON.parse(json) });
      const loading = callPython("load", id, session, options.tune, (options.without ?? []).join(" "), onEvent);
      loads.set(id, loading);
      if (kept) loading.catch(session.failCompiler);
      const described = kept ? { ...kept, facts: await session.opening } : await loading;
      const port = await session.executor.connect();
      return transferring({ ...described, port }, [port]);
    } catch (error) {
      session.dispose();
      sessions.delete(id);
      throw error;
    } finally {
      listeners.delete(onProgress);
      startAhead(urls.executor);
    }
  },

  call: async ({ id, method, args }) => {
    await loads.get(id);
    return callPython("call", id, method, JSON.stringify(args));
  },

  exportKernels: () => callPython("export_kernels", kernelStore),

  importKernels: ({ text }) => callPython("import_kernels", kernelStore, text),

  leave: () => callPython("keep_findings"),

  dispose: async ({ id }) => {
    sessions.get(id)?.dispose();
    sessions.delete(id);
    // Python may still be loading it, behind a kept plan; only then does it know the model.
    await loads.get(id)?.catch(() => {});
    loads.delete(id);
    await callPython("dispose", id);
  },
});
