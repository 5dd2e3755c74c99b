"""A trained run: its files, and the network in torch behind the Runner contract."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from edgeseg.core.clock import now_ns
from edgeseg.core.config import convert, read_toml
from edgeseg.core.errors import RequestError
from edgeseg.core.types import U8, Classes, Runner, RunnerSpec, RunTimes, Size, Ticket
from edgeseg.model.config import InputConfig, ModelConfig
from edgeseg.model.network import SegModel, build_model
from edgeseg.model.weights import load_weights, save_weights

__all__ = [
    "CONFIG_FILE",
    "DONE_FILE",
    "WEIGHTS_FILE",
    "LoadedRun",
    "TorchRunner",
    "load_run",
    "load_weights",
    "open_run",
    "predict",
    "save_weights",
]

CONFIG_FILE = "config.toml"
WEIGHTS_FILE = "weights.safetensors"
DONE_FILE = "done.json"
_RING = 4


class _RunTables(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of config.toml that shape the network; the others belong to training."""

    model: ModelConfig
    input: InputConfig
    classes: Classes


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun:
    """What a RUN folder holds of the network.

    Attributes:
        model: In eval mode, with the run's EMA weights, in channels_last, on the CPU.
        config: What shaped it.
        input: How pixels become its input.
        classes: Vocabulary of its logits.
    """

    model: SegModel
    config: ModelConfig
    input: InputConfig
    classes: Classes


def load_run(run: Path) -> LoadedRun:
    """The trained network of a RUN folder.

    Raises:
        RequestError: The folder does not exist, or its training is not complete.
        VerifyError: The weights are truncated, foreign or of another network.
    """
    if not run.is_dir():
        raise RequestError("the run does not exist", value=run, allowed="a folder that `edgeseg train` wrote")
    if not (run / CONFIG_FILE).is_file() or not (run / WEIGHTS_FILE).is_file():
        raise RequestError(
            "this is no finished run",
            value=run,
            allowed=f"a folder with {CONFIG_FILE} and {WEIGHTS_FILE}",
            fix="edgeseg train --resume",
        )
    tables = read_toml(run / CONFIG_FILE)
    shared = {name: tables[name] for name in _RunTables.__struct_fields__ if name in tables}
    parsed = convert(shared, _RunTables, origin=str(run / CONFIG_FILE))
    model = build_model(parsed.model, len(parsed.classes))
    load_weights(run / WEIGHTS_FILE, model)
    return LoadedRun(model=model.eval(), config=parsed.model, input=parsed.input, classes=parsed.classes)


def open_run(run: Path, frame_size: Size | None = None, *, device: str | None = None) -> Runner:
    """A RUN folder as a Runner, which pads frames by their edge as the exported graph does.

    Args:
        run: The folder.
        frame_size: (height, width) of frames and masks; the trained network size where None.
        device: torch device; a GPU where there is one.
    """
    loaded = load_run(run)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return TorchRunner(loaded, frame_size or loaded.input.network_size, torch.device(where))


@torch.inference_mode()
def predict(model: SegModel, frames_nhwc: Tensor, config: InputConfig) -> Tensor:
    """Logits of camera frames.

    Args:
        model: In eval mode.
        frames_nhwc: uint8 [N, H, W, 3] BGR, of any size, on the model's device.
        config: How pixels become the network's input.

    Returns:
        float32 [N, classes, H, W].
    """
    height, width = frames_nhwc.shape[1:3]
    x = frames_nhwc.permute(0, 3, 1, 2).flip(1).float()
    # the edge is repeated in raw pixel values, before normalisation: so does the exported graph
    x = nn.functional.pad(x, (0, -width % model.stride, 0, -height % model.stride), mode="replicate")
    mean = torch.tensor(config.mean_rgb, device=x.device)[:, None, None]
    std = torch.tensor(config.std_rgb, device=x.device)[:, None, None]
    logits = model(((x - mean) / std).contiguous(memory_format=torch.channels_last))
    assert isinstance(logits, Tensor)
    return logits[..., :height, :width].float()


