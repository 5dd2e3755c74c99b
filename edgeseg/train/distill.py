"""Learning from a teacher: its answers and where it looks, beside the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from edgeseg.core.errors import RequestError
from edgeseg.core.types import Classes
from edgeseg.model import load_run
from edgeseg.model.network import SegModel
from edgeseg.train.config import DistillConfig, RunConfig
from edgeseg.train.loss import draw_pixels
from edgeseg.train.parts import Objective, Outputs


class FeatureTap:
    """Keeps the encoder features of a model's last run.

    Args:
        model: Listened to from now on.

    Attributes:
        found: Feature [N, C, h, w] by stride.
    """

    def __init__(self, model: SegModel) -> None:
        self.found: dict[int, Tensor] = {}
        for level, module in enumerate(model.encoder):
            module.register_forward_hook(self._keep(model.config.stem_stride << level))

    def _keep(self, stride: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self.found[stride] = output

        return hook


@dataclass(frozen=True)
class Distillation:
    """The objective of a student: the labels' loss, and what the teacher says.

    Attributes:
        labels: The loss of the labels.
        teacher: In eval mode.
        config: Weights and temperature.
        pixels: Pixels drawn evenly from the batch for the answers.
        student_tap: Features of the student's step under way.
        teacher_tap: Features of the teacher.
        rescale: Factor and shift [3, 1, 1] from the student's normalised input to the teacher's.
        bf16: Whether the teacher runs in bfloat16.
    """

    labels: Objective
    teacher: nn.Module
    config: DistillConfig
    pixels: int
    student_tap: FeatureTap
    teacher_tap: FeatureTap
    rescale: tuple[Tensor, Tensor]
    bf16: bool

    def __call__(self, inputs: Tensor, outputs: Outputs, targets: Tensor) -> Tensor:
        """The scalar loss of a batch."""
        loss = self.labels(inputs, outputs, targets)
        factor, shift = self.rescale
        with torch.no_grad(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.bf16):
            taught = self.teacher(inputs * factor + shift)
        logits = outputs if isinstance(outputs, Tensor) else outputs[0]
        if self.config.logits:
            loss = loss + self.config.logits * self._answers(logits, taught)
        if self.config.features:
            for stride in self.student_tap.found.keys() & self.teacher_tap.found.keys():
                loss = loss + self.config.features * attention_distance(
                    self.student_tap.found[stride], self.teacher_tap.found[stride]
                )
        return loss

    def _answers(self, student: Tensor, teacher: Tensor) -> Tensor:
        everywhere = student.new_zeros((student.shape[0], *student.shape[2:]), dtype=torch.int64)
        both = torch.cat([student.float(), teacher.float()], dim=1)
        rows, _ = draw_pixels(both, everywhere, ignore_id=-1, count=self.pixels)
        classes = student.shape[1]
        return divergence(rows[:, :classes], rows[:, classes:], self.config.temperature)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of softened answers, mean over rows (Hinton, Vinyals and Dean, 2015).

    Args:
        student: Logits [P, C].
        teacher: Logits [P, C].
        temperature: T.
    """
    log_q = nnf.log_softmax(student / temperature, dim=1)
    log_p = nnf.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * nnf.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of both attention maps, each the sum of squares over the channels with norm 1; mean over frames.

    Equation 2 of Zagoruyko and Komodakis, "Paying more attention to attention" (2017), with p = 2 and the distance
    squared; it lies between 0 and 2 at any resolution.

    Args:
        student: Features [N, C, h, w].
        teacher: Features [N, D, h, w].
    """
    maps = [nnf.normalize(x.float().square().mean(dim=1).flatten(1), dim=1) for x in (student, teacher)]
    return (maps[0] - maps[1]).square().sum(dim=1).mean()


def with_teacher(
    labels: Objective, student: SegModel, run: Path, config: RunConfig, device: torch.device, *, bf16: bool
) -> Objective:
    """The objective of a student of the run in `run`.

    Raises:
        RequestError: There is no such run, or it names other classes.
        VerifyError: Its weights do not verify.
    """
    loaded = load_run(run)
    _same_classes(loaded.classes, config.classes, run)
    teacher = loaded.model.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
    return Distillation(
        labels=labels,
        teacher=teacher,
        config=config.distill,
        pixels=config.loss.region_pixels,
        student_tap=FeatureTap(student),
        teacher_tap=FeatureTap(teacher),
        rescale=_rescale(config, loaded.input.mean_rgb, loaded.input.std_rgb, device),
        bf16=bf16,
    )


def _same_classes(teacher: Classes, student: Classes, run: Path) -> None:
    if teacher.names != student.names:
        raise RequestError(
            "the teacher knows other classes",
            value=f"{run}: {', '.join(teacher.names)}",
            allowed=", ".join(student.names),
        )


def _rescale(
    config: RunConfig, mean_rgb: tuple[float, float, float], std_rgb: tuple[float, float, float], device: torch.device
) -> tuple[Tensor, Tensor]:
    ours = [
        torch.tensor(values, device=device)[:, None, None] for values in (config.input.mean_rgb, config.input.std_rgb)
    ]
    theirs = [torch.tensor(values, device=device)[:, None, None] for values in (mean_rgb, std_rgb)]
    return ours[1] / theirs[1], (ours[0] - theirs[0]) / theirs[1]
