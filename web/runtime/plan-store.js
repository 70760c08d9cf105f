/**
 * The latest plan of each model, kept from one visit to the next: with it the first inference of a later visit waits for
 * the model's file, not for Python. A plan belongs to the bytes of its model, to what was found about the device, and to
 * the compiler that made it; its key says all three, so that a plan of anything else is never found.
 */

import { read, remove, write } from "./kernel-store.js";

/** @typedef {string[]} PlanKey */
/**
 * @typedef {object} KeptPlan
 * @property {import("./inputs.js").Signature} signature what the model declares
 * @property {import("./model-bytes.js").Read[]} reads what Python reads of the model
 * @property {string} inputs JSON of the descriptions of the inputs that it was compiled for
 * @property {string} json
 * @property {Uint8Array[]} blobs
 */

/** Plans are kept of so many models. */
const MOST = 16;

/** Under this key: JSON of [key, bytes of the model] of each kept plan, the latest last. */
const INDEX = "plans";

/**
 * @param {string} hash of the model file
 * @param {import("./types.js").Facts} facts
 * @param {string} generator names the compiler's version
 * @returns {PlanKey}
 */
export function keyOf(hash, facts, generator) {
  return ["plan", hash, JSON.stringify({ ...facts, notes: [] }), generator];
}

/**
 * Whether a plan is kept of some model of this size: if not, there is no use in waiting for the hash of one.
 * @param {number} bytes
 */
export async function hasPlanOfSize(bytes) {
  return (await index()).some(([, size]) => size === bytes);
}

/**
 * @param {PlanKey} key
 * @returns {Promise<KeptPlan | null>}
 */
export async function recallPlan(key) {
  const found = JSON.parse(await read(...key))[0];
  if (!found) return null;
  const { reads, blobs, ...rest } = JSON.parse(found[1]);
  const decoded = reads.map((/** @type {[number, string]} */ [offset, text]) => [offset, fromBase64(text)]);
  return { ...rest, reads: decoded, blobs: blobs.map(fromBase64) };
}

/**
 * Keep a plan, in place of an older one under its key.
 * @param {PlanKey} key
 * @param {number} bytes of the model
 * @param {KeptPlan} plan
 */
export async function keepPlan(key, bytes, plan) {
  const reads = plan.reads.map(([offset, bytes]) => [offset, toBase64(bytes)]);
  const text = JSON.stringify({ ...plan, reads, blobs: plan.blobs.map(toBase64) });
  const entries = (await index()).filter(([other]) => !same(other, key));
  entries.push([key, bytes]);
  for (const [old] of entries.splice(0, entries.length - MOST)) await remove(...old);
  await write(JSON.stringify([[key, text], [[INDEX], JSON.stringify(entries)]]));
}

/** @param {PlanKey} key */
export async function forgetPlan(key) {
  await write(JSON.stringify([[[INDEX], JSON.stringify((await index()).filter(([other]) => !same(other, key)))]]));
  await remove(...key);
}

/** @returns {Promise<[PlanKey, number][]>} */
async function index() {
  const found = JSON.parse(await read(INDEX))[0];
  return found ? JSON.parse(found[1]) : [];
}

/** @param {PlanKey} a @param {PlanKey} b */
function same(a, b) {
  return a.every((part, i) => part === b[i]);
}

/** Bytes of a piece whose length in base64 needs no padding. */
const PIECE = 3 * 4096;

/** @param {Uint8Array} bytes */
function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += PIECE) text += btoa(String.fromCharCode(...bytes.subarray(at, at + PIECE)));
  return text;
}

/** @param {string} text */
function fromBase64(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}
