"""``wait_for_completion``: v1's printed shape, reconnecting, Ctrl-C and failures."""

from __future__ import annotations

from typing import Any

import pytest

from sdk.fake_server import FakeServer
from windlass import Run, _streaming
from windlass.errors import ActivityFailedException

LOG = "azureml-logs/70_driver_log.txt"


def status(fake: FakeServer, run: Run, name: str, message: str = "") -> tuple[str, Any]:
    reason = {"code": "x", "message": message} if message else None
    fake.runs[run.id].update(status=name, reason=reason)
    return "run", dict(fake.runs[run.id])


def log(text: str, offset: int, file: str = LOG) -> tuple[str, Any]:
    return "log", {"file": file, "offset": offset, "next": offset + len(text.encode()), "text": text}


def test_the_printed_shape(fake: FakeServer, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    build = "azureml-logs/20_image_build_log.txt"
    fake.streams = [[
        status(fake, run, "Preparing", "resolving 3 packages"), log("resolving\nhalf", 0, build),
        status(fake, run, "Queued", "Queued: 3rd in line on cpu"),
        status(fake, run, "Queued", "Queued: 3rd in line on cpu"),
        status(fake, run, "Running"), log("epoch 1\n", 0), log("epoch 2\n", 8), ("metrics", {"names": []}),
        status(fake, run, "Completed"), ("end", {}),
    ]]  # fmt: skip
    details = run.wait_for_completion(show_output=True)
    url = f"http://127.0.0.1:1/runs/{run.id}"
    assert details["status"] == "Completed"
    assert capsys.readouterr().out == (
        f"RunId: {run.id}\nWeb View: {url}\n\n"
        "Preparing: resolving 3 packages\n\n"
        f"Streaming {build}\n{'=' * 45}\nresolving\nhalf\n"
        "Queued: 3rd in line on cpu\n\n"
        f"Streaming {LOG}\n{'=' * 40}\nepoch 1\nepoch 2\n\n"
        f"Execution Summary\n=================\nRunId: {run.id}\nWeb View: {url}\n\n"
    )


def test_a_broken_stream_goes_on_where_it_was(
    fake: FakeServer, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_streaming.time, "sleep", lambda seconds: None)
    running = status(fake, run, "Running")
    fake.streams = [
        [running, log("äb\n", 0)],
        [],
        [running, log("c\n", 4), status(fake, run, "Completed"), ("end", {})],
    ]
    run.wait_for_completion(show_output=True)
    assert fake.stream_offsets == [{}, {LOG: 4}, {LOG: 4}]
    assert capsys.readouterr().out.count("äb\nc\n") == 1


def test_an_hour_without_a_server_is_waited_out_with_a_word_now_and_then(
    fake: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(_streaming.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(_streaming.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 60 * seconds))
    fake.streams = [*([] for _ in range(40)), [status(fake, run, "Completed"), ("end", {})]]
    assert run.wait_for_completion()["status"] == "Completed"
    assert now[0] > 3600
    said = capsys.readouterr().err.splitlines()
    assert "waiting for the server. Ctrl-C ends the waiting." in said[0] and run.id in said[0]
    assert 4 < len(said) < 10 and "min by now" in said[1] and said[-1] == "windlass: the server is back."


def test_a_server_that_is_back_in_a_moment_is_not_worth_a_word(
    fake: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_streaming.time, "sleep", lambda seconds: None)
    fake.streams = [[], [], [status(fake, run, "Completed"), ("end", {})]]
    run.wait_for_completion()
    assert capsys.readouterr().err == ""


def test_failure_raises_with_the_reason(fake: FakeServer, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    ending = [status(fake, run, "Failed", "The script exited with code 3."), ("end", {})]
    fake.streams = [list(ending), list(ending)]
    with pytest.raises(ActivityFailedException, match="is Failed: The script exited with code 3") as caught:
        run.wait_for_completion(show_output=False)
    assert caught.value.error_details["error"]["code"] == "x"
    assert capsys.readouterr().out == ""
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Failed"


def test_ctrl_c_stops_the_streaming_only(
    fake: FakeServer, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.streams = [[status(fake, run, "Running"), log("epoch 1\n", 0), log("epoch 2\n", 8)]]

    def interrupt(self: object, file: str, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_streaming._Printer, "log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.wait_for_completion(show_output=True)
    out = capsys.readouterr().out
    assert "the run goes on" in out and f"windlass logs -f {run.id}" in out and "Execution Summary" not in out
    assert ("POST", f"/v1/runs/{run.id}/cancel") not in fake.calls


def test_a_terminal_that_cannot_show_a_letter_shows_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    raw = io.BytesIO()
    monkeypatch.setattr(_streaming.sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    _streaming._say("größe 5\n")
    assert raw.getvalue() == b"gr??e 5\n"
