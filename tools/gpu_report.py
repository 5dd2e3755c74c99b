"""The markdown page of gpu_check.py."""

from __future__ import annotations

from typing import Any


def markdown(report: dict[str, Any], failures: list[str]) -> str:
    """The report of gpu_check.py for people."""
    smoke_found, lines = report.get("smoke", {}), ["# GPU check", ""]
    lines.append(f"{report['created']}, {report['command']}")
    lines += ["", f"GPU: {smoke_found.get('gpu', smoke_found.get('error', 'unknown'))}", ""]
    lines += [f"Runtime: {smoke_found.get('runtime', 'unknown')}; machine: {report['machine']['cpu']}", ""]
    if report["simulated"]:
        lines += ["**Simulated GPU: nothing ran on hardware, and no time below means anything.**", ""]
    head = ("precision", "agreement", "mIoU", "engine p50", "engine p99", "frame to mask p50", "bare + copies", "soak")
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for precision, found in report["engines"].items():
        times, bare = found.get("times_graph", {}), found.get("bare", {})
        engine, whole = times.get("engine_ms", {}), times.get("frame_to_mask_ms", {})
        row = [
            precision,
            number(found.get("agreement", {}).get("pixels")),
            number(found.get("scores", {}).get("miou")),
            *(number(engine.get(key)) for key in ("p50", "p99")),
            number(whole.get("p50")),
            number(bare["enqueue_ms"] + bare["copies_ms"]) if "copies_ms" in bare else "-",
            str(found.get("soak", {}).get("met", "-")),
        ]
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", "Missed or failed:" if failures else "Every step ran and met its bar."]
    return "\n".join([*lines, *(f"- {text}" for text in failures)]) + "\n"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
