"""The quantisers that `compare_quantizers.py` sets edgeseg's beside, each on the same graph and frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from edgeseg.core.types import U8
from edgeseg.graph import save_model


def _ort_static(static: onnx.ModelProto, frames: Sequence[U8], scratch: Path) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(frames)

        def get_next(self) -> dict[str, U8] | None:
            frame = next(self.rest, None)
            return None if frame is None else {"frame": frame[None]}

    save_model(scratch / "peer.onnx", static)
    quantize_static(scratch / "peer.onnx", scratch / "ort.onnx", Reader())
    return onnx.load(scratch / "ort.onnx")


def _nncf(static: onnx.ModelProto, frames: Sequence[U8], scratch: Path) -> Path:
    import nncf
    import openvino as ov

    save_model(scratch / "nncf.onnx", static)
    data = nncf.Dataset(list(frames), lambda frame: {"frame": frame[None]})
    made = nncf.quantize(ov.Core().read_model(str(scratch / "nncf.onnx")), data, subset_size=len(frames))
    ov.save_model(made, str(scratch / "nncf.xml"), compress_to_fp16=False)
    return scratch / "nncf.xml"


def _modelopt(static: onnx.ModelProto, frames: Sequence[U8], scratch: Path) -> onnx.ModelProto:
    from modelopt.onnx.quantization import quantize as modelopt_quantize

    save_model(scratch / "mo.onnx", static)
    modelopt_quantize(
        str(scratch / "mo.onnx"),
        quantize_mode="int8",
        calibration_data={"frame": np.stack(frames)},
        calibration_method="entropy",
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(scratch / "mo.int8.onnx"),
    )
    return onnx.load(scratch / "mo.int8.onnx")


PEERS: Mapping[str, Callable[[onnx.ModelProto, Sequence[U8], Path], onnx.ModelProto | Path]] = {
    "onnxruntime quantize_static": _ort_static,
    "NNCF": _nncf,
    "nvidia-modelopt": _modelopt,
}
