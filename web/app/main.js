/** The page: connects its parts to the runtime. Nothing here computes; models live in workers behind `load()`. */

import { exportKernels, importKernels, keepsPlans, load, prepare } from "../../runtime/nnjit.js";
import { Companions } from "./companions.js";
import { notices, showFacts } from "./device-facts.js";
import { byId, download, h, setDisabled } from "./dom.js";
import { clearError, showError } from "./errors.js";
import * as format from "./format.js";
import { FieldError } from "./input-field.js";
import { describeInput, InputsForm } from "./inputs-form.js";
import { KernelExchange } from "./kernel-exchange.js";
import { KernelDetail } from "./kernel-detail.js";
import { groupKernels } from "./kernel-groups.js";
import { KernelTable } from "./kernel-table.js";
import { LatencyChart } from "./latency-chart.js";
import { LatencyRecord } from "./latency.js";
import { ModelForm } from "./model-form.js";
import { OutputsView } from "./outputs-view.js";
import { Progress } from "./progress.js";
import { RunLoop } from "./run-loop.js";
import { TuningView } from "./tuning-view.js";

/** @typedef {import("./model-form.js").LoadRequest} LoadRequest */
/** @typedef {import("./kernel-groups.js").Report} Report */
/** @typedef {Awaited<ReturnType<typeof load>>} Model */

/** Least milliseconds between two reports: making one may time every kernel, so it waits longer where that takes long. */
const REPORT_INTERVAL = 2500;
const REPORT_PATIENCE = 3;
/** Milliseconds between two summaries of outputs while runs go on. */
const OUTPUT_INTERVAL = 1000;

/** @type {Model | null} */
let model = null;
/** @type {AbortController | null} */
let loading = null;
/** The runs with inputs of the shapes at hand: those of others do not compare. */
let latency = new LatencyRecord();
/** The shapes of the latest run's inputs. */
let shapes = "";
let latencyDue = false;
/** @type {Report | null} */
let report = null;
/** The timer of the next report, kept until it is there; 0: none was asked for. */
let reportDue = 0;
let reportUnderWay = false;
let reportAgain = false;
/** What the loaded model is called. */
let modelName = "";
/** What lies beside it. @type {Companions | null} */
let companions = null;
let reportTook = 0;
let outputsShown = 0;

const loadError = byId("load-error", HTMLElement);
const runError = byId("run-error", HTMLElement);
const announcer = byId("announcer", HTMLElement);
const progress = new Progress();
const inputs = new InputsForm(byId("inputs", HTMLElement));
const outputs = new OutputsView(byId("outputs", HTMLElement));
const chart = new LatencyChart(byId("chart", HTMLElement), byId("chart-readout", HTMLElement));
const detail = new KernelDetail(byId("kernel-detail", HTMLElement), async (kernel) => {
  if (!model) throw new Error("No model is loaded.");
  try {
    return await model.source(kernel);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "input")) throw error;
    requestReport(0);
    return "A faster kernel has just replaced this one. Its source follows.";
  }
});
const table = new KernelTable(
  byId("kernels", HTMLElement),
  (group) => detail.show(group),
  () => detail.reveal(),
);
const tuning = new TuningView({
  pause: () => model?.pauseTuning().catch((error) => showError(runError, error)),
  resume: () => model?.resumeTuning().catch((error) => showError(runError, error)),
});
const form = new ModelForm({
  load: loadModel,
  stop: () => loading?.abort(),
  takePicture: (file) => {
    const taken = model !== null && inputs.takePicture(file);
    if (taken) byId("run", HTMLButtonElement).focus();
    return taken;
  },
});

/**
 * Load a model. The one before stays usable until the new one is there; memory that only its end can free is freed.
 * @param {LoadRequest} request
 */
async function loadModel(request) {
  clearError(loadError);
  loop.stop();
  const controller = new AbortController();
  loading = controller;
  form.setLoading(true);
  progress.start(typeof request.source === "string");
  try {
    let loaded;
    try {
      loaded = await startLoading(request, controller.signal);
    } catch (error) {
      if (!model || !(error instanceof Error && "code" in error && error.code === "out-of-memory"))
        throw error;
      closeModel();
      loaded = await startLoading(request, controller.signal);
    }
    closeModel();
    model = loaded;
    companions = new Companions(request.source, request.companions, () => form.beside(request.source));
    form.remember(request);
    openModel(loaded, nameOf(request), companions);
    progress.loaded(loaded.python === "off");
  } catch (error) {
    if (controller.signal.aborted) {
      progress.failed("Loading was stopped.");
    } else {
      progress.failed("Loading failed.");
      showError(loadError, error, model ? `${modelName}, which was loaded before, can still be run.` : "");
    }
  } finally {
    loading = null;
    form.setLoading(false);
  }
}

