"""What GStreamer can do here: its own elements, and whether OpenCV was built with it."""

from __future__ import annotations

import re
import shutil
import subprocess


def opencv_has_gstreamer() -> bool:
    """Whether the OpenCV of this Python was built with GStreamer; the opencv-python wheel is not."""
    import cv2

    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


def has_element(name: str) -> bool:
    """Whether GStreamer has an element of that name; it has none without its tools."""
    tool = shutil.which("gst-inspect-1.0")
    if tool is None:
        return False
    return subprocess.run([tool, "--exists", name], capture_output=True, timeout=20, check=False).returncode == 0


def quote(value: str) -> str:
    """A property value as gst-launch reads it: in quotes, with quotes and backslashes escaped."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
