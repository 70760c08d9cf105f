/** Inference while the model tunes itself in the background. */

/** @typedef {import("./page.js").Session} Session */
/** @typedef {() => Promise<{wall: number}>} Inference */

/** Inferences are still counted for so long after tuning has come to its end. */
const AFTERWARDS_MS = 3000;
/** The final speed is taken from at least so many inferences, and so much time. */
const FINAL_RUNS = 15;
const FINAL_MS = 3000;
/** Length of a window with or without tuning, at least, and inferences in it. */
const WINDOW_MS = 1500;
const WINDOW_RUNS = 5;

/**
 * Run without a break for at most `seconds`, or until tuning is over, then with tuning paused.
 * @param {Session} session that tunes in the background
 * @param {Inference} inference
 * @param {number} seconds
 * @returns {Promise<{points: number[][], events: {at: number, status: string}[], final: number[], over: boolean}>}
 *   points: [seconds since the start, ms] of each inference; events: seconds and what happened; final: ms of inferences
 *   undisturbed; over: whether tuning had come to its end by itself
 */
export async function curve(session, inference, seconds) {
  const begin = performance.now();
  const points = [];
  let end = begin + 1000 * seconds;
  let over = false;
  while (performance.now() < end) {
    const { wall } = await inference();
    points.push([(performance.now() - begin) / 1000, wall]);
    if (!over && session.events?.at(-1)?.status === "done") {
      over = true;
      end = Math.min(end, performance.now() + AFTERWARDS_MS);
    }
  }
  await session.pause?.();
  const final = await window(inference, FINAL_MS, FINAL_RUNS);
  const events = (session.events ?? []).map(({ at, status }) => ({ at: (at - begin) / 1000, status }));
  return { points, events, final, over };
}

/**
 * Milliseconds of inferences while tuning goes on, and right after it was paused, in `windows` pairs; fewer when tuning
 * comes to its end.
 * @param {Session} session that was loaded with tuning off, and has run
 * @param {Inference} inference
 * @param {number} windows
 * @returns {Promise<{tuning: number[], alone: number[]}[]>}
 */
export async function disturbance(session, inference, windows) {
  const pairs = [];
  for (let n = 0; n < windows && session.events?.at(-1)?.status !== "done"; n++) {
    await session.resume?.();
    const tuning = await window(inference, WINDOW_MS, WINDOW_RUNS);
    await session.pause?.();
    pairs.push({ tuning, alone: await window(inference, WINDOW_MS, WINDOW_RUNS) });
  }
  return pairs;
}

/** @param {Inference} inference @param {number} ms @param {number} runs */
async function window(inference, ms, runs) {
  const times = [];
  const end = performance.now() + ms;
  while (times.length < runs || performance.now() < end) times.push((await inference()).wall);
  return times;
}