/**
 * @param {LoadRequest} request
 * @param {AbortSignal} signal
 */
function startLoading({ source, companions, device, threads }, signal) {
  return load(source, {
    device,
    threads: threads ?? null,
    files: companions,
    tune: "background",
    signal,
    onProgress: (event) => {
      if (!signal.aborted) progress.update(event);
    },
  });
}

/** @param {LoadRequest} request */
function nameOf({ source }) {
  return typeof source === "string" ? (source.split(/[?#]/)[0]?.split("/").at(-1) ?? source) : source.name;
}

/**
 * @param {Model} loaded
 * @param {string} name
 * @param {Companions} beside
 */
function openModel(loaded, name, beside) {
  modelName = name;
  showFacts(name, loaded.facts);
  byId("welcome", HTMLElement).hidden = true;
  byId("run-form", HTMLElement).hidden = false;
  byId("results", HTMLElement).hidden = false;
  inputs.show(loaded.inputs.map(describeInput), beside);
  loaded.on("tune", (event) => {
    if (loaded !== model) return;
    tuning.update(event);
    if (event.status === "swapped") latency.swapped(performance.now());
    if (event.status === "failed" && loaded.python === "failed") showWithoutPython();
    if (event.status === "failed" || event.status === "compiler") return;
    // What is listed when tuning is over stays listed: it must be the latest.
    if (event.status === "done") requestReport(0);
    else requestReport();
  });
  if (loaded.tuned) tuning.rest();
  showLatency();
  byId("run", HTMLButtonElement).focus({ preventScroll: true });
  const isOneColumn = !matchMedia("(min-width: 60rem)").matches;
  if (isOneColumn) byId("inputs-title", HTMLElement).scrollIntoView({ block: "start" });
}

function closeModel() {
  model?.dispose();
  model = null;
  report = null;
  latency = new LatencyRecord();
  shapes = "";
  for (const view of [outputs, chart, table, detail, tuning]) view.clear();
  clearError(runError);
  showNoReport();
}

const loop = new RunLoop({
  prepare: () => inputs.tensors(),
  run: async (tensors) => {
    const asked = model;
    if (!asked) return null;
    const asShapes = JSON.stringify(Object.entries(tensors).map(([name, { dims }]) => [name, dims]));
    if (asShapes !== shapes) progress.firstRun();
    try {
      const result = await asked.runTimed(tensors);
      if (asked !== model) return null;
      if (asShapes !== shapes) {
        shapes = asShapes;
        latency = new LatencyRecord();
        chart.clear();
      }
      return result;
    } catch (error) {
      // A model that was replaced meanwhile has given back its memory: what it was computing is of no interest.
      if (asked !== model) return null;
      throw error;
    }
  },
  ran: (result, ms, more) => {
    const now = performance.now();
    progress.finish("done");
    latency.add(now, ms);
    requestLatency();
    if (!more || now - outputsShown > OUTPUT_INTERVAL) {
      outputsShown = now;
      void outputs.show(result, companions, inputs.position);
    }
    if (latency.count === 1) {
      if (model?.python === "on") requestReport(0);
      else showWithoutPython();
    }
    if (!more) announcer.textContent = `The run took ${format.milliseconds(ms)}.`;
  },
  failed: (error) => {
    progress.finish("failed");
    showError(runError, error);
    if (!(error instanceof FieldError)) return;
    const folded = error.field.closest("details");
    if (folded) folded.open = true;
    error.field.focus();
  },
  changed: (state) => {
    const run = byId("run", HTMLButtonElement);
    const again = byId("run-continuously", HTMLButtonElement);
    setDisabled(run, state !== "idle");
    setDisabled(again, state === "once");
    again.textContent = state === "continuous" ? "Stop" : "Run continuously";
    if (state !== "idle") clearError(runError);
  },
});

/** Show the latest times at the next frame; a small model runs more often than the screen changes. */
function requestLatency() {
  if (latencyDue) return;
  latencyDue = true;
  requestAnimationFrame(() => {
    latencyDue = false;
    showLatency();
  });
}

function showLatency() {
  const { current, best, untuned, first, gain, count } = latency;
  /** What is not known yet is not shown. */
  const figure = (/** @type {string} */ id, /** @type {string | null} */ text) => {
    const value = byId(id, HTMLElement);
    value.textContent = text;
    if (value.parentElement) value.parentElement.hidden = text === null;
  };
  const time = (/** @type {number | null} */ ms) => (ms === null ? null : format.milliseconds(ms));
  byId("figures", HTMLElement).hidden = count === 0;
  figure("latency-now", time(current));
  figure("latency-best", time(best));
  figure("latency-first", time(first));
  figure("latency-untuned", gain === null ? null : time(untuned));
  figure("latency-gain", gain === null ? null : format.times(gain));
  byId("latency-gain", HTMLElement).toggleAttribute("data-better", format.isFaster(gain));
  figure("latency-count", format.plural(count, "run"));
  const isDrawn = latency.times.length > 0;
  byId("chart-empty", HTMLElement).hidden = isDrawn;
  byId("chart-key", HTMLElement).style.visibility = isDrawn ? "visible" : "hidden";
  if (isDrawn) chart.show(latency);
}

/**
 * Ask for a new report soon; many calls make few reports. Before the first run there is nothing to tell.
 * @param {number} [wait] milliseconds at most; one that is being made already may be older than what it should show
 */
function requestReport(wait = report ? Math.max(REPORT_INTERVAL, REPORT_PATIENCE * reportTook) : 0) {
  if (latency.count === 0 || (reportDue && wait > 0)) return;
  if (reportUnderWay) {
    reportAgain = true;
    return;
  }
  clearTimeout(reportDue);
  reportDue = window.setTimeout(async () => {
    const asked = model;
    reportUnderWay = true;
    if (!report) showNoReport("Timing each kernel…");
    try {
      const start = performance.now();
      const fresh = await asked?.report();
      reportTook = performance.now() - start;
      if (asked && fresh && asked === model) showReport(fresh);
    } catch (error) {
      if (asked !== model) return;
      showError(runError, error, `${modelName} runs on, with the kernels that it has.`);
      if (asked?.python === "failed") showWithoutPython();
    } finally {
      reportDue = 0;
      reportUnderWay = false;
      if (reportAgain && model?.python === "on") requestReport(0);
      reportAgain = false;
    }
  }, wait);
}

/** @param {string} [why] */
function showNoReport(why = "After the first run, this lists what runs and how long it takes.") {
  const empty = byId("report-empty", HTMLElement);
  empty.hidden = false;
  empty.textContent = why;
  byId("report-ask", HTMLButtonElement).hidden = true;
  byId("export", HTMLButtonElement).disabled = true;
}

/** The model runs, and Python, which knows its kernels, is not there. */
function showWithoutPython() {
  if (report || latency.count === 0) return;
  const failed = model?.python === "failed";
  showNoReport(
    failed
      ? "The kernels of an earlier visit run. Python, which can list them, did not start."
      : "The kernels of an earlier visit run. Listing them starts Python.",
  );
  byId("report-ask", HTMLButtonElement).hidden = false;
}

/** @param {Report} fresh */
function showReport(fresh) {
  report = fresh;
  // Microbenchmarks may have run meanwhile.
  showFacts(modelName, fresh.device);
  byId("report-empty", HTMLElement).hidden = fresh.kernels.length > 0;
  byId("report-ask", HTMLButtonElement).hidden = true;
  table.show(groupKernels(fresh));
  byId("export", HTMLButtonElement).disabled = false;
}

function exportReport() {
  const text = JSON.stringify(
    { report, latency: { ...latency, current: latency.current }, browser: navigator.userAgent },
    null,
    2,
  );
  download("nnjit-report.json", [text], "application/json");
}

/** What this site has besides the page: models to try, and a notebook where it was built. */
async function offerExtras() {
  const siteUrl = new URL("../../runtime/site.json", import.meta.url);
  const site = await (await fetch(siteUrl)).json();
  if (site.notebook) {
    byId("notebook-link", HTMLAnchorElement).href = new URL(site.notebook, siteUrl).href;
    byId("notebook", HTMLElement).hidden = false;
  }
  if (!site.examples) return;
  const listUrl = new URL(site.examples, siteUrl);
  const examples = /** @type {import("./model-form.js").Example[]} */ (await (await fetch(listUrl)).json());
  form.showExamples(examples.map((example) => ({ ...example, url: new URL(example.url, listUrl).href })));
}

async function start() {
  // The compiler starts while the person chooses a model; if that fails, the first load tries again and says why. Who was
  // here before may choose a model that does not need it.
  void keepsPlans().then((kept) => (kept ? undefined : prepare().catch(() => {})));
  showNoReport();
  byId("report-ask", HTMLButtonElement).addEventListener("click", () => requestReport(0));
  new KernelExchange({ read: exportKernels, take: importKernels });
  byId("run-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void loop.start(false);
  });
  byId("run-continuously", HTMLButtonElement).addEventListener("click", () =>
    loop.running ? loop.stop() : void loop.start(true),
  );
  byId("export", HTMLButtonElement).addEventListener("click", exportReport);
  if (form.prefill()) byId("model-form", HTMLFormElement).requestSubmit();
  const found = await notices();
  byId("notices", HTMLElement).replaceChildren(...found.map((text) => h("li", {}, text)));
  await offerExtras();
}

void start();
