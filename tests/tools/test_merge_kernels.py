"""`kernels merge`: contributed kernel files become one, without what is off and without what one alone claims."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from nnjit.tune.kernel_file import FORMAT, VERSION, parse
from nnjit_build.cli import main
from nnjit_build.merge_kernels import KEPT

CPU = {"device": "wasm", "threads": 2, "relaxedSimd": True}
TASK = "0123456789abcdef0123"
A, B, C, D = "tile o0=6 o1=8; vector o1", "tile o0=4 o1=8; vector o1", "tile o0=3 o1=16; vector o1", "plain"


def file_of(folder: Path, name: str, *findings: tuple[str, float], **changes: Any) -> Path:
    """A contribution of (schedule, ms) for one task."""
    found = [{"schedule": s, "ms": ms, "default": 1.0} for s, ms in findings]
    group = {"generator": "0.1.0", "device": CPU, "tasks": {TASK: found}, **changes}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"format": FORMAT, "version": VERSION, "groups": [group]}), encoding="utf-8")
    return path


def merged(folder: Path, *files: Path, base: Path | None = None) -> list[dict]:
    out = folder / "out.json"
    arguments = ["kernels", "merge", *map(str, files), "--out", str(out)]
    assert main([*arguments, *(["--base", str(base)] if base else [])]) == 0
    parsed = parse(out.read_text(encoding="utf-8"))
    assert parsed.refused == []
    return parsed.groups


def choices(groups: list[dict]) -> dict[str, tuple[float, int]]:
    """Schedule → milliseconds and count, in order."""
    (group,) = groups
    return {f["schedule"]: (f["ms"], f["count"]) for f in group["tasks"][TASK]}


def test_schedules_are_counted_and_times_are_medians(tmp_path: Path) -> None:
    files = [
        file_of(tmp_path, "a", (A, 0.5)),
        file_of(tmp_path, "b", (A, 0.6), (B, 0.65)),
        file_of(tmp_path, "c", (A, 0.7)),
        file_of(tmp_path, "d", (B, 0.55)),
    ]
    found = choices(merged(tmp_path, *files))
    assert list(found) == [A, B]
    assert found[A] == (0.6, 3)
    assert found[B] == (pytest.approx(0.6), 2)


def test_the_result_does_not_depend_on_the_order_of_the_files(tmp_path: Path) -> None:
    files = [
        file_of(tmp_path, "a", (A, 0.5), (C, 0.7)),
        file_of(tmp_path, "b", (B, 0.5)),
        file_of(tmp_path, "c", (A, 0.51), (B, 0.5)),
    ]
    texts = set()
    for order in itertools.permutations(files):
        merged(tmp_path, *order)
        texts.add((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert len(texts) == 1


def test_a_time_far_from_the_others_is_dropped(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    times = [0.5, 0.52, 0.55, 0.6]
    files = [file_of(tmp_path, f"n{n}", (A, ms)) for n, ms in enumerate(times)]
    liar = file_of(tmp_path, "liar", (A, 0.001), (D, 0.0001))
    found = choices(merged(tmp_path, *files, liar))
    assert found == {A: (pytest.approx(0.535), 4)}
    said = capsys.readouterr().out
    assert f"{TASK} on" in said and "0.001 ms, where the median is" in said


def test_times_that_spread_are_all_kept(tmp_path: Path) -> None:
    times = [0.2, 0.35, 0.5, 0.9, 1.6]
    files = [file_of(tmp_path, f"n{n}", (A, ms)) for n, ms in enumerate(times)]
    assert choices(merged(tmp_path, *files)) == {A: (0.5, 5)}


def test_what_one_alone_has_is_dropped_where_the_others_agree(tmp_path: Path) -> None:
    agreeing = [file_of(tmp_path, f"n{n}", (A, 0.5 + n / 100)) for n in range(3)]
    alone = file_of(tmp_path, "alone", (B, 0.4))
    assert list(choices(merged(tmp_path, *agreeing, alone))) == [A]
    assert list(choices(merged(tmp_path, *agreeing[:2], alone))) == [A, B]


def test_only_the_best_few_are_kept(tmp_path: Path) -> None:
    schedules = [f"tile o0={n}" for n in range(1, 8)]
    files = [file_of(tmp_path, f"n{n}", *((s, 0.5) for s in schedules[n:])) for n in range(2)]
    found = choices(merged(tmp_path, *files))
    assert list(found) == schedules[1 : 1 + KEPT]


def test_the_same_file_twice_is_one_contributor(tmp_path: Path) -> None:
    first = file_of(tmp_path, "first", (A, 0.5))
    second = tmp_path / "second.json"
    second.write_bytes(first.read_bytes())
    assert choices(merged(tmp_path, first, second)) == {A: (0.5, 1)}


def test_counts_are_believed_of_the_base_alone(tmp_path: Path) -> None:
    content = {"schedule": B, "ms": 0.5, "default": 1.0, "count": 1000}
    claimed = file_of(tmp_path, "claimed", tasks={TASK: [content]})
    others = [file_of(tmp_path, f"n{n}", (A, 0.5 + n / 100)) for n in range(4)]
    assert list(choices(merged(tmp_path, *others, claimed))) == [A]
    found = choices(merged(tmp_path, *others, base=claimed))
    assert found == {B: (0.5, 1000), A: (pytest.approx(0.515), 4)}


def test_devices_and_generators_are_kept_apart_and_like_speeds_together(tmp_path: Path) -> None:
    def of(name: str, flops: float, **device: Any) -> Path:
        measured = {"flops": flops, "registers": 15}
        return file_of(tmp_path, name, (A, 0.5), device={**CPU, "measured": measured, **device})

    other = file_of(tmp_path, "other", (A, 0.5), generator="0.0.9")
    groups = merged(tmp_path, of("a", 60.0), of("b", 70.0), of("c", 130.0), of("d", 60.5, threads=4), other)
    kinds = [
        (g["generator"], g["device"]["threads"], g["device"].get("measured"), g["tasks"][TASK][0]["count"])
        for g in groups
    ]
    assert sorted(kinds, key=str) == [
        ("0.0.9", 2, None, 1),
        ("0.1.0", 2, {"flops": 128.0, "registers": 15}, 1),
        ("0.1.0", 2, {"flops": 64.0, "registers": 15}, 2),
        ("0.1.0", 4, {"flops": 64.0, "registers": 15}, 1),
    ]


def test_bad_records_are_named_with_their_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bad = file_of(tmp_path, "bad", (A, -1.0), (A, 0.5))
    assert choices(merged(tmp_path, bad)) == {A: (0.5, 1)}
    assert f'bad.json: left out: groups[0].tasks["{TASK}"][0]: ms is not' in capsys.readouterr().out


def test_a_file_that_is_none_ends_the_merge_and_leaves_the_old_one(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out.json"
    out.write_text("old", encoding="utf-8")
    (tmp_path / "notes.json").write_text("# Notes", encoding="utf-8")
    assert main(["kernels", "merge", str(tmp_path / "notes.json"), "--out", str(out)]) == 1
    assert "notes.json: The kernel file is not JSON" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "old"
