"""Writing a data set as files that `folder:` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeseg.core.artefacts import atomic_folder
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import Dataset
from edgeseg.data.classes import CLASS_FILE, class_file_text
from edgeseg.data.masks import encode_index_png
from edgeseg.data.pictures import encode_image_png


def write_folder(out: Path, splits: Mapping[str, Dataset], *, progress: Progress) -> dict[str, int]:
    """Write splits as `classes.toml`, `SPLIT/images/NAME.png`, `SPLIT/masks/NAME.png`; all of it or nothing.

    Args:
        out: A folder that does not exist yet.
        splits: Data sets of one vocabulary, by the name of their split.
        progress: Shows one task a split.

    Returns:
        Frames written, by split.

    Raises:
        RequestError: The folder exists, or the data sets differ in their classes.
        DataError: The disk is full.
    """
    vocabularies = [dataset.classes for dataset in splits.values()]
    if any(classes != vocabularies[0] for classes in vocabularies):
        raise RequestError("the splits differ in their classes", value=", ".join(splits), allowed="one vocabulary")
    with atomic_folder(out) as folder:
        (folder / CLASS_FILE).write_text(class_file_text(vocabularies[0]))
        for split, dataset in splits.items():
            images, masks = folder / split / "images", folder / split / "masks"
            images.mkdir(parents=True)
            masks.mkdir()
            with progress.task(f"write {split}", len(dataset)) as task:
                for index in range(len(dataset)):
                    sample = dataset[index]
                    (images / f"{sample.name}.png").write_bytes(encode_image_png(sample.image_hwc))
                    (masks / f"{sample.name}.png").write_bytes(encode_index_png(sample.label_hw, dataset.classes))
                    task.advance()
    return {split: len(dataset) for split, dataset in splits.items()}
