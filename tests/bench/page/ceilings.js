/** The machine's ceilings: kernels run on `threads` workers at once, the best of many samples. */

const PAGE_BYTES = 65536;
const SAMPLES = 12;

/**
 * Floating-point operations a second of the best kernel. Modules are tried in order: the first that this engine accepts.
 * @param {{modules: string[], kernels: Record<string, number>, threads: number}} options kernels: operations a task
 * @returns {Promise<number>}
 */
export async function fma({ modules, kernels, threads }) {
  const module = await firstValid(modules);
  let best = 0;
  for (const [name, flops] of Object.entries(kernels)) {
    const tasks = 100;
    // in: 12 floats, out: at most 24 vectors
    const seconds = await fastest(threads, { module, name, pages: 1, args: [0, 1024, tasks], tasks });
    best = Math.max(best, (threads * tasks * flops) / seconds);
  }
  return best;
}

/**
 * Bytes a second, read and written, of the kernel `name` on two buffers of `bytes` that the threads share.
 * @param {{modules: string[], name: string, bytes: number, chunk: number, threads: number}} options
 * @returns {Promise<number>}
 */
export async function memory({ modules, name, bytes, chunk, threads }) {
  const module = await firstValid(modules);
  const tasks = Math.max(1, Math.round(bytes / chunk / threads));
  const size = tasks * chunk;
  const pages = Math.ceil((2 * size) / PAGE_BYTES);
  const seconds = await fastest(threads, { module, name, pages, args: [0, size], tasks });
  return (2 * threads * size) / seconds;
}

/** @param {string[]} urls @returns {Promise<ArrayBuffer>} */
async function firstValid(urls) {
  for (const url of urls) {
    const bytes = await (await fetch(url)).arrayBuffer();
    if (WebAssembly.validate(bytes)) return bytes;
  }
  throw new Error("this engine accepts none of the ceilings' modules");
}

/**
 * Seconds of one call on every worker at once: of the best sample, its slowest worker.
 * @param {number} threads
 * @param {{module: ArrayBuffer, name: string, pages: number, args: number[], tasks: number}} job
 * @returns {Promise<number>}
 */
async function fastest(threads, job) {
  const meeting = new Int32Array(new SharedArrayBuffer(4 * (SAMPLES + 1)));
  const workers = Array.from(
    { length: threads },
    () => new Worker(new URL("ceiling.worker.js", import.meta.url), { type: "module" }),
  );
  try {
    const times = await Promise.all(workers.map((worker) => samples(worker, { ...job, meeting, threads, count: SAMPLES })));
    return Math.min(...times[0].map((_, i) => Math.max(...times.map((one) => one[i])))) / 1000;
  } finally {
    for (const worker of workers) worker.terminate();
  }
}

/** @param {Worker} worker @param {object} job @returns {Promise<number[]>} */
function samples(worker, job) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message || "the ceiling's worker could not be loaded"));
    worker.postMessage(job);
  });
}
