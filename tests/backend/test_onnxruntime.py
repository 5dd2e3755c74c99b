import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnxruntime as ort

from edgeseg.backend import get_builder, open_onnx
from edgeseg.core.errors import CapabilityError, RequestError, VerifyError
from edgeseg.graph.sample import sample_model

from .contract import RunnerContract
from .models import SIZE, float_model, frames, int8_model, spec_of, write


def plain_masks(model, pictures):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(["mask"], {"frame": picture})[0] for picture in pictures]


class TestContract(RunnerContract):
    def runner(self):
        return open_onnx(sample_model(), SIZE)


class TestContractInt8(RunnerContract):
    @pytest.fixture(autouse=True)
    def build(self, tmp_path):
        builder = get_builder("onnxruntime")
        self.spec = spec_of("int8", threads=1)
        self.engine = tmp_path / builder.build(write(tmp_path, int8_model()), tmp_path, self.spec).file

    def runner(self):
        return get_builder("onnxruntime").open(self.engine, self.spec)


class TestContractBatchAndConfidence(RunnerContract):
    def runner(self):
        return open_onnx(sample_model(confidence=True), SIZE, batch=2)


def test_masks_are_those_of_a_plain_session():
    pictures = frames(4)
    with open_onnx(float_model(), SIZE) as runner:
        for picture, expected in zip(pictures, plain_masks(float_model(), pictures), strict=True):
            with runner.infer(picture) as output:
                assert (output.mask_nhw == expected).all()
                assert len(np.unique(expected)) > 1


def test_a_file_is_opened_at_the_size_asked_for(tmp_path):
    path = write(tmp_path, sample_model())
    with open_onnx(path, (40, 72)) as runner, runner.infer(frames(1, frame_size=(40, 72))[0]) as output:
        assert output.mask_nhw.shape == (1, 40, 72)


def test_a_build_counts_int8_layers_and_keeps_the_model(tmp_path):
    path = write(tmp_path, int8_model())
    built = get_builder("onnxruntime").build(path, tmp_path, spec_of("int8"))
    assert built.precision == "int8"
    assert built.layers["int8"] >= 4
    assert (tmp_path / built.file).read_bytes() == path.read_bytes()
    (tmp_path / "float").mkdir()
    built = get_builder("onnxruntime").build(write(tmp_path, float_model()), tmp_path / "float", spec_of())
    assert set(built.layers) == {"fp32"}


def test_what_does_not_fit_is_refused(tmp_path):
    builder = get_builder("onnxruntime")
    path = write(tmp_path, float_model())
    with pytest.raises(CapabilityError, match="bf16"):
        builder.build(path, tmp_path, spec_of("bf16"))
    with pytest.raises(RequestError, match="no Q/DQ"):
        builder.build(path, tmp_path, spec_of("int8"))
    with pytest.raises(RequestError, match=r"\[1, 48, 64, 3\].*\[1, 40, 64, 3\]"):
        builder.build(path, tmp_path, spec_of(frame_size=(40, 64)))
    with pytest.raises(RequestError, match="confidence"):
        builder.build(path, tmp_path, spec_of(confidence=True))
    assert not (tmp_path / "engine.onnx").exists()


def test_an_engine_that_is_not_onnx_does_not_verify(tmp_path):
    (tmp_path / "engine.onnx").write_bytes(b"not a model")
    with (
        pytest.raises(VerifyError, match=r"engine\.onnx"),
        get_builder("onnxruntime").open(tmp_path / "engine.onnx", spec_of()),
    ):
        pass
