"""Tables of results/cpu.json: speed and memory in float32, for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.common import line, machine, rule, versions
from benchmarks.cpu.result import (
    DENSE,
    MERGED,
    Group,
    Row,
    figures,
    find,
    growth,
    merged_schedule,
)

SIZES = {"tiny": "T", "small": "S", "base": "B", "large": "L"}
NAMES = {
    "timm eager": "timm",
    "timm compiled": "timm, compiled",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "reference": "plain PyTorch",
    "reference compiled": "PyTorch, compiled",
    "reference onnxruntime": "ONNX Runtime",
    "reference openvino": "OpenVINO",
}
PACKAGES = ("torch", "timm", "onnxruntime", "openvino")
NONE = "–"


def cpu(result: dict[str, Any]) -> str:
    """Ours beside the best peers, one column for each model and batch."""
    groups = result["models"]["groups"]
    threads, memory = (
        {_key(group): group for group in result.get(name, {}).get("groups", [])}
        for name in ("threads", "memory")
    )
    columns = [
        figures(group, threads.get(_key(group)), memory.get(_key(group))) for group in groups
    ]
    rows: list[tuple[str, str, Callable[[float], str]]] = [
        ("dense, images/s", "dense", count),
        ("dense, to timm eager", "dense / timm", _ratio),
        ("dense, to the best dense peer", "dense / best", _ratio),
        ("dense, FLOP/s to the largest sgemm's", "dense / sgemm", _ratio),
        ("DSM, images/s", "dsm", count),
        ("DSM, to ours dense", "dsm / dense", _ratio),
        ("the same, to the ratio of multiply-adds", "dsm / arithmetic", _ratio),
        ("DSM, to timm eager", "dsm / timm", _ratio),
        ("DSM, to the PyTorch reference", "dsm / reference", _ratio),
        ("DSM, to the best peer with DSM", "dsm / best", _ratio),
        ("matching and merging, % of DSM's time", "merging", lambda x: f"{100 * x:.1f}"),
        ("dense, all threads to one thread", "dense threads", _ratio),
        ("DSM, all threads to one thread", "dsm threads", _ratio),
        ("dense, memory to timm eager's", "dense memory", _ratio),
        ("the same, frozen", "dense memory, frozen", _ratio),
    ]
    lines = [line("", [title(group) for group in groups]), rule(len(groups))]
    for label, name, form in rows:
        label, cells = _cells(label, [column[name] for column in columns], form)
        if set(cells) != {NONE}:
            lines.append(line(label, cells))
    notes = [f"DSM: `{merged_schedule(groups[0])}`", _ceilings(groups), *_place(result["models"])]
    return table(lines, notes)


def cpu_peers(result: dict[str, Any]) -> str:
    """Images a second of every peer."""
    groups = result["models"]["groups"]
    lines = [line("images/s", [title(group) for group in groups]), rule(len(groups))]
    for merged, peers in ((False, ("dsm_ext", *DENSE)), (True, ("dsm_ext", *MERGED))):
        for peer in peers:
            cells = [_speed(g, peer, merged_schedule(g) if merged else "dense") for g in groups]
            if set(cells) != {NONE}:
                label = NAMES.get(peer, peer)
                lines.append(line(f"{'DSM' if merged else 'dense'}: {label}", cells))
    return "\n".join(lines)


def cpu_memory(result: dict[str, Any]) -> str:
    """MiB that model and forward add to the process at their peak, and their ratio to timm's."""
    groups = result["memory"]["groups"]
    lines = [line("MiB (to timm eager)", [title(group) for group in groups]), rule(len(groups))]
    for label, peer, merged in (
        ("timm eager", "timm eager", False),
        ("dense", "dsm_ext", False),
        ("DSM", "dsm_ext", True),
        ("dense, frozen", "dsm_ext frozen", False),
        ("DSM, frozen", "dsm_ext frozen", True),
    ):
        cells = []
        for group in groups:
            schedule = merged_schedule(group) if merged else "dense"
            row, part = find(group, peer, schedule), growth(group, peer, schedule)
            cell = NONE if row is None else f"{row['growth'] / 2**20:.0f}"
            if part is not None and peer != "timm eager":
                cell += f" ({part:.2f})"
            cells.append(cell)
        if set(cells) != {NONE}:
            lines.append(line(label, cells))
    return "\n".join(lines)


def short(model: str) -> str:
    """DeiT-S for deit_small_patch16_224."""
    family, _, rest = model.partition("_")
    size = SIZES.get(rest.split("_")[0])
    return f"{ {'deit': 'DeiT', 'vit': 'ViT'}.get(family, family) }-{size}" if size else model


def _key(group: Group) -> tuple[str, int, int]:
    return group["model"], group["batch"], group["img_size"]


def title(group: Group) -> str:
    return f"{short(group['model'])}, {group['batch']}"


def count(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _cells(label: str, values: list[Any], form: Callable[[float], str]) -> tuple[str, list[str]]:
    """A row's label and cells. A peer's name stands in the label where it is the same in all."""
    rivals = {value[1] for value in values if isinstance(value, tuple)}
    if len(rivals) == 1:
        (rival,) = rivals
        label += f" ({NAMES.get(rival, rival)})"
    cells = []
    for value in values:
        if value is None:
            cells.append(NONE)
        elif not isinstance(value, tuple):
            cells.append(form(value))
        elif len(rivals) == 1:
            cells.append(form(value[0]))
        else:
            cells.append(f"{form(value[0])} ({NAMES.get(value[1], value[1])})")
    return label, cells


def speed_cell(row: Row | None) -> str:
    """Images a second; or why there are none."""
    if row is None:
        return NONE
    if "not_installed" in row:
        return "not installed"
    return count(row["rate"]["median"]) if "rate" in row else "failed"


def _speed(group: Group, peer: str, schedule: str) -> str:
    found = (r for r in group["rows"] if (r["peer"], r.get("schedule")) == (peer, schedule))
    return speed_cell(next(found, None))


def _ceilings(groups: list[Group]) -> str:
    """The machine's ceilings: of each the median over the groups."""
    parts = []
    for peer, text in (
        ("sgemm oneDNN", "sgemm {:.0f} GFLOP/s by oneDNN"),
        ("sgemm torch.mm", "sgemm {:.0f} GFLOP/s by torch.mm"),
        ("copy", "copies {:.0f} GB/s"),
    ):
        rows = [row for group in groups if (row := find(group, peer)) is not None]
        rates = sorted(row["rate"]["median"] for row in rows)
        if rates:
            parts.append(text.format(rates[len(rates) // 2] / 1e9))
    return ", ".join(parts) or "no ceilings measured"


def _place(section: dict[str, Any]) -> list[str]:
    rounds = section["settings"]["rounds"]
    return [
        f"float32; {machine(section)}",
        versions(section, *PACKAGES),
        f"medians of {rounds} rounds",
    ]


def table(lines: list[str], notes: list[str]) -> str:
    return "\n".join(lines) + "\n\n" + "; ".join(notes) + "."
