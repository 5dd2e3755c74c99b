"""tools/plot_runs.py: every score of every run is in the picture, and what has none is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from plot_runs import main, read_scores

LINES = '{"epoch":1,"loss":2.0}\n{"epoch":2,"loss":1.0,"val/miou":0.25,"val/iou":{}}\n{"epoch":4,"val/miou":0.5}\n'


def test_every_score_of_every_run_is_in_the_picture(tmp_path: Path) -> None:
    run = tmp_path / "edge-x"
    run.mkdir()
    (run / "metrics.jsonl").write_text(LINES)
    copy = tmp_path / "other.jsonl"
    copy.write_text(LINES.replace("0.25", "0.125"))
    assert read_scores(run, "val/miou") == [(2.0, 0.25), (4.0, 0.5)]
    assert main([str(run), str(copy), "--out", str(tmp_path / "curve.svg")]) == 0
    picture = (tmp_path / "curve.svg").read_text()
    for text in ("edge-x: 0.250 at 2", "edge-x: 0.500 at 4", "other: 0.125 at 2", ">other<", "val/miou"):
        assert text in picture


def test_two_runs_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.jsonl").write_text(LINES)
    paths = [str(tmp_path / folder / "run.jsonl") for folder in ("a", "b")]
    assert main([*paths, "--out", str(tmp_path / "curve.svg")]) == 2
    assert "two runs of one name (run)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"), [(LINES, "allowed: val/miou"), ("torn {", "cannot be read")], ids=["no such score", "no JSON"]
)
def test_a_run_without_that_score_is_refused(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.jsonl").write_text(text)
    assert main([str(tmp_path / "run.jsonl"), "--score", "dev/miou", "--out", str(tmp_path / "curve.svg")]) != 0
    assert said in capsys.readouterr().err
    assert not (tmp_path / "curve.svg").exists()
