from pathlib import Path

import pytest

from edgeseg.bench.monitor import Readings, monitored
from edgeseg.bench.sensors import PowerState, find_channels, module_power, power_state
from edgeseg.core.config import read_toml

BOARDS = Path(__file__).parent / "boards"


@pytest.fixture
def board(tmp_path):
    """Unfold the kept tree of a board under a temporary root."""

    def unfold(name):
        for path, content in read_toml(BOARDS / f"{name}.toml").items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(f"{content}\n")
        return tmp_path

    return unfold


def values(channels, kind):
    return {channel.name: channel.read() for channel in channels if channel.kind == kind}


def test_orin_nano(board):
    channels = find_channels(board("orin_nano"))
    assert values(channels, "temperature_c") == {"cpu-thermal": 51.125, "gpu-thermal": 49.5, "tj-thermal": 51.125}
    assert values(channels, "clock_mhz") == {"cpu0": 1510.4, "gpu": 624.75}
    assert values(channels, "power_w") == pytest.approx({"VDD_IN": 8.0, "VDD_CPU_GPU_CV": 3.0, "VDD_SOC": 2.0})
    assert [channels[i].name for i in module_power(channels)] == ["VDD_IN"]
    assert values(channels, "throttle") == {"gpu-throttle-alert": 0, "cpu-throttle-alert": 1}


def test_power_states(board):
    nano = power_state(board("orin_nano"))
    assert nano == PowerState(power_mode="7W", governor="schedutil", clocks_locked=True)


def test_agx_orin_sums_its_rails_and_leaves_out_unconnected_ones(board):
    root = board("agx_orin")
    channels = find_channels(root)
    assert values(channels, "power_w") == pytest.approx({"VDD_GPU_SOC": 10.0, "VDD_CPU_CV": 2.0, "VIN_SYS_5V0": 4.0})
    assert sum(channels[i].read() for i in module_power(channels)) == pytest.approx(16.0)
    assert power_state(root) == PowerState(power_mode="mode 2", governor="schedutil", clocks_locked=False)


def test_xavier_reads_the_older_driver(board):
    channels = find_channels(board("xavier_nx"))
    assert values(channels, "power_w") == pytest.approx({"VDD_IN": 5.342, "VDD_CPU_GPU_CV": 1.211})
    assert values(channels, "clock_mhz") == {"gpu": 114.75}


def test_a_laptop_counts_energy_and_throttle_events(board):
    root = board("laptop")
    channels = find_channels(root)
    assert values(channels, "temperature_c") == {"x86_pkg_temp": 61.0, "coretemp Package id 0": 62.0}
    assert values(channels, "power_w") == {"package-0": None}, "a counter gives no power at its first read"
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("1000500\n")
    assert values(channels, "power_w")["package-0"] > 0
    assert values(channels, "throttle") == {"core": 0}
    (root / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count").write_text("13\n")
    assert values(channels, "throttle") == {"core": 1}


def test_an_energy_counter_that_wraps(board):
    root = board("laptop")
    energy = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    energy.write_text("262143328849\n")
    channels = find_channels(root)
    values(channels, "power_w")
    energy.write_text("1000\n")
    assert values(channels, "power_w")["package-0"] > 0


def test_a_machine_without_sensors_tells_nothing(board):
    root = board("virtual_machine")
    assert find_channels(root) == []
    assert power_state(root) == PowerState()
    with monitored(root, period_s=0.005) as monitor:
        pass
    readings = monitor.readings()
    assert readings.module_power_w == []
    assert readings.energy_j(0, 10**18) is None
    assert readings.ever_throttled == []


def test_the_monitor_keeps_a_timeline_and_states_its_cost(board):
    with monitored(board("orin_nano"), period_s=0.01) as monitor:
        while len(monitor._times) < 3:
            monitor.join(0.01)
    readings = monitor.readings()
    assert len(readings.t_ms) == len(readings.module_power_w) == len(readings.throttled) >= 3
    assert readings.module_power_w[0] == pytest.approx(8.0)
    assert readings.ever_throttled == ["cpu-throttle-alert"]
    assert 0 < readings.cost_share < 1


def test_energy_is_power_over_time():
    readings = Readings(
        t_ms=[0, 1000, 2000, 3000],
        start_ns=0,
        temperature_c={},
        clock_mhz={},
        power_w={},
        memory_mb=[1.0, 1.0, 1.0, 1.0],
        module_power_w=[2.0, 4.0, 4.0, 2.0],
        throttled=[[], [], [], []],
        state=PowerState(),
        cost_share=0.0,
    )
    assert readings.energy_j(0, 3 * 10**9) == pytest.approx(10.0)
    assert readings.energy_j(10**9, 2 * 10**9) == pytest.approx(4.0)
    assert readings.energy_j(0, 10**8) is None


def test_the_slope_of_memory():
    minutes = [i / 30 for i in range(20)]
    readings = Readings(
        t_ms=[60_000 * t for t in minutes],
        start_ns=0,
        temperature_c={},
        clock_mhz={},
        power_w={},
        memory_mb=[100 + 6 * t for t in minutes],
        module_power_w=[],
        throttled=[[] for _ in minutes],
        state=PowerState(),
        cost_share=0.0,
    )
    assert readings.memory_slope_mb_per_min(0, 60 * 10**9) == pytest.approx(6.0)
    assert readings.memory_slope_mb_per_min(0, 10**9) is None
