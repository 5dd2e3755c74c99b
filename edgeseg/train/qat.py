"""The canonical graph as a torch module, with fake quantisation exactly where a plan puts Q/DQ.

Quantisation-aware fine-tuning starts from an exported model: BatchNorm, colour and layer order are then final, so the
places of a plan are places of this module by construction, and exporting is writing the constants back. Activation
scales are the plan's, and stay unless they are to be learnt; a weight's scale follows its largest value, as
`edgeseg.quant.placement.plan` will compute it again from the exported weights. Gradients pass straight through inside a
range and stop outside of it (Jacob et al. 2018, arXiv:1712.05877); those of a learnt scale are LSQ's (Esser et al.
2020, arXiv:1902.08153). Zero points stay: behind ReLU they are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeseg.core.errors import CapabilityError
from edgeseg.graph import read_meta, weights_sha256, write_meta
from edgeseg.graph.geometry import PIXELS, SCORES, detach
from edgeseg.graph.ir import Array, Graph, Node, from_model
from edgeseg.graph.qdq import ActivationQ, QdqPlan, WeightQ
from edgeseg.quant.quantization import QAT_NOTE
from edgeseg.quant.ranges import LearntScale

Operand = Tensor | Array | None
"""What a node reads: a computed tensor or weight, a fixed constant, or nothing."""
_Operator = Callable[[Node, Sequence[Operand]], Tensor]

_PACE = 10.0  # by which learnt scales move faster than weights
_LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}
# constants of these operators are learned; those of others (sizes, scales of a Resize, GELU's numbers) are not
_LEARNED = {"Conv": (1, 2), "ConvTranspose": (1, 2), "LayerNormalization": (1, 2), "MatMul": (1,)}


@dataclass(frozen=True, slots=True)
class _Place:
    """Fake quantisation of what some nodes read; `key` names its learnt scale."""

    item: ActivationQ
    key: str

    def __call__(self, x: Tensor, scale: Tensor | None) -> Tensor:
        low, high = _LIMITS[self.item.dtype]
        if scale is not None:
            return learnt_quantise(x, scale, low - self.item.zero_point, high - self.item.zero_point)
        return torch.fake_quantize_per_tensor_affine(x, self.item.scale, self.item.zero_point, low, high)


class GraphNet(nn.Module):
    """A canonical graph in torch.

    Args:
        model: As `load_model` gave it.
        plan: Where integers are used; None computes in float.
        placement: Its name, noted in the exported model, whose biases are then left alone.
        learn_scales: Whether the scales of activations learn too.

    Attributes:
        quantised: Whether the plan is applied.

    Raises:
        CapabilityError: An operator that fine-tuning does not know.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        plan: QdqPlan | None = None,
        *,
        placement: str = "",
        learn_scales: bool = False,
    ) -> None:
        super().__init__()
        self.quantised = plan is not None
        self._name = placement if plan is not None else ""
        self._model = model
        core = detach(from_model(model))
        core.sort()
        self._nodes = tuple(core.nodes)
        for node in self._nodes:
            if node.op not in _OPERATORS:
                raise CapabilityError(f"fine-tuning of the operator {node.op}", runtime=f"layer {node.name}")
        learned = _learned_names(core)
        self._fixed = {name: value for name, value in core.constants.items() if name not in learned}
        self._keys = {name: name.replace(".", "/") for name in sorted(learned)}
        self.weights = nn.ParameterDict(
            {key: nn.Parameter(torch.from_numpy(core.constants[name].copy())) for name, key in self._keys.items()}
        )
        self._places = {} if plan is None else _places(plan, self._nodes)
        self.scales = nn.ParameterDict(
            {place.key: nn.Parameter(torch.zeros(())) for place in self._places.values()} if learn_scales else {}
        )
        self._weight_places: dict[tuple[str, int], WeightQ] = (
            {} if plan is None else {(item.node, item.input): item for item in plan.weights}
        )

    def quantise(self, on: bool) -> None:
        """Switch the plan on or off."""
        self.quantised = on

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of every pixel.

        Args:
            pixels: float [N, 3, H, W], BGR, 0 to 255 (mean and deviation are folded in); sides multiples of the stride.

        Returns:
            float [N, C, H, W].
        """
        values: dict[str, Tensor] = {PIXELS: pixels}
        rounded: dict[tuple[str, int], Tensor] = {}
        for node in self._nodes:
            inputs = [self._read(node, index, values, rounded) for index in range(len(node.inputs))]
            values[node.name] = _OPERATORS[node.op](node, inputs)
        return values[SCORES]

    def learnt_scales(self) -> dict[str, LearntScale]:
        """The scales as they are now, by tensor; empty where they are not learnt."""
        return {
            place.item.tensor: LearntScale(
                dtype=place.item.dtype, scale=float(self._scale(place).detach()), zero_point=place.item.zero_point
            )
            for place in self._places.values()
            if place.key in self.scales
        }

    def to_onnx(self) -> onnx.ModelProto:
        """The canonical model with the present weights; names stay, the weights' hash is new."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for tensor in model.graph.initializer:
            if tensor.name in self._keys:
                value = self.weights[self._keys[tensor.name]].detach().cpu().contiguous().numpy()
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        meta = read_meta(model)
        notes = {**meta.notes, QAT_NOTE: self._name} if self._name else meta.notes
        write_meta(model, msgspec.structs.replace(meta, weights_sha256=weights_sha256(model), notes=notes))
        return model

    def _read(
        self, node: Node, index: int, values: Mapping[str, Tensor], rounded: dict[tuple[str, int], Tensor]
    ) -> Operand:
        name = node.inputs[index]
        if not name:
            return None
        if name in self._keys:
            weight: Tensor = self.weights[self._keys[name]]
            item = self._weight_places.get((node.name, index)) if self.quantised else None
            return weight if item is None else _quantised_weight(weight, item)
        if name in self._fixed:
            return self._fixed[name]
        place = self._places.get((node.name, name)) if self.quantised else None
        if place is None:
            return values[name]
        key = (name, id(place))
        if key not in rounded:
            rounded[key] = place(values[name], self._scale(place) if place.key in self.scales else None)
        return rounded[key]

    def _scale(self, place: _Place) -> Tensor:
        """A learnt scale from a tenth of its logarithm: positive, and a step of Adam's moves each by a like share."""
        scale: Tensor = place.item.scale * torch.exp(_PACE * self.scales[place.key])
        return scale


