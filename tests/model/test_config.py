"""Configs: what is refused, and the round trip through TOML."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgeseg.core.config import load_config, save_config
from edgeseg.core.errors import RequestError
from edgeseg.model import InputConfig, ModelConfig, preset, preset_names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upsample": "max_unpool"}, "max_unpool only with downsample"),
        ({"upsample": "max_unpool", "downsample": "avg"}, "max_unpool only with downsample"),
        ({"depths": (1,)}, "depths has 1 entries; allowed: 5"),
        ({"blocks": ("plain", "basic")}, "blocks has 2 entries; allowed: 1 or 5"),
        ({"decoder_widths": (8,) * 5}, "decoder_widths has 5 entries; allowed: at most 4"),
        ({"decoder_depths": (1,)}, "decoder_depths has 1 entries; allowed: 4"),
        ({"decoder_depths": (0, 1, 1, 1)}, "allowed: at least 1 each"),
        ({"widths": (0, 1, 2, 3, 4)}, "allowed: at least 1 each"),
        ({"kernel": 4}, "kernel is 4; allowed: odd"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"layer_scale": -0.1}, "layer_scale is -0.1"),
        ({"expansion": 0}, "expansion is 0"),
        ({"aux_heads": 4}, "aux_heads is 4; allowed: 0 to 3"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(preset("edge-s"), **changes)


def test_a_refused_value_in_a_file_is_a_request_error(tmp_path: Path) -> None:
    file = tmp_path / "model.toml"
    file.write_text('widths = [8]\ndepths = [1]\nupsample = "max_unpool"\n')
    with pytest.raises(RequestError, match="whose indices it needs"):
        load_config(file, ModelConfig)


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_toml(name: str, tmp_path: Path) -> None:
    save_config(tmp_path / "model.toml", preset(name))
    assert load_config(tmp_path / "model.toml", ModelConfig) == preset(name)
    assert preset(name).name == name


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean edge-m"):
        preset("egde-m")


@pytest.mark.parametrize("changes", [{"std_rgb": (1.0, 0.0, 1.0)}, {"network_size": (0, 4)}])
def test_an_impossible_input_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        InputConfig(**changes)  # type: ignore[arg-type]


def test_the_door_and_the_presets_need_no_torch() -> None:
    code = """
import sys
sys.modules["torch"] = None
from edgeseg.model import preset, preset_names
assert all(preset(name).stride for name in preset_names())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
