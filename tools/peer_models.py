"""The networks of others, as plain `nn.Module`s for tools/compare_models.py; never imported by the package.

    segmentation_models.pytorch   MIT; pip install segmentation-models-pytorch
    ultralytics                   AGPL-3.0: who wants its row installs it by hand and accepts its licence

Each has random first weights and stride 32. What is around the network in the graph (bytes in, argmax out) is written
by the package's own `edgeseg.graph.attach`, so a peer's full graph differs from ours in the network alone.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

import edgeseg
from edgeseg.core.deps import probe_package
from edgeseg.core.errors import UnavailableError
from edgeseg.core.types import Classes, Size
from edgeseg.graph.geometry import PIXELS, SCORES, Geometry, attach
from edgeseg.graph.ir import FLOAT, Graph, Value, from_model
from edgeseg.graph.meta import ModelMeta, graph_weights_sha256, meta_props
from edgeseg.model import InputConfig

STRIDE = 32


class PeerModel(nn.Module):
    """A foreign network with the interface that the loop and the parity check know.

    Args:
        network: Float [N, 3, H, W] to logits [N, classes, h, w], or in training to these and auxiliary ones.
        factor: From h to H; the logits are enlarged by it, bilinearly, as in the heads of our own.
    """

    stride = STRIDE

    def __init__(self, network: nn.Module, factor: int = 1) -> None:
        super().__init__()
        self.network = network
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits [N, classes, H, W]; in training those of auxiliary heads behind them."""
        found = self.network(x)
        first, *others = [found] if isinstance(found, Tensor) else found
        if self.factor > 1:
            first = nn.functional.interpolate(first, scale_factor=self.factor, mode="bilinear", align_corners=False)
        return [first, *others] if others else first


@dataclass(frozen=True)
class Peer:
    """A network of others.

    Attributes:
        package: Import name of where it comes from.
        what: One line for the page.
        make: The network from the number of classes.
        factor: See `PeerModel`.
        licence: Said where the package is missing.
    """

    package: str
    what: str
    make: Callable[[int], nn.Module]
    factor: int = 1
    licence: str = ""


def _unet(encoder: str) -> Callable[[int], nn.Module]:
    def make(classes: int) -> nn.Module:
        import segmentation_models_pytorch as smp

        network: nn.Module = smp.Unet(encoder, encoder_weights=None, classes=classes)
        return network

    return make


def _yolo(classes: int) -> nn.Module:
    from ultralytics.nn.tasks import SemanticSegmentationModel

    network: nn.Module = SemanticSegmentationModel("yolo26n-sem.yaml", nc=classes, verbose=False)
    return network


_SMP = "segmentation_models_pytorch"
PEERS: dict[str, Peer] = {
    "unet-mobilenet_v2": Peer(_SMP, "segmentation_models.pytorch U-Net, MobileNetV2 encoder", _unet("mobilenet_v2")),
    "unet-resnet18": Peer(_SMP, "segmentation_models.pytorch U-Net, ResNet18 encoder", _unet("resnet18")),
    "yolo26n-sem": Peer(
        "ultralytics", "Ultralytics YOLO26n-sem", _yolo, factor=8, licence="AGPL-3.0: to be installed by hand"
    ),
}


def missing(name: str) -> str:
    """Why a peer cannot be built here; empty where it can."""
    peer = PEERS[name]
    if probe_package(peer.package).ok:
        return ""
    return f"the package {peer.package} is not installed" + (f" ({peer.licence})" if peer.licence else "")


def build_peer(name: str, classes: int, *, seed: int) -> PeerModel:
    """A peer with first weights drawn from the seed, in channels_last, in training mode.

    Raises:
        UnavailableError: Its package is not installed.
    """
    peer = PEERS[name]
    if missing(name):
        raise UnavailableError(
            f"the peer {name} needs a package", value=missing(name), fix=f"pip install {peer.package}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PeerModel(peer.make(classes), peer.factor)
    return model.train().to(memory_format=torch.channels_last)


def peer_graph(name: str, model: PeerModel, spec: InputConfig, classes: Classes, frame_size: Size) -> onnx.ModelProto:
    """The full graph of a peer at one size: uint8 NHWC BGR in, argmax out, by the package's own geometry.

    Args:
        name: Of the peer.
        model: In eval mode.
        spec: Mean and standard deviation.
        classes: Vocabulary of the mask.
        frame_size: (H, W) of frame and mask.
    """
    geometry = Geometry(stride=STRIDE, frame_size=frame_size, batch=1)
    assert geometry.padded_size is not None
    graph = attach(_core(model, spec, geometry.padded_size), geometry)
    graph.prune()
    meta = ModelMeta(
        name=name,
        classes=classes,
        network_size=spec.network_size,
        stride=STRIDE,
        mean_rgb=spec.mean_rgb,
        std_rgb=spec.std_rgb,
        package_version=edgeseg.__version__,
        weights_sha256=graph_weights_sha256(graph),
        frame_size=frame_size,
        layers_size=frame_size,
        batch=1,
    )
    graph.props = meta_props(meta)
    return graph.to_model()


def _core(model: PeerModel, spec: InputConfig, size: Size) -> Graph:
    """The network from `pixels` (raw BGR) to `scores`, shapes and BatchNorm folded."""
    with tempfile.TemporaryDirectory(prefix="edgeseg-peer-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every size that it makes a constant: this is wanted here
        traced, folded = Path(folder) / "traced.onnx", Path(folder) / "folded.onnx"
        example = (torch.zeros(1, 3, *size),)
        torch.onnx.export(
            model, example, str(traced), dynamo=False, opset_version=17, input_names=["image"], output_names=[SCORES]
        )
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC  # standard operators only
        options.optimized_model_filepath = str(folded)
        ort.InferenceSession(str(traced), options, providers=["CPUExecutionProvider"])
        core = from_model(onnx.load(folded))
    _read_pixels(core, spec)
    core.inputs = [Value(PIXELS, FLOAT, ("batch", 3, "height", "width"))]
    core.outputs = [Value(SCORES, FLOAT, ("batch", "classes", "height", "width"))]
    return core


def _read_pixels(core: Graph, spec: InputConfig) -> None:
    """Colour order and standard deviation go into the first convolution; the mean cannot, for that pads with zeros."""
    (first,) = [node for node in core.nodes if "image" in node.inputs]
    if first.op != "Conv":
        raise ValueError(f"the peer begins with {first.op}; allowed: a convolution")
    mean, std = (np.asarray(value)[::-1].reshape(1, 3, 1, 1) for value in (spec.mean_rgb, spec.std_rgb))
    weight = np.asarray(core.constants[first.inputs[1]], np.float64)[:, ::-1] / std
    core.constants[f"{PIXELS}.mean"] = mean.astype(np.float32)
    core.constants[f"{PIXELS}.weight"] = np.ascontiguousarray(weight, np.float32)
    core.add("Sub", [PIXELS, f"{PIXELS}.mean"], f"{PIXELS}.centred")
    first.inputs[0], first.inputs[1] = f"{PIXELS}.centred", f"{PIXELS}.weight"
