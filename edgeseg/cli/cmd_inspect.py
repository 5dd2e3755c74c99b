"""`edgeseg inspect`: what is in a model, a bundle or a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeseg.cli.ui import Ui, common_options

if TYPE_CHECKING:
    from edgeseg.graph.summary import ModelSummary

_MEGA = 1e6


@click.command(short_help="What is in a model, a bundle or a run.")
@click.argument("file", metavar="FILE|BUNDLE|RUN")
@common_options
def command(ui: Ui, file: str) -> None:
    """Show layers by precision, parameters, multiply-adds, receptive field, inputs, outputs and metadata.

    Nothing is run: a bundle is verified first, and its figures are those that its build recorded.
    """
    from edgeseg.core.workspace import resolve_model

    path = resolve_model(file)
    if (path / "manifest.json").is_file() or (path / "SHA256SUMS").is_file():
        _inspect_bundle(ui, path)
    elif path.is_dir():
        from edgeseg.export import describe_run

        _show(ui, describe_run(path))
    else:
        from edgeseg.graph import summarise

        _show(ui, summarise(path))


def _show(ui: Ui, summary: ModelSummary) -> None:
    import msgspec

    from edgeseg.core.types import format_size

    meta = summary.metadata
    ui.say(f"{summary.path}: {summary.name} ({summary.variant}, opset {summary.opset})", style="bold")
    for title, tensors in (("in", summary.inputs), ("out", summary.outputs)):
        for tensor in tensors:
            ui.say(f"  {title:<4} {tensor.name:<11} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]")
    ui.say(f"  classes: {', '.join(meta.classes.names)}")
    ui.say(
        f"  trained on {meta.trained_on or 'unknown data'} at {format_size(meta.network_size)}, stride {meta.stride}"
    )
    ui.say(f"  layers: {', '.join(f'{count} {name}' for name, count in summary.layers.items())}")
    ui.say(
        f"  {summary.parameters / _MEGA:.2f} M parameters, {summary.macs / _MEGA:.0f} M multiply-adds and "
        f"{summary.bytes_moved / _MEGA:.0f} MB moved at {format_size(summary.counted_at)}, "
        f"sees {format_size(summary.receptive_field)} pixels"
        + (f", effectively {summary.effective_field:.0f} square" if summary.effective_field else "")
    )
    rows = [(layer.name, layer.op, layer.macs // 1000, layer.parameters) for layer in summary.most_expensive]
    ui.table("most expensive layers", ("layer", "operator", "multiply-adds (k)", "parameters"), rows)
    ui.emit(msgspec.to_builtins(summary))


def _inspect_bundle(ui: Ui, path: Path) -> None:
    import msgspec

    from edgeseg.bundle import verify_bundle
    from edgeseg.core.types import format_size
    from edgeseg.graph import summarise

    bundle = verify_bundle(path)
    manifest = bundle.manifest
    engine = manifest.engine
    report = msgspec.json.decode((path / "report.json").read_bytes())
    source = summarise(path / "source" / "model.onnx")
    audit = _audit(report)
    ui.say(f"{path}: {manifest.model.name} for {manifest.target}, bundle {bundle.id[:12]}", style="bold")
    ui.say(f"  {engine.backend} {engine.backend_version}, {engine.precision}, built {manifest.created}")
    for title, tensors in (("in", manifest.inputs), ("out", manifest.outputs)):
        for tensor in tensors:
            ui.say(f"  {title:<4} {tensor.name:<11} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]")
    ui.say(f"  layers: {', '.join(f'{count} {name}' for name, count in engine.layers.items()) or 'not told'}")
    ui.say(
        f"  {source.parameters / _MEGA:.2f} M parameters; layers see {format_size(manifest.geometry.network_size)}; "
        f"{'verified on a device' if manifest.verified else 'not yet verified on a device'}"
    )
    pairs = audit.get("qdq_not_int8")
    if isinstance(pairs, list):
        ui.say(f"  Q/DQ pairs that did not become INT8: {', '.join(map(str, pairs)) or 'none'}")
    wider = [item for item in audit.get("fallbacks", ()) if item["wanted"] != "int8"]
    names = [f"{item['node']} in {item['runs_in']}" for item in wider]
    if wider:
        ui.say(f"  run wider than asked: {', '.join(names)}")
    if audit:
        ui.say(f"  {audit['kernels']} kernels, {len(audit['reformats'])} of them only move data")
    ui.emit(
        {
            "path": str(path),
            "kind": "bundle",
            "id": bundle.id,
            "name": manifest.model.name,
            "layers": {"int8": 0, "fp16": 0, "fp32": 0, **engine.layers},
            "qdq_not_int8": pairs,
            "parameters": source.parameters,
            "receptive_field": source.receptive_field,
            "manifest": msgspec.to_builtins(manifest),
            "report": report,
            "source": msgspec.to_builtins(source),
        }
    )


def _audit(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the build kept of the chosen engine's kernels; empty where its runtime tells nothing."""
    for candidate in report.get("candidates", []):
        if candidate.get("name") == report.get("chosen"):
            return candidate.get("details", {}).get("audit") or {}
    return {}
