"""The door to training: labelled frames in, a run folder out (docs/training.md).

Nothing heavy is imported before a training starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core.deps import require
from edgeseg.core.progress import Progress, Silent

if TYPE_CHECKING:
    from edgeseg.train.request import TrainRequest


def train_model(request: TrainRequest, progress: Progress | None = None) -> Path:
    """Train a model, or go on with a broken run, and return the run folder.

    Args:
        request: What to train, on what, into which folder (`edgeseg.train.request.TrainRequest`).
        progress: Display.

    Raises:
        RequestError: An unknown model, data set, split or field; the folder exists, or has no run to resume.
        DataError: Frames that cannot be used, or a full disk.
        VerifyError: A checkpoint or initial weights that do not verify.
        EdgesegError: The training diverged.
        KeyboardInterrupt: Stopped; the checkpoint holds the last finished step.
    """
    require("torch", "torchvision", "safetensors", "PIL", what="edgeseg train")
    from edgeseg.train.request import kind_of

    kind = kind_of(request)
    if kind == "pretrain":
        return pretrain_model(request, progress)
    if kind == "qat":
        require("onnx", what="edgeseg train --qat")
        from edgeseg.train import fine_tune

        return fine_tune.fine_tune(request, progress or Silent())
    from edgeseg.train import run

    return run.train(request, progress or Silent())


def pretrain_model(request: TrainRequest, progress: Progress | None = None) -> Path:
    """Learn from frames without labels, for `init` of a later training, and return the run folder.

    Args:
        request: As for `train_model`; `overrides["data"]["train"]` names the frames: a data set, a video file, a
            folder of pictures.
        progress: Display.

    Raises:
        RequestError: An unknown model, source or field; the folder exists, or has no run to resume.
        DataError: Frames that cannot be used, too few of them, or a full disk.
        KeyboardInterrupt: Stopped; the checkpoint holds the last finished step.
    """
    require("torch", "torchvision", "safetensors", "PIL", what="edgeseg pretrain")
    from edgeseg.train import pretrain

    return pretrain.pretrain(request, progress or Silent())
