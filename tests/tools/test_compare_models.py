"""tools/compare_models.py with a tiny stand-in for a peer: one recipe for all, resumable, a page that says what ran."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Silent
from edgeseg.core.types import Classes
from edgeseg.data import open_dataset, pack
from edgeseg.export.parity import compare
from edgeseg.model import InputConfig
from edgeseg.train.config import LossConfig
from edgeseg.train.loop import Trainer
from edgeseg.train.supervised import supervised_parts

ROOT = Path(__file__).parents[2]
MODULES = ("compare_models", "model_engines", "model_latency", "model_page", "model_rows", "peer_models", "row_checks")
SMALL = [
    *("--data", "street:seed=1,frames=16,size=64x96", "--epochs", "2", "--crop", "64x96", "--threads", "1"),
    *("--set", "data.split=train", "--set", "data.val_splits=['val']"),
]


class TinyNet(nn.Module):
    """A padded strided convolution, a BatchNorm, a classifier at an eighth; in training an auxiliary one as well."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)
        self.aux = nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.stem(x)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The tool's modules, with a tiny network as a peer."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import compare_models
    import model_engines
    import model_latency
    import model_page
    import model_rows
    import peer_models
    import row_checks

    modules = (compare_models, model_engines, model_latency, model_page, model_rows, peer_models, row_checks)
    found = dict(zip(MODULES, modules, strict=True))
    monkeypatch.setitem(peer_models.PEERS, "tiny", peer_models.Peer("torch", "a stand-in", TinyNet, factor=8))
    threads = torch.get_num_threads()
    yield found
    torch.set_num_threads(threads)
    for name in MODULES:
        sys.modules.pop(name, None)


def run(tools: dict[str, ModuleType], folder: Path, *arguments: str) -> str:
    out = folder / "models.md"
    rows = ["--rows", "edge-s", "tiny", "--only", "edge-s", "tiny"]
    tools["compare_models"].main([*SMALL, "--runs", str(folder / "runs"), "--out", str(out), *rows, *arguments])
    return out.read_text() if out.is_file() else ""


def rows_of(tools: dict[str, ModuleType], folder: Path, *arguments: str) -> object:
    options = tools["compare_models"]._parser().parse_args([*SMALL, "--runs", str(folder), *arguments])
    return tools["model_rows"].Rows(tools["compare_models"].plan_of(options), Silent())


