"""``diagnostic_log`` keeps what was logged inside it, and nothing else changes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from azureml.core import diagnostic_log


def test_a_block_is_kept_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "debug.log"
    logger = logging.getLogger("windlass.somewhere")
    logger.debug("before")
    with diagnostic_log(str(file), context_name="train"):
        logger.debug("inside")
    logger.debug("after")
    text = file.read_text()
    assert [word in text for word in ("before", "[START] train", "inside", "[STOP] train", "after")] == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert logging.getLogger("windlass").handlers == [] and logging.getLogger("windlass").level == logging.NOTSET


@pytest.mark.parametrize("namespaces", [["azureml"], ["windlass", "my.own"], None])
def test_loggers_by_name(tmp_path: Path, namespaces: list[str] | None) -> None:
    log = diagnostic_log(str(tmp_path / "d.log"), namespaces)
    log.start_capture()
    log.start_capture()
    logging.getLogger("windlass").debug("ours")
    logging.getLogger("my.own").debug("theirs")
    log.stop_capture()
    log.stop_capture()
    text = (tmp_path / "d.log").read_text()
    assert text.count("ours") == 1 and ("theirs" in text) == ("my.own" in (namespaces or ()))


def test_an_error_is_kept_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), diagnostic_log(str(tmp_path / "d.log")):
        _ = 1 / 0
    assert "ZeroDivisionError" in (tmp_path / "d.log").read_text()


def test_without_a_path_it_makes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with diagnostic_log():
        pass
    assert "[START]" in next(tmp_path.glob("windlass-*.log")).read_text()
