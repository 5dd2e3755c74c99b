"""Whether a sound bundle fits this machine: what must, and what should.

A plan holds machine code for one runtime version and one GPU. An ONNX file or IR runs on any processor, but its
golden masks and its gate hold only with the integer or bf16 instructions of the build.
"""

from __future__ import annotations

import re

from edgeseg.bundle.contents import Bundle, rebuild_command
from edgeseg.core.errors import FitError, UnavailableError
from edgeseg.core.log import get_logger
from edgeseg.core.types import DeviceInfo

_LOG = get_logger(__name__)
# precision -> groups of instruction sets; of each group that the build had, the present machine needs one member
_GROUPS: dict[str, dict[str, frozenset[str]]] = {
    "int8": {
        "VNNI": frozenset({"avx512_vnni", "avx_vnni"}),
        "AMX": frozenset({"amx_int8"}),
        "dot product": frozenset({"dotprod", "i8mm"}),
    },
    "bf16": {"BF16": frozenset({"bf16", "amx_bf16"}), "AMX": frozenset({"amx_bf16"})},
}


def check_fit(bundle: Bundle, device: DeviceInfo, backend_version: str) -> None:
    """Raise where a field that must fit does not; warn once where fields that should fit do not.

    Args:
        bundle: A verified bundle.
        device: The machine that shall run it.
        backend_version: Version of the backend that is installed there.

    Raises:
        FitError: Names the field and both values.
        UnavailableError: A plan, and no GPU at all.
    """
    if bundle.manifest.engine.kind == "plan":
        _check_plan(bundle, device, backend_version)
    else:
        _check_portable(bundle, device, backend_version)
    built = bundle.manifest.device
    differences = [
        f"{name}: built with {old}, here {new}"
        for name, old, new in (
            ("driver", built.driver, device.driver),
            ("L4T", built.l4t, device.l4t),
            ("processor", built.cpu, device.cpu),
        )
        if old is not None and old != new
    ]
    if differences:
        _LOG.warning(
            "%s was built on a machine that differs, so its timings may not hold (%s); try: %s",
            bundle.manifest.name,
            "; ".join(differences),
            rebuild_command(bundle.path, bundle.trusted_by),
        )


def _check_plan(bundle: Bundle, device: DeviceInfo, backend_version: str) -> None:
    engine, built = bundle.manifest.engine, bundle.manifest.device
    _must(bundle, "engine.backend_version", engine.backend_version, backend_version)
    # an engine that was built without a GPU is portable by design
    if engine.same_gpu and built.gpu is not None:
        if device.gpu is None:
            raise UnavailableError("there is no NVIDIA GPU", value=f"the plan is for {built.gpu}", fix="edgeseg doctor")
        _must(bundle, "device.gpu", built.gpu, device.gpu)
    # a hardware-compatible or portable plan names what it runs on; any other runs where it was built
    allowed = engine.compute_capabilities or tuple(filter(None, [built.compute_capability]))
    here = device.compute_capability
    # where no driver tells it there is nothing to compare: the runtime decides
    if allowed and here is not None and not any(_covers(item, here) for item in allowed):
        raise _refuse(bundle, "device.compute_capability", ", ".join(allowed), here)


def _check_portable(bundle: Bundle, device: DeviceInfo, backend_version: str) -> None:
    engine, built = bundle.manifest.engine, bundle.manifest.device
    if _numbers(backend_version) < _numbers(engine.backend_version):
        raise _refuse(bundle, "engine.backend_version", f"{engine.backend_version} or newer", backend_version)
    for name, members in _GROUPS.get(engine.precision, {}).items():
        had = members & set(built.cpu_features)
        if had and not members & set(device.cpu_features):
            here = ", ".join(device.cpu_features) or "none of them"
            raise _refuse(bundle, f"device.cpu_features ({name})", " or ".join(sorted(had)), here)


def _covers(allowed: str, here: str) -> bool:
    """`8.9` is that compute capability, `8.0+` that and every later one."""
    if allowed.endswith("+"):
        return _numbers(here) >= _numbers(allowed[:-1])
    return here == allowed


def _must(bundle: Bundle, field: str, built: str, here: str | None) -> None:
    if built != here:
        raise _refuse(bundle, field, built, here or "none")


def _refuse(bundle: Bundle, field: str, built: str, here: str) -> FitError:
    return FitError(
        "the bundle does not fit this machine",
        value=f"{field}: built for {built}, here {here}",
        allowed="an engine built for this machine",
        fix=rebuild_command(bundle.path, bundle.trusted_by),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:4])
