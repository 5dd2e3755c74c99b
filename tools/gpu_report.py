"""The markdown page of gpu_check.py."""

from __future__ import annotations

from typing import Any

HEAD = (
    *("precision", "agreement", "mIoU", "INT8 share", "engine p50", "p99", "no graph p50", "p99"),
    *("frame to mask p50", "p99", "no graph p50", "bare + copies", "allowed", "cold start", "plan MB", "soak"),
)


def markdown(report: dict[str, Any], failures: list[str]) -> str:
    """The report of gpu_check.py for people; times in milliseconds."""
    smoke, machine = report.get("smoke", {}), report["machine"]
    lines = ["# GPU check", "", f"{report['created']}, `{report['command']}`", ""]
    lines += [f"GPU: {smoke.get('gpu', smoke.get('error', 'unknown'))}", ""]
    lines += [f"Runtime: {smoke.get('runtime', 'unknown')}; machine: {machine.get('cpu', 'unknown')}", ""]
    if report["simulated"]:
        lines += ["**Simulated GPU: nothing ran on hardware, and no time below means anything.**", ""]
    for name, results in report["models"].items():
        lines += [f"## {name}", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
        lines += ["| " + " | ".join(row(precision, found)) + " |" for precision, found in results["engines"].items()]
        lines += ["", *comparisons(results), ""]
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