def learnt_quantise(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """Fake quantisation whose scale learns (Esser et al. 2020, arXiv:1902.08153, equations 1 to 5).

    The gradient of the scale is round(v) - v inside and the limit outside, v = x / scale, itself scaled by
    1 / sqrt(values * high), so that it moves about as fast as a weight does; that of x is 1 inside and 0 outside.

    Args:
        x: Of any shape.
        scale: Positive, one for all values.
        low: Least integer, the zero point already taken off.
        high: Largest integer, likewise.
    """
    gentle = 1.0 / float(x.numel() * high) ** 0.5
    step = (scale - scale * gentle).detach() + scale * gentle
    ratio = (x / step).clamp(low, high)
    result: Tensor = (ratio + (ratio.round() - ratio).detach()) * step
    return result


def _quantised_weight(weight: Tensor, item: WeightQ) -> Tensor:
    assert item.axis is not None
    others = [axis for axis in range(weight.ndim) if axis != item.axis]
    largest = weight.detach().abs().amax(dim=others)
    scales = torch.where(largest > 0, largest / item.high, torch.ones_like(largest))
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, item.axis, item.low, item.high)


def _places(plan: QdqPlan, nodes: tuple[Node, ...]) -> dict[tuple[str, str], _Place]:
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node.name)
    found: dict[tuple[str, str], _Place] = {}
    for item in plan.activations:
        place = _Place(item, item.tensor.replace(".", "/"))
        for reader in item.consumers or tuple(readers.get(item.tensor, ())):
            found[reader, item.tensor] = place
    return found


def _learned_names(core: Graph) -> set[str]:
    found: set[str] = set()
    for node in core.nodes:
        for index, name in enumerate(node.inputs):
            value = core.constants.get(name)
            if value is None or value.dtype != np.float32:
                continue
            layer_scale = node.op in ("Mul", "Add") and value.size > 1
            if index in _LEARNED.get(node.op, ()) or layer_scale:
                found.add(name)
    return found


