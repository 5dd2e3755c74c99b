"""Encoder weights by name: a torchvision or timm ConvNeXt with random weights gives the same features here."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import convnext_tiny
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from edgeseg.core.errors import RequestError, UnavailableError, VerifyError
from edgeseg.model import build_model, load_encoder, preset
from edgeseg.model.network import SegModel
from edgeseg.model.pretrained import load_encoder_state
from edgeseg.model.weights import save_weights

# the published structure with few channels; the published numbers are compared without values, below
SMALL = msgspec.structs.replace(
    preset("tiny"), widths=(8, 12, 16, 20), depths=(2, 1, 3, 1), decoder_widths=(), decoder_depths=()
)


@pytest.fixture(scope="module")
def published() -> nn.Module:
    stages = zip(SMALL.widths, (*SMALL.widths[1:], None), SMALL.depths, strict=True)
    return randomised(ConvNeXt([CNBlockConfig(*stage) for stage in stages]))


def randomised(model: nn.Module) -> nn.Module:
    """Every tensor away from its first value, so that a swap of two is seen; small, so that nothing overflows."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        spread = 0.02 if tensor.ndim > 1 and "scale" not in name else 0.2
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread + (0.5 if tensor.ndim == 1 else 0.0))
    return model.eval()


def picture() -> Tensor:
    return torch.randn((1, 3, 32, 64), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_features_are_torchvisions_to_1e_5(published: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "convnext.safetensors"
    save_file(published.state_dict(), file)
    ours = build_model(SMALL, 11).eval()
    load_encoder(ours, str(file))
    x = picture()
    expected = []
    y = x
    for index, stage in enumerate(published.get_submodule("features").children()):
        y = stage(y)
        if index % 2:
            expected.append(y)
    for found, wanted in zip(ours.features(x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_features_are_timms_to_1e_5() -> None:
    convnext = pytest.importorskip("timm.models.convnext", reason="timm is not installed: pip install timm")
    theirs = randomised(convnext.ConvNeXt(depths=SMALL.depths, dims=SMALL.widths, conv_mlp=True, num_classes=7))
    ours = build_model(SMALL, 11).eval()
    load_encoder_state(ours, theirs.state_dict(), origin="timm")
    expected = theirs.forward_intermediates(picture(), intermediates_only=True, norm=False)
    for found, wanted in zip(ours.features(picture()), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_tiny_is_torchvisions_convnext_tiny() -> None:
    with torch.device("meta"):
        load_encoder_state(SegModel(preset("tiny"), 11), convnext_tiny(weights=None).state_dict(), origin="torchvision")


@pytest.mark.parametrize("name", ["atto", "femto", "pico", "nano", "tiny"])
def test_the_published_shapes_are_timms(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    with torch.device("meta"):
        theirs = timm.create_model(f"convnext_{name}", pretrained=False)
        load_encoder_state(SegModel(preset(name), 11), theirs.state_dict(), origin="timm")


def test_the_encoder_of_a_run_of_another_head_loads(tmp_path: Path) -> None:
    donor, taker = build_model(preset("edge-s"), 3, seed=1), build_model(preset("edge-s"), 11, seed=2)
    save_weights(tmp_path / "weights.safetensors", donor)
    before = taker.head.conv.weight.detach().clone()
    load_encoder(taker, str(tmp_path / "weights.safetensors"))
    for path in ("stem", "encoder"):
        for name, tensor in donor.get_submodule(path).state_dict().items():
            assert torch.equal(taker.get_submodule(path).state_dict()[name], tensor), name
    assert torch.equal(taker.head.conv.weight, before)


def refused(model: SegModel, state: dict[str, Tensor], match: str, kind: type[Exception] = RequestError) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(kind, match=match):
        load_encoder_state(model, state, origin="FILE")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_weights_of_another_shape_are_refused_and_nothing_is_loaded(published: nn.Module) -> None:
    state = published.state_dict()
    wider = build_model(msgspec.structs.replace(SMALL, widths=(8, 12, 16, 24)), 11)
    refused(wider, state, "do not fit the model tiny .* is .*, in the model")
    same = build_model(SMALL, 11)
    missing = {name: tensor for name, tensor in state.items() if name != "features.5.2.layer_scale"}
    refused(same, missing, "the weights lack encoder.2.2.scale.weight")
    refused(same, {**state, "features.7.1.layer_scale": torch.ones(20, 1, 1)}, "the model lacks encoder.3.1.scale")
    refused(same, {**state, "features.9.0.gate": torch.ones(1)}, "ConvNeXt has not", VerifyError)
    refused(same, {"layer1.0.conv1.weight": torch.ones(1)}, "no encoder weights that are known", VerifyError)


def test_unknown_names_and_files_are_refused(tmp_path: Path) -> None:
    model = build_model(preset("edge-s"), 11)
    with pytest.raises(RequestError, match="did you mean convnext_tiny"):
        load_encoder(model, "torchvision:convnext_tiyn")
    with pytest.raises(RequestError, match="does not exist"):
        load_encoder(model, str(tmp_path / "absent.safetensors"))
    (tmp_path / "foreign.safetensors").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(VerifyError, match="cannot be read"):
        load_encoder(model, str(tmp_path / "foreign.safetensors"))


def test_weights_that_cannot_be_fetched_name_the_way_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(UnavailableError, match=r"no route to host.*--encoder-weights FILE"):
        load_encoder(build_model(SMALL, 11), "torchvision:convnext_tiny")


def test_without_timm_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.core.deps._found", lambda package: package != "timm")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(UnavailableError, match=r"--encoder-weights timm:convnext_atto needs the package timm"):
        load_encoder(build_model(SMALL, 11), "timm:convnext_atto")
