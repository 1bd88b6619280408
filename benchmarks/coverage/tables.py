"""Results of the zoo as Markdown: counts first, then a line for each model, then what is pinned."""

from __future__ import annotations

import platform
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from zoo_checks import failures
from zoo_models import SETS, Entry

Row = Mapping[str, Any]
Rows = Mapping[tuple[str, str], Row]


def markdown(models: Mapping[str, Entry], rows: Rows) -> str:
    """All tables. `rows` holds what was found, by model and part."""
    known = [e for e in models.values() if any((e.name, part) in rows for part in _PARTS)]
    whole = [e for e in known if not _refused(rows, e)]
    return "\n\n".join(
        [
            f"# Coverage: {_subject(known)}\n\nPrinted by `benchmarks/coverage/run.py`.",
            _conditions(rows),
            _counts(models, rows),
            _untried(models, rows),
            "\n".join(_marks(whole, rows)),
            f"## Each model\n\n{_LEGEND}\n\n{_outcomes(whole, rows)}",
            f"## Seconds and memory\n\n{_COSTS}\n\n{_costs(whole, rows)}",
            f"## What is pinned\n\n{_pins(whole, rows)}",
            f"## What torch.export refuses\n\n{_refusals(known, rows)}",
        ]
    )


def _subject(entries: Sequence[Entry]) -> str:
    return " and ".join(sorted({"timm" if e.set == "timm" else "torchvision" for e in entries}))


_PARTS = ("prune", "peer", "lower")

_LEGEND = """\
Half or more of every group is removed, at random; weights are random, none of them trivial.
*removed = zeroed* is the largest difference over the largest output, in fp32, at batches of 1 and 3
(of one size only where marked 1); where a statistic crosses channels (*), against a reference
that computes it over the kept ones. *trains*: finite gradients and a loss that moves. *again*: the
pruned network exports and is analysed once more. *.pte*: lowered for XNNPACK and run beside eager.
*pinned* is the share of channels that cannot go."""

_COSTS = """\
Wall seconds with the thread's own CPU seconds behind them; MiB above what was resident before.
Torch-Pruning's are its constructor and one step."""


def _refused(rows: Rows, entry: Entry) -> bool:
    return "CaptureError" in str(rows.get((entry.name, "prune"), {}).get("failed", ""))


def machine() -> str:
    """What this runs on, and the versions of what is measured."""
    names = ("torch", "torchvision", "timm", "executorch", "torch-pruning")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    return (
        f"{platform.system()} {platform.machine()}, {_processor()}, one thread; "
        f"Python {sys.version.split()[0]}, {versions}. The machine was shared while this ran: "
        "trust CPU seconds more than wall seconds."
    )


def _conditions(rows: Rows) -> str:
    commits = Counter(str(row.get("commit", "not recorded")) for row in rows.values())
    return f"{machine()} One sample of each. Commits (results): " + ", ".join(
        f"{commit} ({count})" for commit, count in commits.most_common()
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("model name")]
    except OSError:
        return platform.processor()
    return lines[0].split(":", 1)[1].strip() if lines else platform.processor()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


# --- counts --------------------------------------------------------------------------------------


def _counts(models: Mapping[str, Entry], rows: Rows) -> str:
    lines = []
    for kind in SETS:
        entries = [e for e in models.values() if e.set == kind]
        parts = [_found(entries, rows, part) for part in _PARTS]
        if not parts[0]:
            continue
        prune, peer, lower = parts
        accepted = [row for row in prune if "CaptureError" not in str(row.get("failed", ""))]
        lines.append(
            [
                kind,
                _of(len(prune), len(entries)),
                _of(len(accepted), len(prune)),
                _of(sum(not failures(dict(r)) for r in accepted), len(accepted)),
                _of(sum(not failures(dict(r)) for r in lower), len(lower)),
                _of(sum("left" in r for r in peer), len(peer)),
                _of(sum(bool(r.get("runs")) for r in peer), len(peer)),
                _of(
                    sum(r["exact"] <= 1e-5 for r in peer if "exact" in r),
                    sum("exact" in r for r in peer),
                ),
            ]
        )
    head = [
        "set", "tried", "exported", "pruned, all checks", "lowered, parity",
        "Torch-Pruning: prunes", "runs", "exact, of those checkable",
    ]  # fmt: skip
    return _table(head, lines)


def _untried(models: Mapping[str, Entry], rows: Rows) -> str:
    """What has not been run of the sets that were begun, so that nothing is left out in silence."""
    begun = {models[name].set for name, _ in rows if name in models}
    lines = []
    for part, said in (("prune", "pruned"), ("lower", "lowered"), ("peer", "by Torch-Pruning")):
        names = [
            e.name
            for e in models.values()
            if e.set in begun
            and (e.name, part) not in rows
            and not (part == "peer" and e.set == "detection")
        ]
        if names:
            shown = ", ".join(names) if len(names) <= 45 else f"{len(names)} models"
            lines.append(f"- not yet {said}: {shown}")
    return "\n".join(lines)


def _found(entries: Iterable[Entry], rows: Rows, part: str) -> list[Row]:
    return [rows[e.name, part] for e in entries if (e.name, part) in rows]


def _of(count: int, total: int) -> str:
    return f"{count}/{total}" if total else "–"


