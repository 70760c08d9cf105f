/** How many threads there are, and what they share: what was asked for, as far as the page and the browser let us. */

import { MAX_THREADS } from "./program.js";
import { ThreadPool } from "./thread-pool.js";
import { canShareMemory, defaultThreads } from "./wasm-features.js";
import { WasmMemory } from "./wasm-memory.js";

/**
 * A memory and as many threads as are wanted and can be had; `notes` say why there are fewer.
 * @param {number | null} threads null: as many as suit the machine
 * @param {string | URL} poolUrl
 * @returns {Promise<{memory: WasmMemory, pool: ThreadPool, notes: string[]}>}
 */
export async function startThreads(threads, poolUrl) {
  /** @type {string[]} */
  const notes = [];
  // Shared with the clients, too: see lane.js.
  const isolated = canShareMemory();
  let wanted = Math.min(MAX_THREADS, Math.max(1, Math.floor(threads ?? defaultThreads())));
  if (wanted > 1 && !isolated) {
    wanted = 1;
    notes.push(
      "The page is not cross-origin isolated, so there is one thread: serve it with the headers " +
        "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp.",
    );
  }
  let memory = new WasmMemory(isolated, wanted);
  let pool = new ThreadPool(memory);
  if (wanted > 1) {
    try {
      await pool.start(wanted, poolUrl);
    } catch (error) {
      notes.push(`Threads did not start, so there is one: ${error instanceof Error ? error.message : error}`);
      memory = new WasmMemory(isolated, 1);
      pool = new ThreadPool(memory);
    }
  }
  return { memory, pool, notes };
}
