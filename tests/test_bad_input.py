"""Bad input, end to end: one line in the promised form, the promised exit code, nothing half-written.

Each case is a command line that a person could type. `{…}` names a fixture file that `bad` prepares.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeseg.cli.main import run
from edgeseg.core.artefacts import sha256_file
from edgeseg.graph import save_model
from edgeseg.graph.sample import sample_model


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound data set, model and bundle."""
    root = tmp_path_factory.mktemp("good")
    assert run(["data", "synth", "--out", str(root / "data"), "--frames", "8", "--size", "72x96", "--quiet"]) == 0
    save_model(root / "model.onnx", sample_model(norm="batch"))
    build = ["build", str(root / "model.onnx"), "--target", "cpu", "--precision", "fp32", "--frame-size", "72x96"]
    assert run([*build, "--frames", str(root / "data"), "--out", str(root / "bundle"), "--quiet"]) == 0
    return root


@pytest.fixture
def bad(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of each case: copies of the good things, to be spoilt."""
    shutil.copytree(good, tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return tmp_path / "in"


def first(folder: Path, kind: str) -> Path:
    return sorted((folder / "data").rglob(f"{kind}/*.png"))[0]


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if "cache" not in path.parts}


def fails(args: list[str], code: int, *words: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(root)
    got = run(args)
    stderr = capsys.readouterr().err
    assert got == code, stderr
    last = stderr.splitlines()[-1]
    assert last.startswith("edgeseg: error: ")
    assert "internal error" not in last
    for word in words:
        assert word in last
    assert "Traceback" not in stderr
    assert files(root) == before, "something half-written stays behind"


def evaluate(folder: Path) -> list[str]:
    return ["eval", str(folder / "bundle"), "--data", f"folder:{folder / 'data'}", "--split", "train"]


def test_a_missing_folder(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["eval", str(bad / "bundle"), "--data", "folder:nowhere"]
    fails(args, 2, "nowhere", root=bad.parent, capsys=capsys)


def test_an_image_without_its_mask(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = first(bad, "masks")
    mask.unlink()
    fails(evaluate(bad), 1, mask.stem, root=bad.parent, capsys=capsys)


def test_a_mask_with_an_unknown_id(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = first(bad, "masks")
    ids = np.array(Image.open(mask))
    ids[0, 0] = 77
    Image.fromarray(ids).save(mask)
    fails(evaluate(bad), 1, mask.name, "77", root=bad.parent, capsys=capsys)


def test_a_size_mismatch(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = first(bad, "masks")
    Image.open(mask).resize((48, 36), Image.Resampling.NEAREST).save(mask)
    fails(evaluate(bad), 1, mask.name, root=bad.parent, capsys=capsys)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_truncated_png(bad: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture = first(bad, kind)
    picture.write_bytes(picture.read_bytes()[: picture.stat().st_size * 2 // 3])
    fails(evaluate(bad), 1, picture.name, root=bad.parent, capsys=capsys)


@pytest.mark.parametrize("command", ["inspect", "build", "eval"])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_an_onnx_that_is_none(bad: Path, command: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = bad / "model.onnx"
    sound = model.read_bytes()
    model.write_bytes(
        {"truncated": sound[: len(sound) // 2], "foreign": b"%PDF-1.7 not a model" * 50, "empty": b""}[damage]
    )
    more = {
        "inspect": [],
        "build": ["--precision", "fp32", "--target", "cpu", "--frames", str(bad / "data"), "--out", "b"],
        "eval": ["--data", f"folder:{bad / 'data'}", "--split", "train"],
    }
    fails([command, str(model), *more[command]], 5, "model.onnx", root=bad.parent, capsys=capsys)


@pytest.mark.parametrize("command", ["eval", "live", "bench", "verify"])
def test_a_bundle_with_one_flipped_byte(bad: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    engine = next(path for path in sorted((bad / "bundle").iterdir()) if path.name.startswith("engine."))
    data = bytearray(engine.read_bytes())
    data[len(data) // 2] ^= 1
    engine.write_bytes(data)
    bundle = str(bad / "bundle")
    args = {
        "eval": evaluate(bad),
        "live": ["live", bundle, "--source", "pattern:frames=2", "--masks", "m"],
        "bench": ["bench", bundle, "--duration", "0.2"],
        "verify": ["verify", bundle],
    }
    fails(args[command], 5, engine.name, root=bad.parent, capsys=capsys)


def test_a_manifest_of_a_newer_format(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = bad / "bundle" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["format"] = 999
    file.write_text(json.dumps(manifest))
    sums = bad / "bundle" / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith("manifest.json")]
    sums.write_text("\n".join([*lines, f"{sha256_file(file)}  manifest.json"]) + "\n")
    fails(evaluate(bad), 5, "999", root=bad.parent, capsys=capsys)


def test_a_video_that_does_not_open(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bad / "drive.mp4").write_bytes(b"not a video" * 100)
    args = ["live", str(bad / "bundle"), "--source", str(bad / "drive.mp4"), "--masks", "m"]
    fails(args, 1, "drive.mp4", root=bad.parent, capsys=capsys)


def test_a_video_that_does_not_exist(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["live", str(bad / "bundle"), "--source", "nowhere.mp4", "--masks", "m"]
    fails(args, 2, "nowhere.mp4", root=bad.parent, capsys=capsys)


def test_a_camera_that_is_not_there(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["live", str(bad / "bundle"), "--source", "/dev/video93", "--masks", "m"]
    fails(args, 4, "/dev/video93", root=bad.parent, capsys=capsys)


def test_show_without_a_display(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["live", str(bad / "bundle"), "--source", "pattern:frames=2", "--show"]
    fails(args, 4, "display", root=bad.parent, capsys=capsys)


def test_int8_without_ranges(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["build", str(bad / "model.onnx"), "--target", "cpu", "--precision", "int8", "--out", "b"]
    fails(args, 2, "--ranges", "--frames", "--recipe", root=bad.parent, capsys=capsys)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "--data", "street:frames=8", "--model", "edge-xs", "--out", "r"], ["edge-xs", "edge-s"]),
        (
            ["train", "--model", "edge-s", "--epochs", "2", "--minutes", "1", "--out", "r"],
            ["--epochs 2", "--minutes 1"],
        ),
        (["train", "--minutes", "1", "--set", "train.schedule=cosine", "--out", "r"], ["cosine", "trapezoid"]),
        (["train", "--data", "kitti:x", "--model", "edge-s", "--out", "r"], ["kitti", "camvid"]),
        (["build", "{model}", "--target", "cpuu", "--precision", "fp32"], ["cpuu", "did you mean cpu"]),
        (["build", "zoo:edge-xs", "--precision", "fp32"], ["edge-xs"]),
        (["build", "{model}", "--precision", "int9"], ["int9", "allowed: auto, fp32", "did you mean int8"]),
        (["build", "{model}", "--frame-size", "72", "--precision", "fp32"], ["HEIGHTxWIDTH"]),
        (["eval", "{model}", "--data", "folder:{data}", "--split", "tset"], ["tset", "train"]),
    ],
)
def test_a_name_that_is_none(bad: Path, args: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    filled = [arg.format(model=bad / "model.onnx", data=bad / "data") for arg in args]
    fails(filled, 2, *words, root=bad.parent, capsys=capsys)


def test_too_few_random_and_black_frames_are_refused(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for kind, picture in {
        "random": lambda: generator.integers(0, 256, (72, 96, 3), np.uint8),
        "black": lambda: np.zeros((72, 96, 3), np.uint8),
    }.items():
        (bad / kind).mkdir()
        for index in range(12):
            Image.fromarray(picture()).save(bad / kind / f"{index}.png")
        args = ["calibrate", str(bad / "model.onnx"), "--frames", str(bad / kind), "--out", "r.json"]
        fails(args, 1, kind, root=bad.parent, capsys=capsys)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 300 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if (
        os.getuid() != 0
        or shutil.which("mount") is None
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("command", ["build", "live-masks", "live-video", "synth", "export-free"])
def test_a_full_disk(bad: Path, small_disk: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    (small_disk / "filler").write_bytes(b"\0" * 250_000)
    out = str(small_disk / "out")
    model, bundle = str(bad / "model.onnx"), str(bad / "bundle")
    args = {
        "build": [
            "build",
            model,
            "--target",
            "cpu",
            "--precision",
            "fp32",
            "--frames",
            str(bad / "data"),
            "--out",
            out,
        ],
        "live-masks": ["live", bundle, "--source", f"{bad / 'data'}", "--masks", out],
        "live-video": ["live", bundle, "--source", "street:seed=1,frames=60,size=360x480", "--save", out + ".mp4"],
        "synth": ["data", "synth", "--frames", "30", "--out", out],
        "export-free": ["calibrate", model, "--frames", str(bad / "data"), "--out", out + ".json"],
    }
    if command == "export-free":
        (small_disk / "filler2").write_bytes(b"\0" * (300 * 1024 - 250_000 - 8192))
    got = run(args[command])
    stderr = capsys.readouterr().err
    assert got == 1, stderr
    assert "disk" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert not [path for path in small_disk.rglob("*") if path.name.endswith(".tmp") or path.name == "manifest.json"]


def test_a_broken_pipe_is_no_error_message() -> None:
    command = f"{sys.executable} -m edgeseg doctor --json --quiet | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
