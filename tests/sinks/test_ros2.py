"""The ROS 2 sink against a stand-in for rclpy and its messages: no ROS is installed where these tests run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeseg.core.clock import CaptureClock, now_ns
from edgeseg.core.errors import UnavailableError
from edgeseg.core.types import Classes, Result, SinkContext, SourceInfo, State
from edgeseg.sinks.ros2 import Ros2Sink

CLASSES = Classes(names=("road", "car"), palette_rgb=((200, 0, 0), (0, 0, 200)))
ROS_OFFSET_NS = 1_700_000_000_000_000_000
MODULES = ("rclpy", "rclpy.qos", "rclpy.time", "sensor_msgs.msg", "diagnostic_msgs.msg", "vision_msgs.msg")


def message(**defaults: Any) -> type:
    """A message type: a header, and the fields that are given."""

    def init(self: Any) -> None:
        self.header = SimpleNamespace(stamp=None, frame_id="")
        for name, value in defaults.items():
            setattr(self, name, value() if callable(value) else value)

    return type("Message", (), {"__init__": init})


@dataclass
class Ros:
    """What the stand-in saw."""

    published: dict[str, list[Any]] = field(default_factory=dict)
    shut_down: int = 0
    destroyed: int = 0


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Ros:
    seen = Ros()

    class Node:
        def create_publisher(self, kind: type, topic: str, qos: object) -> Any:
            seen.published.setdefault(topic, [])
            return SimpleNamespace(publish=seen.published[topic].append)

        def get_clock(self) -> Any:
            return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=now_ns() + ROS_OFFSET_NS))

        def destroy_node(self) -> None:
            seen.destroyed += 1

    class Context:
        def init(self) -> None: ...

        def try_shutdown(self) -> None:
            seen.shut_down += 1

    contents: dict[str, dict[str, Any]] = {
        "rclpy": {"Context": Context, "create_node": lambda name, context: Node()},
        "rclpy.qos": {
            "qos_profile_sensor_data": object(),
            "QoSProfile": lambda **options: options,
            "DurabilityPolicy": SimpleNamespace(TRANSIENT_LOCAL=1),
        },
        "rclpy.time": {"Time": lambda nanoseconds: SimpleNamespace(to_msg=lambda: nanoseconds)},
        "sensor_msgs.msg": {"Image": message(height=0, width=0, encoding="", step=0, data=b"")},
        "diagnostic_msgs.msg": {
            "DiagnosticArray": message(status=list),
            "DiagnosticStatus": message(level=b"", name="", message="", values=list),
            "KeyValue": message(key="", value=""),
        },
        "vision_msgs.msg": {"LabelInfo": message(class_map=list), "VisionClass": message(class_id=0, class_name="")},
    }
    for name, values in contents.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def context() -> SinkContext:
    info = SourceInfo(uri="csi://0", size=(4, 6), rate_hz=30.0, live=True, coding="raw", clock=CaptureClock.DRIVER)
    return SinkContext(cameras=[info], classes=CLASSES, engine="e")


def result(number: int, state: State = State.OK) -> Result:
    now = now_ns()
    return Result(
        camera=0,
        frame_id=number,
        t_capture_ns=now - 25_000_000,
        clock=CaptureClock.DRIVER,
        t_result_ns=now,
        state=state,
        reason="" if state is State.OK else "the cable was pulled",
        mask_hw=np.arange(24, dtype=np.uint8).reshape(4, 6) if state.has_mask else None,
    )


def test_masks_carry_the_capture_time(ros: Ros) -> None:
    sink = Ros2Sink()
    sink.open(context())
    sent = result(0)
    sink.write(sent)
    [image] = ros.published["~/camera_0/mask"]
    assert abs(image.header.stamp - (sent.t_capture_ns + ROS_OFFSET_NS)) < 5_000_000
    assert (image.height, image.width, image.encoding, image.step) == (4, 6, "mono8", 6)
    assert image.data == bytes(range(24))
    [labels] = ros.published["~/camera_0/label_info"]
    assert [(item.class_id, item.class_name) for item in labels.class_map] == [(0, "road"), (1, "car")]
    sink.close()
    sink.close()
    assert (ros.destroyed, ros.shut_down) == (1, 1)


def test_a_lost_camera_publishes_no_mask_but_a_diagnosis_at_once(ros: Ros) -> None:
    sink = Ros2Sink()
    sink.open(context())
    for number in range(5):
        sink.write(result(number))
    sink.write(result(-1, State.LOST))
    assert len(ros.published["~/camera_0/mask"]) == 5
    told = ros.published["/diagnostics"]
    assert len(told) == 2, "at the start and at the change; else once a second"
    [status] = told[-1].status
    assert (status.level, status.message, status.hardware_id) == (b"\x02", "the cable was pulled", "csi://0")
    assert {pair.key: pair.value for pair in status.values}["state"] == "lost"


def test_without_vision_msgs_only_the_labels_are_missing(ros: Ros, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)
    sink = Ros2Sink()
    sink.open(context())
    sink.write(result(0))
    assert set(ros.published) == {"~/camera_0/mask", "/diagnostics"}


def test_without_ros_it_says_what_to_source(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnavailableError, match=r"setup\.bash"):
        Ros2Sink()
