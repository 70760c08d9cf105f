/** The executor's end of the lanes: see lane.js. */

import { ARRAYS, HEADER_BYTES, OUTPUT_BYTES, readText, WORDS, writeText } from "./lane.js";
import { alignUp } from "./placement.js";

/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {import("./lane.js").LaneOffer} LaneOffer */
/** @typedef {import("./lane.js").Entry} Entry */
/** @typedef {{id: number, inputs: Record<string, Tensor>, space: Space}} LaneRequest */
/** @typedef {import("./types.js").Space} Space */

/** One lane. */
export class LaneServer {
  /**
   * @param {LaneOffer} offer
   * @param {(lane: LaneServer, request: LaneRequest) => Promise<void>} serve called for each request
   */
  constructor(offer, serve) {
    this.offer = offer;
    this.serve = serve;
    this.buffer = offer.memory.buffer;
    this.words = new Int32Array(this.buffer, offer.address, HEADER_BYTES / 4);
    this.words.fill(0);
    /** Number of the latest request that was taken. */
    this.taken = 0;
    this.text = 0;
    /** @type {Record<string, Tensor>} of the latest request; they are views of the lane */
    this.inputs = {};
    this.answerText = "";
  }

  get bytes() {
    return this.offer.bytes;
  }

  /** Whether the client has it. */
  get used() {
    return Atomics.load(this.words, WORDS.REQUEST) !== 0;
  }

  /** Whether every request has been answered. */
  get idle() {
    return Atomics.load(this.words, WORDS.REQUEST) === Atomics.load(this.words, WORDS.ANSWER);
  }

  /**
   * The request that waits, or null; it is then under way until `answer` or `decline`.
   * @returns {LaneRequest | null}
   */
  take() {
    const { words, offer } = this;
    const number = Atomics.load(words, WORDS.REQUEST);
    if (number === this.taken) return null;
    this.taken = number;
    if (words[WORDS.REQUEST_TEXT] !== this.text) {
      this.text = words[WORDS.REQUEST_TEXT];
      const text = readText(this.buffer, offer.address + HEADER_BYTES, words[WORDS.REQUEST_UNITS]);
      this.inputs = Object.fromEntries(
        /** @type {Entry[]} */ (JSON.parse(text)).map(([name, type, dims, array, length, offset]) => {
          const data = new (ARRAYS.get(array))(this.buffer, offer.address + offset, length);
          return [name, { data, dims, type: /** @type {string} */ (type ?? undefined) }];
        }),
      );
    }
    const start = offer.address + words[WORDS.REQUEST_END];
    const end = Math.min(start + OUTPUT_BYTES, offer.address + offer.bytes);
    return { id: words[WORDS.ID], inputs: this.inputs, space: { start, end } };
  }

  /**
   * Answer the request that was taken.
   * @param {{outputs: Record<string, Tensor>, ms: number, plan: number}} result
   * @returns {boolean} false when it does not lie in the lane, or its text has no room: answer with a message
   */
  answer({ outputs, ms, plan }) {
    const { words, offer, buffer } = this;
    /** @type {Entry[]} */
    const entries = [];
    let end = words[WORDS.REQUEST_END];
    for (const [name, { data, dims, type }] of Object.entries(outputs)) {
      if (!(data.buffer instanceof SharedArrayBuffer)) return this.decline();
      const offset = data.byteOffset - offer.address;
      end = Math.max(end, offset + data.byteLength);
      entries.push([name, type, dims, data.constructor.name, data.length, offset]);
    }
    const text = JSON.stringify({ plan, outputs: entries });
    const at = alignUp(end);
    if (at + 2 * text.length > offer.bytes) return this.decline();
    if (text !== this.answerText || at !== words[WORDS.ANSWER_OFFSET] || words[WORDS.ANSWER_TEXT] < words[WORDS.REQUEST_TEXT]) {
      writeText(buffer, offer.address + at, text);
      this.answerText = text;
      words[WORDS.ANSWER_OFFSET] = at;
      words[WORDS.ANSWER_UNITS] = text.length;
      words[WORDS.ANSWER_TEXT] = this.taken;
    }
    new Float64Array(buffer, offer.address + 4 * WORDS.MS, 1)[0] = ms;
    this.finish(1);
    return true;
  }

  /** Leave the answer to a message. @returns {false} */
  decline() {
    this.finish(0);
    return false;
  }

  /** @param {number} inLane */
  finish(inLane) {
    this.words[WORDS.IN_LANE] = inLane;
    Atomics.store(this.words, WORDS.ANSWER, this.taken);
    Atomics.notify(this.words, WORDS.ANSWER);
  }
}

/** Milliseconds for which the executor waits for the next request, blocked: longer than a frame of video or audio. */
const DOZE_MS = 100;

/** All lanes of a device. */
export class Lanes {
  /**
   * @param {import("./types.js").LaneHost} host
   * @param {() => boolean} mayBlock whether nothing but the bell can bring work now
   * @param {(awaited: () => boolean) => void} prepare called before the executor blocks: see `Device.prepareNext`
   */
  constructor(host, mayBlock, prepare) {
    this.host = host;
    this.prepare = prepare;
    this.mayBlock = mayBlock;
    /** @type {Set<LaneServer>} */
    this.lanes = new Set();
    /** Whether the event loop listens to the bell. */
    this.listening = false;
  }

  /**
   * A lane of at least `bytes`.
   * @param {number} bytes
   * @param {LaneServer | null} old of the same client, idle; given back
   * @param {(lane: LaneServer, request: LaneRequest) => Promise<void>} serve
   */
  open(bytes, old, serve) {
    if (old) {
      this.lanes.delete(old);
      this.host.closeLane(old.offer);
    }
    const lane = new LaneServer(this.host.openLane(bytes), serve);
    this.lanes.add(lane);
    this.listen();
    return lane;
  }

  /** Serve the requests that wait. @returns {boolean} whether there were any */
  poll() {
    let found = false;
    for (const lane of this.lanes) {
      const request = lane.take();
      if (!request) continue;
      found = true;
      lane.serve(lane, request).then(() => this.rest());
    }
    return found;
  }

  /** Wait for the next request: for a while blocked, if that keeps nothing else waiting, then in the event loop. */
  rest() {
    const { bell } = this.host;
    const end = performance.now() + DOZE_MS;
    for (;;) {
      const { rung } = bell;
      if (this.poll()) return;
      const left = end - performance.now();
      if (left <= 0 || this.listening || !this.mayBlock()) break;
      this.prepare(() => bell.rung !== rung);
      bell.block(rung, left);
    }
    this.listen();
  }

  /** Serve requests in the event loop when the bell rings. */
  async listen() {
    if (this.listening) return;
    this.listening = true;
    const { bell } = this.host;
    let { rung } = bell;
    while (!this.poll()) {
      await bell.wait(rung);
      ({ rung } = bell);
    }
    this.listening = false;
  }
}
