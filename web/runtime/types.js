/**
 * The shapes of the data that the runtime's modules exchange. Types only: nothing here exists at run time.
 *
 * @typedef {import("./expressions.js").Expression} Expression
 * @typedef {import("./expressions.js").Environment} Environment
 * @typedef {import("./dtypes.js").Tensor} Tensor
 *
 * @typedef {object} Step One call of a kernel.
 * @property {number} kernel index into the plan's kernels
 * @property {[string | number, Expression][]} buffers buffer id and element offset of each parameter
 * @property {Expression[]} symbols values of the kernel's symbols
 * @property {Expression} tasks
 * @property {Expression} flops
 * @property {Expression} read bytes that it reads at least
 * @property {Expression} written bytes that it writes at least
 *
 * @typedef {object} Unit What is named, timed and swapped as a whole: usually one fused operator.
 * @property {string | null} task key of the tuning task, null for a unit that is not tuned
 * @property {string} label
 * @property {string} node
 * @property {string} op
 * @property {string} [schedule] as text
 * @property {Step[]} init run once, when the weights are in place
 * @property {Step[]} steps run at each inference
 *
 * @typedef {object} BufferSpec
 * @property {string | number} id
 * @property {"input" | "output" | "temp" | "weight" | "const" | "persistent"} kind
 * @property {string} storage short dtype on the device
 * @property {Expression} elements
 * @property {{file: string | null, offset: number, length: number, dtype: string}} [source] of a weight
 * @property {number} [blob] of a constant: index into the blobs
 * @property {string} [key] equal keys in other plans of the model mean equal content
 *
 * @typedef {object} KernelSpec
 * @property {string} name
 * @property {number} [module] wasm: index into the plan's modules
 * @property {string} [export] wasm: name of the function
 * @property {string} [wgsl]
 * @property {number} [workgroup]
 * @property {{access: "r" | "w" | "rw"}[]} [buffers]
 * @property {boolean} [scratch] wasm: whether it uses its thread's scratch memory
 *
 * @typedef {object} PortSpec An input or output of the model.
 * @property {string} name
 * @property {string} dtype
 * @property {Expression[]} shape
 * @property {string | number | null} buffer
 * @property {string[]} [checks] of an output that callers do not get: what is wrong where its elements are not 0
 * @property {Expression[]} [indexes] of an input: extents of the axes that its elements are indices of
 *
 * @typedef {object} Plan
 * @property {number} format
 * @property {string} generator
 * @property {"wasm" | "webgpu"} device
 * @property {{name: string, label: string, from: ["dim", string, number] | ["value", string]}[]} symbols
 * @property {import("./expressions.js").Guard[]} guards
 * @property {PortSpec[]} inputs
 * @property {PortSpec[]} outputs
 * @property {BufferSpec[]} buffers
 * @property {number[]} modules wasm: index into the blobs of each module
 * @property {KernelSpec[]} kernels
 * @property {Unit[]} units
 *
 * @typedef {object} Candidate Another implementation of a unit. Buffer ids are the plan's, or fresh ones listed in
 *   `buffers`; kernel indices are those of `kernels`; a kernel's `module` and a constant's `blob` index `blobs`.
 * @property {Unit} unit
 * @property {BufferSpec[]} buffers
 * @property {KernelSpec[]} kernels
 * @property {Uint8Array[]} blobs
 *
 * @typedef {object} Measurement
 * @property {"ok" | "wrong" | "trap" | "endless" | "lost" | "compile-error" | "out-of-bounds" | "error"} status
 * @property {number[]} ms one entry a sample: milliseconds of one execution of the unit
 * @property {number[]} incumbent the incumbent's samples, each taken just before the candidate's of the same place
 * @property {number | null} incumbentMs median of the incumbent's samples taken between the candidate's
 * @property {number | null} maxError largest |candidate − incumbent|, as a fraction of the largest |incumbent|
 * @property {number} compileMs milliseconds that the browser took to compile and instantiate it
 * @property {string} message
 *
 * @typedef {object} MeasureRequest
 * @property {number} plan
 * @property {number} unit index
 * @property {Candidate[]} candidates
 * @property {number} samples per candidate
 * @property {number} tolerance fraction of the largest magnitude in the incumbent's output
 * @property {boolean} [background] give way to inferences: see courtesy.js
 * @property {string} [journal] key of this device in the store, where candidates that take the device with them are kept
 *
 * @typedef {object} Experiment One microbenchmark: a step on buffers "in" and "out", or a number of barriers.
 * @property {Step} [step] `flops` 0: on one thread, else on all
 * @property {number} [barriers]
 * @property {number | null} after number of the experiment that must have been quick
 *
 * @typedef {object} Probe What nnjit/tune/microbench.py asks to time.
 * @property {number} bytes of each of the two buffers
 * @property {KernelSpec[]} kernels
 * @property {number[]} modules
 * @property {Experiment[]} experiments
 * @property {number} quickMs
 * @property {boolean} [background] give way to inferences: see courtesy.js
 * @property {Uint8Array[]} blobs
 *
 * @typedef {object} Replacement
 * @property {number} unit index of the unit to replace
 * @property {Candidate} with
 *
 * @typedef {object} Facts What was found on this client.
 * @property {"wasm" | "webgpu"} device
 * @property {number} threads
 * @property {boolean} isolated
 * @property {boolean} relaxedSimd
 * @property {number} hardwareConcurrency
 * @property {string} browser its user agent: only a key, under which what was measured is remembered
 * @property {Record<string, string | boolean> | null} adapter
 * @property {Record<string, number>} limits
 * @property {string[]} features
 * @property {number} maxPages
 * @property {Record<string, any>} [hardware] what microbenchmarks found, once they have run: nnjit/target.py, Hardware
 * @property {string[]} notes sentences for the user: what was not available, and why
 *
 * @typedef {object} Bound One plan with its symbols bound, ready to execute.
 * @property {number} plan
 * @property {Environment} environment
 * @property {Record<string, Tensor>} inputs those in shared memory lie in a lane of the device
 * @property {Space} [space] where in a lane outputs may be left
 *
 * @typedef {{start: number, end: number}} Space Addresses in the device's shared memory.
 *
 * @typedef {object} LaneHost A device that has shared memory for lanes (lane.js).
 * @property {import("./bell.js").Bell} bell that clients ring
 * @property {(bytes: number) => import("./lane.js").LaneOffer} openLane
 * @property {(offer: import("./lane.js").LaneOffer) => void} closeLane
 *
 * @typedef {(how?: {idle?: boolean, beside?: number, ms?: number, until?: () => boolean}) => Promise<void>} Pause Lets
 *   others use the device for a moment. `idle`: it was not in use since the last pause, and something else is waited for.
 *   `beside`: that took so many ms of another thread. `ms`: what comes next takes so long. `until`: what has made it
 *   needless; it ends the pause.
 *
 * @typedef {{environment: Environment, times: {unit: number, ms: number}[]}} Profile median times of the units, and the
 *   values of the plan's symbols in the inference that was replayed
 *
 * @typedef {object} Device What the executor asks of a device; implemented by WasmDevice and WebGpuDevice. The
 *   executor checks inputs and picks the plan before it calls `run`. It never calls two methods at once, but for `run`,
 *   `addPlan` and `swap` while a `measure` or `profile` awaits `pause()`.
 * @property {Facts} facts
 * @property {(files: import("./weights.js").WeightFiles) => void} setFiles
 * @property {(plan: Plan, blobs: Uint8Array[]) => Promise<{plan: number, initMs: number, compileMs: number}>} addPlan
 * @property {(bound: Bound) => Promise<Record<string, Tensor>>} run outputs in fresh arrays or, where there is room, in
 *   `space`; also remembered as the plan's latest inference, which `measure` and `profile` replay
 * @property {LaneHost | null} laneHost
 * @property {(awaited: () => boolean) => void} prepareNext do ahead what the next inference would wait for, until it is
 *   asked for
 * @property {(request: MeasureRequest, pause: Pause) => Promise<{incumbentMs: number, results: Measurement[]}>} measure
 *   awaits `pause()` between samples; other requests are served meanwhile and may overwrite the arena
 * @property {(request: {plan: number, repeat: number}, pause: Pause) => Promise<Profile>} profile
 * @property {(probe: Probe, pause: Pause) => Promise<(number | null)[]>} microbench milliseconds of each
 *   experiment
 * @property {(request: {plan: number, replacements: Replacement[]}) => Promise<{initMs: number}>} swap
 * @property {() => Record<string, number>} stats
 * @property {() => void} dispose
 */

export {};
