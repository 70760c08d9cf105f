/** What only an inference can check of its inputs: indices that are computed from them. */

import { InputError } from "./errors.js";

/**
 * Take the outputs that say how often each check failed from those that the caller gets.
 * @param {import("./types.js").Plan} plan
 * @param {Record<string, import("./types.js").Tensor>} outputs
 * @throws {InputError} with the node and its input, if a check failed
 */
export function takeChecks(plan, outputs) {
  for (const { name, checks } of plan.outputs) {
    if (!checks) continue;
    const counts = outputs[name].data;
    delete outputs[name];
    const failed = checks.findIndex((_, n) => counts[n] !== 0);
    if (failed >= 0) throw new InputError(`${checks[failed]} (${counts[failed]} of them).`);
  }
}
