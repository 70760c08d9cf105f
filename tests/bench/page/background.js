/** Inference while the model tunes itself in the background. */

/** @typedef {import("./page.js").Session} Session */
/** @typedef {() => Promise<{wall: number}>} Inference */
/**
 * What was found at one moment of tuning, while it was paused for that; all times in ms.
 * @typedef {object} Checkpoint
 * @property {number} at seconds of tuning before it
 * @property {number[]} tuning inferences in the last moments before the pause
 * @property {number[]} alone inferences right after, without a break as before
 * @property {number[]} own inferences in turns with those in `untuned`
 * @property {number[]} untuned of the same model, loaded beside it and never tuned
 */

/** Seconds of tuning after which there is a checkpoint; the last one comes at the end. */
const CHECKPOINTS = [2, 4, 7, 10, 15, 20, 30, 45];
/** Inferences on each side of a checkpoint: for so long, and so many at least. */
const WINDOW_MS = 1500;
const WINDOW_RUNS = 5;
/** Pairs of a checkpoint, and of the last one: for so long, and so many at least. */
const PAIRS_MS = [2000, 6000];
const PAIRS = [7, 21];
/** Before an inference of the other model: until the threads of the one before rest. */
const PAUSE_MS = 5;

/**
 * Run without a break until tuning is over, or for `seconds` of it. At checkpoints tuning pauses, and the clock stops.
 * @param {Session} session that tunes in the background, and has not run yet
 * @param {Inference} inference
 * @param {Inference} untuned of the same model, loaded beside it without tuning
 * @param {number} seconds
 * @returns {Promise<{first: number, points: number[][], events: {at: number, status: string}[], checkpoints: Checkpoint[],
 *   over: boolean}>} points: [seconds since the first inference, ms] of each later one; events: seconds and what
 *   happened; over: whether tuning had come to its end by itself
 */
export async function curve(session, inference, untuned, seconds) {
  const first = (await inference()).wall;
  let begin = performance.now();
  const clock = () => (performance.now() - begin) / 1000;
  /** @type {number[][]} */
  const points = [];
  /** @type {{at: number, status: string}[]} */
  const events = [];
  /** @type {Checkpoint[]} */
  const checkpoints = [];
  const heard = session.events ?? [];

  /** @param {boolean} last */
  async function checkpoint(last) {
    const at = clock(); // The pause begins once Python has ended what it is at, without a sample of tuning meanwhile.
    await session.pause?.();
    for (const { at, status } of heard.slice(events.length)) events.push({ at: (at - begin) / 1000, status });
    const stopped = performance.now();
    const recent = points.filter(([when]) => when > at - WINDOW_MS / 1000 - 1).map(([, ms]) => ms);
    const alone = await window(inference, WINDOW_MS, WINDOW_RUNS);
    const pairs = await inTurns(inference, untuned, PAIRS_MS[Number(last)], PAIRS[Number(last)]);
    checkpoints.push({ at, tuning: recent, alone, ...pairs });
    if (!last) await session.resume?.();
    begin += performance.now() - stopped;
  }

  const due = CHECKPOINTS.filter((at) => at < 0.9 * seconds);
  let over = false;
  while (!over && clock() < seconds) {
    const { wall } = await inference();
    points.push([clock(), wall]);
    over = heard.at(-1)?.status === "done";
    if (over || clock() < due[0] || !due.length) continue;
    due.shift();
    await checkpoint(false);
  }
  await checkpoint(true);
  return { first, points, events, checkpoints, over };
}

/** @param {Inference} inference @param {number} ms @param {number} runs */
async function window(inference, ms, runs) {
  const times = [];
  const end = performance.now() + ms;
  while (times.length < runs || performance.now() < end) times.push((await inference()).wall);
  return times;
}

/** Pairs of inferences, the one first and the other first in turns. @param {Inference} inference @param {Inference} untuned
 * @param {number} ms @param {number} pairs */
async function inTurns(inference, untuned, ms, pairs) {
  /** @type {{own: number[], untuned: number[]}} */
  const times = { own: [], untuned: [] };
  const end = performance.now() + ms;
  for (let n = 0; n < pairs || performance.now() < end; n++) {
    for (const own of n % 2 ? [true, false] : [false, true]) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      times[own ? "own" : "untuned"].push((await (own ? inference : untuned)()).wall);
    }
  }
  return times;
}
