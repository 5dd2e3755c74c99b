"""One file for a whole data set, read without OpenCV and without unpacking.

The container is safetensors (8 bytes of header length, a JSON header, then the tensors), so that other tools open it.
For every split S it holds six tensors over N frames:

    S/images, S/labels             uint8: JPEG files and 8-bit index PNG files, one after the other
    S/images.ends, S/labels.ends   int64 [N]: where each ends
    S/images.crc, S/labels.crc     uint32 [N]: CRC-32 of each

and in `__metadata__`: `format` = "edgeseg.packed", `version` = "1", `source`, `jpeg_quality`, and as JSON `classes`
({"names", "palette_rgb", "ignore_id"}) and `frames` ({S: [name, …]}). A frame is decoded when it is asked for; the file
is mapped, never read whole. CamVid's parts of `train`, `dev` and `train-dev`, are found in it by name.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeseg.core.artefacts import atomic_file
from edgeseg.core.errors import DataError, RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.types import U8, Classes, Dataset, Sample
from edgeseg.data.paired import CAMVID_PARTS, is_in_part, no_split
from edgeseg.data.pictures import decode_picture, rgb_to_bgr

FORMAT = "edgeseg.packed"
VERSION = 1
JPEG_QUALITY = 95

_HEADER_LIMIT = 100_000_000
_DTYPES: Mapping[str, np.dtype[np.generic]] = {"U8": np.dtype(np.uint8), "I64": np.dtype("<i8"), "U32": np.dtype("<u4")}


def write_packed(
    out: Path, splits: Mapping[str, Dataset], *, quality: int = JPEG_QUALITY, progress: Progress
) -> dict[str, int]:
    """Pack splits of one vocabulary into one file; all of it or nothing.

    Returns:
        Frames packed, by split.

    Raises:
        RequestError: The data sets differ in their classes, or the quality is not 1 to 100.
        DataError: A frame cannot be read, or the disk is full.
    """
    if not 1 <= quality <= 100:
        raise RequestError("no JPEG quality", value=quality, allowed="1 to 100")
    classes = [dataset.classes for dataset in splits.values()]
    if any(other != classes[0] for other in classes):
        raise RequestError("the splits differ in their classes", value=", ".join(splits), allowed="one vocabulary")
    tensors: dict[str, NDArray[np.generic]] = {}
    names: dict[str, list[str]] = {}
    for split, dataset in splits.items():
        images, labels, names[split] = [], [], []
        with progress.task(f"pack {split}", len(dataset)) as task:
            for index in range(len(dataset)):
                sample = dataset[index]
                images.append(_encode(rgb_to_bgr(sample.image_hwc), "JPEG", quality=quality))
                labels.append(_encode(sample.label_hw, "PNG", optimize=True))
                names[split].append(sample.name)
                task.advance()
        tensors |= _streams(f"{split}/images", images) | _streams(f"{split}/labels", labels)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "source": ", ".join(dict.fromkeys(dataset.name for dataset in splits.values())),
        "jpeg_quality": str(quality),
        "classes": msgspec.json.encode(classes[0]).decode(),
        "frames": json.dumps(names),
    }
    with atomic_file(out) as temporary:
        _write_safetensors(temporary, tensors, metadata)
    return {split: len(frames) for split, frames in names.items()}


@dataclass(frozen=True, slots=True)
class PackedFile:
    """An opened file: what its header says, and the mapped bytes.

    Attributes:
        path: The file.
        classes: The vocabulary of the labels.
        source: What was packed.
        frames: Names of the frames, by split.
        tensors: Mapped arrays by name.
    """

    path: Path
    classes: Classes
    source: str
    frames: Mapping[str, list[str]]
    tensors: Mapping[str, NDArray[np.generic]]

    @classmethod
    def open(cls, path: Path) -> PackedFile:
        """Read the header and map the rest.

        Raises:
            RequestError: The file does not exist.
            DataError: It is truncated, no packed data set, or of a newer format.
        """
        if not path.is_file():
            raise RequestError("the file does not exist", value=path, allowed="a file that edgeseg data pack wrote")
        metadata, tensors = _map_safetensors(path)
        if metadata.get("format") != FORMAT:
            raise _foreign(path, "no packed data set")
        if metadata.get("version") != str(VERSION):
            raise DataError(
                "the packed data set has another format",
                value=f"{path}: {metadata.get('version')}",
                allowed=f"version {VERSION}",
                fix="edgeseg data pack",
            )
        try:
            classes = msgspec.json.decode(metadata["classes"], type=Classes)
            frames = msgspec.json.decode(metadata["frames"], type=dict[str, list[str]])
            for split, names in frames.items():
                for kind in ("images", "labels"):
                    ends, crc = tensors[f"{split}/{kind}.ends"], tensors[f"{split}/{kind}.crc"]
                    size = tensors[f"{split}/{kind}"].size
                    if len(ends) != len(names) or len(crc) != len(names) or (len(ends) and int(ends[-1]) != size):
                        raise _foreign(path, f"split {split} does not fit its index")
        except (KeyError, msgspec.MsgspecError) as error:
            raise _foreign(path, str(error)) from None
        return cls(path, classes, metadata.get("source", ""), frames, tensors)

    def picture(self, stream: str, index: int) -> Image.Image:
        """Decode entry `index` of a stream such as `train/images`.

        Raises:
            DataError: Its bytes are damaged.
        """
        ends = self.tensors[f"{stream}.ends"]
        start = int(ends[index - 1]) if index else 0
        data = self.tensors[stream][start : int(ends[index])].tobytes()
        if zlib.crc32(data) != int(self.tensors[f"{stream}.crc"][index]):
            raise DataError("the packed data set is damaged", value=f"{self.path}: {stream} {index}")
        return decode_picture(data, origin=f"{self.path}: {stream} {index}")


@dataclass(frozen=True, slots=True)
class PackedDataset:
    """One split of a packed file.

    Attributes:
        name: The specification it was opened with.
        split: The split.
        file: The opened file.
        stored: The split of the file that holds its frames.
        places: Where they are in it.
    """

    name: str
    split: str
    file: PackedFile
    stored: str
    places: Sequence[int]

    @classmethod
    def open(cls, path: Path, split: str) -> PackedDataset:
        """Open a split.

        Raises:
            RequestError: No such file or split.
            DataError: The file cannot be used.
        """
        file = PackedFile.open(path)
        if split in file.frames:
            return cls(f"packed:{path}", split, file, split, range(len(file.frames[split])))
        places = _part(file, split)
        if not places:
            raise no_split(path, split, list(file.frames))
        return cls(f"packed:{path}", split, file, "train", places)

    @property
    def classes(self) -> Classes:
        """The vocabulary of the labels."""
        return self.file.classes

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        """Decode one labelled frame.

        Raises:
            DataError: Its bytes are damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = self.places[index]
        rgb = np.asarray(self.file.picture(f"{self.stored}/images", place).convert("RGB"))
        label = np.array(self.file.picture(f"{self.stored}/labels", place), dtype=np.uint8)
        return Sample(name=self.file.frames[self.stored][place], image_hwc=rgb_to_bgr(rgb), label_hw=label)


