"""keygen, sign, verify and rollback from the command line: exit codes, one JSON object, one error line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgeseg.bundle import replace_bundle
from edgeseg.cli.main import run

from .conftest import ContentsFactory


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


def test_verify_names_an_altered_file_and_the_way_out(capsys: pytest.CaptureFixture[str], bundle_dir: Path) -> None:
    engine = bundle_dir / "engine.null.json"
    engine.write_bytes(engine.read_bytes() + b" ")
    line = refusal(capsys, 5, "verify", bundle_dir)
    assert "engine.null.json" in line
    assert line.endswith("; try: another copy of the bundle, or edgeseg build MODEL")  # what a rebuild refuses too
    shutil.copytree(bundle_dir, bundle_dir.with_name(f".{bundle_dir.name}.last-good"))
    assert refusal(capsys, 5, "verify", bundle_dir).endswith(f"; try: edgeseg rollback {bundle_dir}")
    assert "does not exist" in refusal(capsys, 2, "verify", bundle_dir.parent / "nothing")


def test_rollback(capsys: pytest.CaptureFixture[str], bundle_dir: Path, make_contents: ContentsFactory) -> None:
    before = answer(capsys, "verify", bundle_dir)["id"]
    assert "no last good bundle" in refusal(capsys, 2, "rollback", bundle_dir)
    replace_bundle(bundle_dir, make_contents(seed=1))
    assert answer(capsys, "rollback", bundle_dir)["id"] == before == answer(capsys, "verify", bundle_dir)["id"]
