from __future__ import annotations

from types import SimpleNamespace

import msgspec
from click.testing import CliRunner

from edgeseg.cli.cmd_export import command


class _Parity(msgspec.Struct):
    agreement: float = 0.99995
    frames: int = 8
    logits_difference: float = 4e-7


class _Report(msgspec.Struct):
    path: str
    name: str = "edge-s"
    parameters: int = 560_000
    bytes: int = 2_300_000
    frame_size: tuple[int, int] | None = None
    parity: _Parity = msgspec.field(default_factory=_Parity)


def _run(monkeypatch, *arguments: str):
    calls = []

    def export_run(run, out, **options):
        options.pop("progress")
        calls.append(SimpleNamespace(run=run, out=out, **options))
        return _Report(path=str(out), frame_size=options["size"])

    monkeypatch.setattr("edgeseg.export.export_run", export_run)
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    return result, calls


def test_the_options_reach_the_export(monkeypatch):
    result, calls = _run(monkeypatch, "RUN", "--out", "m.onnx", "--size", "360x640", "--frames", "f", "--json")
    assert result.exit_code == 0
    assert (str(calls[0].run), str(calls[0].out)) == ("RUN", "m.onnx")
    assert (calls[0].size, calls[0].frames) == ((360, 640), "f")
    answer = msgspec.json.decode(result.stdout)
    assert answer["parity"]["agreement"] == 0.99995
    assert answer["frame_size"] == [360, 640]


def test_people_read_the_agreement_on_stderr(monkeypatch):
    result, calls = _run(monkeypatch, "RUN", "--out", "m.onnx")
    assert result.stdout == ""
    assert "agrees with torch on 99.995%" in result.stderr
    assert calls[0].size is None


def test_an_output_must_be_named(monkeypatch):
    result, calls = _run(monkeypatch, "RUN")
    assert result.exit_code == 2
    assert not calls
