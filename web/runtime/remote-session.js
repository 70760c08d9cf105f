/**
 * A `Session` as Python sees it from its own worker: the same methods, answered by the worker that loads models. Python
 * blocks its worker for seconds at a time; what loading and inferences wait for goes on in the other one.
 */

import * as store from "./kernel-store.js";
import { ModelBytes } from "./model-bytes.js";

/** @typedef {import("./rpc.js").Channel} Channel */

export class RemoteSession {
  /**
   * @param {Channel} channel to session.worker.js
   * @param {number} id of the model
   * @param {string} name what messages call the model
   * @param {Promise<string>} shared the kernel file that the site ships, or an empty text
   */
  constructor(channel, id, name, shared) {
    this.channel = channel;
    this.id = id;
    this.name = name;
    this.shared = shared;
    /** What this browser remembers of tuning. */
    this.store = store;
    /** @type {ModelBytes | null} while Python reads it */
    this.model = null;
    /** @type {((json: string) => Promise<string>) | null} */
    this.compile = null;
    /** Whether Python has compiled it, for some inputs. */
    this.compiled = false;
  }

  /** @param {(json: string) => Promise<string>} compile see Session */
  useCompiler(compile) {
    this.compile = compile;
    this.channel.notify("compiles", { id: this.id });
  }

  /** @param {import("./session.js").Progress} progress */
  progress(progress) {
    this.channel.notify("progress", { id: this.id, progress });
  }

  /**
   * @param {string} method of Session
   * @param {...any} args
   * @returns {Promise<any>}
   */
  ask(method, ...args) {
    return this.channel.call("ask", { id: this.id, method, args });
  }

  facts() {
    return this.ask("facts");
  }

  sharedKernels() {
    return this.shared;
  }

  /** The model file moves here, unless the executor has it. @returns {Promise<ModelBytes>} */
  async modelBytes() {
    this.model = new ModelBytes(await this.channel.call("lend", { id: this.id }));
    return this.model;
  }

  /** @param {string} names */
  fetchExternalData(names) {
    return this.ask("fetchExternalData", names);
  }

  /** The model file moves back. @param {string} signature */
  place(signature) {
    const model = /** @type {ModelBytes} */ (this.model);
    this.model = null;
    return this.channel.call("place", { id: this.id, signature, parts: model.parts }, model.buffers);
  }

  keptInputs() {
    return this.ask("keptInputs");
  }

  /** @param {string} json @param {Uint8Array[]} blobs */
  addPlan(json, blobs) {
    this.compiled = true;
    return this.ask("addPlan", json, blobs);
  }

  /** @param {string} json @param {Uint8Array[]} blobs @param {string} inputs */
  keepPlan(json, blobs, inputs) {
    return this.ask("keepPlan", json, blobs, inputs);
  }

  markTuned() {
    return this.ask("markTuned");
  }

  /** @param {string} key */
  keepJournal(key) {
    return this.ask("keepJournal", key);
  }

  /** @param {string} request @param {string[]} candidates @param {Uint8Array[][]} blobs */
  measure(request, candidates, blobs) {
    return this.ask("measure", request, candidates, blobs);
  }

  /** @param {number} plan @param {number[]} units @param {string[]} candidates @param {Uint8Array[][]} blobs */
  swap(plan, units, candidates, blobs) {
    return this.ask("swap", plan, units, candidates, blobs);
  }

  /** @param {number} plan @param {number} repeat @param {boolean} background */
  profile(plan, repeat, background) {
    return this.ask("profile", plan, repeat, background);
  }

  /** @param {string} probe @param {Uint8Array[]} blobs @param {boolean} background */
  microbench(probe, blobs, background) {
    return this.ask("microbench", probe, blobs, background);
  }

  stats() {
    return this.ask("stats");
  }

  /** Python is done with the model; inferences may go on without it. */
  dispose() {
    this.model = null;
  }
}
