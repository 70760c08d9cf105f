"""Draw a chart: `python draw.py curve|ratios FILE.svg < data.json`. Runs in the environment with matplotlib that charts.py makes."""

from __future__ import annotations

import json
import sys
from typing import Any

import matplotlib

matplotlib.use("svg")
# Small files that look the same after another run with the same numbers: text stays text, names are not random.
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "nnjit", "font.size": 9}
from matplotlib import pyplot  # noqa: E402  (after the choice of what to draw with)
from matplotlib.figure import Figure  # noqa: E402

_COLOURS = ("#54aeff", "#0969da", "#1a7f37", "#bf8700")

_BINS = 150
"""Stretches of time of which the middle and the spread are drawn: there may be ten thousand inferences."""


def curve(row: dict[str, Any]) -> Figure:
    """Latency over time; `row` is one of curve.py."""
    figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    for n, swap in enumerate(row["swaps"]):
        label = "a faster kernel is swapped in" if n == 0 else None
        axes.axvline(swap, color="#d8dee4", linewidth=0.8, label=label, zorder=0)
    seconds, low, middle, high = _summary(row["points"])
    axes.fill_between(seconds, low, high, color="#54aeff", alpha=0.35, linewidth=0)
    axes.plot(
        seconds, middle, color="#0969da", linewidth=1, label="while tuning: median, 10 to 90 % of inferences"
    )
    at = [0.0, *(one["at"] for one in row["checkpoints"])]
    paused = [row["untuned_ms"], *(row["untuned_ms"] * one["relative"] for one in row["checkpoints"])]
    axes.plot(at, paused, "o-", color="#1a7f37", markersize=3.5, linewidth=1, label="with tuning paused")
    label = f"within 3 % of the final {row['tuned_ms']:.3g} ms: {row['seconds_to_final']:.0f} s"
    axes.axvline(row["seconds_to_final"], color="#1a7f37", linewidth=1, linestyle=":", label=label)
    # A few inferences wait for a swap or another process; they must not flatten the rest.
    axes.set_ylim(0, 1.15 * max(*sorted(high)[: int(0.98 * len(high)) or 1], *paused))
    axes.set_xlim(0, None)
    axes.set_xlabel("seconds of tuning after the first inference")
    axes.set_ylabel("latency, ms")
    threads = f", threads: {row['threads']}" if row.get("device") == "wasm" else ""
    axes.set_title(f"{row['model']} ({row.get('device')}{threads})", fontsize=10)
    axes.legend(fontsize=7, loc="lower right")
    return figure


def ratios(series: list[dict[str, Any]]) -> Figure:
    """Bars of ratios, a row for each model and a bar in it for each of `series`: {title, mean (geometric), ratios: model → ratio}."""
    models = list(dict.fromkeys(model for one in series for model in one["ratios"]))
    height = 0.8 / len(series)
    figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.27 * len(models)), layout="constrained")
    for n, one in enumerate(series):
        at = [models.index(model) + (n - (len(series) - 1) / 2) * height for model in one["ratios"]]
        label = f"{one['title']}: mean {one['mean']:.2f}"
        bars = axes.barh(
            at, list(one["ratios"].values()), height, color=_COLOURS[n % len(_COLOURS)], label=label
        )
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
    axes.axvline(1, color="#57606a", linewidth=0.8)
    axes.set_yticks(range(len(models)), models)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel("times as fast as the rival")
    axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(series), frameon=False)
    return figure


def _summary(points: list[list[float]]) -> tuple[list[float], list[float], list[float], list[float]]:
    """Of each stretch of time: its middle, and the tenth, half and nine tenths of its inferences, sorted."""
    end = points[-1][0]
    bins: dict[int, list[float]] = {}
    for at, ms in points:
        bins.setdefault(int(_BINS * at / end), []).append(ms)
    rows = []
    for n, times in sorted(bins.items()):
        times.sort()
        pick = [times[int(part * (len(times) - 1))] for part in (0.1, 0.5, 0.9)]
        rows.append(((n + 0.5) * end / _BINS, *pick))
    at, low, middle, high = (list(column) for column in zip(*rows, strict=True))
    return at, low, middle, high


if __name__ == "__main__":
    kind, path = sys.argv[1:]
    chart = {"curve": curve, "ratios": ratios}[kind](json.load(sys.stdin))
    chart.savefig(path, metadata={"Date": None})
