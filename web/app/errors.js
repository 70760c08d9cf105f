/** Errors, shown where they happened: what kind, what and where (the runtime's message), what to do. */

import { h } from "./dom.js";

/**
 * Title by the error's stable code, and what to do on this page; the message says it for every caller.
 * @type {Record<string, [string, string]>}
 */
const KINDS = {
  "model-format": ["This is not a model that can be read", "Choose another file."],
  unsupported: ["The model needs something that is not supported", "Choose another model."],
  "external-data": [
    "The weights' file is missing or does not fit",
    "Here: choose the model and that file together, or drop both on the page.",
  ],
  input: ["The inputs do not fit the model", "Correct them in the form and run again."],
  fetch: ["The model could not be fetched", "Here: a model that you have downloaded can be chosen, or dropped, as a file."],
  device: ["The device cannot run this", "Load the model again, or choose another device."],
  "out-of-memory": ["There is not enough memory", "Here: enter smaller sizes, or choose another device and load again."],
  compiler: ["The compiler does not start", "Check the connection, and try again."],
  "kernel-file": ["This is no file of tuned kernels", "Nothing was imported. Choose a file that this page exported."],
  internal: [
    "A check inside the compiler failed",
    "This is a mistake in nnjit. The model and the message above are what a report needs.",
  ],
};

/** @param {unknown} error */
export function describe(error) {
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
  const [title, advice] = KINDS[code] ?? [
    "Something unexpected went wrong",
    "The page is still usable; loading the model again may help.",
  ];
  return { code, title, advice, message: error instanceof Error ? error.message : String(error) };
}

/**
 * Show an error in a container that stands where the person was working, and bring it into view.
 * @param {HTMLElement} container with role="alert"
 * @param {unknown} error
 * @param {string} [more] a sentence for where it happened
 */
export function showError(container, error, more = "") {
  const { code, title, advice, message } = describe(error);
  container.replaceChildren(
    h("h3", {}, `${title} `, code && h("code", { class: "code" }, code)),
    h("p", { class: "message" }, message),
    h("p", { class: "advice" }, `${advice} ${more}`),
    h("button", { type: "button", class: "quiet", onclick: () => clearError(container) }, "Dismiss"),
  );
  container.hidden = false;
  container.scrollIntoView({ block: "nearest" });
}

/** @param {HTMLElement} container */
export function clearError(container) {
  container.hidden = true;
  container.replaceChildren();
}
