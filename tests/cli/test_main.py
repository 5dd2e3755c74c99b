from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgeseg.cli.main import app, run
from edgeseg.cli.ui import Ui, common_options, parse_size
from edgeseg.core.errors import DataError, RequestError

HEAVY = ("torch", "onnx", "cv2", "openvino", "onnxruntime", "rich", "PIL")


@pytest.fixture
def failing() -> Iterator[list[BaseException]]:
    """A command `fail` that raises what the test puts into the list."""
    raises: list[BaseException] = []

    @click.command("fail")
    @common_options
    def fail(ui: Ui) -> None:
        ui.emit({"before": 1})
        raise raises[0]

    original = app.get_command
    app.get_command = lambda ctx, name: fail if name == "fail" else original(ctx, name)  # type: ignore[method-assign]
    yield raises
    app.get_command = original  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("bad picture", value="a.png"), 1, "edgeseg: error: bad picture (a.png)"),
        (RequestError("no", fix="edgeseg doctor"), 2, "edgeseg: error: no; try: edgeseg doctor"),
        (KeyboardInterrupt(), 130, "edgeseg: error: interrupted"),
        (
            OSError(28, "No space left on device", "out.mp4"),
            1,
            "edgeseg: error: the disk is full (out.mp4); try: df -h",
        ),
        (
            PermissionError(1, "Operation not permitted", "out.mp4"),
            2,
            "edgeseg: error: no permission (out.mp4); a path that you may read and write",
        ),
        (KeyboardInterrupt("try: this"), 130, "edgeseg: error: interrupted; try: this"),
        (TypeError("x"), 1, "edgeseg: error: internal error"),
    ],
)
def test_every_error_is_one_last_line_and_its_code(
    failing: list[BaseException], error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(error)
    assert run(["fail"]) == code
    stderr = capsys.readouterr().err
    assert stderr.splitlines()[-1].startswith(line)
    assert "Traceback" not in stderr


def test_debug_shows_the_traceback(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(DataError("bad"))
    run(["fail", "--debug"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["nonsense"], ["doctor", "--nonsense"], ["doctor", "extra"]])
def test_a_request_that_cannot_be_ends_with_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("edgeseg: error: ")
    assert "; try: edgeseg" in last


def test_json_is_exactly_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert {"device", "findings", "can"} <= report.keys()
    assert "edgeseg bench" in err
    assert run(["doctor", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert err == ""


def test_help_of_every_command_is_light() -> None:
    """`--help` of the tool and of each command, in a fresh process, imports no heavy package."""
    code = (
        "import sys\n"
        "from edgeseg.cli.main import app, run\n"
        "names = app.list_commands(None)\n"
        "codes = [run(['--help']), *(run([name, '--help']) for name in names)]\n"
        f"heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "sys.stderr.write(repr((codes, heavy, len(names))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    codes, heavy, count = eval(done.stderr)
    assert set(codes) == {0}
    assert heavy == []
    assert count >= 1


def test_every_command_describes_itself() -> None:
    folder = Path(sys.modules[run.__module__].__file__ or "").parent
    names = app.list_commands(click.Context(app))
    assert len(names) == len(list(folder.glob("cmd_*.py")))
    for name in names:
        command = app.get_command(click.Context(app), name)
        assert command is not None
        assert command.help, f"{name} has no help text"
        assert command.get_short_help_str(), f"{name} has no short help"


@pytest.mark.parametrize("text", ["360", "360x", "0x480", "ax b", "-1x5"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="HEIGHTxWIDTH"):
        parse_size(text)


def test_a_size_is_height_first() -> None:
    assert parse_size("360x480") == (360, 480)


def test_a_title_is_not_broken_at_the_width_of_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    title = "a title that is much longer than the narrow table under it"
    Ui(as_json=False, quiet=False, debug=False).table(title, ["a", "b"], [("x", 1)])
    assert capsys.readouterr().err.splitlines()[0] == title


@pytest.mark.parametrize(
    ("done", "total", "said"), [(3.00057, 3.0, "3/3,"), (0.5, 0.5, "0.5/0.5,"), (53999, 54000, "53999/54000,")]
)
def test_progress_is_short(done: float, total: float, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Ui(as_json=False, quiet=False, debug=False).progress() as progress, progress.task("measure", total) as task:
        task.advance(done)
    assert capsys.readouterr().err.startswith(f"measure: {said}")


@pytest.mark.parametrize("args", [["calibrate", "zoo:edge-s", "--count=0"], ["build", "zoo:edge-s", "--threads=-3"]])
def test_numbers_that_cannot_be(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 2
    assert "is not in the range" in capsys.readouterr().err.splitlines()[-1]


def test_a_percentile_is_for_its_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "zoo:edge-s", "--frames", "street:frames=9,size=64x64", "--percentile", "99"]) == 2
    assert "(--method mse); --method percentile" in capsys.readouterr().err.splitlines()[-1]
