"""Device readings from sysfs: temperatures, clocks, power, throttling. What a machine does not tell is not there.

Files are read directly, under a root that tests can set; no tool is started and no daemon asked. Layouts: the kernel's
`Documentation/ABI/testing/sysfs-class-{thermal,hwmon,devfreq,powercap}`, and NVIDIA's Jetson Linux developer guide for
the INA3221 rails, `nvpmodel` and the throttle cooling devices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import msgspec

from edgeseg.bench.nvml import gpu_readings
from edgeseg.core.clock import now_ns

Kind = Literal["temperature_c", "clock_mhz", "power_w", "throttle"]

# The rail that feeds the whole module, where a board has one; else its rails are summed.
_MODULE_RAILS = ("VDD_IN", "VIN", "5V_IN", "POM_5V_IN")
_POWER_MODE = re.compile(r"pmode:(?P<id>\d+)")
_MODE_NAME = re.compile(r"<\s*POWER_MODEL\s+ID=(?P<id>\d+)\s+NAME=(?P<name>\S+?)\s*>")


@dataclass(frozen=True, slots=True)
class Channel:
    """One number that the device tells.

    Attributes:
        kind: What it is, with its unit.
        name: Zone, rail or clock, as the kernel calls it.
        read: Its present value; None where the read failed this time.
    """

    kind: Kind
    name: str
    read: Callable[[], float | None]


class PowerState(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that decide how fast a device may run.

    Attributes:
        power_mode: Name of the nvpmodel mode; None off Jetson.
        governor: CPU frequency governor of the first core; None where the kernel does not tell.
        clocks_locked: Whether CPU and GPU run at one fixed frequency (`jetson_clocks`); None where unknown.
    """

    power_mode: str | None = None
    governor: str | None = None
    clocks_locked: bool | None = None


def find_channels(root: Path = Path("/")) -> list[Channel]:
    """Everything that this device tells; desktop GPUs only under the real root."""
    sys = root / "sys"
    channels = [*_temperatures(sys), *_clocks(sys), *_power(sys), *_throttles(sys)]
    if root == Path("/"):
        channels += [Channel(cast(Kind, kind), name, read) for kind, name, read in gpu_readings()]
    return channels


def module_power(channels: list[Channel]) -> list[int]:
    """Indices of the channels whose sum is the power of the whole module or package; empty where none tells."""
    rails = [(i, channel.name) for i, channel in enumerate(channels) if channel.kind == "power_w"]
    for name in _MODULE_RAILS:
        whole = [i for i, rail in rails if rail == name]
        if whole:
            return whole
    return [i for i, _ in rails]


def power_state(root: Path = Path("/")) -> PowerState:
    """Power mode, governor and locked clocks."""
    cpus = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    fixed = [_same(cpu / "scaling_min_freq", cpu / "scaling_max_freq") for cpu in cpus]
    fixed += [_same(gpu / "min_freq", gpu / "max_freq") for gpu in _gpu_devfreq(root / "sys")]
    known = [value for value in fixed if value is not None]
    return PowerState(
        power_mode=_power_mode(root),
        governor=_text(cpus[0] / "scaling_governor") if cpus else None,
        clocks_locked=all(known) if known else None,
    )


# ---------------------------------------------------------------- channels


def _temperatures(sys: Path) -> Iterator[Channel]:
    for zone in _numbered(sys / "class/thermal", "thermal_zone"):
        name = _text(zone / "type") or zone.name
        if _number(zone / "temp") is not None:
            yield Channel("temperature_c", name, _scaled(zone / "temp", 1e-3))
    for hwmon in _numbered(sys / "class/hwmon", "hwmon"):
        chip = _text(hwmon / "name") or hwmon.name
        for file in sorted(hwmon.glob("temp*_input")):
            name = _text(file.with_name(file.name.replace("_input", "_label"))) or file.name.removesuffix("_input")
            if _number(file) is not None:
                yield Channel("temperature_c", f"{chip} {name}", _scaled(file, 1e-3))


def _clocks(sys: Path) -> Iterator[Channel]:
    for cpu in _numbered(sys / "devices/system/cpu", "cpu"):
        file = cpu / "cpufreq/scaling_cur_freq"
        if _number(file) is not None:
            yield Channel("clock_mhz", cpu.name, _scaled(file, 1e-3))
    for gpu in _gpu_devfreq(sys):
        yield Channel("clock_mhz", "gpu", _scaled(gpu / "cur_freq", 1e-6))


