"""Rules of the deep-learning accelerator (Xavier and Orin, TensorRT up to 10.7, and 11.4.1).

DLA has no LayerNormalization, no Erf and no Q/DQ nodes, takes static shapes, and holds 16 subgraphs a core
(NVIDIA/Deep-Learning-Accelerator-SW operators/README.md; dla-layer-restrictions). So only the BatchNorm and ReLU
presets make sense there, with implicit INT8 or FP16, and every layer that falls back to the GPU is a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeseg.backend.nvidia.api import TensorRtApi
from edgeseg.backend.nvidia.options import NvidiaOptions
from edgeseg.backend.profiling import LayerTime
from edgeseg.core.errors import GateError, RequestError

UNSUPPORTED = frozenset(
    {
        *("LayerNormalization", "GroupNormalization", "InstanceNormalization", "ReduceMean", "Sqrt"),
        *("Erf", "Gelu", "HardSwish", "QuantizeLinear", "DequantizeLinear"),
    }
)
"""ONNX operators that never run on DLA and that a ConvNeXt block would contain once each."""


def check_operators(operators: set[str]) -> None:
    """Refuse a graph whose every block would fall back to the GPU.

    Args:
        operators: ONNX operator types of the graph.

    Raises:
        RequestError: Names the operators and the presets that fit.
    """
    found = sorted(operators & UNSUPPORTED)
    if found:
        raise RequestError(
            "the model has operators that DLA never runs",
            value=", ".join(found),
            allowed="a preset with BatchNorm and ReLU (edge-s, edge-m, edge-l), FP16 or implicit INT8",
            fix="edgeseg build MODEL --target auto",
        )


def assign(api: TensorRtApi, builder: Any, network: Any, config: Any, options: NvidiaOptions) -> float:
    """Put the network on a DLA core with fallback to the GPU, and return the share of layers on DLA.

    Raises:
        CapabilityError: The board or the runtime has no such core.
        GateError: More layers than `options.max_gpu_fallback` would run on the GPU.
    """
    trt = api.trt
    cores = builder.num_DLA_cores
    if options.dla_core >= cores:
        raise api.lacks(
            f"DLA core {options.dla_core}",
            allowed=f"this board has {cores} DLA cores for this runtime"
            if cores
            else "this board has none for this runtime",
            fix="edgeseg build MODEL --target auto",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = options.dla_core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    on_gpu = [layer.name for layer in layers if not config.can_run_on_DLA(layer)]
    share = len(on_gpu) / max(len(layers), 1)
    if share > options.max_gpu_fallback:
        raise GateError(
            "too many layers would fall back from DLA to the GPU",
            value=f"{len(on_gpu)} of {len(layers)}, first {on_gpu[0]}",
            allowed=f"at most {options.max_gpu_fallback:.0%}: --max-gpu-fallback",
            fix="edgeseg build MODEL --target auto",
        )
    return 1.0 - share


def time_share(layers: Sequence[LayerTime]) -> float | None:
    """Share of the time of all layers that runs on DLA, 0 to 1; None where no layer says that it does.

    The engine inspector gives a subgraph on DLA the layer type `DLA`; the transitions around it are copies on the GPU.
    """
    on_dla = sum(item.time_ns for item in layers if "dla" in item.kind.lower())
    total = sum(item.time_ns for item in layers)
    return on_dla / total if on_dla else None
