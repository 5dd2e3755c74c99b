import msgspec
import pytest

from edgeseg.backend.profiling import LayerTime
from edgeseg.bench import run_bench
from edgeseg.bench.peaks import Peaks
from edgeseg.bench.report import write_report
from edgeseg.bench.request import BenchRequest
from edgeseg.bench.roofline import predict, roofline
from edgeseg.bench.table import summary_lines
from edgeseg.graph import fix_frame_size
from edgeseg.graph.costs import cost
from edgeseg.graph.sample import sample_model

from .support import null_target

MODEL = fix_frame_size(sample_model(), (48, 64))
COSTS = {layer.name: layer for layer in cost(MODEL)}
PEAKS = Peaks(macs_per_s={"fp32": 1e9, "int8": 4e9}, bytes_per_s={1 << 14: 4e9, 1 << 20: 1e9}, origin="made up")


def timed(name, *layers, ms=1.0, precision="fp32", moves=False, kind="Convolution"):
    return LayerTime(
        name=name, layers=layers, kind=kind, implementation="", precision=precision, moves=moves, time_ns=int(ms * 1e6)
    )


def whole(*special):
    """Times of every layer: those given, and each of the others on its own."""
    named = {name for time in special for name in time.layers}
    return [*special, *(timed(f"r/{name}", name) for name in COSTS if name not in named)]


def row(roof, name):
    return next(item for item in roof.rows if name in item.layers)


def test_a_layer_takes_at_least_its_arithmetic_or_its_bytes():
    roof = roofline(MODEL, whole(), PEAKS)
    depthwise = row(roof, "encoder.0.0.dw")
    macs = 12 * 16 * 8 * 49
    assert depthwise.macs == macs == COSTS["encoder.0.0.dw"].macs
    bytes_moved = 4 * (2 * 12 * 16 * 8 + 8 * 49 + 8)
    assert depthwise.bytes == bytes_moved
    assert depthwise.limit_ms == pytest.approx(1e3 * max(macs / 1e9, bytes_moved / 4e9))
    assert depthwise.bound == "compute"
    assert row(roof, "decoder.0.concat").bound == "memory"


def test_fused_layers_count_once_and_only_bytes_that_cross_their_border():
    apart = roofline(MODEL, whole(), PEAKS)
    fused = roofline(MODEL, whole(timed("a", "encoder.0.0.pw1", "encoder.0.0.act")), PEAKS)
    inner = COSTS["encoder.0.0.pw1"].bytes_out
    both = row(apart, "encoder.0.0.pw1").bytes + row(apart, "encoder.0.0.act").bytes
    assert row(fused, "encoder.0.0.pw1").bytes == both - 2 * inner


def test_a_layer_that_the_runtime_does_not_name_joins_its_reader():
    times = [
        time for time in whole() if not {"encoder.0.0.pw2", "encoder.0.0.scale", "encoder.0.0.add"} & set(time.layers)
    ]
    roof = roofline(MODEL, [*times, timed("Multiply_7", "encoder.0.0.scale", "encoder.0.0.add")], PEAKS)
    group = row(roof, "encoder.0.0.add")
    assert "encoder.0.0.pw2" in group.layers
    assert group.name == "encoder.0.0.pw2"
    assert group.macs == COSTS["encoder.0.0.pw2"].macs


def test_of_a_layer_that_a_form_wrote_as_several_the_part_that_computes_counts():
    """The part that bears the layer's name copies pixels: with the layer's arithmetic it would raise the roof."""
    parts = [timed("decoder.0.up.cells", "decoder.0.up.cells"), timed("decoder.0.up", "decoder.0.up", ms=1e-4)]
    rest = [time for time in whole() if time.layers != ("decoder.0.up",)]
    roof = roofline(MODEL, [*parts, *rest], PEAKS)
    assert row(roof, "decoder.0.up").time_ms == 1
    assert row(roof, "decoder.0.up").macs == COSTS["decoder.0.up"].macs > 0
    assert roof.peaks == PEAKS
    assert roof.reformats_ms == pytest.approx(1e-4)


def test_narrow_precisions_move_fewer_bytes():
    wide = row(roofline(MODEL, whole(), PEAKS), "encoder.0.0.dw")
    narrow = row(roofline(MODEL, whole(timed("a", "encoder.0.0.dw", precision="int8")), PEAKS), "encoder.0.0.dw")
    assert narrow.bytes == pytest.approx(wide.bytes / 4, abs=1)
    assert narrow.limit_ms < wide.limit_ms


def test_moves_are_summed_apart_and_unknown_names_are_not_lost():
    roof = roofline(MODEL, [*whole(), timed("r", moves=True, ms=2), timed("odd", "unknown", ms=3)], PEAKS)
    assert roof.reformats_ms == pytest.approx(5)
    assert roof.measured_ms == pytest.approx(len(COSTS) + 5)


def test_a_roof_that_was_gone_through_is_raised():
    fast = timed("a", "encoder.0.0.dw", ms=1e-3)
    roof = roofline(MODEL, whole(fast), PEAKS)
    assert roof.peaks.macs_per_s["fp32"] == pytest.approx(COSTS["encoder.0.0.dw"].macs * 1e6)
    assert "raised" in roof.peaks.origin
    assert row(roof, "encoder.0.0.dw").limit_ms <= 1.001e-3


def test_the_argmax_is_found_under_the_runtimes_name():
    times = [time for time in whole() if "geometry/index" not in time.layers]
    roof = roofline(MODEL, [*times, timed("TopK_1", "TopK_1", kind="TopK")], PEAKS)
    assert row(roof, "geometry/index").kind == "ArgMax"


def test_a_prediction_holds_the_whole_network():
    roof = predict(MODEL, "fp32", PEAKS)
    assert roof.measured_ms is None
    assert sum(item.macs for item in roof.rows) == sum(layer.macs for layer in COSTS.values())
    assert predict(MODEL, "int8", PEAKS).limit_ms < roof.limit_ms


def test_where_no_layer_has_a_name_of_the_model_nothing_is_divided(tmp_path):
    """A profiler that names its kernels alone: the limit is 0, and the summary and the page divided by it."""
    roof = roofline(MODEL, [timed("kernel", ms=3, moves=True)], PEAKS)
    assert roof.distance(1.0) is None
    result = run_bench(BenchRequest(duration_s=0.2, rate_hz=60), null_target(), samples_file=tmp_path / "s.npz")
    result = msgspec.structs.replace(result, roofline=roof)
    assert any("named no layer" in line for line in summary_lines(result))
    write_report(tmp_path / "r.html", result, tmp_path / "s.npz")
    assert "limits is 0.00 ms." in (tmp_path / "r.html").read_text()
