"""What must fit is refused with field and both values; what should fit is one warning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgeseg.bundle import Bundle, verify_bundle, write_bundle
from edgeseg.bundle.fit import check_fit
from edgeseg.core.errors import FitError, UnavailableError
from edgeseg.core.types import DeviceInfo

from .conftest import DEVICE, ContentsFactory

ORIN = msgspec.structs.replace(
    DEVICE,
    board="Jetson Orin NX",
    gpu="Jetson Orin NX (integrated)",
    compute_capability="8.7",
    l4t="36.4.3",
    driver="540",
)
Make = Callable[..., Bundle]


@pytest.fixture
def make(tmp_path: Path, make_contents: ContentsFactory) -> Make:
    def made(*, device: DeviceInfo = DEVICE, **engine: object) -> Bundle:
        contents = make_contents(device=device)
        record = msgspec.structs.replace(contents.manifest.engine, **engine)
        manifest = msgspec.structs.replace(contents.manifest, engine=record)
        contents = make_contents(device=device, engine=manifest.engine)
        return verify_bundle(write_bundle(tmp_path / "fit", contents))

    return made


def change(device: DeviceInfo, **fields: object) -> DeviceInfo:
    return msgspec.structs.replace(device, **fields)


@pytest.mark.parametrize(
    ("here", "version", "field", "old", "new"),
    [
        (ORIN, "10.7.0", "engine.backend_version", "10.3.0", "10.7.0"),
        (change(ORIN, gpu="Jetson AGX Orin (integrated)"), "10.3.0", "device.gpu", "Orin NX", "AGX Orin"),
        (change(ORIN, compute_capability="11.0"), "10.3.0", "device.compute_capability", "8.7", "11.0"),
    ],
)
def test_a_plan_fits_one_runtime_and_one_gpu(
    make: Make, here: DeviceInfo, version: str, field: str, old: str, new: str
) -> None:
    bundle = make(device=ORIN, kind="plan", backend_version="10.3.0")
    check_fit(bundle, ORIN, "10.3.0")
    with pytest.raises(FitError) as caught:
        check_fit(bundle, here, version)
    text = str(caught.value)
    assert field in text
    assert f"edgeseg rebuild {bundle.path}" in text
    assert old in text.split(", here ")[0]
    assert new in text.split(", here ")[1]


def test_a_plan_where_there_is_no_gpu_is_a_missing_device(make: Make) -> None:
    bundle = make(device=ORIN, kind="plan", backend_version="10.3.0")
    with pytest.raises(UnavailableError, match=r"no NVIDIA GPU \(the plan is for Jetson Orin NX.*edgeseg doctor"):
        check_fit(bundle, change(ORIN, gpu=None), "10.3.0")


def test_a_plan_that_was_built_without_a_gpu_leaves_the_gpu_to_its_runtime(make: Make) -> None:
    check_fit(make(device=DEVICE, kind="plan", backend_version="1.7.1.116"), ORIN, "1.7.1.116")


CARD = msgspec.structs.replace(DEVICE, gpu="NVIDIA GeForce RTX 4090", compute_capability="8.9")


def test_on_a_card_the_compute_capability_must_fit_too(make: Make) -> None:
    """Names alone do not tell it: two cards of one name can differ, and a driver may call a GPU something else."""
    bundle = make(device=CARD, kind="plan", backend_version="10.3.0", compute_capabilities=("8.9",))
    check_fit(bundle, CARD, "10.3.0")
    with pytest.raises(FitError, match=r"device\.compute_capability: built for 8\.9, here 9\.0.*edgeseg rebuild"):
        check_fit(bundle, change(CARD, compute_capability="9.0"), "10.3.0")
    with pytest.raises(FitError, match=r"device\.gpu: built for .*4090, here .*4080"):
        check_fit(bundle, change(CARD, gpu="NVIDIA GeForce RTX 4080"), "10.3.0")
    check_fit(bundle, change(CARD, compute_capability=None), "10.3.0")  # nothing tells it: the runtime decides


@pytest.mark.parametrize(
    ("capabilities", "fits", "refused"),
    [
        (("8.0+",), ("8.0", "8.9", "9.0", "12.0"), ("7.5",)),  # hardware-compatible: Ampere and later
        (("8.9",), ("8.9",), ("8.6", "9.0")),  # hardware-compatible: the same compute capability
        (("8.6", "8.9"), ("8.6", "8.9"), ("8.0", "12.0")),  # TensorRT-RTX: named GPUs
    ],
)
def test_a_hardware_compatible_plan_fits_other_gpus_of_what_it_was_built_for(
    make: Make, capabilities: tuple[str, ...], fits: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    bundle = make(device=CARD, kind="plan", backend_version="10.3.0", same_gpu=False, compute_capabilities=capabilities)
    for number in fits:
        check_fit(bundle, change(CARD, gpu="Another", compute_capability=number), "10.3.0")
    for number in refused:
        with pytest.raises(FitError, match=rf"built for .*, here {number}"):
            check_fit(bundle, change(CARD, gpu="Another", compute_capability=number), "10.3.0")


def test_a_portable_engine_wants_a_backend_that_is_not_older(make: Make) -> None:
    bundle = make(backend_version="1.20.1")
    for version in ("1.20.1", "1.20.10", "1.21.0", "2026.1.0-123-abc"):
        check_fit(bundle, DEVICE, version)
    for version in ("1.20.0", "1.9.9", "0.99"):
        with pytest.raises(FitError, match=r"built for 1\.20\.1 or newer, here"):
            check_fit(bundle, DEVICE, version)


@pytest.mark.parametrize(
    ("precision", "built", "here", "group"),
    [
        ("int8", ("avx512_vnni",), ("avx2",), "VNNI"),
        ("int8", ("avx512_vnni", "amx_int8"), ("avx512_vnni",), "AMX"),
        ("bf16", ("bf16",), ("avx512_vnni",), "BF16"),
        ("int8", ("dotprod",), ("neon",), "dot product"),
    ],
)
def test_an_integer_or_bf16_engine_wants_the_instructions_of_its_build(
    make: Make, precision: str, built: tuple[str, ...], here: tuple[str, ...], group: str
) -> None:
    bundle = make(device=change(DEVICE, cpu_features=built), precision=precision)
    with pytest.raises(FitError, match=group):
        check_fit(bundle, change(DEVICE, cpu_features=here), "1")


@pytest.mark.parametrize(
    ("precision", "built", "here"),
    [
        ("fp32", ("avx512_vnni", "amx_int8"), ("avx2",)),
        ("int8", ("avx512_vnni",), ("avx_vnni",)),
        ("int8", ("avx2",), ("avx2", "avx512_vnni")),
    ],
)
def test_equal_or_wider_instruction_sets_fit(
    make: Make, precision: str, built: tuple[str, ...], here: tuple[str, ...]
) -> None:
    bundle = make(device=change(DEVICE, cpu_features=built), precision=precision)
    check_fit(bundle, change(DEVICE, cpu_features=here), "1")


def test_what_should_fit_is_one_warning_that_names_each_difference(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = make(device=ORIN, kind="plan", backend_version="10.3.0")
    with caplog.at_level(logging.WARNING, logger="edgeseg"):
        check_fit(bundle, change(ORIN, driver="550", l4t="36.4.7"), "10.3.0")
    assert len(caplog.records) == 1
    assert "driver: built with 540, here 550; L4T: built with 36.4.3, here 36.4.7" in caplog.text
