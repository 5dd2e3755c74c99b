"""One export from run folder to ONNX file: emit, describe, compare with torch, write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath

import msgspec
import numpy as np
import onnx

import edgeseg
from edgeseg.core.artefacts import sha256_file
from edgeseg.core.config import read_toml
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Classes, Size
from edgeseg.data.pictures import read_image
from edgeseg.export.emit import emit_core
from edgeseg.export.parity import Parity, compare
from edgeseg.graph.costs import parameters
from edgeseg.graph.geometry import Geometry, attach, fix_frame_size
from edgeseg.graph.load import save_model
from edgeseg.graph.meta import ModelMeta, graph_weights_sha256, meta_props
from edgeseg.graph.sizes import check_size
from edgeseg.model.config import InputConfig
from edgeseg.model.network import SegModel
from edgeseg.model.run import load_run
from edgeseg.sources import open_source

MAX_FRAMES = 32
"""Frames of a source that are compared: one differing layer shows in the first of them."""


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        path: The ONNX file.
        name: Model.
        parity: Agreement with torch.
        parameters: Numbers in the network's weights, after folding.
        bytes: Size of the file.
        layers: Nodes of the graph.
        frame_size: (H, W) where it is fixed.
        weights_sha256: Identity of the network.
    """

    path: str
    name: str
    parity: Parity
    parameters: int
    bytes: int
    layers: int
    frame_size: Size | None
    weights_sha256: str


def export_run(run: Path, out: Path, *, size: Size | None, frames: str | None, progress: Progress) -> ExportReport:
    """See `edgeseg.export.export_run`."""
    if size is not None:
        check_size(size)
    if out.is_dir():
        raise RequestError("the output is a folder", value=out, allowed="a file name that ends in .onnx")
    loaded = load_run(run)
    model = canonical_model(loaded.model, loaded.input, loaded.classes, run_facts(run))
    images = run_frames(run) if frames is None else source_frames(frames)
    parity = compare(loaded.model, loaded.input, model, images, progress)
    parity.check("the exported graph")
    if size is not None:
        model = fix_frame_size(model, size)
    save_model(out, model)
    props = {prop.key: prop.value for prop in model.metadata_props}
    return ExportReport(
        path=str(out),
        name=loaded.config.name,
        parity=parity,
        parameters=parameters(model),
        bytes=out.stat().st_size,
        layers=len(model.graph.node),
        frame_size=size,
        weights_sha256=msgspec.json.decode(props["edgeseg.weights_sha256"]),
    )


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says about its training, for the model's metadata."""

    trained_on: str = ""
    metrics: dict[str, float | None] = {}
    config_sha256: str = ""


def canonical_model(model: SegModel, spec: InputConfig, classes: Classes, facts: RunFacts) -> onnx.ModelProto:
    """The canonical graph of a network, with symbolic frame size and metadata.

    Args:
        model: In eval mode.
        spec: Its input.
        classes: Vocabulary of the mask.
        facts: What the run says about its training.
    """
    graph = attach(emit_core(model, spec), Geometry(stride=model.stride))
    graph.prune()
    meta = ModelMeta(
        name=model.config.name,
        classes=classes,
        network_size=spec.network_size,
        stride=model.stride,
        mean_rgb=spec.mean_rgb,
        std_rgb=spec.std_rgb,
        package_version=edgeseg.__version__,
        config_sha256=facts.config_sha256,
        weights_sha256=graph_weights_sha256(graph),
        trained_on=facts.trained_on,
        metrics=facts.metrics,
    )
    graph.props = meta_props(meta)
    return graph.to_model()


def run_facts(run: Path) -> RunFacts:
    """Training data and scores of a run; scores are empty where it is not complete."""
    file = run / "config.toml"
    data = read_toml(file).get("data", {})
    trained_on = ""
    if isinstance(data, Mapping):
        trained_on = f"{portable(str(data.get('train', '')))} {data.get('split', '')}".strip()
    done = run / "done.json"
    summary = msgspec.json.decode(done.read_bytes(), type=dict[str, object]) if done.is_file() else {}
    return RunFacts(
        trained_on=trained_on, metrics=dict(_flat(summary.get("scores", {}))), config_sha256=sha256_file(file)
    )


def portable(spec: str) -> str:
    """A data specification without where it lies on this machine: `camvid:/home/me/CamVid` is `camvid:CamVid`."""
    kind, colon, place = spec.partition(":")
    return f"{kind}{colon}{PurePath(place).name}" if PurePath(place).parts[1:] else spec


def run_frames(run: Path) -> Iterator[U8]:
    """The run's own validation frames.

    Raises:
        RequestError: It has none.
    """
    files = sorted(path for path in (run / "frames").glob("*.png") if not path.name.endswith(".label.png"))
    if not files:
        raise RequestError(
            "the run has no frames to compare on", value=run / "frames", fix=f"edgeseg export {run} --frames SRC"
        )
    return (read_image(path) for path in files)


def source_frames(uri: str) -> Iterator[U8]:
    """The first frames of a source, each in memory of its own."""
    source = open_source(uri)
    source.open()
    try:
        for _ in range(MAX_FRAMES):
            if not source.grab():
                return
            yield np.array(source.retrieve().image_hwc)
    finally:
        source.close()


def _flat(tables: object, prefix: str = "") -> Iterable[tuple[str, float | None]]:
    """Numbers of nested tables under dotted names."""
    if isinstance(tables, Mapping):
        for key, value in tables.items():
            yield from _flat(value, f"{prefix}{key}.")
    elif tables is None or (isinstance(tables, int | float) and not isinstance(tables, bool)):
        yield prefix[:-1], tables
