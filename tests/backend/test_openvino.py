import numpy as np
import pytest

pytest.importorskip("openvino")
import openvino as ov

from edgeseg.backend import get_builder, open_onnx
from edgeseg.backend import openvino as backend
from edgeseg.core.errors import CapabilityError, RequestError, VerifyError

from .contract import RunnerContract
from .models import SIZE, float_model, frames, int8_model, spec_of, write


def build(folder, model, spec):
    builder = get_builder("openvino")
    built = builder.build(write(folder, model), folder, spec)
    return built, builder.open(folder / built.file, spec)


def has(precision):
    return precision in get_builder("openvino").precisions


class TestContract(RunnerContract):
    @pytest.fixture(autouse=True)
    def build(self, tmp_path):
        self.spec = spec_of(threads=1)
        self.engine = tmp_path / build(tmp_path, float_model(), self.spec)[0].file

    def runner(self):
        return get_builder("openvino").open(self.engine, self.spec)


class TestContractInt8BatchAndConfidence(RunnerContract):
    @pytest.fixture(autouse=True)
    def build(self, tmp_path):
        self.spec = spec_of("int8", batch=2, confidence=True)
        self.engine = tmp_path / build(tmp_path, int8_model(batch=2, confidence=True), self.spec)[0].file

    def runner(self):
        return get_builder("openvino").open(self.engine, self.spec)


class TestContractForThroughput(RunnerContract):
    @pytest.fixture(autouse=True)
    def build(self, tmp_path):
        self.spec = spec_of("int8", threads=2)
        self.engine = tmp_path / build(tmp_path, int8_model(), self.spec)[0].file

    def runner(self):
        return get_builder("openvino").open(self.engine, self.spec, throughput=True)

    def test_frames_in_flight_give_the_masks_of_one_at_a_time(self):
        pictures = frames(9)
        with get_builder("openvino").open(self.engine, self.spec) as one, self.runner() as many:
            assert (one.spec.depth, many.spec.depth) == (1, 4)
            expected = []
            for picture in pictures:
                with one.infer(picture) as output:
                    expected.append(output.mask_nhw.copy())
            tickets, found = [], []
            for picture in [*pictures, *[None] * many.spec.depth]:
                if len(tickets) == many.spec.depth or picture is None:
                    with many.collect(tickets.pop(0)) as output:
                        found.append(output.mask_nhw.copy())
                        assert output.times.engine_ns > 0
                if picture is not None:
                    tickets.append(many.submit(picture))
            assert len({mask.tobytes() for mask in expected}) > 1
            assert all((a == b).all() for a, b in zip(expected, found, strict=True))

    def test_frames_that_are_lent_are_read_where_they_lie(self):
        picture, other = frames(2)
        with self.runner() as runner:
            with runner.infer(picture) as expected, runner.collect(runner.submit(picture.copy(), lent=True)) as found:
                assert (expected.mask_nhw == found.mask_nhw).all()
            ticket = runner.submit(other, lent=True)
            assert not any((buffer == other).all() for buffer in runner._inputs), "nothing was copied"
            with runner.collect(ticket) as output:
                assert output.times.copy_in_ns < output.times.engine_ns
            striped = np.ascontiguousarray(picture.repeat(2, axis=2))[:, :, ::2]
            with runner.infer(picture) as expected, runner.collect(runner.submit(striped, lent=True)) as found:
                assert (expected.mask_nhw == found.mask_nhw).all()

    def test_a_failure_elsewhere_ends_what_is_in_flight(self):
        runner = self.runner()
        with pytest.raises(KeyError, match="elsewhere"), runner:
            for picture in frames(3):
                runner.submit(picture)
            raise KeyError("elsewhere")
        with runner, runner.infer(frames(1)[0]) as output:
            assert output.mask_nhw.size


@pytest.mark.parametrize(("model", "precision"), [(float_model, "fp32"), (int8_model, "int8")])
def test_masks_agree_with_onnx_runtime(tmp_path, model, precision):
    pictures = frames(6)
    _, runner = build(tmp_path, model(), spec_of(precision))
    with runner, open_onnx(model(), SIZE) as reference:
        same = []
        for picture in pictures:
            with runner.infer(picture) as one, reference.infer(picture) as two:
                same.append(np.mean(one.mask_nhw == two.mask_nhw))
    assert np.mean(same) > (0.999 if precision == "fp32" else 0.98)


def test_fp32_is_asked_for_and_read_back(tmp_path):
    built, _ = build(tmp_path, float_model(), spec_of())
    assert built.precision == "fp32"
    assert set(built.layers) == {"fp32"}
    assert built.report["inference_precision_hint"] == "fp32"


def test_int8_layers_are_counted_and_the_rest_stays_fp32(tmp_path):
    built, _ = build(tmp_path, int8_model(), spec_of("int8"))
    assert built.precision == "int8"
    assert built.layers["int8"] >= 5
    assert "bf16" not in built.layers


def test_bf16_only_where_the_processor_has_it(tmp_path):
    if not has("bf16"):
        with pytest.raises(CapabilityError, match="bf16"):
            build(tmp_path, float_model(), spec_of("bf16"))
        return
    built, runner = build(tmp_path, float_model(), spec_of("bf16"))
    assert built.precision == "bf16"
    assert built.layers["bf16"] > built.layers.get("fp32", 0)
    with runner, runner.infer(frames(1)[0]):
        assert runner.spec.precision == "bf16"


def test_the_floats_of_an_int8_engine_may_be_bf16(tmp_path):
    if not has("bf16"):
        pytest.skip("this processor has no BF16")
    built, _ = build(tmp_path, int8_model(), spec_of("int8", options={"float_precision": "bf16"}))
    assert built.layers["int8"] >= 5
    assert built.layers["bf16"] >= 1


def test_a_precision_that_is_not_read_back_is_an_error(monkeypatch):
    core = ov.Core()
    model = backend.read_model(core, float_model().SerializeToString())
    monkeypatch.setattr(backend, "_precision_of", lambda compiled: "bf16")
    with pytest.raises(CapabilityError, match="it chose bf16"):
        backend.compile_model(core, model, hint="fp32")


def test_what_cannot_be_is_refused(tmp_path):
    path = write(tmp_path, float_model())
    builder = get_builder("openvino")
    with pytest.raises(CapabilityError, match="fp16"):
        builder.build(path, tmp_path, spec_of("fp16")) if not has("fp16") else builder.build(
            path, tmp_path, spec_of("fp32", options={"float_precision": "fp16 "})
        )
    with pytest.raises(RequestError, match="float_precision"):
        builder.build(path, tmp_path, spec_of(options={"float": "bf16"}))
    assert not list(tmp_path.glob("engine*"))


def test_a_truncated_engine_does_not_verify(tmp_path):
    built, runner = build(tmp_path, float_model(), spec_of())
    text = (tmp_path / built.file).read_bytes()
    (tmp_path / built.file).write_bytes(text[: len(text) // 2])
    with pytest.raises(VerifyError), runner:
        pass
