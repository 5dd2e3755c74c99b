"""Encoder weights that others trained: the published ConvNeXt shapes of torchvision and timm, loaded by name."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from edgeseg.core.config import unknown_name
from edgeseg.core.deps import require
from edgeseg.core.errors import RequestError, UnavailableError, VerifyError
from edgeseg.model.network import SegModel
from edgeseg.model.weights import read_tensors

# Their names, as patterns, to ours. In torchvision odd entries of `features` are stages, even ones downsamplings.
_TORCHVISION = (
    (r"features\.0\.0\.(?P<leaf>weight|bias)", "stem.conv.{leaf}"),
    (r"features\.0\.1\.(?P<leaf>weight|bias)", "stem.norm.{leaf}"),
    (r"features\.(?P<twice>[246])\.0\.(?P<leaf>weight|bias)", "encoder.{level}.down.norm.{leaf}"),
    (r"features\.(?P<twice>[246])\.1\.(?P<leaf>weight|bias)", "encoder.{level}.down.conv.{leaf}"),
    (r"features\.(?P<twice>[1357])\.(?P<block>\d+)\.block\.0\.(?P<leaf>\w+)", "encoder.{level}.{block}.dw.{leaf}"),
    (r"features\.(?P<twice>[1357])\.(?P<block>\d+)\.block\.2\.(?P<leaf>\w+)", "encoder.{level}.{block}.norm.{leaf}"),
    (r"features\.(?P<twice>[1357])\.(?P<block>\d+)\.block\.3\.(?P<leaf>\w+)", "encoder.{level}.{block}.pw1.{leaf}"),
    (r"features\.(?P<twice>[1357])\.(?P<block>\d+)\.block\.5\.(?P<leaf>\w+)", "encoder.{level}.{block}.pw2.{leaf}"),
    (r"features\.(?P<twice>[1357])\.(?P<block>\d+)\.layer_scale", "encoder.{level}.{block}.scale.weight"),
)
_TIMM = (
    (r"stem\.0\.(?P<leaf>weight|bias)", "stem.conv.{leaf}"),
    (r"stem\.1\.(?P<leaf>weight|bias)", "stem.norm.{leaf}"),
    (r"stages\.(?P<level>\d)\.downsample\.0\.(?P<leaf>\w+)", "encoder.{level}.down.norm.{leaf}"),
    (r"stages\.(?P<level>\d)\.downsample\.1\.(?P<leaf>\w+)", "encoder.{level}.down.conv.{leaf}"),
    (r"stages\.(?P<level>\d)\.blocks\.(?P<block>\d+)\.conv_dw\.(?P<leaf>\w+)", "encoder.{level}.{block}.dw.{leaf}"),
    (r"stages\.(?P<level>\d)\.blocks\.(?P<block>\d+)\.norm\.(?P<leaf>\w+)", "encoder.{level}.{block}.norm.{leaf}"),
    (r"stages\.(?P<level>\d)\.blocks\.(?P<block>\d+)\.mlp\.fc1\.(?P<leaf>\w+)", "encoder.{level}.{block}.pw1.{leaf}"),
    (r"stages\.(?P<level>\d)\.blocks\.(?P<block>\d+)\.mlp\.fc2\.(?P<leaf>\w+)", "encoder.{level}.{block}.pw2.{leaf}"),
    (r"stages\.(?P<level>\d)\.blocks\.(?P<block>\d+)\.gamma", "encoder.{level}.{block}.scale.weight"),
)
_OURS = ((r"(?P<path>(stem|encoder)\..+)", "{path}"),)
_FAMILIES = {"features.": _TORCHVISION, "stages.": _TIMM, "encoder.": _OURS}
# a classifier is no part of an encoder
_DROPPED = re.compile(r"(classifier|head|norm_pre|decoder|aux)\.")


def load_encoder(model: SegModel, source: str) -> None:
    """Give the stem and encoder of `model` weights from elsewhere; the decoder keeps its own.

    Args:
        model: Of a published shape (`atto` to `tiny`), or of that of the file.
        source: A .safetensors file with the names of torchvision, timm or our own; or `torchvision:convnext_tiny`,
            `timm:convnext_atto`, which those libraries fetch.

    Raises:
        RequestError: There is no such file or published model, or it has another shape than `model`.
        UnavailableError: The library is not installed, or the weights cannot be fetched.
        VerifyError: The file is truncated, or its names are of none of the three.
    """
    library, _, name = source.partition(":")
    if library == "torchvision" and name:
        state = _from_torchvision(name)
    elif library == "timm" and name:
        state = _from_timm(name)
    else:
        state = read_tensors(Path(source))
    load_encoder_state(model, state, origin=source)


def load_encoder_state(model: SegModel, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Copy a state by name into the stem and encoder of `model`.

    Shapes may differ by axes of one: a 1x1 convolution is a linear layer, [C, 1, 1] a list of C.

    Raises:
        RequestError: A tensor is missing, left over, or of another shape; names the first.
        VerifyError: The names are none that are known.
    """
    named = _rename(state, origin)
    target = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(("stem.", "encoder."))}
    for name in sorted(target.keys() | named.keys()):
        if name not in target or name not in named:
            side = "the weights lack" if name in target else "the model lacks"
            raise _misfit(origin, f"{side} {name}", model)
        if _significant(named[name]) != _significant(target[name]):
            shapes = f"{name} is {list(named[name].shape)}, in the model {list(target[name].shape)}"
            raise _misfit(origin, shapes, model)
    model.load_state_dict({name: named[name].reshape(target[name].shape) for name in target}, strict=False)


