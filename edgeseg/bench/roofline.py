"""Each layer under the device's roof: the time that it must take at least, and how far the engine is from it.

The roofline model (Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures", CACM 2009, doi:10.1145/1498765.1498785), cache-aware: a layer's bytes are weighed with the bandwidth of
the memory that its working set fits into. Layers that a runtime fuses count as one, and only bytes that cross the
border of such a group count: what stays inside never leaves the registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import onnx

from edgeseg.backend.profiling import LayerTime
from edgeseg.bench.peaks import Peaks
from edgeseg.graph.costs import LayerCost, cost
from edgeseg.graph.forms import canonical_name
from edgeseg.graph.ir import from_model

# what a runtime makes of an operator under a name of its own
_STANDS_FOR = {"TopK": "ArgMax"}
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
_MODEL_BYTES = 4  # of the canonical graph, whose tensors are FP32


class RoofRow(msgspec.Struct, frozen=True, kw_only=True):
    """A group of layers that the runtime executes as one.

    Attributes:
        name: The model's layer that does most of the work in it.
        layers: All of the model's layers in it.
        kind: Operator.
        precision: What it computes in.
        macs: Multiply-adds.
        bytes: Read and written across its border.
        time_ms: Measured; None in a prediction.
        limit_ms: What the roof allows.
        bound: Which roof: compute or memory.
    """

    name: str
    layers: tuple[str, ...]
    kind: str
    precision: str
    macs: int
    bytes: int
    time_ms: float | None
    limit_ms: float
    bound: str

    @property
    def intensity(self) -> float:
        """Multiply-adds a byte."""
        return self.macs / max(1, self.bytes)


class Roofline(msgspec.Struct, frozen=True, kw_only=True):
    """A whole engine under the roof.

    Attributes:
        rows: Groups of layers, in order of execution.
        reformats_ms: Measured time of nodes that only move or convert data; None in a prediction.
        limit_ms: Sum of the rows' limits: the physical limit of this network in these precisions.
        measured_ms: Sum of all measured layers; None in a prediction.
        peaks: The roofs.
    """

    rows: list[RoofRow]
    reformats_ms: float | None
    limit_ms: float
    measured_ms: float | None
    peaks: Peaks

    def distance(self, engine_p50_ms: float) -> float | None:
        """How many times the limit an engine takes; None where the runtime named no layer of the model."""
        return engine_p50_ms / self.limit_ms if self.limit_ms > 0 else None


class _Group:
    def __init__(self, precision: str) -> None:
        self.layers: list[str] = []
        self.precision = precision
        self.time_ns: int | None = None


def roofline(model: onnx.ModelProto, times: Sequence[LayerTime], peaks: Peaks) -> Roofline:
    """Place measured layers under the roof.

    A roof that a layer has gone through was probed too low (a busy machine): it is raised to what was reached.

    Args:
        model: The canonical graph at the engine's sizes, whose layer names `times` speaks of.
        times: Of the engine.
        peaks: Roofs of the device.
    """
    costs = {layer.name: layer for layer in cost(model)}
    groups: dict[str, _Group] = {}
    owner: dict[str, str] = {}
    moved_ns = 0
    formed = {canonical_name(name) for time in times for name in time.layers if name != canonical_name(name)}
    for time in times:
        known = [name for name in _computed(time, formed) if name in costs and name not in owner]
        if not known and time.kind in _STANDS_FOR:
            known = [name for name, layer in costs.items() if layer.op == _STANDS_FOR[time.kind] and name not in owner]
        if time.moves or not known:
            moved_ns += time.time_ns
            continue
        group = groups.setdefault(time.name, _Group(time.precision))
        group.time_ns = (group.time_ns or 0) + time.time_ns
        group.layers += known
        owner.update(dict.fromkeys(known, time.name))
    _adopt(model, owner, groups)
    extents = _extents(model, costs, groups)
    raised = _raised(peaks, extents)
    rows = [_row(extent, costs, raised) for extent in extents]
    return Roofline(
        rows=rows,
        reformats_ms=moved_ns / 1e6,
        limit_ms=sum(row.limit_ms for row in rows),
        measured_ms=sum(time.time_ns for time in times) / 1e6,
        peaks=raised,
    )


def _computed(time: LayerTime, formed: set[str]) -> list[str]:
    """The model's layers in a runtime's; of those that an exact form wrote as several the part that computes.

    The last of the parts bears the layer's name and may only order what was computed, in no time.
    """
    return [canonical_name(name) for name in time.layers if name != canonical_name(name) or name not in formed]


def predict(model: onnx.ModelProto, precision: str, peaks: Peaks) -> Roofline:
    """The limit of a network on a device that is not here; every convolution takes what follows it along.

    A prediction: no engine reaches it, and it says nothing about how near a given runtime comes.
    """
    costs = {layer.name: layer for layer in cost(model)}
    groups, owner = {}, {}
    for name, layer in costs.items():
        if layer.macs:
            groups[name] = _Group(precision)
            groups[name].layers.append(name)
            owner[name] = name
    _follow(model, costs, owner, groups)
    rows = [_row(extent, costs, peaks) for extent in _extents(model, costs, groups)]
    limit = sum(row.limit_ms for row in rows)
    return Roofline(rows=rows, reformats_ms=None, limit_ms=limit, measured_ms=None, peaks=peaks)


def _adopt(model: onnx.ModelProto, owner: dict[str, str], groups: Mapping[str, _Group]) -> None:
    """Layers that no runtime layer names (a convolution renamed when a scale was folded in) join their reader."""
    readers = from_model(model).consumers()
    for node in reversed(from_model(model).nodes):
        if node.name in owner:
            continue
        adopters = [owner[reader.name] for reader in readers.get(node.name, []) if reader.name in owner]
        if adopters:
            owner[node.name] = adopters[0]
            groups[adopters[0]].layers.insert(0, node.name)


def _follow(
    model: onnx.ModelProto, costs: Mapping[str, LayerCost], owner: dict[str, str], groups: Mapping[str, _Group]
) -> None:
    """Elementwise layers join the convolution before them."""
    graph = from_model(model)
    producers = graph.producers()
    for node in graph.nodes:
        if node.name in owner or node.name not in costs:
            continue
        before = [
            owner[producers[name].name] for name in node.inputs if name in producers and producers[name].name in owner
        ]
        if before:
            owner[node.name] = before[-1]
            groups[before[-1]].layers.append(node.name)


@dataclass(frozen=True, slots=True)
class _Extent:
    """A group with its layers in the graph, its arithmetic and the bytes across its border."""

    group: _Group
    names: list[str]
    macs: int
    bytes: int


def _extents(model: onnx.ModelProto, costs: Mapping[str, LayerCost], groups: Mapping[str, _Group]) -> list[_Extent]:
    graph = from_model(model)
    readers = graph.consumers()
    nodes = {node.name: node for node in graph.nodes}
    outputs = graph.output_names()
    extents = []
    for group in groups.values():
        names = [name for name in dict.fromkeys(group.layers) if name in nodes]
        inside = set(names)
        if not inside:
            continue
        size = _BYTES.get(group.precision, _MODEL_BYTES) / _MODEL_BYTES
        read = {name for layer in names for name in nodes[layer].inputs if name and name not in graph.constants}
        read -= {output for layer in names for output in nodes[layer].outputs}
        written = [
            layer
            for layer in names
            if layer in outputs or any(reader.name not in inside for reader in readers.get(layer, []))
        ]
        weights = sum(costs[layer].bytes_weights for layer in names)
        activations = sum(_bytes_of(name, costs) for name in read) + sum(costs[layer].bytes_out for layer in written)
        macs = sum(costs[layer].macs for layer in names)
        extents.append(_Extent(group, names, macs, round(size * (weights + activations))))
    return extents


def _raised(peaks: Peaks, extents: Sequence[_Extent]) -> Peaks:
    macs_per_s, bytes_per_s = dict(peaks.macs_per_s), dict(peaks.bytes_per_s)
    for extent in extents:
        time_ns = extent.group.time_ns
        if not time_ns:
            continue
        precision, speed = extent.group.precision, extent.macs * 1e9 / time_ns
        if extent.macs:
            macs_per_s[precision] = max(macs_per_s.get(precision, 0.0), speed)
        flow = extent.bytes * 1e9 / time_ns
        holds = peaks.holds(extent.bytes)
        bytes_per_s = {size: max(value, flow) if size <= holds else value for size, value in bytes_per_s.items()}
    raised = (macs_per_s, bytes_per_s) != (peaks.macs_per_s, peaks.bytes_per_s)
    origin = peaks.origin + (", raised to what a layer reached" if raised else "")
    return Peaks(macs_per_s=macs_per_s, bytes_per_s=bytes_per_s, origin=origin)


def _bytes_of(tensor: str, costs: Mapping[str, LayerCost]) -> int:
    """Bytes of a tensor: of the layer that writes it, which bears its name; a graph input has one byte a value."""
    return costs[tensor].bytes_out if tensor in costs else 0


def _row(extent: _Extent, costs: Mapping[str, LayerCost], peaks: Peaks) -> RoofRow:
    group = extent.group
    main = max(extent.names, key=lambda name: costs[name].macs)
    compute = peaks.compute(group.precision)
    compute_ms = 1e3 * extent.macs / compute if compute else 0.0
    memory_ms = 1e3 * extent.bytes / peaks.bandwidth(extent.bytes)
    return RoofRow(
        name=main,
        layers=tuple(extent.names),
        kind=costs[main].op,
        precision=group.precision,
        macs=extent.macs,
        bytes=extent.bytes,
        time_ms=None if group.time_ns is None else group.time_ns / 1e6,
        limit_ms=max(compute_ms, memory_ms),
        bound="compute" if compute_ms >= memory_ms else "memory",
    )
