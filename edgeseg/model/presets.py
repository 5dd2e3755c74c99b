"""The named shapes: our own, sized for small engines, and encoders with the published ConvNeXt shapes."""

from __future__ import annotations

import msgspec

from edgeseg.core.config import unknown_name
from edgeseg.model.config import ModelConfig

# Ours. Level 0 (stride 2) has no block of its own: it carries edges to the last decoder level, whose one plain block
# keeps thin things thin. Auxiliary heads cost nothing at run time; with the loss of `LossConfig` they are worth more on
# dev than the seeds explain (docs/ablations.md).
_EDGE: dict[str, ModelConfig] = {
    name: ModelConfig(
        name=name,
        stem="patch2",
        widths=widths,
        depths=depths,
        decoder_widths=decoder,
        decoder_depths=(1, 1, 1, 1),
        decoder_blocks=("plain", "convnext", "convnext", "convnext"),
        drop_path=drop_path,
        aux_heads=2,
    )
    for name, widths, depths, decoder, drop_path in (
        ("edge-s", (16, 24, 48, 96, 128), (0, 1, 2, 3, 1), (16, 24, 32, 48), 0.0),
        ("edge-m", (16, 32, 64, 112, 160), (0, 2, 2, 4, 1), (16, 32, 48, 64), 0.05),
        ("edge-l", (16, 32, 64, 128, 192), (0, 2, 3, 6, 2), (16, 32, 64, 96), 0.1),
    )
}

# Encoders of Liu et al. 2022 (tiny) and of timm's smaller ones, under a decoder of half their widths.
_PUBLISHED: dict[str, ModelConfig] = {
    name: ModelConfig(
        name=name,
        stem="patch4",
        widths=widths,
        depths=depths,
        decoder_widths=tuple(width // 2 for width in widths[:-1]),
        decoder_depths=(1, 1, 1),
        norm="layer",
        activation="gelu",
        layer_scale=1e-6,
        drop_path=0.1,
    )
    for name, widths, depths in (
        ("atto", (40, 80, 160, 320), (2, 2, 6, 2)),
        ("femto", (48, 96, 192, 384), (2, 2, 6, 2)),
        ("pico", (64, 128, 256, 512), (2, 2, 6, 2)),
        ("nano", (80, 160, 320, 640), (2, 2, 8, 2)),
        ("tiny", (96, 192, 384, 768), (3, 3, 9, 3)),
    )
}

# Not for a vehicle: the two ends of the scale between detail and context, at the multiply-adds of edge-s. The first
# never lowers the resolution; the second classifies patches, and is made per-pixel by enlarging its answers.
_CONTRASTS: dict[str, ModelConfig] = {
    "full-resolution": ModelConfig(name="full-resolution", stem="pixel", widths=(10,), depths=(3,)),
    "patch-classifier": ModelConfig(
        name="patch-classifier", stem="patch4", widths=(32, 64, 112, 160), depths=(2, 2, 3, 1)
    ),
}


def preset_names() -> list[str]:
    """Names that `preset` knows; `NAME-ln` is NAME with LayerNorm and GELU instead of BatchNorm and ReLU."""
    return [*_EDGE, *(f"{name}-ln" for name in _EDGE), *_PUBLISHED, *_CONTRASTS]


def preset(name: str) -> ModelConfig:
    """The config of a named shape.

    Raises:
        RequestError: An unknown name; names the nearest one.
    """
    fixed = _PUBLISHED | _CONTRASTS
    if name in fixed:
        return fixed[name]
    base = name.removesuffix("-ln")
    if base not in _EDGE:
        raise unknown_name("model", name, preset_names(), fix="edgeseg train --model edge-m")
    if base == name:
        return _EDGE[name]
    return msgspec.structs.replace(_EDGE[base], name=name, norm="layer", activation="gelu")
