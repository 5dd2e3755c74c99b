"""A small, sound bundle of the null backend, for every test to use or to damage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgeseg.bundle import BundleContents, Golden, write_bundle
from edgeseg.core.manifest import (
    Agreement,
    Calibration,
    EngineRecord,
    Geometry,
    Manifest,
    ModelRecord,
    TensorRecord,
)
from edgeseg.core.types import Classes, DeviceInfo, EngineSpec

SIZE = (24, 32)
CLASSES = Classes(names=("road", "car", "person"), palette_rgb=((128, 64, 128), (64, 0, 128), (64, 64, 0)))
DEVICE = DeviceInfo(machine="x86_64", cpu="Some CPU", cpu_features=("avx2", "avx512_vnni"), cores=2, memory_mb=1024)
ContentsFactory = Callable[..., BundleContents]


@pytest.fixture(autouse=True)
def no_configured_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGESEG_TRUST", raising=False)


@pytest.fixture
def make_contents(tmp_path: Path) -> ContentsFactory:
    def make(
        name: str = "demo", *, ranges: bool = True, seed: int = 0, frames: int = 4, **fields: object
    ) -> BundleContents:
        source = tmp_path / f"source-{name}-{seed}"
        source.mkdir(exist_ok=True)
        (source / "model.onnx").write_bytes(f"canonical graph {seed}".encode())
        (source / "ranges.json").write_text("{}")
        (source / "engine.null.json").write_text("{}")
        rng = np.random.default_rng(seed)
        pictures = [rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8) for _ in range(frames)]
        manifest = Manifest(
            name=name,
            edgeseg="0.1.0",
            created="2026-01-01T00:00:00Z",
            target="cpu",
            model=ModelRecord(name="edge-s", sha256=hashlib.sha256(f"canonical graph {seed}".encode()).hexdigest()),
            spec=EngineSpec(frame_size=SIZE, precision="int8" if ranges else "fp32", classes=CLASSES),
            inputs=(TensorRecord(name="frame", dtype="uint8", shape=(1, *SIZE, 3)),),
            outputs=(TensorRecord(name="mask", dtype="uint8", shape=(1, *SIZE)),),
            geometry=Geometry(network_size=SIZE),
            engine=EngineRecord(
                file="engine.null.json",
                kind="onnx",
                backend="null",
                backend_version="1",
                precision="int8" if ranges else "fp32",
                layers={"int8": 3},
            ),
            device=DEVICE,
            calibration=Calibration(method="minmax", frames=8, sha256="0" * 64) if ranges else None,
            agreement=Agreement(minimum=0.99, executor="null 1", measured=1.0),
            verified=True,
            times_ms={"build": 12.5},
        )
        return BundleContents(
            manifest=msgspec.structs.replace(manifest, **fields),
            engine_files=[source / "engine.null.json"],
            model=source / "model.onnx",
            ranges=source / "ranges.json" if ranges else None,
            recipe={"model": "zoo:edge-s", "build": {"precision": "int8", "frame_size": [24, 32]}},
            golden=[Golden(picture, picture[..., 0] % 3) for picture in pictures],
            report={"gate": None, "reason": "no data given"},
        )

    return make


@pytest.fixture
def bundle_dir(tmp_path: Path, make_contents: ContentsFactory) -> Path:
    return write_bundle(tmp_path / "engines" / "demo", make_contents())


def reseal(folder: Path) -> None:
    """Write SHA256SUMS anew, as an attacker without a key or a writer with a fault would."""
    names = sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith("SHA256SUMS")
    )
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))
