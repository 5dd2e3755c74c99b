"""All that `edgeseg live` can be asked for, from one TOML file and the command line over it.

engine = "zoo:edge-s"
sources = ["csi://0", "rtsp://10.0.0.2/front"]

[sinks]
record = "/var/lib/edgeseg/drive.mcap"
web = 8080

[loop]
keep_trying = true
[loop.health]
late_ms = 80
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgeseg.core.config import load_config
from edgeseg.core.errors import RequestError
from edgeseg.live.config import LiveConfig
from edgeseg.live.sinks import SinkChoice


class SinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The table `[sinks]`; see `SinkChoice` for what each means."""

    show: bool = False
    save: str | None = None
    masks: str | None = None
    record: str | None = None
    web: int | None = None
    web_host: str = "127.0.0.1"
    web_token: str | None = None
    ring: str | None = None
    ros2: bool = False
    flicker: bool = False

    def choice(self) -> SinkChoice:
        """The same with paths."""

        def path(text: str | None) -> Path | None:
            return None if text is None else Path(text).expanduser()

        return SinkChoice(
            show=self.show,
            save=path(self.save),
            masks=path(self.masks),
            record=path(self.record),
            web=self.web,
            web_host=self.web_host,
            web_token=self.web_token,
            ring=self.ring,
            ros2=self.ros2,
            flicker=self.flicker,
        )


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file.

    Attributes:
        engine: Bundle, `zoo:NAME` or ONNX file.
        sources: One or several.
        realtime: Play files at their own rate.
        trust: Public key that must have signed the bundle.
        sinks: Where results go.
        loop: How the loop runs.
    """

    engine: str | None = None
    sources: tuple[str, ...] = ()
    realtime: bool = False
    trust: str | None = None
    sinks: SinkSettings = SinkSettings()
    loop: LiveConfig = LiveConfig()


def load_settings(file: Path | None, overrides: Mapping[str, object]) -> LiveSettings:
    """Settings from a file, with the command line's over them.

    Args:
        file: TOML file; None for none.
        overrides: Nested tables; what is None was not given.

    Raises:
        RequestError: An unknown key, a value that is not allowed, or neither engine nor source.
    """
    settings = load_config(file, LiveSettings, _given(overrides))
    where = f"or `{{}}` in {file}" if file else "or a file: --config F.toml"
    if settings.engine is None:
        raise RequestError("no engine", allowed=f"BUNDLE, {where.format('engine = …')}", fix="edgeseg live --help")
    if not settings.sources:
        raise RequestError(
            "no source", allowed=f"--source SRC, {where.format('sources = […]')}", fix="edgeseg live --help"
        )
    return settings


def _given(tables: Mapping[str, object]) -> dict[str, object]:
    plain = {key: _given(value) if isinstance(value, Mapping) else value for key, value in tables.items()}
    return {key: value for key, value in plain.items() if value is not None and value != {}}
