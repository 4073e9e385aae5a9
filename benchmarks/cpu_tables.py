"""The README's tables of results/cpu.json: goals, everyone's speed, memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpu_result import DENSE, MERGED, Group, find, goals, growth, merged_schedule

SIZES = {"tiny": "T", "small": "S", "base": "B", "large": "L"}
NONE = "–"


def cpu(result: dict[str, Any]) -> str:
    """What the project is held to, one column a model and batch, and where it was measured."""
    groups = result["models"]["groups"]
    threads, memory = (
        {_key(group): group for group in result.get(name, {}).get("groups", [])}
        for name in ("threads", "memory")
    )
    columns = [goals(group, threads.get(_key(group)), memory.get(_key(group))) for group in groups]
    rows: list[tuple[str, str, str, Callable[[float], str]]] = [
        ("dense, images/s", "dense", "", _count),
        ("dense to timm eager", "dense / timm", "", _ratio),
        ("dense to the best dense peer", "dense / best", "1.3 / 1.1", _ratio),
        ("dense, FLOP/s to the largest sgemm's", "dense / sgemm", "0.85 / 0.75", _ratio),
        ("DSM, images/s", "dsm", "", _count),
        ("DSM to our dense, to the arithmetic saved", "dsm / arithmetic", "1 / 0.95", _ratio),
        ("DSM to timm eager", "dsm / timm", "2.6 / 2.2", _ratio),
        ("DSM to its reference in PyTorch", "dsm / reference", "3 / 2", _ratio),
        ("DSM to the best run of its reference", "dsm / best", "1.5 / 1.2", _ratio),
        ("matching and merging, % of DSM's time", "merging", "2 / 4", lambda x: f"{100 * x:.1f}"),
        ("dense, all threads to one", "dense threads", "1.9 / 1.8", _ratio),
        ("DSM, all threads to one", "dsm threads", "1.9 / 1.8", _ratio),
        ("dense, memory to timm eager's", "dense memory", "0.5 / 0.8", _ratio),
        ("the same, frozen", "dense memory, frozen", "0.5 / 0.8", _ratio),
    ]
    names: dict[str, str] = {}  # of rivals, by the letter that marks them
    titles = [_title(group) for group in groups]
    lines = [_line("", [*titles, "goal / least"]), _rule(len(groups) + 1)]
    for label, name, goal, form in rows:
        cells = [_cell(column[name], form, names) for column in columns]
        if set(cells) != {NONE}:
            lines.append(_line(label, [*cells, goal]))
    notes = [f"{letter}: {rival}" for rival, letter in names.items()]
    schedule = merged_schedule(groups[0])
    notes += [f"DSM: `{schedule}`", _ceilings(groups), *_place(result["models"])]
    return "\n".join(lines) + "\n\n" + "; ".join(notes) + "."


def cpu_peers(result: dict[str, Any]) -> str:
    """Images a second of everyone."""
    groups = result["models"]["groups"]
    lines = [_line("images/s", [_title(group) for group in groups]), _rule(len(groups))]
    for merged, peers in ((False, ("dsm_ext", *DENSE)), (True, ("dsm_ext", *MERGED))):
        for peer in peers:
            cells = [_speed(g, peer, merged_schedule(g) if merged else "dense") for g in groups]
            if set(cells) != {NONE}:
                lines.append(_line(f"{peer}, {'DSM' if merged else 'dense'}", cells))
    return "\n".join(lines)


def cpu_memory(result: dict[str, Any]) -> str:
    """MiB that model and forward add to the process at their peak, and their ratio to timm's."""
    groups = result["memory"]["groups"]
    lines = [_line("MiB (to timm eager)", [_title(group) for group in groups])]
    lines.append(_rule(len(groups)))
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
            lines.append(_line(label, cells))
    return "\n".join(lines)


def _key(group: Group) -> tuple[str, int, int]:
    return group["model"], group["batch"], group["img_size"]


def short(model: str) -> str:
    """DeiT-S for deit_small_patch16_224."""
    family, _, rest = model.partition("_")
    size = SIZES.get(rest.split("_")[0])
    return f"{ {'deit': 'DeiT', 'vit': 'ViT'}.get(family, family) }-{size}" if size else model


def _title(group: Group) -> str:
    return f"{short(group['model'])}, {group['batch']}"


def _line(first: str, cells: list[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _rule(columns: int) -> str:
    return "|---" + "|---:" * columns + "|"


def _count(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _cell(value: Any, form: Callable[[float], str], names: dict[str, str]) -> str:
    if value is None:
        return NONE
    if isinstance(value, tuple):
        value, rival = value
        letter = names.setdefault(rival, "abcdefghij"[len(names)])
        return f"{form(value)} {letter}"
    return form(value)


def _speed(group: Group, peer: str, schedule: str) -> str:
    for row in group["rows"]:
        if row["peer"] == peer and row.get("schedule") == schedule:
            if "not_installed" in row:
                return "not installed"
            return _count(row["rate"]["median"]) if "rate" in row else "failed"
    return NONE


def _ceilings(groups: list[Group]) -> str:
    """The machine's, as the median group saw them."""
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
    machine, versions = section["machine"], section["versions"]
    named = [
        f"{name} {versions[name]}"
        for name in ("torch", "timm", "onnxruntime", "openvino")
        if versions.get(name)
    ]
    where = f"{machine['processor']}, {machine['threads']} threads, {machine['capability']}"
    return [f"float32; {where}", ", ".join(named), f"medians of {section['settings']['rounds']}"]