class _Lease:
    """An output of `TorchRunner`: a buffer of its ring."""

    confidence_nhw: U8 | None = None

    def __init__(self, mask_nhw: U8, times: RunTimes, free: deque[U8]) -> None:
        self.mask_nhw = mask_nhw
        self.times = times
        self._free: deque[U8] | None = free

    def release(self) -> None:
        """Give the buffer back; calling it twice is harmless."""
        free, self._free = self._free, None
        if free is not None:
            free.append(self.mask_nhw)

    def __enter__(self) -> _Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class TorchRunner:
    """The trained network in torch: the reference that every export is held against.

    Args:
        run: The trained network.
        frame_size: (height, width) of frames and masks.
        device: Where it runs.
        batch: Frames in one call.
    """

    def __init__(self, run: LoadedRun, frame_size: Size, device: torch.device, *, batch: int = 1) -> None:
        self._run = run
        self._device = device
        self._spec = RunnerSpec(
            frame_size=frame_size,
            batch=batch,
            classes=run.classes,
            backend=f"torch {torch.__version__}",
            precision="fp32",
        )
        self._free: deque[U8] = deque()
        self._pending: deque[tuple[Ticket, _Lease]] = deque()
        self._input: U8 | None = None
        self._submitted = 0
        self._entered = 0

    @property
    def spec(self) -> RunnerSpec:
        """What it takes and gives."""
        return self._spec

    @property
    def free_outputs(self) -> int:
        """Output buffers that are not leased out."""
        return len(self._free)

    def __enter__(self) -> TorchRunner:
        self._entered += 1
        if self._entered > 1:
            return self
        size = (self._spec.batch, *self._spec.frame_size)
        self._run.model.to(self._device)
        self._input = np.zeros((*size, 3), np.uint8)
        self._free = deque(np.zeros(size, np.uint8) for _ in range(_RING))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        if self._entered:
            return
        self._pending.clear()
        self._free = deque()
        self._input = None

    def input_view(self) -> U8:
        """Memory of the next submission, uint8 [N, H, W, 3]."""
        if self._input is None:
            raise RequestError("the runner is not open", allowed="inside its `with` block")
        return self._input

    def submit(self, frames_nhwc: U8, *, lent: bool = False) -> Ticket:
        """Run one batch; the work is done on return, so any number may wait to be collected, up to the ring's size.

        Raises:
            RequestError: A batch of another shape or dtype.
            BufferError: Every output buffer is leased out.
        """
        del lent  # the work is done on return
        expected = self.input_view().shape
        if frames_nhwc.shape != expected or frames_nhwc.dtype != np.uint8:
            raise RequestError(
                "the frame does not fit this runner",
                value=f"{frames_nhwc.dtype} {list(frames_nhwc.shape)}",
                allowed=f"uint8 {list(expected)}",
            )
        if not self._free:
            raise BufferError(f"all {_RING} outputs are leased out")
        start = now_ns()
        frames = torch.from_numpy(np.ascontiguousarray(frames_nhwc)).to(self._device)
        copied = now_ns()
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # the reference is fp32, on a GPU too
            ids = predict(self._run.model, frames, self._run.input).argmax(1).to(torch.uint8)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        ran = now_ns()
        mask = self._free.popleft()
        mask[...] = ids.cpu().numpy()
        times = RunTimes(copied - start, ran - copied, now_ns() - ran)
        ticket = Ticket(self._submitted)
        self._submitted += 1
        self._pending.append((ticket, _Lease(mask, times, self._free)))
        return ticket

    def collect(self, ticket: Ticket) -> _Lease:
        """The result of a batch, in order of submission."""
        if not self._pending or self._pending[0][0] != ticket:
            raise RequestError("no such batch is in flight", value=ticket.number, allowed="in order of submission")
        return self._pending.popleft()[1]

    def infer(self, frames_nhwc: U8) -> _Lease:
        """`collect(submit(frames_nhwc))`."""
        return self.collect(self.submit(frames_nhwc))
