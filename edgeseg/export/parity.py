"""Whether the graph computes what torch does: masks of the same frames, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import torch

from edgeseg.core.errors import GateError, RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import F32, U8, format_size
from edgeseg.graph.geometry import FRAME, MASK, SCORES
from edgeseg.model.config import InputConfig
from edgeseg.model.network import SegModel

MIN_AGREEMENT = 0.999


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement of two executions.

    Attributes:
        agreement: Share of pixels with the same class, over all frames.
        worst_frame: The least share in one frame.
        logits_difference: Largest absolute difference of logits over their largest magnitude.
        frames: Frames compared.
    """

    agreement: float
    worst_frame: float
    logits_difference: float
    frames: int

    def check(self, what: str) -> None:
        """Refuse an agreement under 99.9 %.

        Raises:
            GateError: Names the share, the worst frame and the logits' difference.
        """
        if self.agreement < MIN_AGREEMENT:
            raise GateError(
                f"torch and {what} disagree",
                value=f"{self.agreement:.3%} of the pixels agree, {self.worst_frame:.3%} in the worst of "
                f"{self.frames} frames, logits differ by {self.logits_difference:.2g}",
                allowed=f"at least {MIN_AGREEMENT:.1%}",
            )


def compare(
    model: SegModel, spec: InputConfig, graph: onnx.ModelProto, frames: Iterable[U8], progress: Progress
) -> Parity:
    """Run torch and ONNX Runtime on the same frames.

    Args:
        model: In eval mode.
        spec: Its mean and standard deviation.
        graph: The exported graph, with or without a fixed size.
        frames: uint8 [H, W, 3] BGR each.
        progress: Where the work is shown.

    Raises:
        RequestError: There is no frame.
    """
    session = _session(graph)
    shares: list[float] = []
    pixels: list[int] = []
    difference = 0.0
    with progress.task("torch against the graph") as task:
        for image_hwc in frames:
            expected = torch_logits(model, spec, image_hwc)
            scores, mask = session.run([SCORES, MASK], {FRAME: image_hwc[None]})
            if mask.shape[1:] != expected.shape[1:]:
                raise GateError("the graph gives a mask of another size", value=format_size(mask.shape[1:]))
            shares.append(float(np.mean(expected.argmax(0) == mask[0])))
            pixels.append(mask[0].size)
            largest = max(float(np.abs(expected).max()), 1e-12)
            logits = scores[0, :, : expected.shape[1], : expected.shape[2]]
            difference = max(difference, float(np.abs(logits - expected).max()) / largest)
            task.advance(note=f"{shares[-1]:.4%}")
    if not shares:
        raise RequestError("there are no frames to compare on", allowed="a source with at least one frame")
    total = float(np.average(shares, weights=pixels))
    return Parity(agreement=total, worst_frame=min(shares), logits_difference=difference, frames=len(shares))


def torch_logits(model: SegModel, spec: InputConfig, image_hwc: U8) -> F32:
    """Logits of one frame by torch: float [C, H, W]; padded at the edge as the graph pads."""
    rgb = np.ascontiguousarray(image_hwc[:, :, ::-1].transpose(2, 0, 1))
    x = torch.from_numpy(rgb).float()[None]
    height, width = image_hwc.shape[:2]
    x = torch.nn.functional.pad(x, (0, -width % model.stride, 0, -height % model.stride), mode="replicate")
    mean = torch.tensor(spec.mean_rgb).view(3, 1, 1)
    std = torch.tensor(spec.std_rgb).view(3, 1, 1)
    with torch.inference_mode():
        logits = model((x - mean) / std)
    cropped: F32 = logits[0, :, :height, :width].numpy()
    return cropped


def _session(graph: onnx.ModelProto) -> ort.InferenceSession:
    """A session that also gives the logits."""
    probe = onnx.ModelProto()
    probe.CopyFrom(graph)
    probe.graph.output.append(next(value for value in probe.graph.value_info if value.name == SCORES))
    options = ort.SessionOptions()
    options.log_severity_level = 3  # warnings about shapes it folds are not for people
    return ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
