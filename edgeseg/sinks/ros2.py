"""Results as ROS 2 topics, where rclpy is installed (it comes with ROS, not from a package index).

    ~/camera_i/mask         sensor_msgs/Image, mono8, stamped with the *capture* time
    ~/camera_i/label_info   vision_msgs/LabelInfo, latched: id -> class name (where vision_msgs is installed)
    /diagnostics            diagnostic_msgs/DiagnosticArray: state, reason, age of every camera

A result without a mask publishes no image: a subscriber sees the silence and the reason in the diagnostics.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from edgeseg.core.clock import now_ns
from edgeseg.core.errors import UnavailableError
from edgeseg.core.log import get_logger
from edgeseg.core.types import Result, SinkContext, State

_DIAGNOSTICS_NS = 1_000_000_000
_OK, _WARN, _ERROR, _STALE = b"\x00", b"\x01", b"\x02", b"\x03"
_LEVELS = {State.OK: _OK, State.LATE: _WARN, State.DEGRADED: _WARN, State.STALE: _STALE}
_log = get_logger(__name__)


class Ros2Sink:
    """Publishes masks, label info and diagnostics.

    Args:
        node_name: Name of the ROS node.

    Raises:
        UnavailableError: rclpy or a message package is missing.
    """

    name = "ros2"
    lossless = False
    queue = 1

    def __init__(self, node_name: str = "edgeseg") -> None:
        self._node_name = node_name
        self._rclpy = _import("rclpy")
        self._sensor = _import("sensor_msgs.msg")
        self._diagnostic = _import("diagnostic_msgs.msg")
        self._qos = _import("rclpy.qos")
        self._time = _import("rclpy.time")
        self._node: Any = None

    def open(self, context: SinkContext) -> None:
        """Start a context and a node of our own, so that a program that uses ROS itself is not disturbed."""
        self._context = self._rclpy.Context()
        self._context.init()
        self._node = self._rclpy.create_node(self._node_name, context=self._context)
        sensor_qos = self._qos.qos_profile_sensor_data
        self._masks = [
            self._node.create_publisher(self._sensor.Image, f"~/camera_{number}/mask", sensor_qos)
            for number in range(len(context.cameras))
        ]
        self._health = self._node.create_publisher(self._diagnostic.DiagnosticArray, "/diagnostics", 10)
        self._names = [info.uri for info in context.cameras]
        self._last: list[Result | None] = [None] * len(context.cameras)
        self._told_ns = 0
        self._publish_labels(context)

    def write(self, result: Result) -> None:
        """Publish one result."""
        before = self._last[result.camera]
        self._last[result.camera] = result
        if result.mask_hw is not None:
            self._masks[result.camera].publish(self._image(result))
        changed = before is None or before.state is not result.state
        if changed or now_ns() - self._told_ns >= _DIAGNOSTICS_NS:
            self._told_ns = now_ns()
            self._health.publish(self._diagnostics())

    def close(self) -> None:
        """End the node; may be called twice."""
        node, self._node = self._node, None
        if node is not None:
            node.destroy_node()
            self._context.try_shutdown()

    # ------------------------------------------------------------ messages

    def _stamp(self, t_ns: int) -> Any:
        """A monotonic time in ROS time."""
        ros_ns = self._node.get_clock().now().nanoseconds - (now_ns() - t_ns)
        return self._time.Time(nanoseconds=ros_ns).to_msg()

    def _image(self, result: Result) -> Any:
        assert result.mask_hw is not None
        message = self._sensor.Image()
        message.header.stamp = self._stamp(result.t_capture_ns)
        message.header.frame_id = f"camera_{result.camera}"
        message.height, message.width = result.mask_hw.shape
        message.encoding = "mono8"
        message.is_bigendian = 0
        message.step = message.width
        message.data = result.mask_hw.tobytes()
        return message

    def _diagnostics(self) -> Any:
        array = self._diagnostic.DiagnosticArray()
        array.header.stamp = self._stamp(now_ns())
        for number, result in enumerate(self._last):
            if result is None:
                continue
            status = self._diagnostic.DiagnosticStatus()
            status.level = _LEVELS.get(result.state, _ERROR)
            status.name = f"{self._node_name}: camera {number}"
            status.hardware_id = self._names[number]
            status.message = result.reason or result.state.value
            values = {"state": result.state.value, "frame": result.frame_id, "age_ms": f"{result.age_ns / 1e6:.1f}"}
            for key, value in values.items():
                pair = self._diagnostic.KeyValue()
                pair.key, pair.value = key, str(value)
                status.values.append(pair)
            array.status.append(status)
        return array

    def _publish_labels(self, context: SinkContext) -> None:
        """Class names, kept by the middleware for whoever subscribes later."""
        try:
            vision = importlib.import_module("vision_msgs.msg")
        except ImportError:
            _log.info("vision_msgs is not installed: no label_info topics")
            return
        qos = self._qos.QoSProfile(depth=1, durability=self._qos.DurabilityPolicy.TRANSIENT_LOCAL)
        self._labels = []  # publishers live as long as their latched message
        for number in range(len(context.cameras)):
            publisher = self._node.create_publisher(vision.LabelInfo, f"~/camera_{number}/label_info", qos)
            message = vision.LabelInfo()
            message.header.stamp = self._stamp(now_ns())
            for class_id, name in enumerate(context.classes.names):
                item = vision.VisionClass()
                item.class_id, item.class_name = class_id, name
                message.class_map.append(item)
            publisher.publish(message)
            self._labels.append(publisher)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnavailableError(
            "--ros2 needs ROS 2", value=str(error), fix="source /opt/ros/DISTRIBUTION/setup.bash"
        ) from None