def test_a_table_from_training_to_page(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    page = run(tools, tmp_path, "--rates", "0.001,0.004", "--rate-epochs", "1", "--seconds", "0.2", "--note", "A note.")
    for name in ("edge-s", "tiny"):
        score = json.loads((tmp_path / "runs" / name / "scores-2.json").read_text())
        assert set(score["rates"]) == {"0.001", "0.004"}
        assert score["rates"][f"{score['rate']:g}"] == max(score["rates"].values())
        assert score["images"] == 32
        assert score["splits"]["val"]["boundary_iou"] is not None
        assert f"--only {name}`" in page  # the command that makes this row alone
        assert (tmp_path / "runs" / name / "model.onnx").is_file()
    latency = json.loads((tmp_path / "runs" / "latency.json").read_text())
    timed = tools["model_engines"]
    assert set(latency["engines"]["tiny"]) == {*timed.ENGINES, *timed.AS_EXPORTED}
    blocks = ["transposed=blocks"] if platform.machine() in ("x86_64", "AMD64") else []
    assert latency["forms"]["edge-s"] == {"OpenVINO": ["tail=phases"], "ONNX Runtime": blocks}
    assert latency["forms"]["tiny"] == {"OpenVINO": [], "ONNX Runtime": []}  # its logits are enlarged by 8
    assert "| none applies |" in page
    assert all(timing["p50_ms"] > 0 for row in latency["engines"].values() for timing in row.values())
    assert "2 epochs of crops of 64x96" in page
    assert "A note." in page
    assert str(tmp_path) not in page
    for engine in ("openvino-f32", "openvino-bf16", "onnx-runtime-f32"):
        svg = (tmp_path / f"models-{engine}.svg").read_text()
        assert "tiny" in svg
        assert "edge-s" in svg


def test_a_lead_that_a_seed_explains_is_marked_and_a_loss_is_bold(tools: dict[str, ModuleType]) -> None:
    rows, timed, page = tools["model_rows"], tools["model_latency"], tools["model_page"]

    def score(miou: float) -> object:
        split = rows.SplitScore(miou=miou, boundary_iou=None, iou={})
        return rows.RowScore(rate=0.1, epochs=1, images=1, seed=1, splits={"dev": split})

    def took(ms: float) -> dict[str, object]:
        timing = timed.Timing(p50_ms=ms, low_ms=ms, high_ms=ms + 1, calls=9, stable=True, agreement=1.0)
        return {"OpenVINO f32": timing}

    scores = {"edge-s": [score(0.30)], "edge-m": [score(0.42)], "edge-l": [score(0.45)], "tiny": [score(0.40)]}
    times = {"edge-s": 5.0, "edge-m": 10.0, "edge-l": 20.0}

    def cell(tiny_ms: float, noise: float) -> str:
        engines = {name: took(ms) for name, ms in {**times, "tiny": tiny_ms}.items()}
        latency = timed.Latency(
            created="", device="", size=(8, 8), threads=1, seconds=1.0, busy="", trained={}, engines=engines
        )
        row = page._verdicts(scores, latency, "dev", noise)[-1]
        return str(row.split("|")[3].strip())

    assert cell(10.0, 6.0) == "edge-m +2.0 ≈"
    assert cell(10.0, 0.0) == "edge-m +2.0"  # not known
    assert cell(20.0, 4.0) == "edge-l +5.0"
    assert cell(5.0, 4.0) == "**edge-s -10.0**"
    assert cell(1.0, 4.0) == "**none is as fast**"

    # two seeds of one row say what a seed does, whatever --noise was given: here 0.014, so 0.31 between two single runs
    scores["edge-m"] = [score(0.41), score(0.43)]
    assert cell(10.0, 0.0) == "edge-m +2.0 ≈"
    scores["edge-m"] = [score(0.42), score(0.42)]
    assert cell(10.0, 6.0) == "edge-m +2.0"


def test_a_row_is_the_mean_of_its_seeds(tools: dict[str, ModuleType]) -> None:
    rows = tools["model_rows"]

    def run(miou: float, iou: dict[str, float | None]) -> object:
        split = rows.SplitScore(miou=miou, boundary_iou=miou / 2, iou=iou)
        return rows.RowScore(rate=0.1, epochs=1, images=1, seed=1, splits={"dev": split})

    mean = rows.mean_score([run(0.2, {"car": 0.1, "pole": None}), run(0.4, {"car": 0.3, "pole": 0.5})])
    assert mean.splits["dev"].miou == pytest.approx(0.3)
    assert mean.splits["dev"].boundary_iou == pytest.approx(0.15)
    assert mean.splits["dev"].iou == pytest.approx({"car": 0.2, "pole": 0.5})


def test_a_seed_from_another_machine_has_its_own_command(tools: dict[str, ModuleType]) -> None:
    rows, page = tools["model_rows"], tools["model_page"]

    def run(seed: int, device: str) -> object:
        split = rows.SplitScore(miou=0.4, boundary_iou=None, iou={})
        return rows.RowScore(rate=0.1, epochs=1, images=1, seed=seed, splits={"dev": split}, device=device)

    found = {"edge-s": [run(1, "NVIDIA H200, torch 2.11"), run(2, "CPU, torch 2.14")]}
    gpu, cpu = page._commands(SimpleNamespace(rates={}), found, "tool --seed 1 --threads 1 --device cuda")[4:6]
    assert "`tool --seed 1 --threads 1 --device cuda --only edge-s`" in gpu
    assert "`tool --seed 2 --threads 1 --only edge-s`" in cpu


def test_the_page_takes_other_seeds_in_and_refuses_another_recipe(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    one = ["--only", "tiny", "--rows", "tiny"]
    run(tools, tmp_path, "--stages", "train", *one)
    run(tools, tmp_path / "two", "--stages", "train", *one, "--seed", "2")
    page = run(tools, tmp_path, "--stages", "page", *one, "--seed", "1", "--seeds-from", str(tmp_path / "two" / "runs"))
    files = [folder / "runs" / "tiny" / "scores-2.json" for folder in (tmp_path, tmp_path / "two")]
    first, second = (json.loads(file.read_text())["splits"]["val"]["miou"] for file in files)
    assert first != second
    assert f"| {50 * (first + second):.1f} |" in next(line for line in page.splitlines() if line.startswith("| tiny |"))
    assert "2 seeds" in page
    assert "--seed 2 " in page
    with pytest.raises(SystemExit, match="no runs of another seed"):
        run(tools, tmp_path, "--stages", "page", *one, "--seeds-from", str(tmp_path / "three"))
    config = tmp_path / "two" / "runs" / "tiny" / "run" / "config.toml"
    config.write_text(config.read_text().replace("lovasz = 0.5", "lovasz = 0.25"))
    with pytest.raises(SystemExit, match="another"):
        run(tools, tmp_path, "--stages", "page", *one, "--seed", "1", "--seeds-from", str(tmp_path / "two" / "runs"))


def test_a_finished_row_is_not_trained_again(
    tools: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tools, tmp_path, "--stages", "train")
    monkeypatch.setattr(tools["model_rows"], "train_parts", lambda *_, **__: pytest.fail("trained again"))
    page = run(tools, tmp_path, "--stages", "train", "page")
    assert "not run" in page  # the latency
    assert "| tiny | " in page


def test_a_broken_row_goes_on_where_it_was(
    tools: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tools, tmp_path / "whole", "--stages", "train", "--only", "tiny")
    step, taken = Trainer.take_step, []

    def broken(self: Trainer, *arguments: object) -> None:
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(arguments)
        step(self, *arguments)  # type: ignore[arg-type]

    often = ("--stages", "train", "--only", "tiny", "--set", "train.checkpoint_minutes=0")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "take_step", broken)
        run(tools, tmp_path / "broken", *often)
    assert not (tmp_path / "broken" / "runs" / "tiny" / "scores-2.json").exists()
    taken.clear()
    monkeypatch.setattr(
        Trainer, "take_step", lambda self, *arguments: (taken.append(arguments), step(self, *arguments))
    )
    run(tools, tmp_path / "broken", *often)
    assert len(taken) == 1  # of four: three were done
    whole, resumed = (
        load_file(tmp_path / part / "runs" / "tiny" / "run" / "weights.safetensors") for part in ("whole", "broken")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_larger_budget_lengthens_a_finished_row(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    assert rows_of(tools, tmp_path).train("tiny").images == 32  # type: ignore[attr-defined]
    longer = rows_of(tools, tmp_path, "--epochs", "3").train("tiny")  # type: ignore[attr-defined]
    assert longer.images == 48
    shorter = rows_of(tools, tmp_path).finished("tiny")  # type: ignore[attr-defined]
    assert shorter.images == 32  # its page still compares like with like
    lines = (tmp_path / "tiny" / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    with pytest.raises(RequestError, match="another \\[train\\]"):
        rows_of(tools, tmp_path).train("tiny")  # type: ignore[attr-defined]  # cannot become shorter


def test_another_recipe_is_refused(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    rows_of(tools, tmp_path).train("tiny")  # type: ignore[attr-defined]
    other = rows_of(tools, tmp_path, "--set", "loss.dice=0.5")
    with pytest.raises(RequestError, match=r"another \[loss\].*dice 0.0, asked for 0.5"):
        other.train("tiny")  # type: ignore[attr-defined]
    out = ["--runs", str(tmp_path), "--out", str(tmp_path / "models.md"), "--rows", "tiny", "--stages", "page"]
    with pytest.raises(SystemExit, match=r"another \[loss\]"):  # nor does the page show a recipe that was not trained
        tools["compare_models"].main([*SMALL, *out, "--set", "loss.dice=0.5"])
    tools["compare_models"].main([*SMALL, *out])


def test_a_packed_copy_of_the_same_frames_will_do(
    tools: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    street, copy = SMALL[1], tmp_path / "street.packed"
    pack(copy, {split: open_dataset(street, split) for split in ("train", "val")})
    packed = ["--data", f"packed:{copy}"]
    first = rows_of(tools, tmp_path / "runs", *packed).train("tiny")  # type: ignore[attr-defined]
    assert (tmp_path / "runs" / "tiny" / "run" / "frames").is_dir()  # export checks itself on them
    monkeypatch.setattr(tools["model_rows"], "train_parts", lambda *_, **__: pytest.fail("trained again"))
    assert rows_of(tools, tmp_path / "runs").train("tiny") == first  # type: ignore[attr-defined]
    other = ["--data", street.replace("seed=1", "seed=2")]
    for name in ("tiny", "edge-s"):  # a finished row and a new one
        with pytest.raises(RequestError, match="other frames"):
            rows_of(tools, tmp_path / "runs", *other).train(name)  # type: ignore[attr-defined]


def test_scores_from_another_machine_do_without_their_weights(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    rows = rows_of(tools, tmp_path)
    rows.train("tiny")  # type: ignore[attr-defined]
    assert rows.open("tiny")[1]  # type: ignore[attr-defined]
    (tmp_path / "tiny" / "run" / "weights.safetensors").unlink()
    model, trained = rows.open("tiny")  # type: ignore[attr-defined]
    assert not trained
    first = rows.new_model("tiny", rows.config("tiny")).state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(first[name], value) for name, value in model.state_dict().items())
    assert rows.train("tiny") == rows.finished("tiny")  # type: ignore[attr-defined]


def test_the_device_and_what_it_is_called_are_in_the_page(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    page = run(tools, tmp_path, "--stages", "train", "page", "--only", "tiny", "--batch", "4", "--device", "cpu")
    assert f"CPU, torch {torch.__version__}" in page
    assert "in batches of 4" in page
    # the page of rows that a GPU trained can be written where there is none
    options = [*SMALL, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "gpu.md"), "--rows", "tiny"]
    gpu = ["--batch", "4", "--device", "cuda:9", "--compile"]
    tools["compare_models"].main([*options, *gpu, "--stages", "page"])
    assert "--batch 4 --crop 64x96 --threads 1 --device cuda:9 --compile" in (tmp_path / "gpu.md").read_text()
    with pytest.raises(SystemExit, match="compare_models: error"):
        tools["compare_models"].main([*options, *gpu, "--device", "tpu", "--stages", "train"])


def test_what_cannot_be_compiled_runs_uncompiled(
    tools: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, tried = torch.compile, []

    def refuse(_module: object, _inputs: object) -> object:
        tried.append(1)
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch, "compile", lambda module: compiled(module, backend=refuse))
    eager = rows_of(tools, tmp_path / "eager").train("tiny")  # type: ignore[attr-defined]
    assert not tried
    found = rows_of(tools, tmp_path / "compiled", "--compile").train("tiny")  # type: ignore[attr-defined]
    assert tried
    assert found.splits == eager.splits


def test_every_row_learns_from_the_same_batches(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    rows = rows_of(tools, tmp_path)
    feeds = []
    for name in ("edge-s", "tiny"):
        config, corpora = rows.config(name), rows.corpora  # type: ignore[attr-defined]
        parts = supervised_parts(config, corpora[0], (), torch.device("cpu"))
        feeds.append(parts.feed.batch(0, range(8), range(8), 0))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*feeds, strict=True))


def test_rows_without_a_run_or_a_package_are_shown_as_such(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    peers = tools["peer_models"]
    peers.PEERS["absent"] = peers.Peer("no_such_package", "nothing", TinyNet, licence="AGPL-3.0: by hand")
    out = tmp_path / "models.md"
    rows = ["--rows", "edge-s", "edge-s-ln", "tiny", "absent", "--stages", "train", "page", "--only", "absent"]
    tools["compare_models"].main([*SMALL, "--runs", str(tmp_path / "runs"), "--out", str(out), *rows])
    page = out.read_text()
    assert "absent: cannot be built here, the package no_such_package is not installed (AGPL-3.0: by hand)" in page
    assert page.count("not run yet") == 3
    assert "timed only" in page


def test_a_peers_graph_gives_torchs_masks(tools: dict[str, ModuleType]) -> None:
    peers = tools["peer_models"]
    classes = Classes(names=("a", "b", "c"), palette_rgb=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    model = peers.build_peer("tiny", 3, seed=4).eval()
    with torch.no_grad():
        model.network.stem[1].running_mean.normal_()
        model.network.head.bias.normal_()
    graph = peers.peer_graph("tiny", model, InputConfig(), classes, (40, 70))  # padded to 64x96
    frame = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    found = compare(model, InputConfig(), graph, [frame], Silent())
    assert found.agreement == 1
    assert found.logits_difference < 1e-5


def test_a_recipe_of_edgeseg_train_takes_the_place_of_the_tools(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("[model]\naux_heads = 1\n[train]\nbatch = 4\nepochs = 9\n[loss]\ndice = 0.5\n")
    rows = rows_of(tools, tmp_path, "--config", str(file))
    config = rows.config("edge-s")  # type: ignore[attr-defined]
    assert (config.model.aux_heads, config.train.batch, config.train.epochs) == (1, 4, 2)  # --epochs is over the file
    assert config.loss == LossConfig(dice=0.5)  # nothing is left of the tool's own
    assert config.data.val_splits == ("val",)
    peer = rows.config("tiny")  # type: ignore[attr-defined]
    assert (peer.train, peer.augment, peer.loss) == (config.train, config.augment, config.loss)
    file.write_text("[loss]\ndise = 0.5\n")
    with pytest.raises(RequestError, match="dise"):
        rows_of(tools, tmp_path, "--config", str(file))


def test_rows_cannot_have_equal_times(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="equal epochs"):
        rows_of(tools, tmp_path, "--set", "train.minutes=1").config("tiny")  # type: ignore[attr-defined]


def test_nothing_is_timed_that_was_not_built(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no engines to time.*--stages build latency"):
        run(tools, tmp_path, "--stages", "latency")


def test_unknown_rows_are_refused_by_name(tools: dict[str, ModuleType], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"unknown row \(edge-x\).*edge-s"):
        run(tools, tmp_path, "--only", "edge-x")


def test_the_agpl_peer_is_never_imported_by_the_package() -> None:
    for file in (ROOT / "edgeseg").rglob("*.py"):
        assert "ultralytics" not in file.read_text(encoding="utf-8"), file
