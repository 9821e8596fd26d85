"""Starting a workspace's server: once, on the home's interpreter, and with its own words when it fails."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass import settings
from windlass._transport import autostart, places
from windlass._transport.client import Client
from windlass.errors import ServiceUnavailable


@pytest.fixture
def workspace(home: Path) -> Iterator[str]:
    """A workspace whose server, if one was started, is stopped."""
    path = places.workspace_dir("ws")
    yield path
    if autostart.is_running(path):
        client = Client(path)
        client.post("/v1/server/stop", {"force": True})
        client.close()


@pytest.fixture
def script(home: Path) -> Path:
    """Stands in for the server's interpreter; what it does is the test's."""
    path = home / "python"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    (home / "interpreter.json").write_text(json.dumps({"python": str(path)}))
    return path


def test_racing_starters_get_one_server(workspace: str) -> None:
    code = f"from windlass._transport.client import Client; print(Client({workspace!r}).get('/v1/server')['pid'])"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pids = {process.communicate(timeout=60)[0] for process in started}
    assert len(pids) == 1 and all(process.returncode == 0 for process in started)


def test_stale_files_and_a_long_path_are_no_obstacle(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    workspace = str(home / "workspaces" / ("deep" * 16) / ("folder" * 10))
    server_dir = Path(places.server_dir(workspace))
    server_dir.mkdir(parents=True)
    (server_dir / "start.lock").write_text("left by a killed client")
    path = places.socket_path(workspace)
    assert path.startswith(settings.runtime_dir()) and len(path) < 108
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert os.path.exists(path) and not autostart.is_running(workspace)
    client = Client(workspace)
    assert client.get("/v1/server")["socket"] == path
    assert os.stat(path).st_mode & 0o077 == 0 and os.stat(os.path.dirname(path)).st_mode & 0o077 == 0
    client.post("/v1/server/stop", {})
    client.close()


def test_a_server_that_dies_at_once_shows_its_log_and_only_its_own(workspace: str, script: Path) -> None:
    script.write_text("#!/bin/sh\necho first trouble; exit 7\n")
    with pytest.raises(ServiceUnavailable, match=r"(?s)exit code 7.*server\.log.*first trouble") as caught:
        autostart.ensure_server(workspace)
    assert caught.value.transient is False
    script.write_text("#!/bin/sh\necho second trouble; exit 1\n")
    with pytest.raises(ServiceUnavailable, match="second trouble") as caught:
        autostart.ensure_server(workspace)
    assert "first trouble" not in str(caught.value)


def test_what_the_server_says_to_the_user_is_what_the_user_sees(workspace: str, script: Path) -> None:
    script.write_text("#!/bin/sh\necho 'INFO starting'; echo 'windlassd: The folder is full. Free space.'; exit 1\n")
    with pytest.raises(ServiceUnavailable) as caught:
        autostart.ensure_server(workspace)
    assert str(caught.value) == "The folder is full. Free space." and caught.value.transient is False
    script.write_text("#!/bin/sh\necho 'windlassd: Another server has it.'; exit 75\n")
    with pytest.raises(ServiceUnavailable, match="Another server") as caught:
        autostart.ensure_server(workspace)
    assert caught.value.transient, "that one is about to serve, or to end"
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(ServiceUnavailable):  # the sentence of the time before is not this time's
        autostart.ensure_server(workspace)


def test_a_server_that_does_not_come_up_is_ended(
    workspace: str, script: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid; exec sleep 600\n")
    monkeypatch.setenv("WINDLASS_SERVER_START_TIMEOUT_S", "0.2")
    with pytest.raises(ServiceUnavailable, match=r"did not come up in 0\.2 s"):
        autostart.ensure_server(workspace)
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text().strip()}")


def test_the_server_does_not_get_the_clients_python(
    workspace: str, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "AZUREML_RUN_ID", "WINDLASS_SPOOL_DIR"):
        monkeypatch.setenv(name, "of_the_client")
    monkeypatch.setenv("WINDLASS_SERVER_IDLE_S", "5")
    script.write_text("#!/bin/sh\nenv; echo arguments: $@; exit 1\n")
    with pytest.raises(ServiceUnavailable):
        autostart.ensure_server(workspace)
    said = Path(places.server_dir(workspace), "server.log").read_text()
    assert "of_the_client" not in said and "WINDLASS_SERVER_IDLE_S=5" in said
    assert f"WINDLASS_HOME={os.environ['WINDLASS_HOME']}" in said
    assert f"arguments: -m windlassd serve --workspace-dir {workspace} --ready-fd" in said


def test_the_interpreter_is_the_homes(home: Path) -> None:
    assert autostart.server_interpreter() == sys.executable
    assert json.loads((home / "interpreter.json").read_text()) == {"python": sys.executable}
    (home / "interpreter.json").write_text(json.dumps({"python": "/bin/sh"}))
    assert autostart.server_interpreter() == "/bin/sh"


@pytest.mark.parametrize("content", ["{", "[]", '{"python": 3}', '{"python": "/no/such/python"}', "{}"])
def test_a_recorded_interpreter_that_is_gone_is_replaced(home: Path, content: str) -> None:
    (home / "interpreter.json").write_text(content)
    assert autostart.server_interpreter() == sys.executable


def test_without_any_server_installed_the_error_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autostart, "record_interpreter", lambda: False)
    with pytest.raises(ServiceUnavailable, match=r"(?s)No Windlass server is installed.*pip install windlass"):
        autostart.server_interpreter()


def test_a_home_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ServiceUnavailable, match=r"cannot be written.*Set WINDLASS_HOME"):
        autostart.ensure_server(places.workspace_dir("ws"))


def test_whatever_keeps_the_server_from_starting_is_an_outage_and_no_refusal(
    home: Path, workspace: str, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shipper drops what is refused, and keeps what an outage keeps it from sending."""
    (home / "settings.json").write_text("{half writ")
    with pytest.raises(ServiceUnavailable, match=r"settings\.json"):
        autostart.ensure_server(workspace)
    (home / "settings.json").unlink()

    def none_free(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(autostart.subprocess, "Popen", none_free)
    with pytest.raises(ServiceUnavailable, match=r"cannot be started.*temporarily unavailable") as caught:
        autostart.ensure_server(workspace)
    assert caught.value.transient


def test_a_server_that_upgrades_its_records_is_given_the_time(
    workspace: str, script: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script.write_text("#!/bin/sh\nprintf 2 > /dev/fd/$7; printf 1 > /dev/fd/$7\n")
    limits, word = [], autostart._word

    def noted(pipe: int, timeout_s: float | None) -> bytes | None:
        limits.append(timeout_s)
        return word(pipe, timeout_s)

    monkeypatch.setattr(autostart, "_word", noted)
    autostart.ensure_server(workspace)
    assert limits == [settings.get("server_start_timeout_s"), None]
    assert f"the records of {workspace} are upgraded" in capfd.readouterr().err


def test_who_waits_for_another_starter_is_told(
    workspace: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(autostart, "_QUIET_S", 0.0)
    path = Path(places.private_dir(places.server_dir(workspace)), "start.lock")
    with open(path, "a") as door, open(path, "a") as late:
        fcntl.flock(door, fcntl.LOCK_EX)
        threading.Timer(0.2, fcntl.flock, (door, fcntl.LOCK_UN)).start()
        autostart._enter(late, workspace)
    assert f"waiting for the server of {workspace}" in capfd.readouterr().err
