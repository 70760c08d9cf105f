"""Draw a curve: `python draw_curve.py FILE.svg < row.json`. Runs in the environment with matplotlib that curve.py makes."""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  (after the choice of what to draw with)


def main(path: str) -> None:
    row = json.load(sys.stdin)
    figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    seconds, latency = zip(*row["points"], strict=True)
    for n, swap in enumerate(row["swaps"]):
        label = "a faster kernel is swapped in" if n == 0 else None
        axes.axvline(swap, color="#d0d7de", linewidth=0.8, label=label)
    axes.plot(seconds, latency, ".", markersize=2.5, color="#0969da", label="inference while tuning goes on")
    axes.axhline(
        row["final_ms"], color="#1a7f37", linewidth=1, label=f"final, undisturbed: {row['final_ms']:.3g} ms"
    )
    if row["seconds_to_final"] is not None:
        label = f"within 3 %: {row['seconds_to_final']:.1f} s"
        axes.axvline(row["seconds_to_final"], color="#1a7f37", linewidth=1, linestyle=":", label=label)
    # A few inferences wait for a swap or another process; they must not flatten the rest.
    axes.set_ylim(0, 1.3 * sorted(latency)[int(0.98 * (len(latency) - 1))])
    axes.set_xlim(0, None)
    axes.set_xlabel("seconds after the first inference")
    axes.set_ylabel("latency, ms")
    threads = f", threads: {row['threads']}" if row.get("device") == "wasm" else ""
    axes.set_title(f"{row['model']} ({row.get('device')}{threads})", fontsize=10)
    axes.legend(fontsize=7, loc="upper right")
    figure.savefig(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
