/**
 * The compiler of a page: Pyodide, numpy and the nnjit wheel, shared by all models of the page. It serves
 * session.worker.js, which starts it.
 */

import { errorFromPlain } from "./errors.js";
import * as kernelStore from "./kernel-store.js";
import { RemoteSession } from "./remote-session.js";
import { Channel } from "./rpc.js";
import { fetchOrThrow, site, siteUrl } from "./site.js";
import { WarmUp } from "./warm-up.js";

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
  channel.notify("starting", "nnjit");
  pyodide.unpackArchive(await wheel, "wheel");
  return pyodide.pyimport("nnjit.runtime.page");
}

const python = startPython();
python.catch(() => {});

/**
 * Call a function of nnjit.runtime.page; it answers with JSON: {"result"} or {"error"}.
 * @param {string} name
 * @param {...any} args
 */
async function callPython(name, ...args) {
  const answer = JSON.parse(await warmUp.interrupted(async () => (await python)[name](...args)));
  if (answer.error) throw errorFromPlain(answer.error);
  return answer.result;
}

/** @type {Map<number, RemoteSession>} */
const sessions = new Map();

/** What is compiled without being asked for, as long as nothing is: a first model after which tuning goes on ends it. */
const warmUp = new WarmUp(
  async (facts) => (await python).warming(facts),
  () => [...sessions.values()].some(({ compiled }) => compiled),
);

const channel = new Channel(/** @type {any} */ (self), {
  ready: async () => {
    await python;
  },

  load: ({ id, name, tune, without }) => {
    const session = new RemoteSession(channel, id, name, sharedKernels);
    sessions.set(id, session);
    const onEvent = (/** @type {string} */ json) => channel.notify("event", { id, event: JSON.parse(json) });
    return callPython("load", id, session, tune, without.join(" "), onEvent);
  },

  compile: ({ id, inputs }) => warmUp.interrupted(async () => sessions.get(id)?.compile?.(inputs)),

  warmUp: ({ facts }) => void warmUp.run(facts),

  endWarmUp: () => warmUp.end(),

  call: ({ id, method, args }) => callPython("call", id, method, JSON.stringify(args)),

  exportKernels: () => callPython("export_kernels", kernelStore),

  importKernels: ({ text }) => callPython("import_kernels", kernelStore, text),

  leave: () => callPython("keep_findings"),

  dispose: async ({ id }) => {
    await callPython("dispose", id);
    sessions.delete(id);
  },
});
