"""A RUN folder as a Runner: the geometry, the contract of the ring, and folders that cannot be used."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from edgeseg.core.artefacts import write_text
from edgeseg.core.config import dump_toml, to_tables
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.core.types import U8, Classes, Runner
from edgeseg.model import InputConfig, ModelConfig, build_model, load_run, open_run
from edgeseg.model.run import predict
from edgeseg.model.weights import load_weights, save_weights

CONFIG = ModelConfig(stem="patch2", widths=(6, 8), depths=(1, 1), decoder_widths=(6,), decoder_depths=(1,), kernel=3)
CLASSES = Classes(names=("road", "sky", "tree"), palette_rgb=((1, 1, 1), (2, 2, 2), (3, 3, 3)))
INPUT = InputConfig(mean_rgb=(120.0, 110.0, 100.0), std_rgb=(60.0, 50.0, 40.0), network_size=(20, 24))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    model = build_model(CONFIG, len(CLASSES), seed=3)
    save_weights(folder / "weights.safetensors", model)
    tables = {
        "model": to_tables(CONFIG),
        "input": to_tables(INPUT),
        "classes": to_tables(CLASSES),
        "train": {"epochs": 3},
    }
    write_text(folder / "config.toml", dump_toml(tables))
    return folder


def frame(height: int = 20, width: int = 24, seed: int = 0) -> U8:
    return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


def test_a_run_loads_as_it_was_saved(run: Path) -> None:
    loaded = load_run(run)
    assert (loaded.config, loaded.input, loaded.classes) == (CONFIG, INPUT, CLASSES)
    assert not loaded.model.training
    expected = build_model(CONFIG, len(CLASSES), seed=3).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.model.state_dict().items())


def test_masks_are_those_of_the_network_on_normalised_rgb(run: Path) -> None:
    model = load_run(run).model
    frames = frame()
    rgb = torch.from_numpy(frames[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(values)[:, None, None] for values in (INPUT.mean_rgb, INPUT.std_rgb))
    with torch.no_grad():
        expected = model((rgb - mean) / std).argmax(1).numpy()
    with open_run(run) as runner, runner.infer(frames) as output:
        assert output.mask_nhw.dtype == np.uint8
        assert np.array_equal(output.mask_nhw, expected)
        assert output.times.engine_ns > 0
        assert output.confidence_nhw is None


@pytest.mark.parametrize("size", [(20, 24), (19, 23), (17, 30), (1, 1)])
def test_any_frame_size_is_padded_by_its_edge(run: Path, size: tuple[int, int]) -> None:
    loaded = load_run(run)
    frames = frame(*size)
    padded = np.pad(frames, ((0, 0), (0, -size[0] % 4), (0, -size[1] % 4), (0, 0)), mode="edge")
    found, wanted = (predict(loaded.model, torch.from_numpy(x), INPUT) for x in (frames, padded))
    assert found.shape[2:] == size
    assert torch.equal(found, wanted[..., : size[0], : size[1]])
    with open_run(run, size) as runner, runner.infer(frames) as output:
        assert runner.spec.frame_size == size
        assert output.mask_nhw.shape == (1, *size)


def test_the_runner_keeps_the_contract(run: Path) -> None:
    runner = open_run(run)
    assert isinstance(runner, Runner)
    assert runner.spec.classes == CLASSES
    with pytest.raises(RequestError, match="not open"):
        runner.infer(frame())
    with runner:
        with runner:
            pass
        ring = runner.free_outputs
        assert ring >= 2
        outputs = [runner.infer(frame(seed=seed)) for seed in range(ring)]
        kept = [output.mask_nhw.copy() for output in outputs]
        assert runner.free_outputs == 0
        with pytest.raises(BufferError):
            runner.submit(frame())
        outputs[0].release()
        outputs[0].release()
        assert runner.free_outputs == 1
        runner.infer(frame(seed=99))
        for output, mask in zip(outputs[1:], kept[1:], strict=True):
            assert np.array_equal(output.mask_nhw, mask), "a leased mask was overwritten"


def test_what_does_not_fit_is_refused_by_name(run: Path) -> None:
    with open_run(run) as runner:
        with pytest.raises(RequestError, match=r"uint8 \[1, 21, 24, 3\].*uint8 \[1, 20, 24, 3\]"):
            runner.submit(frame(21, 24))
        with pytest.raises(RequestError, match="float32"):
            runner.submit(frame().astype(np.float32))  # type: ignore[arg-type]
        first, second = runner.submit(frame()), runner.submit(frame(seed=1))
        with pytest.raises(RequestError, match="in order of submission"):
            runner.collect(second)
        runner.collect(first).release()
        runner.collect(second).release()
        runner.input_view()[...] = frame()
        with runner.infer(runner.input_view()) as output:
            assert output.mask_nhw.shape == (1, 20, 24)


def test_folders_that_are_no_runs_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        load_run(tmp_path / "absent")
    (run / "weights.safetensors").unlink()
    with pytest.raises(RequestError, match="no finished run"):
        load_run(run)


def test_damaged_weights_do_not_verify(run: Path) -> None:
    file = run / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(VerifyError, match="cannot be read"):
        load_run(run)


def test_weights_of_another_network_do_not_verify(run: Path, tmp_path: Path) -> None:
    wider = msgspec.structs.replace(CONFIG, widths=(6, 10))
    save_weights(run / "weights.safetensors", build_model(wider, len(CLASSES)))
    with pytest.raises(VerifyError, match=r"weight is \[10, 6, 2, 2\].*\[8, 6, 2, 2\]"):
        load_run(run)
    deeper = msgspec.structs.replace(CONFIG, depths=(2, 1))
    save_weights(run / "weights.safetensors", build_model(deeper, len(CLASSES)))
    with pytest.raises(VerifyError, match=r"unknown tensor encoder\.0\.1"):
        load_run(run)


def test_narrower_weights_are_widened(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = build_model(CONFIG, 3)
    save_file({name: t.half().contiguous() if t.is_floating_point() else t for name, t in model.state_dict().items()},
              tmp_path / "half.safetensors")  # fmt: skip
    again = build_model(CONFIG, 3, seed=9)
    load_weights(tmp_path / "half.safetensors", again)
    assert all(tensor.dtype == torch.float32 for tensor in again.parameters())
    torch.testing.assert_close(again.stem.conv.weight, model.stem.conv.weight, rtol=1e-3, atol=1e-4)


def test_an_unknown_key_of_the_model_table_is_refused(run: Path) -> None:
    text = (run / "config.toml").read_text().replace("kernel = 3", "kernal = 3")
    (run / "config.toml").write_text(text)
    with pytest.raises(RequestError, match=r"did you mean model\.kernel"):
        load_run(run)
