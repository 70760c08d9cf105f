/** The form that says which model to load, from where, on which device, with how many threads. */

import { addressOf } from "./address.js";
import { byId, h, setDisabled } from "./dom.js";
import * as format from "./format.js";

/**
 * @typedef {{ source: string | File, companions: File[], device: "auto" | "wasm" | "webgpu", threads: number | undefined }} LoadRequest
 * @typedef {{ title: string, url: string, bytes?: number, note?: string, beside?: string[] }} Example
 */

export class ModelForm {
  /** Chosen or dropped files: the model first, then the files with its weights. @type {File[]} */
  #files = [];
  /** @type {Example[]} */
  #examples = [];

  /**
   * @param {{ load: (request: LoadRequest) => void, stop: () => void, takePicture: (file: File) => boolean }} actions
   *   `takePicture` is offered a dropped picture, and tells whether the loaded model takes one
   */
  constructor(actions) {
    this.form = byId("model-form", HTMLFormElement);
    this.url = byId("model-url", HTMLInputElement);
    this.files = byId("model-files", HTMLInputElement);
    this.chosen = byId("chosen-files", HTMLElement);
    this.threads = byId("threads", HTMLInputElement);
    this.load = byId("load", HTMLButtonElement);
    this.stop = byId("stop-loading", HTMLButtonElement);
    this.drop = byId("drop", HTMLElement);
    this.threads.placeholder = String(globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1);
    this.threads.disabled = !globalThis.crossOriginIsolated;

    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const request = this.request();
      if (request) actions.load(request);
    });
    this.stop.addEventListener("click", actions.stop);
    this.url.addEventListener("input", () => {
      byId("example", HTMLSelectElement).value = "";
      if (this.url.value) this.#choose([]);
    });
    this.files.addEventListener("change", () => this.#choose([...(this.files.files ?? [])]));
    this.#acceptDrops(actions.takePicture);
  }

  /** Prefill from the page's address: ?model=URL&device=wasm&threads=2. */
  prefill() {
    const parameters = new URLSearchParams(location.search);
    this.url.value = parameters.get("model") ?? "";
    this.threads.value = parameters.get("threads") ?? "";
    const device = this.form.elements.namedItem("device");
    if (device instanceof RadioNodeList) device.value = parameters.get("device") ?? "auto";
    if (device instanceof RadioNodeList && !device.value) device.value = "auto";
    return parameters.get("autoload") === "1" && this.url.value !== "";
  }

  /** @param {Example[]} examples */
  showExamples(examples) {
    this.#examples = examples;
    byId("examples", HTMLElement).hidden = examples.length === 0;
    const select = byId("example", HTMLSelectElement);
    select.replaceChildren(
      h("option", { value: "" }, `${format.plural(examples.length, "model")}…`),
      ...examples.map(({ title, url, bytes, note }) =>
        h("option", { value: url }, [title, bytes && format.bytes(bytes), note].filter(Boolean).join(" · ")),
      ),
    );
    select.addEventListener("change", () => {
      if (!select.value) return;
      this.#choose([]);
      this.url.value = select.value;
    });
  }

  /**
   * The JSON files beside one of the examples; null for another model.
   * @param {string | File} source
   */
  beside(source) {
    if (typeof source !== "string") return null;
    const { href } = new URL(source, location.href);
    return this.#examples.find(({ url }) => url === href)?.beside ?? null;
  }

  /**
   * What the form asks for; null (and the browser's own message at the field) when it is incomplete.
   * @returns {LoadRequest | null}
   */
  request() {
    const [model, ...companions] = this.#files;
    const text = addressOf(this.url.value);
    this.url.setCustomValidity(model || text ? "" : "Enter the model's address, or choose its file.");
    if (!this.form.reportValidity()) return null;
    if (!model) this.url.value = text;
    const device = String(new FormData(this.form).get("device") ?? "auto");
    const threads = this.threads.valueAsNumber;
    return {
      source: model ?? text,
      companions,
      device: device === "wasm" || device === "webgpu" ? device : "auto",
      threads: Number.isNaN(threads) ? undefined : threads,
    };
  }

  /** @param {File[]} files */
  #choose(files) {
    // The model is the .onnx file, or the first when none is called so; all others are taken for weights.
    const model = files.find((file) => file.name.toLowerCase().endsWith(".onnx")) ?? files[0];
    this.#files = model ? [model, ...files.filter((file) => file !== model)] : [];
    if (model) this.url.value = "";
    else this.files.value = "";
    this.url.setCustomValidity("");
    if (model) byId("example", HTMLSelectElement).value = "";
    this.#say(this.#files.map((file) => `${file.name}, ${format.bytes(file.size)}`).join(" · "));
  }

  /**
   * Files may be dropped anywhere on the page.
   * @param {(file: File) => boolean} takePicture
   */
  #acceptDrops(takePicture) {
    const carriesFiles = (/** @type {DragEvent} */ event) =>
      event.dataTransfer?.types.includes("Files") ?? false;
    addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.drop.dataset["over"] = "true";
    });
    addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) delete this.drop.dataset["over"];
    });
    addEventListener("drop", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      delete this.drop.dataset["over"];
      const files = [...(event.dataTransfer?.files ?? [])];
      const [first] = files;
      if (first?.type.startsWith("image/")) {
        this.#say(
          takePicture(first)
            ? ""
            : `${first.name} is a picture, and no model is loaded that takes one. Load such a model, then drop it again.`,
        );
        return;
      }
      this.#choose(files);
      this.load.focus();
    });
  }

  /** @param {string} text about chosen files; none: nothing is said */
  #say(text) {
    this.chosen.textContent = text;
    this.chosen.hidden = text === "";
  }

  /** @param {boolean} loading */
  setLoading(loading) {
    const hadStop = document.activeElement === this.stop;
    setDisabled(this.load, loading);
    this.stop.hidden = !loading;
    if (hadStop) this.load.focus();
    this.form.setAttribute("aria-busy", String(loading));
  }

  /**
   * Put what was loaded into the page's address, so that it can be kept and shared.
   * @param {LoadRequest} request
   */
  remember({ source, device, threads }) {
    const parameters = new URLSearchParams();
    if (typeof source === "string") parameters.set("model", source);
    if (device !== "auto") parameters.set("device", device);
    if (threads !== undefined) parameters.set("threads", String(threads));
    // Who came by a link that loads at once gets the same when the page is loaded again.
    if (parameters.has("model") && new URLSearchParams(location.search).get("autoload") === "1")
      parameters.set("autoload", "1");
    history.replaceState(null, "", parameters.size ? `?${parameters}` : location.pathname);
  }
}
