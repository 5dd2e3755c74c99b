"""Target recipes: which backends and precisions a board has, and how integers are placed on it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgeseg.core.config import load_config
from edgeseg.core.deps import probe_package
from edgeseg.core.errors import RequestError, UnavailableError
from edgeseg.core.types import DeviceInfo, Precision
from edgeseg.core.workspace import find_recipe
from edgeseg.graph.forms import Forms

Option = str | int | float | bool
AUTO = "auto"
# part of the device tree's module name -> recipe
_BOARDS = (
    ("Orin Nano", "orin-nano"),
    ("Orin NX", "orin-nx"),
    ("AGX Orin", "agx-orin"),
    ("Thor", "agx-thor"),
    ("Xavier", "jetpack5"),
)
_VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
_X86 = frozenset({"x86_64", "AMD64"})


class TargetPeaks(msgspec.Struct, frozen=True, kw_only=True):
    """What a board's GPU could do at most, for predictions: dense, without sparsity and without DLA.

    Attributes:
        macs_per_s: Multiply-adds per second by precision (an operation count halved).
        bytes_per_s: Memory bandwidth.
        source: Where the figures come from.
    """

    macs_per_s: dict[str, float]
    bytes_per_s: float
    source: str


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A target recipe, `engines/targets/NAME.toml`.

    Attributes:
        name: The file's stem.
        description: For people.
        board: Part of the module's name by device tree, where plans can be built on the board alone.
        backends: Backends that may build for it; the fastest installed one is taken.
        precisions: Precisions that `auto` considers.
        precision: What is built unless a build says otherwise.
        placement: Where integers are used: a name of the table in `edgeseg.quant.placement`.
        forms: Exact form of each part of the graph that has several, by backend (see `edgeseg.graph.forms`).
        threads: CPU threads of an engine; 0 lets the runtime choose.
        options: Backend options, by backend.
        peaks: Of the board, where they are published.
    """

    name: str = ""
    description: str = ""
    board: str = ""
    backends: tuple[str, ...]
    precisions: tuple[Precision, ...]
    precision: Precision | str = AUTO
    placement: str = "cpu"
    forms: dict[str, Forms] = {}
    threads: int = 0
    options: dict[str, dict[str, Option]] = {}
    peaks: TargetPeaks | None = None


def load_target(name: str, device: DeviceInfo) -> Target:
    """A target by name; `auto` is the one of this machine.

    Raises:
        RequestError: No such target, or a recipe that is not valid.
    """
    path = find_recipe("targets", _own_target(device) if name == AUTO else name)
    target = msgspec.structs.replace(load_config(path, Target), name=path.stem)
    if device.machine not in _X86:
        return _without_blocks(target)
    if target.placement == "cpu" and not _VNNI & set(device.cpu_features):
        return msgspec.structs.replace(target, placement="cpu-avx2")
    return target


def _without_blocks(target: Target) -> Target:
    """ONNX Runtime's packages have the blocked layout on x86 alone; elsewhere its form only moves data about."""
    forms = {
        name: msgspec.structs.replace(item, transposed="node") if item.transposed == "blocks" else item
        for name, item in target.forms.items()
    }
    return msgspec.structs.replace(target, forms=forms)


def with_options(target: Target, options: Mapping[str, Option]) -> Target:
    """The target with backend options over its own; a backend refuses one that it does not have by name."""
    if not options:
        return target
    merged = {name: {**target.options.get(name, {}), **options} for name in target.backends}
    return msgspec.structs.replace(target, options={**target.options, **merged})


def check_board(target: Target, device: DeviceInfo) -> None:
    """Refuse to build a board's plan elsewhere: it would be one for the GPU of this machine.

    Raises:
        UnavailableError: Names both machines.
    """
    if target.board and target.board not in (device.board or ""):
        raise UnavailableError(
            "a plan is built on the board that runs it",
            value=f"this is {device.board or device.gpu or device.cpu}",
            allowed=f"the target {target.name} is built on a Jetson {target.board}",
            fix=f"edgeseg build MODEL --target {target.name}, on the board",
        )


def _own_target(device: DeviceInfo) -> str:
    """The recipe of this machine: its board's, a card's where TensorRT is installed, else the processor's."""
    if device.board is not None:
        for part, name in _BOARDS:
            if part in device.board:
                return name
    if device.gpu is not None and probe_package("tensorrt").ok:
        return "gpu"
    return "cpu"


def wanted_precisions(target: Target, asked: str, *, has_ranges: bool) -> list[Precision]:
    """The precisions to build for a request: the one that was asked for, or all that `auto` may take.

    Raises:
        RequestError: The target does not have the precision.
    """
    asked = target.precision if asked == AUTO else asked
    if asked == AUTO:
        return [precision for precision in target.precisions if precision != "int8" or has_ranges]
    for precision in target.precisions:
        if precision == asked:
            return [precision]
    allowed = ", ".join((AUTO, *target.precisions))
    raise RequestError(f"the target {target.name} does not have that precision", value=asked, allowed=allowed)
