/** Tuned kernels as a file: two buttons, and in words what came of it. */

import { byId, download } from "./dom.js";
import { clearError, showError } from "./errors.js";
import * as format from "./format.js";

export class KernelExchange {
  /**
   * @param {{read: () => Promise<string>, take: (file: File) => Promise<{message: string}>}} store what the browser
   *   remembers: read as a kernel file, and given one
   */
  constructor({ read, take }) {
    this.text = byId("exchange-text", HTMLElement);
    this.error = byId("exchange-error", HTMLElement);
    const exporting = byId("export-kernels", HTMLButtonElement);
    const importing = byId("import-kernels", HTMLButtonElement);
    const chooser = byId("kernels-file", HTMLInputElement);
    exporting.addEventListener("click", () =>
      this.#work(exporting, async () => {
        const json = await read();
        const kernels = countOf(json);
        if (kernels === 0) return "Nothing was tuned in this browser yet.";
        download("nnjit-kernels.json", [json], "application/json");
        return `The tuned schedules of ${format.plural(kernels, "kernel")} were saved.`;
      }),
    );
    importing.addEventListener("click", () => chooser.click());
    chooser.addEventListener("change", () => {
      const file = chooser.files?.[0];
      if (file) void this.#work(importing, async () => (await take(file)).message);
      // The same file may be chosen again.
      chooser.value = "";
    });
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {() => Promise<string>} work gives what to say
   */
  async #work(button, work) {
    clearError(this.error);
    this.text.hidden = false;
    this.text.textContent = "One moment: the compiler is starting.";
    button.disabled = true;
    try {
      this.text.textContent = await work();
    } catch (error) {
      this.text.hidden = true;
      showError(this.error, error);
    } finally {
      button.disabled = false;
      button.focus();
    }
  }
}

/** @param {string} json a kernel file */
function countOf(json) {
  const { groups } = /** @type {{groups: {tasks: object}[]}} */ (JSON.parse(json));
  return groups.reduce((count, { tasks }) => count + Object.keys(tasks).length, 0);
}
