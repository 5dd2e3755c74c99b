"""A drive through a labelled street: any frame of it, with a label that fits the picture pixel by pixel."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from edgeseg.core.errors import RequestError
from edgeseg.core.types import Classes, Sample, Size
from edgeseg.data.classes import CAMVID
from edgeseg.data.spec import StreetOptions
from edgeseg.data.street.camera import Camera, Road
from edgeseg.data.street.canvas import Canvas
from edgeseg.data.street.ground import Crossing, Ground
from edgeseg.data.street.lens import Lens
from edgeseg.data.street.sky import Sky
from edgeseg.data.street.town import Town, visible
from edgeseg.data.street.traffic import EGO_LANE_M, EGO_SPEED_M_S, Traffic
from edgeseg.data.street.weather import Climate

VIDEO_STEP_M = EGO_SPEED_M_S / 30
"""Metres from frame to frame of a video at 30 frames/s."""
DATASET_STEP_M = 4.0
"""Metres from frame to frame of a data set: labelled frames are half a second apart."""
SPLITS = ("train", "val")
_START_M = 40.0


class StreetScene:
    """Renders frames of one endless drive.

    A frame depends on `seed`, `size`, `step_m` and its index alone, whatever was rendered before. Rendered twice by one
    version of OpenCV and numpy it is the same bit for bit.

    Args:
        seed: Which town, weather and traffic.
        size: (height, width) of a frame.
        step_m: Metres driven from frame to frame.
    """

    def __init__(self, seed: int, size: Size = (360, 480), *, step_m: float = VIDEO_STEP_M) -> None:
        plan = random.Random(f"drive {seed}")
        self.size = size
        self.step_m = step_m
        self._road = Road(
            tuple(
                (amplitude, plan.uniform(*lengths), plan.uniform(0, math.tau))
                for amplitude, lengths in ((9.0, (260, 340)), (3.0, (130, 180)))
            )
        )
        self._climate = Climate.of(plan)
        self._town, self._traffic = Town(seed), Traffic(seed)
        rng = np.random.default_rng(seed)
        self._sky, self._ground, self._lens = Sky(rng), Ground(rng), Lens(size, rng)

    @property
    def classes(self) -> Classes:
        """The 11 classes of CamVid."""
        return CAMVID

    def render(self, index: int) -> Sample:
        """Frame `index` of the drive: uint8 [H, W, 3] BGR and class ids [H, W]; every pixel has a class."""
        camera = self.camera(index)
        s_m, weather = camera.s_m, self._climate.at(camera.s_m)
        canvas = Canvas(self.size)
        cells = self._town.around(s_m)
        flats = [flat for cell in cells for flat in cell.flats]
        self._sky.draw(canvas, camera, weather)
        self._ground.draw(canvas, camera, weather, flats)
        crossings = [flat for flat in flats if isinstance(flat, Crossing)]
        things = [*visible(cells, camera), *self._traffic.at(s_m, s_m / EGO_SPEED_M_S, crossings)]
        for thing in sorted(things, key=lambda thing: -thing.order_m):
            thing.draw(canvas, camera, weather)
        image_hwc = self._lens.develop(canvas, weather, camera.horizon_px, index)
        return Sample(name=f"{index:06d}", image_hwc=image_hwc, label_hw=np.ascontiguousarray(canvas.pixels[:, :, 3]))

    def camera(self, index: int) -> Camera:
        """Where frame `index` is taken from."""
        s_m = _START_M + index * self.step_m
        t_s = s_m / EGO_SPEED_M_S
        height, width = self.size
        nod = 0.004 * math.sin(7.1 * t_s) + 0.003 * math.sin(2.3 * t_s + 1)
        focal = 0.95 * width
        return Camera.on(
            self._road,
            s_m,
            EGO_LANE_M + 0.15 * math.sin(0.4 * t_s),
            size=self.size,
            focal_px=focal,
            horizon_px=0.51 * height + nod * focal,
        )


@dataclass(frozen=True, slots=True)
class StreetDataset:
    """The frames of one split of `street:`, rendered when asked for.

    Attributes:
        name: The specification it was opened with.
        split: `train` or `val`; they drive through different towns.
        frames: Number of frames.
        scene: The drive.
    """

    name: str
    split: str
    frames: int
    scene: StreetScene

    @classmethod
    def open(cls, name: str, options: StreetOptions, split: str) -> StreetDataset:
        """Open a split.

        Raises:
            RequestError: A split other than `train` and `val`.
        """
        if split not in SPLITS:
            raise RequestError("unknown split of street:", value=split, allowed=f"allowed: {', '.join(SPLITS)}")
        frames = options.frames if split == "train" else max(options.frames // 5, 8)
        seed = 2 * options.seed + SPLITS.index(split)
        scene = StreetScene(seed, options.size, step_m=options.step_m or DATASET_STEP_M)
        return cls(name, split, frames, scene)

    @property
    def classes(self) -> Classes:
        """The 11 classes of CamVid."""
        return self.scene.classes

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.frames:
            raise IndexError(index)
        return self.scene.render(index)
