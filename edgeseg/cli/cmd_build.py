"""`edgeseg build`: a model to an engine bundle that verifies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeseg.cli.ui import Ui, common_options

if TYPE_CHECKING:
    from edgeseg.deploy import BuildReport

_PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


@click.command(short_help="Build an engine bundle: measured, gated, verified.")
@click.argument("model")
@click.option("--target", default="auto", show_default=True, help="Target recipe (see engines/targets/), or auto.")
@click.option("--precision", default="auto", show_default=True, metavar="P", help=f"One of {', '.join(_PRECISIONS)}.")
@click.option("--ranges", metavar="R", help="Range file of `edgeseg calibrate`, for int8.")
@click.option("--frames", metavar="SRC", help="Frames to calibrate on, for int8, instead of --ranges.")
@click.option("--recipe", metavar="NAME", help="Calibration recipe, for int8, instead of --ranges.")
@click.option("--data", metavar="DATA", help="Labelled data of the accuracy gate.")
@click.option("--split", default="val", show_default=True, help="Its split.")
@click.option("--max-drop", type=float, metavar="POINTS", help="mIoU points the engine may lose.  [default: 0.5]")
@click.option("--max-drop-class", metavar="NAME=POINTS,…", help="The same for single classes: person=0.5,bicyclist=1.")
@click.option("--frame-size", metavar="HxW", help="Size of frame and mask; by default what the model was trained at.")
@click.option("--network-size", metavar="HxW", help="What the layers see; by default the trained height.")
@click.option("--roi", metavar="HxW+TOP+LEFT", help="Segment this part of the frame; outside is no class.")
@click.option("--input", "input_format", default="bgr", show_default=True, help="bgr, nv12 or yuyv.")
@click.option(
    "--colour", metavar="C", help="What nv12 and yuyv mean: bt601 or bt709, -full for 0 to 255.  [default: bt601]"
)
@click.option("--confidence", is_flag=True, help="Also give a confidence plane.")
@click.option("--backend", help="Only this backend; by default the fastest installed one, measured here.")
@click.option("--threads", type=click.IntRange(min=0), help="CPU threads of the engine; 0 lets the runtime choose.")
@click.option(
    "--option",
    "backend_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Backend option over the recipe's, for example dla_core=0, workspace_mb=512; may be repeated.",
)
@click.option(
    "--max-gpu-fallback", type=float, metavar="SHARE", help="With a DLA core: layers that may run on the GPU."
)
@click.option("--max-builds", type=int, metavar="N", help="Engines the search of auto may build.  [default: 12]")
@click.option("--out", type=click.Path(path_type=Path), help="Bundle folder.  [default: engines/NAME]")
@common_options
def command(
    ui: Ui,
    max_drop_class: str | None,
    backend_options: tuple[str, ...],
    max_gpu_fallback: float | None,
    out: Path | None,
    **options: object,
) -> None:
    """Build MODEL (an exported ONNX file or zoo:NAME) into an engine bundle for a target.

    Every installed backend of the target is built in every wanted precision and timed in one interleaved run; the
    fastest one that passes the gate is kept. int8 needs one of --ranges, --frames, --recipe, or a model that ships its
    ranges.
    """
    import msgspec

    from edgeseg.cli.ui import parse_roi, parse_size
    from edgeseg.core.config import convert
    from edgeseg.core.types import Colour, format_size
    from edgeseg.deploy import BuildRequest, build_bundle

    tables: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name in ("frame_size", "network_size"):
        if name in tables:
            tables[name] = parse_size(str(tables[name]))
    if "roi" in tables:
        tables["roi"] = parse_roi(str(tables["roi"]))
    if "colour" in tables:
        tables["colour"] = msgspec.structs.asdict(Colour.from_text(str(tables["colour"])))
    tables["max_drop_class"] = _budgets(max_drop_class)
    tables["options"] = _backend_options(backend_options)
    if max_gpu_fallback is not None:
        tables["options"]["max_gpu_fallback"] = max_gpu_fallback
    request = convert(tables, BuildRequest, origin="options")
    with ui.progress() as progress:
        report = build_bundle(request, out, progress)
    _show(ui, report)
    ui.say(f"built {report.bundle}: {report.backend} {report.precision} at {format_size(report.frame_size)}")
    ui.emit(
        {
            "path": report.bundle,
            "id": report.id,
            "backend": report.backend,
            "precision": report.precision,
            "frame_size": list(report.frame_size),
            "timings": [
                {"name": item.name, "backend": item.backend, "precision": item.precision, "engine_p50_ms": item.p50_ms}
                for item in report.timings
            ],
            "gate": report.scores or None,
            "notes": list(report.notes),
        }
    )


def _budgets(text: str | None) -> dict[str, float]:
    from edgeseg.core.errors import RequestError

    budgets = {}
    for item in filter(None, (text or "").split(",")):
        name, _, points = item.partition("=")
        try:
            budgets[name.strip()] = float(points)
        except ValueError:
            raise RequestError("not a budget", value=item, allowed="NAME=POINTS, for example person=0.5") from None
    return budgets


def _backend_options(texts: tuple[str, ...]) -> dict[str, str | int | float | bool]:
    """NAME=VALUE as a TOML file would have it, but that a text needs no quotes."""
    from edgeseg.core.config import parse_value
    from edgeseg.core.errors import RequestError

    options: dict[str, str | int | float | bool] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.strip().isidentifier() and equals):
            raise RequestError("not an option", value=text, allowed="NAME=VALUE, for example workspace_mb=512")
        found = parse_value(value)
        options[name.strip()] = found if isinstance(found, str | int | float | bool) else value.strip()
    return options


def _show(ui: Ui, report: BuildReport) -> None:
    rows = [
        (item.name, "cannot run here" if item.p50_ms is None else f"{item.p50_ms:.2f}", "kept" if n == 0 else "")
        for n, item in enumerate(sorted(report.timings, key=lambda t: (t.name != _kept(report), t.p50_ms or 1e9)))
    ]
    ui.table("engines, one interleaved run", ["engine", "p50 ms", ""], rows)
    if report.scores:
        reference, engine = report.scores["reference"], report.scores["engine"]
        names = ["miou", *(name for name in reference if name != "miou")]
        ui.table(
            "gate: share of 1, change in points",
            ["score", "fp32", report.precision, "points"],
            [(name, *_scores(reference.get(name), engine.get(name))) for name in names],
        )
    for note in report.notes:
        ui.say(f"note: {note}")


def _kept(report: BuildReport) -> str:
    return next(
        item.name for item in report.timings if item.backend == report.backend and item.precision == report.precision
    )


def _scores(before: float | None, after: float | None) -> tuple[str, str, str]:
    change = "–" if before is None or after is None else f"{100 * (after - before):+.2f}"
    return ("–" if before is None else f"{before:.4f}", "–" if after is None else f"{after:.4f}", change)
