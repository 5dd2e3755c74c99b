"""From a float model and a range file to an INT8 one: the plan of a placement, inserted."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import onnx

from edgeseg.core.errors import VerifyError
from edgeseg.graph import read_meta, write_meta
from edgeseg.graph.ir import from_model
from edgeseg.graph.qdq import place
from edgeseg.quant.bias import correct_biases
from edgeseg.quant.equalise import equalised
from edgeseg.quant.placement import Placement, plan
from edgeseg.quant.ranges import Ranges
from edgeseg.quant.thresholds import Method

QAT_NOTE = "qat"
"""Key in a model's notes: it was fine-tuned with quantisation, for the placement that is its value."""


def quantize(
    model: onnx.ModelProto,
    ranges: Ranges,
    placement: Placement,
    *,
    method: Method | None = None,
    keep_float: Collection[str] = (),
    bias_correction: bool | None = None,
) -> onnx.ModelProto:
    """A copy of a model with explicit Q/DQ where a placement wants it.

    Args:
        model: Canonical, of any frame size, or an exact form of it. Where the ranges are of equalised channels, a form
            is made of the `equalised` model.
        ranges: Measured on the same weights.
        placement: Where integers are used.
        method: How thresholds are chosen; by default as the range file says.
        keep_float: Layers that stay in float although the placement names their role.
        bias_correction: Whether biases take back what rounding the weights adds to a layer's mean output; by default
            in every model but one that was fine-tuned with quantisation, whose biases know of it.

    Raises:
        VerifyError: The ranges are of other weights, or lack a tensor.
    """
    check_weights(model, ranges)
    model = equalised(model, ranges)
    graph = from_model(model)
    chosen = plan(graph, ranges, placement, method=method, keep_float=keep_float)
    if QAT_NOTE not in read_meta(model).notes if bias_correction is None else bias_correction:
        correct_biases(graph, chosen, ranges)
    place(graph, chosen)
    quantised = graph.to_model()
    write_meta(quantised, msgspec.structs.replace(read_meta(quantised), variant=f"int8 {placement.name}"))
    return quantised


def check_weights(model: onnx.ModelProto, ranges: Ranges) -> None:
    """Refuse ranges that were measured on other weights than the model's.

    Raises:
        VerifyError: Names both hashes.
    """
    meta = read_meta(model)
    if ranges.weights_sha256 != meta.weights_sha256:
        raise VerifyError(
            "the range file is stale: it was measured on other weights",
            value=f"{ranges.weights_sha256[:12]}, the model {meta.name} has {meta.weights_sha256[:12]}",
            fix="edgeseg calibrate MODEL --frames SRC",
        )