def _power(sys: Path) -> Iterator[Channel]:
    for hwmon in _numbered(sys / "class/hwmon", "hwmon"):
        if _text(hwmon / "name") == "ina3221":
            yield from _ina3221_rails(hwmon)
        else:
            for file in sorted([*hwmon.glob("power*_average"), *hwmon.glob("power*_input")]):
                if _number(file) is not None:
                    yield Channel("power_w", f"{_text(hwmon / 'name')} {file.name.split('_')[0]}", _scaled(file, 1e-6))
    for device in sorted((sys / "bus/i2c/drivers/ina3221x").glob("*/iio:device*")):  # L4T 32 to 35 on Xavier
        for file in sorted(device.glob("in_power*_input")):
            rail = _text(device / f"rail_name_{file.name[len('in_power') : -len('_input')]}")
            if rail and rail != "NC" and _number(file) is not None:
                yield Channel("power_w", rail, _scaled(file, 1e-3))
    for package in sorted((sys / "class/powercap").glob("intel-rapl:[0-9]*")):
        if package.name.count(":") == 1 and _number(package / "energy_uj") is not None:
            yield Channel("power_w", _text(package / "name") or package.name, _from_energy(package))


def _ina3221_rails(hwmon: Path) -> Iterator[Channel]:
    for number in (1, 2, 3):
        rail = _text(hwmon / f"in{number}_label")
        volts, amperes = hwmon / f"in{number}_input", hwmon / f"curr{number}_input"
        if rail and rail != "NC" and _number(volts) is not None and _number(amperes) is not None:
            yield Channel("power_w", rail, _product(volts, amperes))


def _throttles(sys: Path) -> Iterator[Channel]:
    for device in _numbered(sys / "class/thermal", "cooling_device"):
        name = _text(device / "type") or ""
        if "throttle" in name.lower() and _number(device / "cur_state") is not None:
            yield Channel("throttle", name, _scaled(device / "cur_state", 1.0))
    for file in sorted((sys / "devices/system/cpu").glob("cpu0/thermal_throttle/*_throttle_count")):
        if _number(file) is not None:
            yield Channel("throttle", file.name.removesuffix("_throttle_count"), _increases(file))


# ---------------------------------------------------------------- reading


def _gpu_devfreq(sys: Path) -> list[Path]:
    folders = sorted((sys / "class/devfreq").glob("*"))
    gpus = [folder for folder in folders if re.search(r"gpu|ga10b|gv11b|gb10b", folder.name)]
    return [gpu for gpu in gpus if _number(gpu / "cur_freq") is not None]


def _numbered(folder: Path, prefix: str) -> list[Path]:
    found = [path for path in folder.glob(f"{prefix}[0-9]*") if path.name[len(prefix) :].isdigit()]
    return sorted(found, key=lambda path: int(path.name[len(prefix) :]))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip() or None
    except OSError:
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _scaled(path: Path, scale: float) -> Callable[[], float | None]:
    def read() -> float | None:
        value = _number(path)
        return None if value is None else value * scale

    return read


def _product(millivolts: Path, milliamperes: Path) -> Callable[[], float | None]:
    def read() -> float | None:
        volts, amperes = _number(millivolts), _number(milliamperes)
        return None if volts is None or amperes is None else volts * amperes * 1e-6

    return read


def _from_energy(package: Path) -> Callable[[], float | None]:
    """Mean power since the last read, from a counter of microjoules that wraps; None at the first read."""
    wrap = _number(package / "max_energy_range_uj") or 0.0
    last: list[tuple[int, float]] = []

    def read() -> float | None:
        energy, t_ns = _number(package / "energy_uj"), now_ns()
        if energy is None:
            return None
        before = last[-1] if last else None
        last[:] = [(t_ns, energy)]
        if before is None or t_ns <= before[0]:
            return None
        used = energy - before[1]
        return (used + wrap if used < 0 else used) * 1e3 / (t_ns - before[0])

    return read


def _increases(path: Path) -> Callable[[], float | None]:
    """1 where a counter has grown since the last read, else 0."""
    last = [_number(path)]

    def read() -> float | None:
        value = _number(path)
        grown = value is not None and last[0] is not None and value > last[0]
        last[0] = value
        return float(grown)

    return read


def _same(low: Path, high: Path) -> bool | None:
    first, second = _number(low), _number(high)
    return None if first is None or second is None else first == second


def _power_mode(root: Path) -> str | None:
    found = _POWER_MODE.search(_text(root / "var/lib/nvpmodel/status") or "")
    if found is None:
        return None
    number = int(found["id"])
    config = _text(root / "etc/nvpmodel.conf") or ""
    names = {int(mode["id"]): mode["name"] for mode in _MODE_NAME.finditer(config)}
    return names.get(number, f"mode {number}")
