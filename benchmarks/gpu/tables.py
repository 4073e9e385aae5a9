"""Tables of results/gpu.json. Needs Python alone: it runs before the package is built.

A figure that was not measured shows as a dash. The caption says whether it failed or time ran out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.common import line, rule

Row = dict[str, Any]


def _ours(row: Row, name: str) -> float:
    return row["images_per_second"][f"dsm_ext {name}"]["median"]


def _to(peer: str, name: str) -> Callable[[Row], float]:
    """Our speed divided by a peer's speed, of the run in which both took turns."""

    def ratio(row: Row) -> float:
        run = row["images_per_second"] if "eager" in peer else row["peers"][peer]
        rates = run if "eager" in peer else run["images_per_second"]
        return rates[f"dsm_ext {name}"]["median"] / rates[peer]["median"]

    return ratio


def _over_arithmetic(row: Row) -> float:
    return _ours(row, "dsm") / _ours(row, "dense") / (row["gmacs"]["dense"] / row["gmacs"]["dsm"])


def _merging(row: Row) -> float:
    kernels = row["kernels"].items()
    return 100 * sum(share for name, share in kernels if any(part in name for part in MERGING))


def _bias(row: Row) -> float:
    """The time that the log sizes add to attention, in % of the forward."""
    with_it, without = row["stages"]["dsm"], row["stages"]["dsm unbiased"]
    return 100 * (with_it["attention"] - without["attention"]) / sum(with_it.values())


# Parts of the names of the kernels that match and merge. The matching kernel also computes the mean
# over the heads. The merging kernel also computes sizes, their logarithms and the next norm. Dense
# blocks need that norm too, so the share is an upper bound.
MERGING = ("match_kernel", "merge_kernel")

# A line's label, its figure of a row, and the figure's decimals.
LINES: list[tuple[str, Callable[[Row], float], int]] = [
    ("dense, images/s", lambda r: _ours(r, "dense"), 0),
    ("dense, to timm compiled", _to("timm compiled", "dense"), 2),
    ("dense, to timm TensorRT", _to("timm tensorrt", "dense"), 2),
    ("dense, to timm eager", _to("timm eager", "dense"), 2),
    ("DSM, images/s", lambda r: _ours(r, "dsm"), 0),
    ("DSM, to ours dense and to the ratio of multiply-adds", _over_arithmetic, 2),
    ("DSM, to timm compiled", _to("timm compiled", "dsm"), 2),
    ("DSM, to the reference compiled", _to("reference compiled", "dsm"), 2),
    ("DSM, to the reference as a graph", _to("reference graph", "dsm"), 2),
    ("matching and merging, % of kernels' time", _merging, 1),
    ("the log-size bias, % of DSM's time", _bias, 1),
    ("host time of a call, us", lambda r: 1e6 * r["host_seconds"], 0),
    ("DSM, ms a batch", lambda r: 1e3 * r["batch"] / _ours(r, "dsm"), 2),
    ("error, to timm's error", lambda r: r["error"]["dsm_ext"] / r["error"]["timm"], 2),
]


def gpu(result: Row) -> str:
    """The tables of results/gpu.json and a caption, in Markdown."""
    bench = result.get("benchmark", {})
    rows = sorted(bench.get("rows", []), key=lambda r: ("SBL".index(r["size"]), r["batch"]))
    lines = [line("", [f"{row['size']}, {row['batch']}" for row in rows]), rule(len(rows))]
    for label, figure, digits in LINES:
        cells = [_cell(figure, row, digits) for row in rows]
        if any(cell != "–" for cell in cells):
            lines.append(line(label, cells))
    return "\n".join([*lines, "", *_stages(rows), "", _caption(result)])


def _cell(figure: Callable[[Row], float], row: Row, digits: int) -> str:
    try:
        return f"{figure(row):.{digits}f}"
    except KeyError:  # the figure was not measured
        return "–"


def _stages(rows: list[Row]) -> list[str]:
    """The share of each stage in a forward of 256 images, dense and with DSM, in %."""
    rows = [row for row in rows if row["batch"] == 256 and "stages" in row]
    if not rows:
        return []
    columns = [(row, kind) for row in rows for kind in ("dense", "dsm")]
    heads = [f"{row['size']}, {kind}" for row, kind in columns]
    lines = [line("% of the time at 256", heads), rule(len(columns))]
    for stage in dict.fromkeys(s for row in rows for s in row["stages"]["dsm"]):
        cells = []
        for row, kind in columns:
            seconds = row["stages"][kind]
            share = 100 * seconds.get(stage, 0) / sum(seconds.values())
            cells.append(f"{share:.1f}" if stage in seconds else "")
        lines.append(line(stage, cells))
    return lines


def _caption(result: Row) -> str:
    device, bench = result["device"], result.get("benchmark", {"step": None})
    versions = bench.get("versions", {})
    parts = [
        f"{device['name']}, driver {device['driver']}, CUDA {device['cuda']}",
        f"torch {versions.get('torch')}, timm {versions.get('timm')}, {bench.get('dtype')}",
        _tests(result.get("tests")),
        *(f"{tool}: {_said(result.get(tool))}" for tool in ("memcheck", "racecheck")),
        "stages are measured one after the other; matching runs beside attention in a CUDA graph "
        "of few images",
    ]
    if bench["step"] is None or bench["step"]["status"] != 0:
        parts.append(f"the benchmark: {_said(bench['step'])}")
    for row in bench.get("rows", []):
        at = f"{row['size']}, {row['batch']}"
        parts += [f"{name} on {at}: {_last(said)}" for name, said in row["failed"].items()]
        for peer, run in row["peers"].items():
            if "failed" in run:
                parts.append(f"{peer} on {at}: {_last(run['failed'])}")
            elif run["graphs_left_out"]:
                parts.append(f"{peer} on {at}: {run['graphs_left_out']} parts without a CUDA graph")
    if bench.get("left_out"):
        parts.append(f"no time for {', '.join(bench['left_out'])}")
    return "; ".join(parts) + "."


def _tests(step: Row | None) -> str:
    if step is None or "passed" not in step:
        return f"tests: {_said(step)}"
    ended = "" if step["status"] is not None else ", not all in time"
    return f"tests: {step['passed']} passed, {len(step['failed'])} failed{ended}"


def _said(step: Row | None) -> str:
    if step is None or "seconds" not in step:
        return "not run"
    if "Internal Sanitizer Error" in step.get("output", ""):
        return "ended with an internal error of its own"
    if step["status"] is None:
        return f"not ready after {step['seconds']:.0f} s"
    return {0: "no fault", 9: "faults"}.get(step["status"]) or f"failed: {_last(step['output'])}"


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["no reason given"])[-1][:200]