def _misfit(origin: str, difference: str, model: SegModel) -> RequestError:
    return RequestError(
        f"the encoder weights do not fit the model {model.config.name}",
        value=f"{origin}: {difference}",
        allowed="weights of the same shape: convnext_NAME for --model NAME, one of atto, femto, pico, nano, tiny",
    )


def _significant(tensor: Tensor) -> list[int]:
    return [side for side in tensor.shape if side != 1]


def _rename(state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    rules = next((rules for prefix, rules in _FAMILIES.items() if any(name.startswith(prefix) for name in state)), None)
    if rules is None:
        raise VerifyError(
            "these are no encoder weights that are known",
            value=f"{origin}: {next(iter(state), 'empty')}",
            allowed="the names of a ConvNeXt of torchvision or timm, or of an edgeseg run",
        )
    return {_ours(name, rules, origin): tensor for name, tensor in state.items() if not _DROPPED.match(name)}


def _ours(name: str, rules: tuple[tuple[str, str], ...], origin: str) -> str:
    for pattern, path in rules:
        found = re.fullmatch(pattern, name)
        if found:
            parts = found.groupdict()
            return path.format(**{"level": int(parts.get("twice", 0)) // 2, **parts})
    raise VerifyError("the encoder weights hold a tensor that ConvNeXt has not", value=f"{origin}: {name}")


def _from_torchvision(name: str) -> Mapping[str, Tensor]:
    require("torchvision", what=f"--encoder-weights torchvision:{name}")
    from torchvision import models

    known = [model for model in models.list_models(models) if model.startswith("convnext")]
    if name not in known:
        raise unknown_name("ConvNeXt of torchvision", name, known)
    try:
        state: Mapping[str, Tensor] = models.get_model_weights(name).DEFAULT.get_state_dict(progress=False)
    except (OSError, RuntimeError) as error:
        raise _not_fetched(f"torchvision:{name}", error) from error
    return state


def _from_timm(name: str) -> Mapping[str, Tensor]:
    require("timm", what=f"--encoder-weights timm:{name}")
    timm = importlib.import_module("timm")
    known: list[str] = timm.list_models("convnext*", pretrained=True)
    if name.partition(".")[0] not in {model.partition(".")[0] for model in known}:
        raise unknown_name("ConvNeXt of timm", name, known)
    try:
        state: Mapping[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise _not_fetched(f"timm:{name}", error) from error
    return state


def _not_fetched(source: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        "the encoder weights cannot be fetched",
        value=f"{source}: {error}",
        allowed="without a network: a .safetensors file of the same weights, as --encoder-weights FILE",
    )
