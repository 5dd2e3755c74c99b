"""The two sides of a bundle: what goes into one that is written, and one that has been read and verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeseg.core.manifest import Manifest
from edgeseg.core.types import U8

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
MANIFEST = "manifest.json"
REPORT = "report.json"
MODEL = "source/model.onnx"
RANGES = "source/ranges.json"
RECIPE = "source/build.toml"
GOLDEN = "golden"
GOLDEN_COUNT = range(4, 9)
"""How many golden frames a bundle may have: 4 to 8."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One golden frame as the engine takes it (uint8: bgr [H, W, 3], nv12 [3H/2, W], yuyv [H, W, 2]), and its mask."""

    frame: U8
    mask_hw: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContents:
    """All that a bundle is written from.

    Attributes:
        manifest: The manifest as it shall be stored; `manifest.engine.file` names one of `engine_files`.
        engine_files: What the runtime loads, copied to the top of the bundle under their own names.
        model: The canonical graph, for a rebuild; stored as `source/model.onnx`.
        ranges: The range file of an INT8 engine; None for other precisions.
        recipe: The resolved build request as nested plain tables; stored as `source/build.toml`.
        golden: 4 to 8 frames with the masks of the exact artefact.
        report: Gate, timings, layer precisions, fallbacks as JSON values; what could not run is None with a reason.
    """

    manifest: Manifest
    engine_files: Sequence[Path]
    model: Path
    ranges: Path | None = None
    recipe: Mapping[str, object] = field(default_factory=dict)
    golden: Sequence[Golden]
    report: Mapping[str, object] = field(default_factory=dict)


def golden_names(names: Iterable[str]) -> list[str]:
    """Those of a bundle's files that are golden frames, in order."""
    return sorted(name for name in names if name.startswith(f"{GOLDEN}/") and not name.endswith(".mask.png"))


def source_names(names: Iterable[str]) -> set[str]:
    """Those of a bundle's files that a rebuild reads; all others it makes anew."""
    names = set(names)
    return {*golden_names(names), *(names & {MANIFEST, MODEL, RANGES, RECIPE})}


def last_good_path(path: Path) -> Path:
    """Where the bundle that was at `path` before is kept."""
    return path.with_name(f".{path.name}.last-good")


def rebuild_command(path: Path, key: Path | None) -> str:
    """What to type to build the bundle at `path` again, where `key` must have signed what it starts from."""
    return f"edgeseg rebuild {path}" + (f" --trust {key}" if key else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSource:
    """What a rebuild reads of a bundle, verified; of the engine nothing is said, and no runtime takes this for one.

    Attributes:
        path: Folder of the bundle, absolute, symbolic links resolved.
        manifest: What the bundle is.
        sha256: Digest of every file but SHA256SUMS and its signature, by path inside the bundle.
        trusted_by: The public key file that its signature was checked with; None where none was configured.
    """

    path: Path
    manifest: Manifest
    sha256: Mapping[str, str]
    trusted_by: Path | None = None

    @property
    def model_file(self) -> Path:
        """The canonical graph that a rebuild starts from."""
        return self.path / MODEL

    @property
    def ranges_file(self) -> Path | None:
        """The range file, where the engine has one."""
        return self.path / RANGES if RANGES in self.sha256 else None

    @property
    def recipe_file(self) -> Path:
        """The resolved build request."""
        return self.path / RECIPE

    @property
    def golden_names(self) -> list[str]:
        """Paths of the golden frames inside the bundle, in order."""
        return golden_names(self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle(BundleSource):
    """A bundle whose sums, signature (where a key is configured) and manifest have been verified: every byte of it.

    Attributes:
        id: SHA-256 of SHA256SUMS: it names every byte of the bundle.
    """

    id: str

    @property
    def engine_file(self) -> Path:
        """What the backend opens."""
        return self.path / self.manifest.engine.file
