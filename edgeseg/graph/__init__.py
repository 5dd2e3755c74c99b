"""The room `graph`: ONNX without torch. Safe loading, metadata, geometry, rewrites, Q/DQ mechanics, cost.

The functions here are its door: light to import, they ask for the package `onnx` by name before they need it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core.deps import require
from edgeseg.core.types import InputFormat, Precision, Region, Size

if TYPE_CHECKING:
    import onnx

    from edgeseg.core.types import Colour
    from edgeseg.graph.costs import LayerCost
    from edgeseg.graph.forms import Forms
    from edgeseg.graph.meta import ModelMeta
    from edgeseg.graph.qdq import QdqPlan
    from edgeseg.graph.summary import ModelSummary
    from edgeseg.graph.variants import Kind

_WHAT = "reading an ONNX model"


def load_model(path: Path) -> onnx.ModelProto:
    """Read a model that edgeseg wrote; see `edgeseg.graph.load.load_model`."""
    require("onnx", what=_WHAT)
    from edgeseg.graph import load

    return load.load_model(path)


def save_model(path: Path, model: onnx.ModelProto) -> None:
    """Write a model, atomically; see `edgeseg.graph.load.save_model`."""
    require("onnx", what="writing an ONNX model")
    from edgeseg.graph import load

    load.save_model(path, model)


def read_meta(model: onnx.ModelProto) -> ModelMeta:
    """What a model says about itself; see `edgeseg.graph.meta.read_meta`."""
    require("onnx", what=_WHAT)
    from edgeseg.graph import meta

    return meta.read_meta(model)


def write_meta(model: onnx.ModelProto, meta: ModelMeta) -> None:
    """Replace a model's metadata, in place; see `edgeseg.graph.meta.write_meta`."""
    require("onnx", what="writing an ONNX model")
    from edgeseg.graph import meta as room

    room.write_meta(model, meta)


def fix_frame_size(
    model: onnx.ModelProto,
    frame_size: Size,
    network_size: Size | None = None,
    batch: int = 1,
    *,
    confidence: bool | None = None,
    roi: Region | None = None,
) -> onnx.ModelProto:
    """A model with static sizes; see `edgeseg.graph.geometry.fix_frame_size`."""
    require("onnx", what="fixing a model's frame size")
    from edgeseg.graph import geometry

    return geometry.fix_frame_size(model, frame_size, network_size, batch, confidence=confidence, roi=roi)


def default_network_size(trained: Size, frame_size: Size) -> Size:
    """The size that the layers see unless told otherwise; see `edgeseg.graph.sizes.default_network_size`."""
    require("onnx", what="fixing a model's frame size")
    from edgeseg.graph import sizes

    return sizes.default_network_size(trained, frame_size)


def cost(model: onnx.ModelProto, frame_size: Size | None = None) -> list[LayerCost]:
    """Cost of each layer; see `edgeseg.graph.costs.cost`."""
    require("onnx", what=_WHAT)
    from edgeseg.graph import costs

    return costs.cost(model, frame_size)


def insert_qdq(model: onnx.ModelProto, plan: QdqPlan) -> onnx.ModelProto:
    """A copy of the model with Q/DQ nodes; see `edgeseg.graph.qdq.insert`."""
    require("onnx", what="quantising a model")
    from edgeseg.graph import qdq

    return qdq.insert(model, plan)


def weights_sha256(model: onnx.ModelProto) -> str:
    """Identity of the network in a model; see `edgeseg.graph.meta.weights_sha256`."""
    require("onnx", what=_WHAT)
    from edgeseg.graph import meta

    return meta.weights_sha256(model)


def summarise(path: Path) -> ModelSummary:
    """What is in an ONNX file; see `edgeseg.graph.summary.summarise`."""
    require("onnx", what="edgeseg inspect")
    from edgeseg.graph import summary

    return summary.summarise(path)


def make_variant(model: onnx.ModelProto, kind: Kind, precision: Precision = "fp32") -> onnx.ModelProto:
    """A variant for one kind of runtime; see `edgeseg.graph.variants.make_variant`."""
    require("onnx", what="writing a variant of a model")
    from edgeseg.graph import variants

    return variants.make_variant(model, kind, precision)


def apply_forms(model: onnx.ModelProto, forms: Forms) -> onnx.ModelProto:
    """A copy of a model with other exact forms; see `edgeseg.graph.forms.apply_forms`."""
    require("onnx", what="rewriting a model")
    from edgeseg.graph import forms as room

    return room.apply_forms(model, forms)


def camera_input(model: onnx.ModelProto, input_format: InputFormat, colour: Colour | None = None) -> onnx.ModelProto:
    """A model that takes NV12 or YUYV bytes; see `edgeseg.graph.camera.camera_input`."""
    require("onnx", what="rewriting a model")
    from edgeseg.graph import camera

    return camera.camera_input(model, input_format, colour)
