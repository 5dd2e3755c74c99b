"""`edgeseg bench`: the true latency of an engine, alone and from capture to mask."""

from __future__ import annotations

from pathlib import Path

import click

from edgeseg.cli.ui import Ui, common_options


@click.command(short_help="Measure latency: the engine alone, and capture to mask.")
@click.argument("bundle")
@click.option("--source", metavar="SRC", help="What the paced half plays.  [default: rendered street frames]")
@click.option("--rate", "rate_hz", type=float, default=30.0, show_default=True, metavar="HZ", help="Pace of files.")
@click.option("--duration", default="20s", show_default=True, metavar="S", help="Measured time: 20, 20s, 30m.")
@click.option("--against", metavar="BUNDLE|RESULT.json", help="Compare: interleaved, or with a saved result.")
@click.option("--fail-if-slower", type=float, metavar="PCT", help="Exit 3 if slower than --against by more than this.")
@click.option("--save", type=click.Path(path_type=Path), metavar="RESULT.json", help="Keep everything, samples too.")
@common_options
def command(
    ui: Ui,
    bundle: str,
    source: str | None,
    rate_hz: float,
    duration: str,
    against: str | None,
    fail_if_slower: float | None,
    save: Path | None,
) -> None:
    """Measure BUNDLE (or the default bundle of an ONNX file or zoo:NAME).

    Half of the time the engine runs alone, back to back; half of it in the live pipeline, at the pace of a camera.
    Nothing is trimmed, and a percentile is given only where the sample supports it.
    """
    from edgeseg.bench import open_bench_target, run_bench
    from edgeseg.bench.against import check_not_slower
    from edgeseg.bench.request import BenchRequest, parse_duration_s
    from edgeseg.bench.result import answer, save_result
    from edgeseg.bench.table import latency_table, stage_table, summary_lines
    from edgeseg.core.config import convert
    from edgeseg.core.errors import RequestError

    if fail_if_slower is not None and against is None:
        raise RequestError("--fail-if-slower compares", value=fail_if_slower, allowed="together with --against")
    options = {"rate_hz": rate_hz, "duration_s": parse_duration_s(duration), "source": source, "against": against}
    request = convert(
        {key: value for key, value in options.items() if value is not None}, BenchRequest, origin="edgeseg bench"
    )
    with ui.progress() as progress:
        target = open_bench_target(bundle, progress=progress)
        samples_file = save.resolve().with_suffix(".npz") if save else None
        result = run_bench(request, target, samples_file=samples_file, progress=progress)
    if save:
        save_result(save, result)

    ui.table(f"{target.name} at {request.rate_hz:g}/s", *latency_table(result))
    ui.table("where the time goes, capture to mask", *stage_table(result))
    for line in summary_lines(result):
        ui.say(line)
    for note in result.notes:
        ui.say(f"note: {note}")
    ui.say(f"samples: {result.samples_file}" + (f", result: {save}" if save else ""))
    ui.emit(answer(result))
    if fail_if_slower is not None and result.against is not None:
        check_not_slower(result.against, fail_if_slower)
