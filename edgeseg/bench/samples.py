"""Raw samples of a bench, as an npz file: every sample, so that any other statistic can be made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.bench.paced import PacedSamples
from edgeseg.core.artefacts import atomic_file
from edgeseg.core.clock import wall_ns
from edgeseg.core.errors import VerifyError
from edgeseg.core.workspace import cache_dir
from edgeseg.measure import Samples

_KEPT = 50  # sample files in the cache; older ones are removed


def default_samples_file(name: str) -> Path:
    """A new file in the cache folder, where `--save` names none."""
    folder = cache_dir() / "bench"
    for old in sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)[: -_KEPT + 1]:
        old.unlink(missing_ok=True)
    safe = "".join(char if char.isalnum() or char in "-_." else "-" for char in name)
    return folder / f"{safe}-{wall_ns() // 1_000_000}.npz"


def save_samples(path: Path, engine: Samples, paced: PacedSamples, **others: NDArray[np.generic]) -> None:
    """Write all samples, nanoseconds on the monotonic clock.

    Arrays `engine_*` are of the back-to-back half, `paced_*` of the paced one, with one `paced_stage_NAME` a stage (-1
    where a frame did not go through it).
    """
    arrays: dict[str, NDArray[np.generic]] = {
        "engine_start_ns": engine.start_ns,
        "engine_ns": engine.engine_ns,
        "engine_copy_in_ns": engine.copy_in_ns,
        "engine_copy_out_ns": engine.copy_out_ns,
        "engine_call_ns": engine.call_ns,
        "paced_frame_id": paced.frame_id,
        "paced_capture_ns": paced.capture_ns,
        "paced_age_ns": paced.age_ns,
        **{f"paced_stage_{stage.value}_ns": values for stage, values in paced.stages_ns.items()},
        **others,
    }
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_engine_ns(path: Path) -> NDArray[np.int64]:
    """Engine times of a sample file.

    Raises:
        VerifyError: The file is missing, or is no sample file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays["engine_ns"], dtype=np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise VerifyError("the samples of a result cannot be read", value=f"{path}: {error}") from None
