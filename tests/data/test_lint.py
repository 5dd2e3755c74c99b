"""Lint finds what is wrong and says nothing of what is right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from edgeseg.data import open_dataset, survey_dataset
from edgeseg.data.lint import NEAR_BITS, LintReport, lint
from edgeseg.data.page import picture_page
from edgeseg.data.stats import stats
from edgeseg.data.survey import perceptual_hash


def _lint(root: Path, *splits: str) -> LintReport:
    return lint([survey_dataset(f"folder:{root}", split)[1] for split in splits])


def test_a_sound_data_set_has_no_errors_and_no_duplicates(street_folder: Path) -> None:
    report = _lint(street_folder, "train", "val")
    assert report.errors == 0
    assert not report.duplicates
    assert report.frames == {"train": 8, "val": 8}
    assert sum(report.shares["val"].values()) == pytest.approx(1, abs=1e-4)
    assert not [finding for finding in report.findings if finding.rule != "absent" and finding.rule != "rare"]


def test_every_bad_frame_is_listed(make_folder: Callable[..., Path]) -> None:
    root = make_folder(frames=8)
    masks = root / "train" / "masks"
    (masks / "000.png").unlink()
    (masks / "001.png").write_bytes((masks / "001.png").read_bytes()[:-20])
    Image.new("L", (5, 5)).save(masks / "002.png")
    Image.fromarray(np.full((24, 32), 9, np.uint8)).save(masks / "003.png")
    Image.fromarray(np.full((24, 32), 255, np.uint8)).save(masks / "004.png")
    report = _lint(root, "train")
    texts = [finding.text for finding in report.findings if finding.severity == "error"]
    assert report.errors == 4
    for said in ("no mask", "truncated", "differ in size", "id 9"):
        assert any(said in text for text in texts), said
    assert report.frames == {"train": 4}
    assert [finding.rule for finding in report.findings if finding.severity == "warning"] == ["unlabelled"]


def test_masks_without_an_image_are_warned_of(make_folder: Callable[..., Path]) -> None:
    root = make_folder(frames=8)
    (root / "train/images/005.png").unlink()
    report = _lint(root, "train")
    assert [(finding.severity, finding.rule) for finding in report.findings] == [("warning", "orphan")]
    assert "1 masks have no image (005.png)" in report.findings[0].text
    assert report.frames == {"train": 7}
    assert len(open_dataset(f"folder:{root}", "train")) == 7  # all that is there can be used


def test_sizes_and_absent_classes_are_warned_of(make_folder: Callable[..., Path]) -> None:
    root = make_folder(frames=4)
    for kind in ("images", "masks"):
        file = root / "train" / kind / "003.png"
        Image.open(file).resize((16, 16), Image.Resampling.NEAREST).save(file)
    (root / "classes.toml").write_text('names = ["road", "person", "tree", "unicorn"]\n')
    report = _lint(root, "train")
    assert {finding.rule for finding in report.findings} == {"sizes", "absent"}
    assert "unicorn" in " ".join(finding.text for finding in report.findings)


def test_near_duplicates_across_splits_are_found(street_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "leaky"
    shutil.copytree(street_folder, root)
    frame = Image.open(root / "train/images/000003.png")
    ImageEnhance.Brightness(frame).enhance(0.8).save(root / "val/images/000005.png")
    shutil.copy(root / "train/masks/000003.png", root / "val/masks/000005.png")
    report = _lint(root, "train", "val")
    assert [(pair.first, pair.second) for pair in report.duplicates] == [(("train", "000003"), ("val", "000005"))]
    assert any(finding.rule == "duplicate" for finding in report.findings)
    assert report.errors == 0


@pytest.mark.camvid
def test_the_threshold_parts_neighbours_from_strangers(camvid_dir: Path) -> None:
    """CamVid's val is one clip at 15 frames/s; frames of train are a second or more away."""
    val, train = (open_dataset(f"camvid:{camvid_dir}", split) for split in ("val", "train"))
    clip = [perceptual_hash(val[index].image_hwc) for index in range(0, 40, 4) for index in (index, index + 1)]
    others = [perceptual_hash(train[index].image_hwc) for index in range(0, 360, 24)]
    neighbours = [(a != b).sum() for a, b in zip(clip[::2], clip[1::2], strict=True)]
    strangers = [(a != b).sum() for a in clip for b in others]
    assert max(neighbours) <= NEAR_BITS < min(strangers)


def test_stats_count_pixels_and_light(make_folder: Callable[..., Path]) -> None:
    root = make_folder(frames=1)
    Image.new("RGB", (32, 24), (200, 100, 50)).save(root / "train/images/000.png")
    mask = np.zeros((24, 32), np.uint8)
    mask[:6] = 2
    mask[-12:] = 255
    Image.fromarray(mask).save(root / "train/masks/000.png")
    numbers = stats(survey_dataset(f"folder:{root}", "train")[1])
    assert (numbers.classes["road"].share, numbers.classes["tree"].share) == (0.5, 0.5)
    assert numbers.classes["person"].share_where_shown is None
    assert numbers.ignored == 0.5
    assert numbers.mean_rgb == (200, 100, 50)
    assert numbers.std_rgb == (0, 0, 0)
    assert numbers.sizes == {"24x32": 1}


def test_the_picture_page_needs_nothing_else(street_folder: Path) -> None:
    dataset, survey = survey_dataset(f"folder:{street_folder}", "train")
    page = picture_page("a <set>", [(dataset, survey, stats(survey))])
    assert "a &lt;set&gt;" in page
    assert page.count('src="data:image/') == page.count("src=")
    assert "http" not in page
    for name in survey.classes.names:
        assert name in page