def packed_splits(path: Path) -> list[str]:
    """The splits of a packed file."""
    return list(PackedFile.open(path).frames)


def _part(file: PackedFile, split: str) -> Sequence[int]:
    """Where the frames of a part of CamVid's train are in it; none of other splits and other data sets."""
    if split not in CAMVID_PARTS or not file.source.startswith("camvid:"):
        return ()
    return [place for place, name in enumerate(file.frames.get("train", ())) if is_in_part(name, split)]


def _encode(array: U8, kind: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def _streams(name: str, files: list[bytes]) -> dict[str, NDArray[np.generic]]:
    return {
        name: np.frombuffer(b"".join(files), np.uint8),
        f"{name}.ends": np.cumsum([len(file) for file in files], dtype="<i8"),
        f"{name}.crc": np.array([zlib.crc32(file) for file in files], "<u4"),
    }


def _write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.generic]], metadata: Mapping[str, str]) -> None:
    """Write the container (huggingface/safetensors, "Format"): tensors of wide types first, so that all are aligned."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, array in ordered:
        end = offset + array.nbytes
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, array in ordered:
            file.write(array.tobytes())


def _map_safetensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[np.generic]]]:
    """Header and mapped tensors of a safetensors file, every offset checked against the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise _foreign(path, f"{size} bytes")
        try:
            header = msgspec.json.decode(file.read(length), type=dict[str, dict[str, object]])
            metadata = msgspec.convert(header.pop("__metadata__", {}), dict[str, str])
            entries = msgspec.convert(header, dict[str, _Entry])
        except msgspec.MsgspecError as error:
            raise _foreign(path, str(error)) from None
    data = np.memmap(path, np.uint8, mode="r", offset=8 + length) if size > 8 + length else np.empty(0, np.uint8)
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, entry in entries.items():
        start, end = entry.data_offsets
        dtype = _DTYPES.get(entry.dtype)
        count = int(np.prod(entry.shape)) if entry.shape else 1
        if dtype is None or not 0 <= start <= end <= data.size or end - start != count * dtype.itemsize:
            raise _foreign(path, f"tensor {name} does not fit into {size} bytes")
        tensors[name] = data[start:end].view(dtype).reshape(entry.shape)
    return metadata, tensors


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _foreign(path: Path, why: str) -> DataError:
    return DataError(
        "the file is truncated or no packed data set", value=f"{path}: {why}", allowed="a file of edgeseg data pack"
    )
