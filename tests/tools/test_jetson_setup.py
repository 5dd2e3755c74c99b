from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "jetson_setup.sh"


def dry_run(root: Path, release: str | None, *args: str) -> subprocess.CompletedProcess[str]:
    if release is not None:
        (root / "etc").mkdir()
        (root / "etc" / "nv_tegra_release").write_text(
            f"# R{release} (release), REVISION: 4.3, GCID: 1, BOARD: generic\n"
        )
    return subprocess.run(
        ["bash", str(SCRIPT), "--dry-run", *args],
        env={"EDGESEG_ROOT": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("release", "extra", "python"),
    [("36", "jetpack6", "python3.10"), ("38", "jetpack7", "python3.12"), ("39", "jetpack7", "python3.12")],
)
def test_jetpack_s_own_opencv_and_tensorrt_are_used(tmp_path: Path, release: str, extra: str, python: str) -> None:
    done = dry_run(tmp_path, release)
    assert done.returncode == 0, done.stderr
    commands = done.stdout.splitlines()
    assert any(line.startswith(f"{python} -m venv --system-site-packages") for line in commands)
    assert any(f".[{extra}]" in line for line in commands)
    assert any("python3-libnvinfer python3-opencv" in line for line in commands)
    assert not any("opencv-python" in line for line in commands)


def test_clocks_are_touched_only_when_asked(tmp_path: Path) -> None:
    done = dry_run(tmp_path, "36")
    assert "jetson_clocks" not in done.stdout
    (tmp_path / "b").mkdir()
    assert "jetson_clocks" in dry_run(tmp_path / "b", "36", "--clocks").stdout


@pytest.mark.parametrize(
    ("release", "words"), [(None, "make setup"), ("35", "--target jetpack5"), ("32", "unknown L4T release")]
)
def test_other_machines_get_the_next_command(tmp_path: Path, release: str | None, words: str) -> None:
    done = dry_run(tmp_path, release)
    assert done.returncode == 4
    assert words in done.stderr.splitlines()[-1]
    assert done.stdout == ""
