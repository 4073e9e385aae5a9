"""What a GPU gave, from results/gpu.json, beside the goals. Needs nothing but the file."""

from __future__ import annotations

from typing import Any


def _median(row: dict[str, Any], name: str) -> float | None:
    rate = row["images_per_second"].get(name)
    return rate["median"] if rate else None


def _ratio(row: dict[str, Any], name: str, peer: str) -> float | None:
    ours, other = _median(row, name), _median(row, peer)
    return ours / other if ours and other else None


def _milliseconds(row: dict[str, Any]) -> float | None:
    rate = _median(row, "dsm_ext dsm")
    return 1e3 * row["batch"] / rate if rate else None


def _over_arithmetic(row: dict[str, Any]) -> float | None:
    faster = _ratio(row, "dsm_ext dsm", "dsm_ext dense")
    return faster / (row["gmacs"]["dense"] / row["gmacs"]["dsm"]) if faster else None


def _bias(row: dict[str, Any]) -> float:
    """What the sizes add to attention, as a share of the forward."""
    with_it, without = row["stages"]["dsm"], row["stages"]["dsm unbiased"]
    return (with_it["attention"] - without["attention"]) / sum(with_it.values())


# Label, figure of a row, digits, goal and least.
LINES = [
    ("dense, images/s", lambda r: _median(r, "dsm_ext dense"), 0, ""),
    ("dense to timm compiled", lambda r: _ratio(r, "dsm_ext dense", "timm compiled"), 2,
     "1.15 / 1 at 256"),
    ("dense to timm TensorRT", lambda r: _ratio(r, "dsm_ext dense", "timm tensorrt"), 2, ""),
    ("dense to timm eager", lambda r: _ratio(r, "dsm_ext dense", "timm eager"), 2, "4 / 2.5 at 1"),
    ("DSM, images/s", lambda r: _median(r, "dsm_ext dsm"), 0, ""),
    ("DSM to our dense, to the arithmetic saved", _over_arithmetic, 2, "0.97 / 0.9 at 256"),
    ("DSM to timm compiled", lambda r: _ratio(r, "dsm_ext dsm", "timm compiled"), 2,
     "1.8 (L 1.6) / 1.5 at 256"),
    ("DSM to its reference compiled", lambda r: _ratio(r, "dsm_ext dsm", "reference compiled"), 2,
     "1.5 / 1.2"),
    ("matching and merging, % of DSM's time", lambda r: 100 * r["merging_share"], 1,
     "with the bias 3 / 6 at 256"),
    ("the bias, % of DSM's time", lambda r: 100 * _bias(r), 1, ""),
    ("host time of a call, us", lambda r: 1e6 * r["host_seconds"], 0, "10 / 30 at 1"),
    ("DSM, ms a batch", _milliseconds, 2, "0.3 / 0.5 for S at 1"),
]  # fmt: skip


def gpu(result: dict[str, Any]) -> str:
    rows = sorted(
        result["benchmark"].get("rows", []), key=lambda r: ("SBL".index(r["size"]), r["batch"])
    )
    heads = [f"{row['size']}, {row['batch']}" for row in rows]
    lines = [
        f"|  | {' | '.join(heads)} | goal / least |",
        f"|---|{'---:|' * len(rows)}---|",
    ]
    for label, figure, digits, goal in LINES:
        values = [figure(row) for row in rows]
        if any(value is not None for value in values):
            cells = ["–" if value is None else f"{value:.{digits}f}" for value in values]
            lines.append(f"| {label} | {' | '.join(cells)} | {goal} |")
    return "\n".join([*lines, "", *_stages(rows), "", _caption(result)])


def _stages(rows: list[dict[str, Any]]) -> list[str]:
    """What each stage takes of a forward, dense and with DSM, in %."""
    columns = [(row, kind) for row in rows for kind in ("dense", "dsm")]
    heads = [f"{row['size']}, {row['batch']}, {kind}" for row, kind in columns]
    lines = [f"| % of the time | {' | '.join(heads)} |", f"|---|{'---:|' * len(columns)}"]
    for stage in dict.fromkeys(s for row in rows for s in row["stages"]["dsm"]):
        cells = []
        for row, kind in columns:
            seconds = row["stages"][kind]
            share = 100 * seconds.get(stage, 0) / sum(seconds.values())
            cells.append(f"{share:.1f}" if stage in seconds else "")
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return lines


def _caption(result: dict[str, Any]) -> str:
    device, tests, bench = result["device"], result["tests"], result["benchmark"]
    versions = bench.get("versions", {})
    parts = [
        f"{device['name']}, driver {device['driver']}, CUDA {device['cuda']}",
        f"torch {versions.get('torch')}, timm {versions.get('timm')}, {bench.get('dtype')}",
        f"tests: {tests.get('passed', 0)} passed, {len(tests.get('failed', []))} failed",
        *(f"{tool}: {_said(result[tool])}" for tool in ("memcheck", "racecheck")),
    ]
    for row in bench.get("rows", []):
        for peer, said in row["failed"].items():
            parts.append(f"{peer} failed on {row['size']}, {row['batch']}: {said.splitlines()[0]}")
    if bench.get("left_out"):
        parts.append(f"no time for {', '.join(bench['left_out'])}")
    return "; ".join(parts) + "."


def _said(step: dict[str, Any]) -> str:
    if step["status"] == 0:
        return "no fault"
    return "not run" if step["status"] is None else "faults"
