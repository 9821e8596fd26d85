"""The server's process: who may have a workspace, and the address it is found at."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from windlass._transport.places import private_dir, server_dir, socket_path, workspace_dir
from windlass.errors import UserErrorException
from windlassd.doctor import alone
from windlassd.server import main


@pytest.fixture
def workspace(home: Path) -> str:
    path = workspace_dir("ws")
    private_dir(server_dir(path))
    return path


def take(workspace: str) -> None:
    with open(os.path.join(server_dir(workspace), "server.lock"), "a+") as lock:
        asyncio.run(main._take(lock.fileno(), workspace))


def test_a_free_workspace_is_taken(workspace: str) -> None:
    take(workspace)
    take(workspace)


def test_that_of_a_server_that_answers_is_refused_at_once_and_its_process_named(workspace: str) -> None:
    Path(server_dir(workspace), "server.json").write_text(json.dumps({"pid": os.getpid()}))
    path = os.path.join(server_dir(workspace), "server.lock")
    with open(path, "a+") as lock, socket.socket(socket.AF_UNIX) as server:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server.bind(socket_path(workspace))
        server.listen(8)
        with pytest.raises(UserErrorException, match=rf"Another server \(pid {os.getpid()}\) has the workspace"):
            take(workspace)


def test_that_of_a_server_that_is_ending_is_waited_for(workspace: str) -> None:
    """It has left its socket already."""

    async def work() -> None:
        ending = open(os.path.join(server_dir(workspace), "server.lock"), "a+")  # noqa: SIM115  closed by the loop
        fcntl.flock(ending, fcntl.LOCK_EX)
        asyncio.get_running_loop().call_later(0.1, ending.close)
        with open(os.path.join(server_dir(workspace), "server.lock"), "a+") as lock:
            await main._take(lock.fileno(), workspace)

    asyncio.run(work())


@pytest.mark.parametrize("restored", [True, False])
def test_a_folder_that_is_replaced_while_its_lock_is_waited_for_is_not_served(workspace: str, restored: bool) -> None:
    """Else two servers would write one database, each with a lock of its own."""
    held = os.open(workspace, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)

    def replace() -> None:
        os.rename(workspace, workspace + "-aside")
        if restored:
            private_dir(server_dir(workspace))
        os.close(held)

    async def work() -> None:
        asyncio.get_running_loop().call_later(0.3, replace)
        await main.WorkspaceServer(workspace).serve()

    with pytest.raises(main.AnotherServer, match="was moved away or replaced"):
        asyncio.run(work())
    assert not os.path.exists(os.path.join(workspace, "windlass.db"))


def test_one_that_neither_answers_nor_ends_is_given_up(workspace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_LOCK_WAIT_S", 0.1)
    with open(os.path.join(server_dir(workspace), "server.lock"), "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserErrorException, match="Another server has the workspace"):
            take(workspace)


def test_a_doctor_that_has_the_workspace_is_named(workspace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_LOCK_WAIT_S", 0.1)
    monkeypatch.setattr(alone, "_WAIT_S", 0.1)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print('held', flush=True); input()"
    command = [sys.executable, "-c", hold, os.path.join(server_dir(workspace), "server.lock"), alone.PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as doctor:
        assert doctor.stdout and doctor.stdout.readline()
        try:
            with pytest.raises(UserErrorException, match=rf"The doctor \(pid {doctor.pid}\) examines the workspace"):
                take(workspace)
            with pytest.raises(UserErrorException, match=rf"Another doctor \(pid {doctor.pid}\) examines"):
                alone.examine_alone(workspace, tell=print)
        finally:
            doctor.kill()
    assert alone.examined_by(workspace) is None


def test_web_view_addresses_stay_good_where_the_port_is_free(workspace: str) -> None:
    with main._loopback(workspace) as first:
        port = first.getsockname()[1]
        with main._loopback(workspace) as beside:
            assert beside.getsockname()[1] != port
    Path(server_dir(workspace), "port").write_text(str(port))
    with main._loopback(workspace) as again:
        assert again.getsockname() == ("127.0.0.1", port)


@pytest.mark.parametrize("text", ["", "x", "99999999"])
def test_a_port_file_that_makes_no_sense_is_written_anew(workspace: str, text: str) -> None:
    path = Path(server_dir(workspace), "port")
    path.write_text(text)
    with main._loopback(workspace) as sock:
        assert path.read_text() == str(sock.getsockname()[1])


def test_only_this_user_can_call(workspace: str) -> None:
    with main._unix(workspace):
        assert os.stat(socket_path(workspace)).st_mode & 0o077 == 0
    with main._unix(workspace):  # a killed server's is in the way
        pass


def test_a_starter_that_has_gone_does_not_end_the_server_it_started(workspace: str) -> None:
    read, write = os.pipe()
    os.close(read)
    server = main.WorkspaceServer(workspace, write)
    server._tell_starter(main.PATIENCE)
    server._tell_starter(main.READY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write)
