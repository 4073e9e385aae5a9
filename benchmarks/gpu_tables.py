"""What a GPU gave, from results/gpu.json, beside the goals. Needs nothing but the file.

What was not measured, for want of time or since it failed, has a dash and stands in the caption.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def _ours(row: Row, name: str) -> float:
    return row["images_per_second"][f"dsm_ext {name}"]["median"]


def _to(peer: str, name: str) -> Callable[[Row], float]:
    """Ours to a peer's, of the run in which they were in turn."""

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
    """What the sizes add to attention, as a share of the forward."""
    with_it, without = row["stages"]["dsm"], row["stages"]["dsm unbiased"]
    return 100 * (with_it["attention"] - without["attention"]) / sum(with_it.values())


# Parts of the names of what matching and merging cost: the mean over the heads is the one's, the
# sizes and their logarithms are the other's, and so is the norm behind it, which dense blocks have
# too: the share is rather too large.
MERGING = ("match_kernel", "merge_kernel")

# Label, figure of a row, digits, goal and least.
LINES: list[tuple[str, Callable[[Row], float], int, str]] = [
    ("dense, images/s", lambda r: _ours(r, "dense"), 0, ""),
    ("dense to timm compiled", _to("timm compiled", "dense"), 2, "1.15 / 1 at 256"),
    ("dense to timm TensorRT", _to("timm tensorrt", "dense"), 2, ""),
    ("dense to timm eager", _to("timm eager", "dense"), 2, "4 / 2.5 at 1"),
    ("DSM, images/s", lambda r: _ours(r, "dsm"), 0, ""),
    ("DSM to our dense, to the arithmetic saved", _over_arithmetic, 2, "0.97 / 0.9 at 256"),
    ("DSM to timm compiled", _to("timm compiled", "dsm"), 2, "1.8 (L 1.6) / 1.5 at 256"),
    ("DSM to its reference compiled", _to("reference compiled", "dsm"), 2, "1.5 / 1.2"),
    ("DSM to its reference as a graph", _to("reference graph", "dsm"), 2, ""),
    ("matching and merging, % of kernels' time", _merging, 1, "with the bias 3 / 6 at 256"),
    ("the bias, % of DSM's time", _bias, 1, ""),
    ("host time of a call, us", lambda r: 1e6 * r["host_seconds"], 0, "10 / 30 at 1"),
    ("DSM, ms a batch", lambda r: 1e3 * r["batch"] / _ours(r, "dsm"), 2, "0.3 / 0.5 for S at 1"),
    ("error to timm's", lambda r: r["error"]["dsm_ext"] / r["error"]["timm"], 2, "at most 2"),
]  # fmt: skip


def gpu(result: Row) -> str:
    bench = result.get("benchmark", {})
    rows = sorted(bench.get("rows", []), key=lambda r: ("SBL".index(r["size"]), r["batch"]))
    heads = [f"{row['size']}, {row['batch']}" for row in rows]
    lines = [
        f"|  | {' | '.join(heads)} | goal / least |",
        f"|---|{'---:|' * len(rows)}---|",
    ]
    for label, figure, digits, goal in LINES:
        cells = [_cell(figure, row, digits) for row in rows]
        if any(cell != "–" for cell in cells):
            lines.append(f"| {label} | {' | '.join(cells)} | {goal} |")
    return "\n".join([*lines, "", *_stages(rows), "", _caption(result)])


def _cell(figure: Callable[[Row], float], row: Row, digits: int) -> str:
    try:
        return f"{figure(row):.{digits}f}"
    except KeyError:  # it was not measured
        return "–"


def _stages(rows: list[Row]) -> list[str]:
    """What each stage takes of a forward at the largest batch, dense and with DSM, in %."""
    rows = [row for row in rows if row["batch"] == 256 and "stages" in row]
    if not rows:
        return []
    columns = [(row, kind) for row in rows for kind in ("dense", "dsm")]
    heads = [f"{row['size']}, {kind}" for row, kind in columns]
    lines = [f"| % of the time at 256 | {' | '.join(heads)} |", f"|---|{'---:|' * len(columns)}"]
    for stage in dict.fromkeys(s for row in rows for s in row["stages"]["dsm"]):
        cells = []
        for row, kind in columns:
            seconds = row["stages"][kind]
            share = 100 * seconds.get(stage, 0) / sum(seconds.values())
            cells.append(f"{share:.1f}" if stage in seconds else "")
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return lines


def _caption(result: Row) -> str:
    device, bench = result["device"], result.get("benchmark", {"step": None})
    versions = bench.get("versions", {})
    parts = [
        f"{device['name']}, driver {device['driver']}, CUDA {device['cuda']}",
        f"torch {versions.get('torch')}, timm {versions.get('timm')}, {bench.get('dtype')}",
        _tests(result.get("tests")),
        *(f"{tool}: {_said(result.get(tool))}" for tool in ("memcheck", "racecheck")),
        "stages one behind the other, without a graph, in which matching is beside attention",
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
    if step["status"] is None:
        return f"not ready after {step['seconds']:.0f} s"
    return {0: "no fault", 9: "faults"}.get(step["status"]) or f"failed: {_last(step['output'])}"


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["no reason given"])[-1][:200]
