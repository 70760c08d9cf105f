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
 * @property {Record<string, string>} external hash of each file of external data, by the location that the model gives
 * @property {string} inputs JSON of the descriptions of the inputs that it was compiled for
 * @property {string} json
 * @property {Uint8Array[]} blobs
 */

/** Plans are kept of so many models. */
const MOST = 16;

/**
 * Under this key: JSON of [key, bytes of the model, about] of each kept plan, the latest last.
 * @typedef {{from?: string, tuned?: boolean}} About where the model came from; whether tuning found nothing left to try
 * @typedef {[PlanKey, number, About]} Entry
 */
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

/** Whether a plan is kept of any model. */
export async function hasPlans() {
  return (await index()).length > 0;
}

/**
 * Whether a plan is kept of some model of this size: if not, there is no use in waiting for the hash of one.
 * @param {number} bytes
 */
export async function hasPlanOfSize(bytes) {
  return (await index()).some(([, size]) => size === bytes);
}

/**
 * Whether a plan is kept of a model that came from there, whatever is there now.
 * @param {string} url
 */
export async function hasPlanFrom(url) {
  return (await index()).some(([, , { from }]) => from === url);
}

/**
 * @param {PlanKey} key
 * @returns {Promise<(KeptPlan & {tuned: boolean}) | null>} `tuned`: whether `markTuned` said so
 */
export async function recallPlan(key) {
  const [found, entries] = await Promise.all([read(...key).then((text) => JSON.parse(text)[0]), index()]);
  if (!found) return null;
  const tuned = entries.some(([other, , about]) => same(other, key) && about.tuned);
  const { reads, blobs, ...rest } = JSON.parse(found[1]);
  const decoded = reads.map((/** @type {[number, string]} */ [offset, text]) => [offset, fromBase64(text)]);
  return { external: {}, ...rest, reads: decoded, blobs: blobs.map(fromBase64), tuned };
}

/** The latest change of what is kept: each reads the index and writes it again, so that they may not overlap. */
let change = Promise.resolve();

/**
 * @param {() => Promise<any>} work
 * @returns {Promise<void>}
 */
function inTurn(work) {
  const done = change.then(work);
  change = done.catch(() => {});
  return done;
}

/**
 * Keep a plan, in place of an older one under its key.
 * @param {PlanKey} key
 * @param {number} bytes of the model
 * @param {string} from where it came from
 * @param {KeptPlan} plan
 */
export function keepPlan(key, bytes, from, plan) {
  return inTurn(async () => {
    const reads = plan.reads.map(([offset, bytes]) => [offset, toBase64(bytes)]);
    const text = JSON.stringify({ ...plan, reads, blobs: plan.blobs.map(toBase64) });
    const entries = (await index()).filter(([other]) => !same(other, key));
    entries.push([key, bytes, { from }]);
    for (const [old] of entries.splice(0, entries.length - MOST)) await remove(...old);
    await write(JSON.stringify([[key, text], indexRecord(entries)]));
  });
}

/**
 * Tuning found nothing left to try for the kept plan.
 * @param {PlanKey} key
 */
export function markTuned(key) {
  return inTurn(async () => {
    const entries = await index();
    await writeIndex(entries.map((entry) => (same(entry[0], key) ? about(entry, { tuned: true }) : entry)));
  });
}

/** There may be something to try again, for any model. */
export function markAllUntuned() {
  return inTurn(async () => writeIndex((await index()).map((entry) => about(entry, { tuned: false }))));
}

/** @param {PlanKey} key */
export function forgetPlan(key) {
  return inTurn(async () => {
    await writeIndex((await index()).filter(([other]) => !same(other, key)));
    await remove(...key);
  });
}

/** @param {Entry} entry @param {About} news @returns {Entry} */
function about([key, bytes, known], news) {
  return [key, bytes, { ...known, ...news }];
}

/** @returns {Promise<Entry[]>} */
async function index() {
  const found = JSON.parse(await read(INDEX))[0];
  /** @type {[PlanKey, number, About?][]} */
  const entries = found ? JSON.parse(found[1]) : [];
  return entries.map(([key, bytes, known = {}]) => [key, bytes, known]);
}

/** @param {Entry[]} entries @returns {[string[], string]} */
function indexRecord(entries) {
  return [[INDEX], JSON.stringify(entries)];
}

/** @param {Entry[]} entries */
function writeIndex(entries) {
  return write(JSON.stringify([indexRecord(entries)]));
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