def _marks(entries: Sequence[Entry], rows: Rows) -> list[str]:
    """The marks that analysis and surgery are held to, and who misses them."""
    timed = [(e.name, rows[e.name, "prune"]) for e in entries if (e.name, "prune") in rows]
    timed = [(name, row) for name, row in timed if "surgery_cpu_s" in row]
    if not timed:
        return []
    marks: dict[str, Callable[[Row], bool]] = {
        "analysis no longer than export (CPU s)": lambda r: (
            r["analysis_cpu_s"] <= r["export_cpu_s"]
        ),
        "surgery below 1 s (CPU)": lambda r: r["surgery_cpu_s"] < 1,
        "analysis within 2 GiB": lambda r: r.get("analysis_mib", 0.0) < 2048,
        "surgery within 2 GiB": lambda r: r.get("surgery_mib", 0.0) < 2048,
    }
    found = []
    for mark, holds in marks.items():
        missed = [name for name, row in timed if not holds(row)]
        said = f": not {', '.join(missed)}" if missed else ""
        found.append(f"- {mark}: {len(timed) - len(missed)} of {len(timed)}{said}")
    for key in ("export", "analysis", "surgery"):
        values = [row[f"{key}_cpu_s"] for _, row in timed]
        found.append(
            f"- {key}: median {statistics.median(values):.2f} s, largest {max(values):.2f} s (CPU)"
        )
    peers = [row for (_, part), row in rows.items() if part == "peer" and "left" in row]
    if peers:
        spent = [row["build_cpu_s"] + row["step_cpu_s"] for row in peers]
        found.append(
            f"- Torch-Pruning, where it finished: median {statistics.median(spent):.2f} s, "
            f"largest {max(spent):.2f} s (CPU)"
        )
    return found


# --- a line for each model -----------------------------------------------------------------------


def _outcomes(entries: Sequence[Entry], rows: Rows) -> str:
    head = [
        "model", "input", "nodes", "groups", "pinned", "parameters", "removed = zeroed", "trains",
        "again", ".pte", "Torch-Pruning",
    ]  # fmt: skip
    lines = []
    for entry in entries:
        row = rows.get((entry.name, "prune"), {})
        lines.append(
            [
                entry.name,
                "×".join(map(str, entry.sample)),
                str(row.get("nodes", "")),
                str(row.get("groups", "")),
                f"{_pinned_share(row):.0%}" if "channels" in row else "",
                _parameters(row),
                _exact(row),
                "yes" if row.get("gradients") and row.get("loss") != "stuck" else "",
                f"{row['again']:.0e}" if "again" in row else "",
                _lowered(rows.get((entry.name, "lower"))),
                _peer(rows.get((entry.name, "peer"))),
            ]
        )
        wrong = failures(dict(row))
        if wrong:
            lines[-1][6] = f"**{'; '.join(wrong)}**"
    return _table(head, lines)


def _pinned_share(row: Row) -> float:
    stuck = sum(count for _, _, count in row["pins"])
    return float(stuck / max(stuck + row["channels"], 1))


def _parameters(row: Row) -> str:
    if "parameters" not in row:
        return ""
    return f"{row['parameters'] / 1e6:.1f} M → {row['parameters_left']:.0%}"


def _exact(row: Row) -> str:
    if "exact" not in row:
        return ""
    mark = "*" if row.get("crossed") else ""
    fixed = "" if len(row["batches"]) > 1 else " (1)"
    return f"{row['exact']:.0e}{mark}{fixed}"


def _lowered(row: Row | None) -> str:
    if row is None:
        return ""
    wrong = failures(dict(row))
    return "; ".join(wrong) if wrong else f"{row['parity']:.0e}, {row['lower_cpu_s']:.0f} s"


def _peer(row: Row | None) -> str:
    if row is None:
        return ""
    if "failed" in row:
        return str(row["failed"]).split(":", 1)[0]
    return f"{row['exact']:.0e}" if "exact" in row else "runs"


def _costs(entries: Sequence[Entry], rows: Rows) -> str:
    head = ["model", "export", "analysis", "surgery", "MiB: export", "analysis", "surgery"]
    head += ["Torch-Pruning", "MiB"]
    lines = []
    for entry in entries:
        row, peer = rows.get((entry.name, "prune"), {}), rows.get((entry.name, "peer"), {})
        keys = ("export", "analysis", "surgery")
        both = [peer.get(f"{k}_s", 0.0) + 0.0 for k in ("build", "step")]
        cpu = [peer.get(f"{k}_cpu_s", 0.0) for k in ("build", "step")]
        lines.append(
            [
                entry.name,
                *(
                    f"{row[f'{k}_s']:.2f} ({row[f'{k}_cpu_s']:.2f})" if f"{k}_s" in row else ""
                    for k in keys
                ),
                *(f"{row[f'{k}_mib']:.0f}" if f"{k}_mib" in row else "" for k in keys),
                f"{sum(both):.2f} ({sum(cpu):.2f})" if "left" in peer else _peer(peer or None),
                f"{max(peer['build_mib'], peer['step_mib']):.0f}" if "step_mib" in peer else "",
            ]
        )
    return _table(head, lines)


def _pins(entries: Sequence[Entry], rows: Rows) -> str:
    """By op and reason: channels, and the models where it happens."""
    channels: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in entries:
        for op, reason, count in rows.get((entry.name, "prune"), {}).get("pins", []):
            channels[op, reason] += count
            where[op, reason].append(entry.name)
    lines = []
    for (op, reason), count in channels.most_common():
        names = where[op, reason]
        shown = ", ".join(names) if len(names) <= 6 else f"{len(names)} models"
        lines.append([op, reason, str(count), shown])
    return _table(["op", "reason", "channels", "models"], lines)


def _refusals(entries: Sequence[Entry], rows: Rows) -> str:
    refused = [e.name for e in entries if _refused(rows, e)]
    lines = [[name, str(rows[name, "prune"]["failed"])[:160].replace("|", "/")] for name in refused]
    return _table(["model", "reason"], lines) if lines else "Nothing."


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
