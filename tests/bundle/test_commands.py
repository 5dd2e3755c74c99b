"""keygen, sign, verify and rollback from the command line: exit codes, one JSON object, one error line."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeseg.bundle import replace_bundle
from edgeseg.cli.main import run

from .conftest import ContentsFactory, reseal


def answer(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, object]:
    assert run([*map(str, args), "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, object] = json.loads(out)
    return found


def refusal(capsys: pytest.CaptureFixture[str], code: int, *args: object) -> str:
    assert run([*map(str, args)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("edgeseg: error: ")
    return last


def test_keygen_sign_verify(capsys: pytest.CaptureFixture[str], bundle_dir: Path, tmp_path: Path) -> None:
    key = tmp_path / "k"
    assert answer(capsys, "keygen", "--out", key) == {"private_key": str(key), "public_key": f"{key}.pub"}
    assert "not signed" in refusal(capsys, 5, "verify", bundle_dir, "--trust", f"{key}.pub")
    answer(capsys, "sign", bundle_dir, "--key", key)
    found = answer(capsys, "verify", bundle_dir, "--trust", f"{key}.pub")
    assert found["trusted_by"] == f"{key}.pub"
    assert found["golden_frames_ran"] is False
    assert "exists" in refusal(capsys, 2, "keygen", "--out", key)
    assert "does not exist" in refusal(capsys, 2, "sign", bundle_dir, "--key", tmp_path / "none")


def spoil(file: Path) -> None:
    """One byte more: what was written is not what is there."""
    file.write_bytes(file.read_bytes() + b" ")


MADE_ANEW = ["engine.null.json", "report.json", "golden/000.mask.png"]
READ_BY_A_REBUILD = ["manifest.json", "source/model.onnx", "source/ranges.json", "source/build.toml", "golden/000.png"]
COPY = "; try: another copy of the bundle, or edgeseg build MODEL"


@pytest.mark.parametrize("name", MADE_ANEW)
def test_a_damaged_product_of_the_build_is_named_with_the_rebuild_that_replaces_it(
    capsys: pytest.CaptureFixture[str], bundle_dir: Path, name: str
) -> None:
    spoil(bundle_dir / name)
    line = refusal(capsys, 5, "verify", bundle_dir)
    assert name in line
    assert line.endswith(f"; try: edgeseg rebuild {bundle_dir}")
    (bundle_dir / name).unlink()
    assert refusal(capsys, 5, "verify", bundle_dir).endswith(f"; try: edgeseg rebuild {bundle_dir}")


@pytest.mark.parametrize("name", READ_BY_A_REBUILD)
def test_what_a_rebuild_reads_is_damaged_so_the_way_out_is_the_last_good_one_or_another_copy(
    capsys: pytest.CaptureFixture[str], bundle_dir: Path, name: str
) -> None:
    last_good = bundle_dir.with_name(f".{bundle_dir.name}.last-good")
    shutil.copytree(bundle_dir, last_good)
    spoil(bundle_dir / "engine.null.json")
    spoil(bundle_dir / name)
    assert name in refusal(capsys, 5, "rebuild", bundle_dir)
    for command in ("verify", "rebuild"):
        assert refusal(capsys, 5, command, bundle_dir).endswith(f"; try: edgeseg rollback {bundle_dir}")
    spoil(last_good / "report.json")  # a last good one that is not is no way out
    for command in ("verify", "rebuild"):
        assert refusal(capsys, 5, command, bundle_dir).endswith(COPY)
    spoiled = refusal(capsys, 5, "rollback", bundle_dir)
    assert "report.json" in spoiled
    assert spoiled.endswith(COPY)


@pytest.mark.parametrize("name", ["notes.txt", "golden/.DS_Store", "deep/er/file", "engine dir/a b"])
def test_a_file_too_many_is_to_be_taken_away_not_to_be_deleted_by_a_rebuild(
    capsys: pytest.CaptureFixture[str], bundle_dir: Path, name: str
) -> None:
    (bundle_dir / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle_dir / name).write_text("x")
    for command in ("verify", "rebuild"):
        line = refusal(capsys, 5, command, bundle_dir)
        assert name in line
    subprocess.run(shlex.split(line.partition("; try: ")[2]), check=True)
    answer(capsys, "verify", bundle_dir)


def test_with_a_key_the_way_out_is_a_rebuild_only_where_the_signature_stands(
    capsys: pytest.CaptureFixture[str], bundle_dir: Path, tmp_path: Path
) -> None:
    key, trust = tmp_path / "k", tmp_path / "k.pub"
    answer(capsys, "keygen", "--out", key)
    answer(capsys, "sign", bundle_dir, "--key", key)
    spoil(bundle_dir / "engine.null.json")
    line = refusal(capsys, 5, "verify", bundle_dir, "--trust", trust)
    assert line.endswith(f"; try: edgeseg rebuild {bundle_dir} --trust {trust}")
    spoil(bundle_dir / "manifest.json")
    reseal(bundle_dir)  # it now describes itself, and nobody who may has signed it
    spoil(bundle_dir / "engine.null.json")
    assert refusal(capsys, 5, "verify", bundle_dir, "--trust", trust).endswith(COPY)
    assert "the signature does not verify" in refusal(capsys, 5, "rebuild", bundle_dir, "--trust", trust)


def test_a_bundle_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command in ("verify", "rebuild"):
        assert "does not exist" in refusal(capsys, 2, command, tmp_path / "nothing")


def test_rollback(capsys: pytest.CaptureFixture[str], bundle_dir: Path, make_contents: ContentsFactory) -> None:
    before = answer(capsys, "verify", bundle_dir)["id"]
    assert "no last good bundle" in refusal(capsys, 2, "rollback", bundle_dir)
    replace_bundle(bundle_dir, make_contents(seed=1))
    assert answer(capsys, "rollback", bundle_dir)["id"] == before == answer(capsys, "verify", bundle_dir)["id"]
