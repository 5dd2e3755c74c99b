from __future__ import annotations

import pytest

from edgeseg.core import log


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("open rtsp://user:pass@10.0.0.2/a failed", "open rtsp://***@10.0.0.2/a failed"),
        ("http://u@host", "http://***@host"),
        ("no url: a@b", "no url: a@b"),
    ],
)
def test_credentials_never_reach_a_log(text: str, clean: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    log.get_logger("sources").warning(text)
    assert clean in capsys.readouterr().err
