/** The chart of latency over time: a dot for each run, the running median, a line where a faster kernel came in. */

import * as format from "./format.js";

/** @typedef {import("./latency.js").LatencyRecord} LatencyRecord */
/** @typedef {import("../../vendor/uPlot.esm.js")} Plot */

const HEIGHT = 220;
/** Milliseconds between two drawings while runs arrive. */
const INTERVAL = 150;

export class LatencyChart {
  /** @type {Plot | null} */
  #plot = null;
  /** @type {LatencyRecord | null} */
  #record = null;
  #due = 0;

  /**
   * @param {HTMLElement} container
   * @param {HTMLElement} readout gets the values under the pointer
   */
  constructor(container, readout) {
    this.container = container;
    this.readout = readout;
    new ResizeObserver(() => this.#plot?.setSize({ width: container.clientWidth, height: HEIGHT })).observe(
      container,
    );
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#plot?.redraw());
  }

  /**
   * Draw a record soon; many calls make few drawings.
   * @param {LatencyRecord} record
   */
  show(record) {
    this.#record = record;
    if (this.#due) return;
    this.#due = window.setTimeout(() => {
      this.#due = 0;
      requestAnimationFrame(() => this.#draw());
    }, INTERVAL);
  }

  async #draw() {
    const record = this.#record;
    if (!record) return;
    if (!this.#plot) {
      const { default: uPlot } = await import("../../vendor/uPlot.esm.js");
      this.#plot ??= new uPlot(this.#options(), [[], [], []], this.container);
    }
    this.#plot.setData([record.times, record.runs, record.medians]);
  }

  /** @returns {import("../../vendor/uPlot.esm.js").Options} */
  #options() {
    const color = (/** @type {string} */ name) => () =>
      getComputedStyle(this.container).getPropertyValue(name);
    const font = `12px ${getComputedStyle(this.container).fontFamily}`;
    const axis = {
      stroke: color("--ink-soft"),
      font,
      grid: { stroke: color("--rule"), width: 1 },
      ticks: { show: false },
    };
    return {
      width: this.container.clientWidth,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false } },
      legend: { show: false },
      scales: {
        x: {
          time: false,
          range: (_, min, max) => [Math.min(min ?? 0, 0), Math.max(max ?? 1, (min ?? 0) + 1)],
        },
        // A single run that something else disturbed must not flatten the curve: its dot may lie outside.
        y: {
          range: (plot, _, max) => [0, (Math.max(...(plot.data[2] ?? []).map(Number)) || max || 1) * 1.3],
        },
      },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((tick) => `${tick} s`), size: 32 },
        { ...axis, values: (_, ticks) => ticks.map((tick) => `${format.number(tick)} ms`), size: 68, space: 36 },
      ],
      series: [
        {},
        {
          paths: () => null,
          points: { show: true, size: 4, width: 0, fill: color("--dot"), stroke: color("--dot") },
        },
        { stroke: color("--accent"), width: 2, points: { show: false } },
      ],
      hooks: {
        setCursor: [(plot) => this.#showReadout(plot)],
        drawAxes: [(plot) => this.#drawSwaps(plot)],
      },
    };
  }

  /** @param {Plot} plot */
  #showReadout({ cursor, data }) {
    const index = cursor.idx;
    const [second, ms] = typeof index === "number" ? [data[0][index], data[1]?.[index]] : [];
    this.readout.textContent =
      second === undefined ? "" : `${second.toFixed(1)} s: ${format.milliseconds(ms)}`;
  }

  /** @param {Plot} plot */
  #drawSwaps(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = getComputedStyle(this.container).getPropertyValue("--swap");
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    for (const second of this.#record?.swaps ?? []) {
      const x = Math.round(plot.valToPos(second, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
    }
    ctx.stroke();
    ctx.restore();
  }

  clear() {
    this.#record = null;
    this.#plot?.destroy();
    this.#plot = null;
  }
}
