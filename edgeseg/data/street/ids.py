"""Class ids of what stands in the street."""

from __future__ import annotations

from edgeseg.data.classes import CAMVID

(SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST) = range(len(CAMVID))
