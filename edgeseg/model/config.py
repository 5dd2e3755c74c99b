"""What shapes a network and its input: two frozen structs, read from and written to TOML."""

from __future__ import annotations

from typing import Literal

import msgspec

Stem = Literal["patch4", "patch2", "conv4", "conv2", "pixel"]
BlockKind = Literal["convnext", "basic", "bottleneck", "plain"]
NormKind = Literal["batch", "layer", "none"]
Activation = Literal["relu", "gelu", "gelu_tanh", "hardswish", "none"]
Downsample = Literal["conv", "max", "avg"]
Upsample = Literal[
    "transposed2", "transposed4_sum", "transposed4_mean", "nearest", "max_unpool", "bilinear", "pixel_shuffle"
]
Skip = Literal["concat", "add", "none"]
Head = Literal["bilinear", "shuffle"]

STEM_STRIDE: dict[Stem, int] = {"patch4": 4, "patch2": 2, "conv4": 4, "conv2": 2, "pixel": 1}


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that shapes a network, except the number of classes.

    Levels count from the finest (0) to the coarsest; level `i` has stride `stem_stride * 2**i`. `decoder_*` entries
    belong to the levels just above the coarsest one, finest first: with four levels and three entries they are
    levels 0, 1 and 2; with two entries the head reads level 1; with none it reads the coarsest level.

    Attributes:
        name: Preset that this started from; a label.
        stem: `patchK` is a KxK convolution of stride K without overlap; `conv2` one and `conv4` two 3x3 convolutions
            of stride 2; `pixel` a 3x3 convolution of stride 1 (no downsampling).
        widths: Channels of each encoder level.
        depths: Blocks of each encoder level; 0 leaves the stem or the downsampling alone.
        blocks: Kind of block, one for all encoder levels or one per level.
        decoder_widths: Channels of each decoder level.
        decoder_depths: Filter blocks of each decoder level, at least 1: every upsampling is followed by one.
        decoder_blocks: Kind of block, one for all decoder levels or one per level.
        norm: `batch` folds away at export; `layer` is over channels, at each pixel.
        activation: `gelu` is the exact erf form, `gelu_tanh` its approximation.
        kernel: Side of the depthwise kernel of ConvNeXt blocks, odd.
        expansion: Inner width of ConvNeXt blocks over their width, and of bottlenecks its inverse.
        layer_scale: First value of the learned factor of each residual branch; 0 leaves the factor out.
        drop_path: Largest probability of dropping a residual branch; rises linearly to the coarsest level.
        downsample: Strided 2x2 convolution, or 2x2 pooling and a 1x1 convolution.
        upsample: How a decoder level doubles the resolution. `max_unpool` only with `downsample = "max"`.
        skip: How the encoder's features of the same level join.
        head: From the finest decoder level to pixels: `bilinear` enlarges the logits; `shuffle` predicts each pixel of
            a cell by itself (1x1 convolution and depth-to-space).
        head_kernel: Side of the classifier's kernel, odd.
        aux_heads: Auxiliary classifiers on this many decoder levels above the finest, in training only.

    Raises:
        ValueError: A combination that cannot be; names the field, what it got and what is allowed.
    """

    name: str = "custom"
    stem: Stem = "patch4"
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    blocks: tuple[BlockKind, ...] = ("convnext",)
    decoder_widths: tuple[int, ...] = ()
    decoder_depths: tuple[int, ...] = ()
    decoder_blocks: tuple[BlockKind, ...] = ("convnext",)
    norm: NormKind = "batch"
    activation: Activation = "relu"
    kernel: int = 7
    expansion: int = 4
    layer_scale: float = 0.1
    drop_path: float = 0.0
    downsample: Downsample = "conv"
    upsample: Upsample = "transposed2"
    skip: Skip = "concat"
    head: Head = "bilinear"
    head_kernel: int = 1
    aux_heads: int = 0

    @property
    def levels(self) -> int:
        """Number of encoder levels."""
        return len(self.widths)

    @property
    def stem_stride(self) -> int:
        """Stride of level 0."""
        return STEM_STRIDE[self.stem]

    @property
    def stride(self) -> int:
        """Stride of the coarsest level: heights and widths must be multiples of it."""
        return self.stem_stride << (self.levels - 1)

    @property
    def decoder_levels(self) -> tuple[int, ...]:
        """Levels that the decoder restores, finest first."""
        first = self.levels - 1 - len(self.decoder_widths)
        return tuple(range(first, self.levels - 1))

    @property
    def output_level(self) -> int:
        """Level that the head reads."""
        return self.levels - 1 - len(self.decoder_widths)

    def encoder_block(self, level: int) -> BlockKind:
        """Kind of block of an encoder level."""
        return self.blocks[level if len(self.blocks) > 1 else 0]

    def decoder_block(self, level: int) -> BlockKind:
        """Kind of block of a decoder level."""
        return self.decoder_blocks[level - self.output_level if len(self.decoder_blocks) > 1 else 0]

    def __post_init__(self) -> None:
        _check_lengths(self)
        _check_values(self)


class InputConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How pixels become the network's input.

    Attributes:
        mean_rgb: Subtracted from each colour, in 0 to 255 units. The default is ImageNet's.
        std_rgb: Divides each colour afterwards, in 0 to 255 units.
        network_size: (height, width) that the network was trained to see, before padding to its stride.
    """

    mean_rgb: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std_rgb: tuple[float, float, float] = (58.395, 57.12, 57.375)
    network_size: tuple[int, int] = (360, 480)

    def __post_init__(self) -> None:
        if min(self.std_rgb) <= 0:
            raise ValueError(f"std_rgb is {self.std_rgb}; allowed: above 0")
        if min(self.network_size) < 1:
            raise ValueError(f"network_size is {self.network_size}; allowed: at least 1x1")