# ---------------------------------------------------------------- operators


def _tensor(value: Operand, like: Tensor | None = None) -> Tensor:
    """A tensor as it is, or a fixed constant on the device of another operand."""
    if isinstance(value, Tensor):
        return value
    assert value is not None
    return torch.from_numpy(np.array(value)).to(like.device if like is not None else "cpu")


def _both(inputs: Sequence[Operand]) -> tuple[Tensor, Tensor]:
    like = next(value for value in inputs if isinstance(value, Tensor))
    return _tensor(inputs[0], like), _tensor(inputs[1], like)


def _conv(node: Node, inputs: Sequence[Operand]) -> Tensor:
    x, weight = _both(inputs)
    bias = _tensor(inputs[2], x) if len(inputs) > 2 else None
    top, left, bottom, right = node.attrs.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
    strides, group = node.attrs.get("strides", [1, 1]), node.attrs.get("group", 1)
    return functional.conv2d(x, weight, bias, strides, (top, left), groups=group)


def _conv_transpose(node: Node, inputs: Sequence[Operand]) -> Tensor:
    x, weight = _both(inputs)
    bias = _tensor(inputs[2], x) if len(inputs) > 2 else None
    pads = node.attrs.get("pads", [0, 0, 0, 0])
    strides, group = node.attrs.get("strides", [1, 1]), node.attrs.get("group", 1)
    return functional.conv_transpose2d(x, weight, bias, strides, pads[:2], groups=group)


def _layer_norm(node: Node, inputs: Sequence[Operand]) -> Tensor:
    x = _tensor(inputs[0])
    weight, bias = _tensor(inputs[1], x), _tensor(inputs[2], x)
    return functional.layer_norm(x, x.shape[-1:], weight, bias, node.attrs.get("epsilon", 1e-5))


def _resize(node: Node, inputs: Sequence[Operand]) -> Tensor:
    x = _tensor(inputs[0])
    scales = [float(scale) for scale in _tensor(inputs[2])[2:]]
    if node.attrs["mode"] == "nearest":
        return functional.interpolate(x, scale_factor=scales, mode="nearest")
    return functional.interpolate(x, scale_factor=scales, mode="bilinear", align_corners=False)


def _pad(node: Node, inputs: Sequence[Operand]) -> Tensor:
    x, pads = _both(inputs)
    _, _, top, left, _, _, bottom, right = (int(pad) for pad in pads)
    mode = {"edge": "replicate", "constant": "constant"}[node.attrs.get("mode", "constant")]
    return functional.pad(x, (left, right, top, bottom), mode=mode)


def _pool(node: Node, inputs: Sequence[Operand]) -> Tensor:
    pool = functional.max_pool2d if node.op == "MaxPool" else functional.avg_pool2d
    return pool(_tensor(inputs[0]), node.attrs["kernel_shape"], node.attrs.get("strides"))


def _elementwise(function: Callable[[Tensor, Tensor], Tensor]) -> _Operator:
    return lambda _node, inputs: function(*_both(inputs))


def _unary(function: Callable[[Tensor], Tensor]) -> _Operator:
    return lambda _node, inputs: function(_tensor(inputs[0]))


_OPERATORS: Mapping[str, _Operator] = MappingProxyType(
    {
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "LayerNormalization": _layer_norm,
        "Resize": _resize,
        "Pad": _pad,
        "MaxPool": _pool,
        "AveragePool": _pool,
        "Relu": _unary(functional.relu),
        "HardSwish": _unary(functional.hardswish),
        "Erf": _unary(torch.erf),
        "Tanh": _unary(torch.tanh),
        "Add": _elementwise(torch.add),
        "Sub": _elementwise(torch.sub),
        "Mul": _elementwise(torch.mul),
        "Div": _elementwise(torch.div),
        "Pow": _elementwise(torch.pow),
        "Concat": lambda node, inputs: torch.cat([_tensor(value) for value in inputs], dim=node.attrs["axis"]),
        "Transpose": lambda node, inputs: _tensor(inputs[0]).permute(node.attrs["perm"]),
        "DepthToSpace": lambda node, inputs: functional.pixel_shuffle(_tensor(inputs[0]), node.attrs["blocksize"]),
    }
)
