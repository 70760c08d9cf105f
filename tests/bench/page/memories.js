/** Wasm memories that this page makes, by who makes them: the only honest count of what a library holds. */

/**
 * Note every memory from now on, imported or exported, for the contestant that `owner` names when it is made. Memories
 * never shrink, so their size at the end is the peak.
 */
export function watchMemories() {
  /** @type {Map<WebAssembly.Memory, string>} */
  const owners = new Map();
  const watch = {
    owner: "",
    /** Bytes of `name`'s memories; null when it made none in this page. @param {string} name */
    bytes(name) {
      const sizes = [...owners].filter(([, owner]) => owner === name).map(([memory]) => memory.buffer.byteLength);
      return sizes.length ? sizes.reduce((total, size) => total + size, 0) : null;
    },
  };
  const note = (/** @type {WebAssembly.Memory} */ memory) => owners.has(memory) || owners.set(memory, watch.owner);

  WebAssembly.Memory = new Proxy(WebAssembly.Memory, {
    construct(target, [descriptor]) {
      const memory = new target(descriptor);
      note(memory);
      return memory;
    },
  });
  const noteExports = (/** @type {any} */ made) => {
    const instance = made instanceof WebAssembly.Instance ? made : made.instance;
    for (const value of Object.values(instance.exports)) {
      if (Object.prototype.toString.call(value) === "[object WebAssembly.Memory]") note(value);
    }
    return made;
  };
  for (const name of /** @type {const} */ (["instantiate", "instantiateStreaming"])) {
    const original = /** @type {(...given: any[]) => Promise<any>} */ (WebAssembly[name]);
    WebAssembly[name] = async (/** @type {any[]} */ ...given) => noteExports(await original(...given));
  }
  return watch;
}
