"""Frames in: one file a kind of source, all behind the `Source` protocol of core.types.

This door imports nothing heavy; `open_source` finds the kind from the text a person typed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from edgeseg.core.types import Source

KINDS = (
    "a number or /dev/videoN, a video file, an image, a folder or glob of images, pattern:, street:seed=N,frames=M, "
    "rtsp://…, http://…, csi://N, gst:PIPELINE"
)
"""What `open_source` takes, for messages."""


def open_source(uri: str | int | Path, *, realtime: bool = False) -> Source:
    """A source that is checked as far as that goes without opening it.

    Args:
        uri: See `KINDS`.
        realtime: Play a file, folder or `street:` at its own rate, like a camera: late frames are skipped.

    Returns:
        A source that the thread which uses it opens.

    Raises:
        RequestError: A path that does not exist, an unknown scheme or option.
        UnavailableError: OpenCV is not installed, or a device is not there.
    """
    from edgeseg.core.deps import require
    from edgeseg.sources.uri import source_kind

    kind = source_kind(str(uri))
    require("cv2", what=f"a source ({kind.name})")
    source = kind.make(str(uri))
    if realtime and kind.file_like:
        from edgeseg.sources.realtime import RealtimeSource

        return RealtimeSource(source)
    return source
