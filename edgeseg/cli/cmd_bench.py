"""`edgeseg bench`: the true latency of an engine, alone and from capture to mask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeseg.cli.ui import OUT_FILE, Ui, common_options

if TYPE_CHECKING:
    from edgeseg.bench.result import BenchResult


@click.command(short_help="Measure latency: the engine alone, and capture to mask.")
@click.argument("bundle", required=False)
@click.option("--source", metavar="SRC", help="What the paced half plays.  [default: rendered street frames]")
@click.option("--rate", "rate_hz", type=float, default=30.0, show_default=True, metavar="HZ", help="Pace of files.")
@click.option("--duration", default="20s", show_default=True, metavar="S", help="Measured time: 20, 20s, 30m.")
@click.option("--against", metavar="BUNDLE|RESULT.json", help="Compare: interleaved, or with a saved result.")
@click.option("--fail-if-slower", type=float, metavar="PCT", help="Exit 3 if slower than --against by more than this.")
@click.option("--data", metavar="DATA", help="Also score the engine on labelled data.")
@click.option("--split", default="val", show_default=True, help="Split of --data.")
@click.option("--layers", is_flag=True, help="Also profile the layers, and place them under the device's roof.")
@click.option("--peers", is_flag=True, help="Also run the same network in other runtimes, in turns.")
@click.option("--torch", "torch_run", metavar="RUN", help="Peers in torch too, eager and compiled, from a RUN folder.")
@click.option("--predict", multiple=True, metavar="TARGET", help="Also predict the limit of a board from its recipe.")
@click.option("--cold", is_flag=True, help="Also time fresh processes from start to first mask.")
@click.option(
    "--loadgen",
    multiple=True,
    type=click.Choice(["SingleStream", "MultiStream", "Offline"]),
    metavar="SCENARIO",
    help="Also MLPerf LoadGen: SingleStream, MultiStream, Offline.",
)
@click.option(
    "--suite", type=click.Path(path_type=Path), metavar="F.toml", help="Run a whole suite instead; writes a page."
)
@click.option("--save", type=OUT_FILE, metavar="RESULT.json", help="Keep everything, samples too.")
@click.option("--html", type=OUT_FILE, metavar="F", help="Write a page with plots; implies --layers.")
@common_options
def command(
    ui: Ui,
    bundle: str | None,
    suite: Path | None,
    fail_if_slower: float | None,
    save: Path | None,
    html: Path | None,
    **options: Any,
) -> None:
    """Measure BUNDLE (or the default bundle of an ONNX file or zoo:NAME).

    Half of the time the engine runs alone, back to back; half of it in the live pipeline, at the pace of a camera.
    Nothing is trimmed, and a percentile is given only where the sample supports it.
    """
    if suite is not None:
        _run_suite(ui, suite)
        return
    from edgeseg.bench import check_bench, open_bench_target, run_bench
    from edgeseg.bench.against import check_not_slower
    from edgeseg.bench.request import BenchRequest, parse_duration_s
    from edgeseg.bench.result import answer, save_result
    from edgeseg.core.artefacts import check_place
    from edgeseg.core.config import convert
    from edgeseg.core.errors import RequestError

    if bundle is None:
        raise RequestError(
            "nothing to measure", allowed="a bundle, an ONNX file or zoo:NAME", fix="edgeseg bench --help"
        )
    if fail_if_slower is not None and options["against"] is None:
        raise RequestError("--fail-if-slower compares", value=fail_if_slower, allowed="together with --against")
    options["duration_s"] = parse_duration_s(options.pop("duration"))
    options["layers"] = options["layers"] or html is not None
    asked = {key: value for key, value in options.items() if value is not None}
    request = convert(asked, BenchRequest, origin="edgeseg bench")
    for place in filter(None, (save, html)):
        check_place(place)
    check_bench(request)
    with ui.progress() as progress:
        target = open_bench_target(bundle, progress=progress)
        samples_file = save.resolve().with_suffix(".npz") if save else None
        result = run_bench(request, target, samples_file=samples_file, progress=progress)
    if save:
        save_result(save, result)
    if html:
        from edgeseg.bench.report import write_report

        write_report(html, result, Path(result.samples_file))
    _show(ui, result)
    files = {"samples": result.samples_file, "result": save, "page": html}
    ui.say(", ".join(f"{name}: {file}" for name, file in files.items() if file))
    ui.emit(answer(result))
    if fail_if_slower is not None and result.against is not None:
        check_not_slower(result.against, fail_if_slower)


def _run_suite(ui: Ui, suite: Path) -> None:
    import msgspec

    from edgeseg.bench import run_suite

    with ui.progress() as progress:
        result, files = run_suite(suite, command=f"edgeseg bench --suite {suite}", progress=progress)
    rows = [
        (row.model, row.size, row.engine, _ms(row.engine_ms.p50), f"{row.ratio:.2f}", _ms(row.limit_ms))
        for row in result.rows
    ]
    ui.table(result.suite.title, ["model", "size", "engine", "p50 ms", "against plain", "limit ms"], rows)
    ui.say(f"wrote {', '.join(str(file) for file in files)}")
    ui.emit({"page": files[0], "files": files, "rows": msgspec.to_builtins(result.rows)})


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _show(ui: Ui, result: BenchResult) -> None:
    from edgeseg.bench.table import latency_table, layer_table, loadgen_table, peer_table, stage_table, summary_lines

    ui.table(result.engine.name, *latency_table(result))
    ui.table("where the time goes, capture to mask", *stage_table(result))
    if result.roofline:
        ui.table("layers under the roof", *layer_table(result))
    if result.peers:
        ui.table("peers, in turns with the engine", *peer_table(result))
    if result.loadgen:
        ui.table("MLPerf LoadGen, an independent stopwatch", *loadgen_table(result))
    for line in summary_lines(result):
        ui.say(line)
    for note in result.notes:
        ui.say(f"note: {note}")
