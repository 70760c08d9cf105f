/** Times one kernel in a memory of its own, in step with its fellow workers. */

const WARM_MS = 60;
const SAMPLE_MS = 8;

/** @param {MessageEvent<any>} event */
self.onmessage = ({ data: { module, name, pages, args, tasks, meeting, threads, count } }) => {
  const memory = new WebAssembly.Memory({ initial: pages });
  new Float32Array(memory.buffer).fill(0.5);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module), { env: { memory } });
  const kernel = /** @type {(...args: number[]) => void} */ (exports[name]);

  let calls = 0;
  const begin = performance.now();
  while (performance.now() - begin < WARM_MS) {
    kernel(...args, 0, tasks);
    calls += 1;
  }
  const repeat = Math.max(1, Math.round((calls * SAMPLE_MS) / (performance.now() - begin)));

  const times = [];
  for (let sample = 0; sample < count; sample++) {
    meet(meeting, sample, threads);
    const start = performance.now();
    for (let call = 0; call < repeat; call++) kernel(...args, 0, tasks);
    times.push((performance.now() - start) / repeat);
  }
  self.postMessage(times);
};

/** Wait until all have come. @param {Int32Array} meeting @param {number} place @param {number} threads */
function meet(meeting, place, threads) {
  Atomics.add(meeting, place, 1);
  while (Atomics.load(meeting, place) < threads);
}
