"""Whether there is a display: asked in a child process, since OpenCV's Qt aborts the process that has none."""

from __future__ import annotations

import os
import subprocess
import sys

from edgeseg.core.deps import Availability

_REMEDY = "use --save FILE.mp4, --masks DIR or --web PORT instead of --show"
_TRY = "import cv2; cv2.namedWindow('edgeseg'); cv2.waitKey(1); cv2.destroyAllWindows()"
_TIMEOUT_S = 20.0


def probe_display() -> Availability:
    """Whether a window can be opened here; takes a second where a display is named, nothing where none is."""
    named = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not named and sys.platform.startswith("linux"):
        return Availability("display", False, "neither DISPLAY nor WAYLAND_DISPLAY is set", _REMEDY)
    try:
        done = subprocess.run([sys.executable, "-c", _TRY], capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Availability("display", False, f"{named} does not answer", _REMEDY)
    if done.returncode == 0:
        return Availability("display", True, named or "native")
    why = done.stderr.strip().splitlines()
    return Availability("display", False, f"{named}: {why[0] if why else 'no window opens'}", _REMEDY)