def _check_lengths(config: ModelConfig) -> None:
    levels = config.levels
    if not 1 <= levels <= 6:
        raise ValueError(f"widths has {levels} levels; allowed: 1 to 6")
    if len(config.depths) != levels:
        raise ValueError(f"depths has {len(config.depths)} entries; allowed: {levels}, one for each of widths")
    if len(config.blocks) not in (1, levels):
        raise ValueError(f"blocks has {len(config.blocks)} entries; allowed: 1 or {levels}")
    decoder = len(config.decoder_widths)
    if decoder > levels - 1:
        raise ValueError(f"decoder_widths has {decoder} entries; allowed: at most {levels - 1}")
    if len(config.decoder_depths) != decoder:
        raise ValueError(f"decoder_depths has {len(config.decoder_depths)} entries; allowed: {decoder}")
    if len(config.decoder_blocks) not in (1, decoder):
        raise ValueError(f"decoder_blocks has {len(config.decoder_blocks)} entries; allowed: 1 or {decoder}")
    if not 0 <= config.aux_heads <= max(decoder - 1, 0):
        raise ValueError(f"aux_heads is {config.aux_heads}; allowed: 0 to {max(decoder - 1, 0)}")


def _check_values(config: ModelConfig) -> None:
    for field in ("widths", "decoder_widths", "decoder_depths"):
        if any(value < 1 for value in getattr(config, field)):
            raise ValueError(f"{field} is {getattr(config, field)}; allowed: at least 1 each")
    if any(depth < 0 for depth in config.depths):
        raise ValueError(f"depths is {config.depths}; allowed: at least 0 each")
    for field in ("kernel", "head_kernel"):
        if getattr(config, field) < 1 or getattr(config, field) % 2 == 0:
            raise ValueError(f"{field} is {getattr(config, field)}; allowed: odd")
    if config.expansion < 1:
        raise ValueError(f"expansion is {config.expansion}; allowed: at least 1")
    if not 0 <= config.drop_path < 1:
        raise ValueError(f"drop_path is {config.drop_path}; allowed: 0 to below 1")
    if config.layer_scale < 0:
        raise ValueError(f"layer_scale is {config.layer_scale}; allowed: at least 0")
    if config.upsample == "max_unpool" and config.downsample != "max":
        raise ValueError(
            f"upsample is max_unpool where downsample is {config.downsample}; "
            'allowed: max_unpool only with downsample = "max", whose indices it needs'
        )
