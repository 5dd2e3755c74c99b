"""The report of gpu_check.py: filled step by step, on disk after each, as JSON and as a page for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeseg.core.artefacts import write_bytes, write_text
from edgeseg.core.clock import now_ns
from edgeseg.core.errors import EdgesegError

HEAD = (
    *("precision", "agreement", "mIoU", "INT8 share", "engine p50", "p99", "no graph p50", "p99"),
    *("frame to mask p50", "p99", "no graph p50", "bare + copies", "allowed", "cold start", "plan MB", "soak"),
)


@dataclass
class Check:
    """The report in the making; `step` catches what a step raises.

    A session on a lent machine may end at any moment: the files are written before and after each step, and name the
    step that never ended.

    Attributes:
        out: Folder of gpu_check.json and gpu_check.md.
        report: What is known so far.
        failures: Steps that failed and bars that were missed.
    """

    out: Path
    report: dict[str, Any]
    failures: list[str] = field(default_factory=list)
    _running: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.report |= {"models": {}, "simulated": False}

    @contextmanager
    def step(self, name: str, into: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Run one step; what it finds goes under its name, an error too."""
        found: dict[str, Any] = {}
        (self.report if into is None else into)[name] = found
        print(f"{name} ...", file=sys.stderr, flush=True)
        self._running.append(name)
        self.save()
        begin_ns = now_ns()
        try:
            yield found
        except Exception as error:  # on hardware that nobody has seen, the other steps are worth having
            text = str(error) if isinstance(error, EdgesegError) else f"{type(error).__name__}: {error}"
            found["error"] = text
            self.failures.append(f"{name}: {text}")
            print(f"  failed: {text}", file=sys.stderr)
        found["seconds"] = round((now_ns() - begin_ns) / 1e9, 3)
        self._running.pop()
        self.save()

    def bar(self, met: bool, text: str) -> bool:
        """Note a bar that was missed."""
        if not met:
            self.failures.append(text)
        return met

    def save(self) -> str:
        """Write both files as things stand; returns the page."""
        self.report |= {"failures": self.failures, "unfinished": " / ".join(self._running) or "between two steps"}
        return self._write()

    def finish(self) -> str:
        """Write both files for good; returns the page."""
        self.report |= {"failures": self.failures}
        self.report.pop("unfinished", None)
        return self._write()

    def _write(self) -> str:
        encoded = msgspec.json.encode(self.report, enc_hook=str)
        write_bytes(self.out / "gpu_check.json", msgspec.json.format(encoded, indent=2) + b"\n")
        page = markdown(self.report, self.failures)
        write_text(self.out / "gpu_check.md", page)
        return page


def markdown(report: dict[str, Any], failures: list[str]) -> str:
    """The report of gpu_check.py for people; times in milliseconds."""
    smoke, machine = report.get("smoke", {}), report.get("machine", {})
    lines = ["# GPU check", "", f"{report['created']}, `{report['command']}`", ""]
    lines += [f"**{report['note']}**", ""] if "note" in report else []
    lines += [f"GPU: {smoke.get('gpu', smoke.get('error', 'unknown'))}", ""]
    lines += [f"Runtime: {smoke.get('runtime', 'unknown')}; machine: {machine.get('cpu', 'unknown')}", ""]
    if report["simulated"]:
        lines += ["**Simulated GPU: nothing ran on hardware, and no time below means anything.**", ""]
    for name, results in report["models"].items():
        lines += [f"## {name}", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
        lines += ["| " + " | ".join(row(precision, found)) + " |" for precision, found in results["engines"].items()]
        lines += ["", *comparisons(results), ""]
    if "unfinished" in report:
        lines += [f"**Ended early, in: {report['unfinished']}.**", ""]
        lines += ["Missed or failed until then:" if failures else "Every step until then met its bar."]
    else:
        lines += ["Missed or failed:" if failures else "Every step ran and met its bar."]
    return "\n".join([*lines, *(f"- {text}" for text in failures)]) + "\n"


def row(precision: str, found: dict[str, Any]) -> list[str]:
    """One engine."""
    graph, plain, bare = (found.get(name, {}) for name in ("times_graph", "times_no_graph", "bare"))
    built = found.get("build", {}).get("report", {})
    return [
        precision,
        number(found.get("agreement", {}).get("pixels")),
        number(found.get("scores", {}).get("miou")),
        number(found.get("audit", {}).get("int8_share")),
        *(number(times.get("engine_ms", {}).get(key)) for times in (graph, plain) for key in ("p50", "p99")),
        *(number(graph.get("frame_to_mask_ms", {}).get(key)) for key in ("p50", "p99")),
        number(plain.get("frame_to_mask_ms", {}).get("p50")),
        number(bare["enqueue_ms"] + bare["copies_ms"]) if "copies_ms" in bare else "-",
        number(bare.get("allowed_ms")),
        number(found.get("cold_start", {}).get("ms")),
        number(built["plan_bytes"] / 1e6) if "plan_bytes" in built else "-",
        str(found.get("soak", {}).get("met", "-")),
    ]


def comparisons(results: dict[str, Any]) -> list[str]:
    """What one engine is against another."""
    lines = []
    for name, found in results.get("faster", {}).items():
        if isinstance(found, dict):
            low, high = found["ci95"]
            pair = name.replace("_over_", " over ")
            lines.append(f"- {pair}, interleaved: {found['ratio']:.3f} [{low:.3f}, {high:.3f}]")
    for name, found in results.get("implicit", {}).items():
        if isinstance(found, dict):
            said = found.get("error") or (
                f"agreement {number(found.get('pixels'))}, mIoU {number(found.get('miou'))}, "
                f"engine p50 {number(found.get('engine_ms', {}).get('p50'))}, layers {found.get('layers')}"
            )
            lines.append(f"- INT8 without Q/DQ nodes, {name}: {said}")
    torch = results.get("torch", {})
    if "eager_ms" in torch:
        lines.append(f"- torch FP16: eager {number(torch['eager_ms'])}, compiled {number(torch.get('compiled_ms'))}")
    elif torch:
        lines.append(f"- torch: {torch.get('skipped') or torch.get('error')}")
    return lines


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"
