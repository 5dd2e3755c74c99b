"""One contract suite for every network and option: shapes, gradients, sizes, files, memory format, determinism."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from edgeseg.core.errors import RequestError
from edgeseg.model import ModelConfig, build_model, preset, preset_names
from edgeseg.model.network import SegModel
from edgeseg.model.weights import load_weights, save_weights

CLASSES = 5
SMALL = ModelConfig(
    stem="patch2",
    widths=(8, 12, 16),
    depths=(1, 1, 2),
    decoder_widths=(8, 12),
    decoder_depths=(1, 1),
    drop_path=0.1,
)


def variant(**changes: object) -> ModelConfig:
    return msgspec.structs.replace(SMALL, **changes)


OPTIONS = {
    "default": SMALL,
    **{f"stem-{kind}": variant(stem=kind) for kind in ("patch4", "conv2", "conv4", "pixel")},
    **{f"block-{kind}": variant(blocks=(kind,), decoder_blocks=(kind,)) for kind in ("basic", "bottleneck", "plain")},
    "blocks-by-level": variant(blocks=("plain", "basic", "convnext"), decoder_blocks=("plain", "convnext")),
    **{f"norm-{kind}": variant(norm=kind) for kind in ("layer", "none")},
    **{f"activation-{kind}": variant(activation=kind) for kind in ("gelu", "gelu_tanh", "hardswish", "none")},
    **{f"downsample-{kind}": variant(downsample=kind) for kind in ("max", "avg")},
    **{
        f"upsample-{kind}": variant(upsample=kind)
        for kind in ("transposed4_sum", "transposed4_mean", "nearest", "bilinear", "pixel_shuffle")
    },
    **{
        f"max_unpool-{skip}": variant(downsample="max", upsample="max_unpool", skip=skip)
        for skip in ("concat", "add", "none")
    },
    **{f"skip-{kind}": variant(skip=kind) for kind in ("add", "none")},
    "head-shuffle": variant(head="shuffle"),
    "head-kernel": variant(head_kernel=3),
    "no-layer-scale": variant(layer_scale=0.0),
    "short-decoder": variant(decoder_widths=(12,), decoder_depths=(2,)),
    "no-decoder": variant(decoder_widths=(), decoder_depths=()),
    "bare-levels": variant(depths=(0, 0, 1)),
    "aux": variant(aux_heads=1),
}
LARGE = ("femto", "pico", "nano", "tiny")  # the same code as atto, at more channels
EVERY = {**OPTIONS, **{name: preset(name) for name in preset_names() if name not in LARGE}}


def frames(config: ModelConfig, height: int = 1, width: int = 2, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((batch, 3, height * config.stride, width * config.stride), generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def shape_of(config: ModelConfig) -> SegModel:
    with torch.device("meta"):
        return SegModel(config, CLASSES)


def logits_of(model: SegModel, x: Tensor) -> Tensor:
    logits = model(x)
    assert isinstance(logits, Tensor)
    return logits


@pytest.mark.parametrize("name", EVERY)
def test_every_network_keeps_the_contract(name: str, tmp_path: Path) -> None:
    config = EVERY[name]
    model = build_model(config, CLASSES)
    x = frames(config)

    # forward and backward in training mode: every weight gets a finite gradient
    out = model(x)
    parts = out if isinstance(out, list) else [out]
    assert len(parts) == 1 + config.aux_heads
    assert parts[0].shape == (2, CLASSES, *x.shape[2:])
    sum(part.square().mean() for part in parts).backward()
    for path, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, path
            assert torch.isfinite(parameter.grad).all(), path

    # eval mode: one finite tensor, the same from a file and in the other memory format
    model.eval()
    with torch.no_grad():
        logits = logits_of(model, x)
        assert torch.isfinite(logits).all()
        save_weights(tmp_path / "w.safetensors", model)
        again = build_model(config, CLASSES, seed=7).eval()
        load_weights(tmp_path / "w.safetensors", again)
        assert torch.equal(logits_of(again, x), logits)
        rows = model.to(memory_format=torch.contiguous_format)
        torch.testing.assert_close(logits_of(rows, x.contiguous()), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["default", "block-basic", "stem-conv4", "norm-layer", "aux"])
def test_only_what_a_batch_norm_takes_off_again_does_not_learn(name: str) -> None:
    model = build_model(EVERY[name], CLASSES)
    x = frames(EVERY[name])
    held = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert len(held) == sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())

    def trained() -> list[Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of the stochastic depth
            out = model(x)
        return out if isinstance(out, list) else [out]

    with torch.no_grad():
        before = trained()
        for parameter in held:
            parameter.copy_(torch.linspace(-1, 1, len(parameter)))
        for now, then in zip(trained(), before, strict=True):
            torch.testing.assert_close(now, then, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 1)])
def test_any_multiple_of_the_stride_is_taken(size: tuple[int, int]) -> None:
    model = build_model(SMALL, CLASSES).eval()
    x = frames(SMALL, *size, batch=1)
    with torch.no_grad():
        assert logits_of(model, x).shape[2:] == x.shape[2:]


def test_a_size_off_the_stride_is_refused_with_the_size_to_pad_to() -> None:
    model = build_model(preset("edge-s"), CLASSES).eval()
    with pytest.raises(RequestError, match="pad to 64x96"):
        model(torch.zeros((1, 3, 60, 90)))


def test_samples_of_a_batch_do_not_meet() -> None:
    model = build_model(variant(norm="layer"), CLASSES).eval()
    x = frames(SMALL, batch=3)
    with torch.no_grad():
        together = logits_of(model, x)
        alone = torch.cat([logits_of(model, one[None]) for one in x])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    first = build_model(SMALL, CLASSES, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), expected), "building a network moved the global random state"
    torch.manual_seed(99)
    second = build_model(SMALL, CLASSES, seed=5).state_dict()
    other = build_model(SMALL, CLASSES, seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])


@pytest.mark.parametrize("upsample", ["transposed2", "transposed4_sum", "transposed4_mean", "bilinear"])
def test_signals_keep_their_size_through_a_new_network(upsample: str) -> None:
    config = variant(norm="none", upsample=upsample, activation="relu", drop_path=0.0)
    model = build_model(config, CLASSES)
    with torch.no_grad():
        found = model.decode(model.features(frames(config, 4, 4)))
    for level, feature in found.items():
        assert 0.2 < float(feature.std()) < 5.0, f"level {level}"


def test_features_are_the_levels_of_the_config() -> None:
    model = build_model(SMALL, CLASSES).eval()
    x = frames(SMALL, 2, 2)
    shapes = [tuple(feature.shape[1:]) for feature in model.features(x)]
    assert shapes == [(8, 8, 8), (12, 4, 4), (16, 2, 2)]


def test_activations_stay_in_channels_last() -> None:
    model = build_model(variant(norm="layer"), CLASSES).eval()
    for feature in model.features(frames(SMALL, 2, 2)):
        assert feature.is_contiguous(memory_format=torch.channels_last)


def test_auxiliary_heads_answer_in_training_only_and_at_their_own_resolution() -> None:
    model = build_model(variant(aux_heads=1), CLASSES)
    x = frames(SMALL, 2, 2)
    main, aux = model(x)
    assert main.shape[2:] == x.shape[2:]
    assert aux.shape[2:] == (x.shape[2] // 4, x.shape[3] // 4)
    assert isinstance(model.eval()(x), Tensor)


def test_stochastic_depth_rises_to_the_coarsest_level() -> None:
    model = build_model(variant(depths=(1, 1, 2), drop_path=0.3), CLASSES)
    rates = [module.p for path, module in model.named_modules() if path.startswith("encoder") and path.endswith("drop")]
    assert rates == pytest.approx([0.1, 0.2, 0.3])


def test_the_vocabulary_is_closed() -> None:
    leaves = {
        "AvgPool2d", "BatchNorm2d", "Conv2d", "ConvTranspose2d", "DepthwiseConv2d", "EnlargedLogits", "GELU",
        "Hardswish", "LayerNorm2d", "LayerScale", "MaxPool2d", "MaxUnpool2d", "MeanTransposed2d", "PixelShuffle",
        "ReLU", "ReplicationPad2d", "StochasticDepth", "Upsample",
    }  # fmt: skip
    composites = {"Sequential", "Residual", "ModuleList", "ModuleDict", "DecoderLevel", "SegModel"}
    used: set[str] = set()
    for config in EVERY.values():
        used |= {type(module).__name__ for module in shape_of(config).modules()}
    assert used == leaves | composites


def test_batch_norm_and_layer_scale_follow_what_they_fold_into() -> None:
    for config in EVERY.values():
        for module in shape_of(config).modules():
            if not isinstance(module, nn.Sequential):
                continue
            previous: nn.Module | None = None
            for child in module:
                if isinstance(child, nn.BatchNorm2d):
                    assert isinstance(previous, nn.Conv2d)
                if type(child).__name__ == "LayerScale":
                    assert isinstance(previous, (nn.Conv2d, nn.BatchNorm2d))
                previous = child
