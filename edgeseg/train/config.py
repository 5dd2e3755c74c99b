"""What a training run is made of: frozen structs, one TOML table each, every knob of the recipe a field."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgeseg.core.types import Classes
from edgeseg.model import InputConfig, ModelConfig

Range = tuple[float, float]


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The loop and the optimiser.

    Attributes:
        epochs: Passes over the training frames.
        minutes: Time that the training loop may take, anew in each process until it has decided; 0 is no limit.
            The run finds `epochs` itself, from its own pace, where the cooldown of a `trapezoid` has to begin, and
            writes it into its config; from there on it can be resumed bit for bit like any other.
        batch: Frames in one optimiser step, over all processes together.
        lr: Peak learning rate of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).
        weight_decay: Decay of filters; norms, biases and layer scales have none.
        warmup_epochs: Epochs over which the rate climbs linearly from 0.
        schedule: `cosine` falls from the peak to the end; `trapezoid` stays at the peak and falls linearly over the
            last `cooldown` share, so that a run may be shortened or lengthened while it is under way.
        cooldown: Share of the run that the trapezoid falls over.
        final_lr: Rate at the end, as a share of the peak.
        clip_norm: Largest norm of the gradient; 0 does not clip.
        ema_decay: Decay of the averaged weights, which are what a run gives; reached over the first steps.
        precision: `bf16` autocasts; `auto` takes it where the processor multiplies bf16 natively.
        channels_last: NHWC memory; without it LayerNorm models train several times slower on a CPU.
        compile: Compile the network with torch.compile; pays on a GPU.
        cuda_graph: On a GPU, record the step once for each shape of batch and replay it (one process only): a small
            network is otherwise held up by the host, which launches a thousand small kernels a step.
        threads: CPU threads; 0 lets torch choose.
        seed: Everything random follows from it.
        validate_every: Epochs between two validations; the last epoch is always validated.
        checkpoint_minutes: Time between two checkpoints, within epochs and across them; the end of the run has one.
    """

    epochs: int = 100
    minutes: float = 0.0
    batch: int = 8
    lr: float = 4e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 3.0
    schedule: Literal["cosine", "trapezoid"] = "cosine"
    cooldown: float = 0.3
    final_lr: float = 0.01
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    cuda_graph: bool = True
    threads: int = 0
    seed: int = 1
    validate_every: int = 5
    checkpoint_minutes: float = 1.0

    def __post_init__(self) -> None:
        _at_least("train.epochs", self.epochs, 1)
        _at_least("train.minutes", self.minutes, 0)
        if self.minutes and (self.schedule != "trapezoid" or self.cooldown == 0):
            raise ValueError(
                f"train.minutes is {self.minutes} with {self.schedule}, cooldown {self.cooldown}; allowed: "
                "trapezoid with a cooldown, whose rate does not depend on the length before the end"
            )
        _at_least("train.batch", self.batch, 1)
        _above("train.lr", self.lr, 0)
        _at_least("train.weight_decay", self.weight_decay, 0)
        _at_least("train.warmup_epochs", self.warmup_epochs, 0)
        _share("train.cooldown", self.cooldown)
        _share("train.final_lr", self.final_lr)
        _at_least("train.clip_norm", self.clip_norm, 0)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"train.ema_decay is {self.ema_decay}; allowed: 0 to below 1")
        _at_least("train.threads", self.threads, 0)
        _at_least("train.validate_every", self.validate_every, 1)
        _at_least("train.checkpoint_minutes", self.checkpoint_minutes, 0)


class DataConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which labelled frames.

    Attributes:
        train: Data set specification, for example `camvid:PATH`.
        split: Split of it that is learned from: `train`, or one that holds a sequence out (`train-dev`).
        val: Specification of the validation frames; empty takes the same data set.
        val_splits: Splits that are scored; the first decides and gives the run's frames. May be empty.
        limit: Share of the training frames that is used, evenly spaced; for studies with few labels.
        repeat_below: Frames with a class that fewer than this share of the frames show come up more often
            (repeat-factor sampling: Gupta et al., "LVIS", 2019); 0 shows every frame once an epoch.
    """

    train: str = ""
    split: str = "train"
    val: str = ""
    val_splits: tuple[str, ...] = ("val",)
    limit: float = 1.0
    repeat_below: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.limit <= 1:
            raise ValueError(f"data.limit is {self.limit}; allowed: above 0, up to 1")
        _share("data.repeat_below", self.repeat_below)


class AugmentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is varied in a training frame; every strength is a half-width or a probability.

    Attributes:
        crop: (height, width) that the network trains on; empty takes 0.8 of the network size, in steps of 32.
        scale: Smallest and largest magnification, drawn evenly in its logarithm.
        aspect: Largest stretch of width over height, likewise.
        flip: Probability of a mirrored frame.
        brightness: Factor 1 +- this.
        contrast: Factor 1 +- this, about the frame's mean.
        saturation: Factor 1 +- this, about each pixel's luma.
        hue: Largest turn of the hue, as a share of the circle.
        gamma: Largest natural logarithm of the tone curve's exponent.
        blur: Probability of a Gaussian blur of 0.3 to 2 pixels.
        noise: Probability of sensor noise of 2 to 16 grey levels.
        weather: Probability of fog, glare or rain.
        class_mix: Probability that objects of rare classes from another frame are pasted in (after Olsson et al.,
            "ClassMix", 2021, with labels in place of predictions).
        mix_below: Share of the pixels under which a class is rare.
        multi_scale: Smallest and largest factor of the crop, drawn once a step, in steps of the network's stride.
    """

    crop: tuple[int, int] | None = None
    scale: Range = (0.5, 2.0)
    aspect: float = 1.1
    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.03
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    weather: float = 0.0
    class_mix: float = 0.0
    mix_below: float = 0.03
    multi_scale: Range = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("scale", "multi_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"augment.{name} is {[low, high]}; allowed: [smallest, largest], both above 0")
        _at_least("augment.aspect", self.aspect, 1)
        _at_least("augment.gamma", self.gamma, 0)
        shares = (
            "flip",
            "brightness",
            "contrast",
            "saturation",
            "hue",
            "blur",
            "noise",
            "weather",
            "class_mix",
            "mix_below",
        )
        for name in shares:
            _share(f"augment.{name}", getattr(self, name))


class LossConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is minimised.

    Attributes:
        label_smoothing: Share of the target spread evenly over all classes (Szegedy et al., 2016).
        class_weights: `none`; `sqrt` weighs a class by one over the square root of its share of the pixels; `log` by
            1 / ln(1.02 + share) (Paszke et al., "ENet", 2016). Weights have mean 1 over the pixels.
        weight_shift: Share of the logarithm of the class weights that is added to the logits where the loss sees them,
            and nowhere else (logit adjustment: Menon et al., "Long-tail learning via logit adjustment", 2021). Weights
            make a network name rare classes too often; what the loss is shown beforehand the network need not say
            itself. 1 takes the weights' whole effect on the priors back, 0 nothing. A run that starts from another
            (`--init`) has the difference taken off the biases of its heads.
        dice: Weight of the soft Dice loss (Milletari et al., "V-Net", 2016).
        lovasz: Weight of the Lovasz-Softmax loss (Berman et al., 2018), the surrogate of mIoU itself.
        region_pixels: Pixels drawn evenly from the batch for Dice and Lovasz: the sort of Lovasz is slow.
        hard_share: Share of the pixels, the ones of largest cross-entropy, that count for it (Shrivastava et al.,
            "Training region-based object detectors with online hard example mining", 2016); 1 counts all.
        deep_supervision: Weight of the losses of a model's auxiliary heads.
    """

    label_smoothing: float = 0.05
    class_weights: Literal["none", "sqrt", "log"] = "sqrt"
    weight_shift: float = 0.0
    dice: float = 0.0
    lovasz: float = 0.5
    region_pixels: int = 16384
    hard_share: float = 1.0
    deep_supervision: float = 0.4

    def __post_init__(self) -> None:
        _share("loss.label_smoothing", self.label_smoothing)
        _share("loss.weight_shift", self.weight_shift)
        if not 0 < self.hard_share <= 1:
            raise ValueError(f"loss.hard_share is {self.hard_share}; allowed: above 0, up to 1")
        for name in ("dice", "lovasz", "deep_supervision"):
            _at_least(f"loss.{name}", getattr(self, name), 0)
        _at_least("loss.region_pixels", self.region_pixels, 1)


class DistillConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a student learns from a teacher (`--teacher`).

    Attributes:
        logits: Weight of the divergence between both answers (Hinton et al., 2015).
        temperature: Softens both answers; the divergence is multiplied by its square.
        features: Weight of the distance between both attention maps at each encoder stride that both have
            (Zagoruyko and Komodakis, "Paying more attention to attention", 2017). They need no channels in common.
    """

    logits: float = 1.0
    temperature: float = 2.0
    features: float = 1.0

    def __post_init__(self) -> None:
        _at_least("distill.logits", self.logits, 0)
        _at_least("distill.features", self.features, 0)
        _above("distill.temperature", self.temperature, 0)


class PretrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run without labels learns (`edgeseg pretrain`).

    Attributes:
        mask: Share of the patches that are hidden; 0 reconstructs the whole frame from itself.
        patch: Side of a patch in pixels.
        frames: Largest number of frames that is read, evenly spaced.
        holdout: Share of the frames, from the end, that are judged on and not learned from; 0 judges on all.
    """

    mask: float = 0.6
    patch: int = 32
    frames: int = 5000
    holdout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("mask", "holdout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"pretrain.{name} is {getattr(self, name)}; allowed: 0 to below 1")
        _at_least("pretrain.patch", self.patch, 1)
        _at_least("pretrain.frames", self.frames, 1)


class QatConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a quantisation-aware training started from.

    Attributes:
        model: The canonical graph.
        ranges: Its ranges, where the scales of activations come from.
        placement: Where integers are used: `cpu`, `nvidia`, or `none` to fine-tune in float for comparison.
        learn_scales: Whether the scales of activations learn too; otherwise they stay as they are.
    """

    model: str = ""
    ranges: str = ""
    placement: str = "cpu"
    learn_scales: bool = False


class RecipeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tables of a user's TOML file. `[model]` and `[input]` change single fields of the preset and its input."""

    model: dict[str, object] = {}
    input: dict[str, object] = {}

    train: TrainConfig = msgspec.field(default_factory=TrainConfig)
    data: DataConfig = msgspec.field(default_factory=DataConfig)
    augment: AugmentConfig = msgspec.field(default_factory=AugmentConfig)
    loss: LossConfig = msgspec.field(default_factory=LossConfig)
    distill: DistillConfig = msgspec.field(default_factory=DistillConfig)
    pretrain: PretrainConfig | None = None


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a run was made with, resolved: `RUN/config.toml`.

    Attributes:
        version: Of edgeseg.
        init: What the weights started from; empty for none.
        encoder_weights: What the encoder's weights started from; empty for none.
        teacher: Run that taught; empty for none.
        pretrain: Set where the run learned without labels.
        qat: Set where an exported graph learned on with the roundings of integers.
    """

    version: str
    init: str = ""
    encoder_weights: str = ""
    teacher: str = ""
    model: ModelConfig
    input: InputConfig
    classes: Classes
    train: TrainConfig
    data: DataConfig
    augment: AugmentConfig
    loss: LossConfig
    distill: DistillConfig = msgspec.field(default_factory=DistillConfig)
    pretrain: PretrainConfig | None = None
    qat: QatConfig | None = None


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name} is {value}; allowed: {least} or more")


def _above(name: str, value: float, bound: float) -> None:
    if not value > bound:
        raise ValueError(f"{name} is {value}; allowed: above {bound}")


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; allowed: 0 to 1")
