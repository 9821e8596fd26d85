"""Output of every kind, and clients that stream it: each sees every byte once, and none stands in another's way."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from faults.evidence import Witnessed
from windlass._streaming import reconnecting
from windlass._transport import autostart
from windlass._transport.client import Client
from windlass.errors import UserErrorException
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace, kill

faults = pytest.mark.faults
LOG = "azureml-logs/70_driver_log.txt"
WAITS = "import signal\nsignal.sigwait([signal.SIGUSR1])\n"
READY = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"


def go_on(run_id: str) -> None:
    os.kill(min(processes_of(run_id)), signal.SIGUSR1)


def streamed(workspace: Workspace, run_id: str, begun: Callable[[], object] = lambda: None) -> str:
    """The driver log as a client sees it that watches to the end; a break is taken up where it was."""
    client, text, place = Client(workspace.dir), [], 0
    for event in reconnecting(client, run_id, logs=True):
        if event.name == "log" and event.data["file"] == LOG:
            assert event.data["offset"] == place, "a byte is missing, or came twice"
            place = event.data["next"]
            text.append(event.data["text"])
            begun()
    client.close()
    return "".join(text)


def memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


OUTPUTS = {
    "junk": "os.write(1, random.Random(1).randbytes(3_000_000))",
    "invalid text": r"[os.write(1, b'caf\xc3' + b'\xa9 \xff\xfe \xed\xa0\x80 \0 \x1b[31m\r\n') for _ in range(2000)]",
    "split characters": r"[os.write(1, bytes([byte])) for byte in ('\u2603\U0001f600' * 3000).encode()]",
    "tiny writes": "[os.write(1, b'.') for _ in range(200_000)]",
    "one long line": "[os.write(1, b'x' * 65536) for _ in range(500)]",
}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k == "invalid text" else faults) for k in OUTPUTS])
def test_whatever_is_printed_arrives(shared: Workspace, tmp_path: Path, kind: str) -> None:
    script = READY + f"import random\ndiary.say(1)\n{WAITS}{OUTPUTS[kind]}\nos.write(1, b'\\n'); diary.say(1)"
    run = Witnessed(shared, tmp_path, script).submit()
    shared.wait_for_text(run.id, "line 000000000")
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(streamed, shared, run.id)
        go_on(run.id)
        text = seen.result()
    run.check(status="Completed")
    log = shared.read(run.id, LOG)
    assert text == log.decode("utf-8", "replace")
    assert streamed(shared, run.id) == text, "who comes later sees the same"


GIB = 1 << 30


@faults
def test_a_gibibyte_without_a_line_end(workspace: Workspace, tmp_path: Path) -> None:
    """Server and agent do not hold it; a client that follows it gets all of it."""
    script = READY + f"diary.log(run, 10)\ndiary.say(1)\n{WAITS}block = b'0123456789abcdef' * 65536\n"
    run = Witnessed(workspace, tmp_path, script + "for _ in range(1024): os.write(1, block)\nsys.exit(5)").submit()
    workspace.wait_for_text(run.id, "line 000000000")
    pids = [workspace.server_pid(), workspace.agent_pid()]
    before = [memory(pid) for pid in pids]
    most = list(before)
    go_on(run.id)
    size = 0
    for event in Client(workspace.dir).events(f"/v1/runs/{run.id}/stream", logs=1):
        if event.name == "log" and event.data["file"] == LOG:
            assert event.data["offset"] == size
            size = event.data["next"]
            if size % (1 << 20) < 1 << 16:
                most = [max(seen, memory(pid)) for seen, pid in zip(most, pids, strict=True)]
    record = workspace.wait(run.id)
    assert (record.reason and record.reason.code, size) == ("exit_code", GIB + 48)
    assert len(record.reason.message) < 2000 and "0123456789abcdef" in record.reason.message
    assert all(high - low < GIB // 8 for high, low in zip(most, before, strict=True)), (before, most)
    path = os.path.join(workspace.dir, "runs", run.id, "files", LOG)
    assert os.path.getsize(path) == GIB + 48
    os.unlink(path)


STALLED = """
import os, signal, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(("GET /v1/runs/%s/stream?logs=1 HTTP/1.1\\r\\nHost: windlass\\r\\n\\r\\n" % sys.argv[2]).encode())
sock.recv(1)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@faults
def test_clients_that_stop_reading(workspace: Workspace, tmp_path: Path) -> None:
    """Some are stopped by SIGSTOP, some never read: neither run nor server nor another client waits for them."""
    script = READY + f"diary.say(1)\n{WAITS}block = b'x' * (1 << 20)\nfor _ in range(100): os.write(1, block)\n"
    run = Witnessed(workspace, tmp_path, script + "os.write(1, b'\\n'); diary.log(run, 100); diary.say(1)").submit()
    workspace.wait_for_text(run.id, "line 000000000")
    server, before = workspace.server_pid(), memory(workspace.server_pid())
    ask = f"GET /v1/runs/{run.id}/stream?logs=1 HTTP/1.1\r\nHost: windlass\r\n\r\n".encode()
    silent = [autostart.connect(workspace.dir) for _ in range(10)]
    for sock in silent:
        sock.sendall(ask)
    path = silent[0].getpeername()
    stopped = [subprocess.Popen([sys.executable, "-c", STALLED, path, run.id]) for _ in range(2)]
    try:
        for process in stopped:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        go_on(run.id)
        text = streamed(workspace, run.id)
        assert len(text) == 2 * 48 + (100 << 20) + 1
        run.check(status="Completed")
        Witnessed(workspace, tmp_path, "diary.log(run, 10)").submit().check(status="Completed")
        assert memory(server) - before < 50 << 20, "what they do not read is not held for them"
        workspace.stop()
        psutil.Process(server).wait(60)
    except psutil.NoSuchProcess:
        pass
    finally:
        for sock in silent:
            sock.close()
        for process in stopped:
            process.kill()
            process.wait()


def watch_together(shared: Workspace, tmp_path: Path, clients: int, lines: int) -> None:
    script = READY + f"diary.say(1)\n{WAITS}diary.say({lines - 1})\ndiary.log(run, 10)"
    run = Witnessed(shared, tmp_path, script).submit()
    shared.wait_for_text(run.id, "line 000000000")
    all_there = threading.Barrier(clients + 1)
    there = threading.local()

    def begun() -> None:
        if not getattr(there, "begun", False):
            there.begun = True
            all_there.wait(60)

    with ThreadPoolExecutor(clients) as pool:
        seen = [pool.submit(streamed, shared, run.id, begun) for _ in range(clients)]
        all_there.wait(60)
        go_on(run.id)
        texts = [each.result() for each in seen]
    run.check(status="Completed")
    log = shared.read(run.id, LOG).decode()
    assert len(re.findall(r"^line ", log, re.MULTILINE)) == lines
    assert [place for place, text in enumerate(texts) if text != log] == [], "these saw something else"


def test_five_clients_see_the_same(shared: Workspace, tmp_path: Path) -> None:
    watch_together(shared, tmp_path, 5, 500)


@faults
def test_two_hundred_clients_see_the_same(shared: Workspace, tmp_path: Path) -> None:
    watch_together(shared, tmp_path, 200, 500)


@faults
def test_a_client_goes_on_after_the_server_was_killed(
    workspace: Workspace, tmp_path: Path, rounds: Callable[[int], range]
) -> None:
    kills = rounds(2)
    text = READY + "import time\nfor part in range(10_000):\n    diary.say(20); time.sleep(0.01)\n"
    text += "    if os.path.exists('stop'): break\n"
    run = Witnessed(workspace, tmp_path, text).submit()
    workspace.wait_for_text(run.id, "line 000000010")
    killed, heard = [0], [0]

    def kill_now_and_then() -> None:
        heard[0] += 1
        if heard[0] % 5 == 0 and killed[0] < len(kills):
            killed[0] += 1
            kill(workspace.server_pid())
        elif killed[0] == len(kills):
            Path(workspace.dir, "runs", run.id, "work", "stop").touch()

    seen = streamed(workspace, run.id, kill_now_and_then)
    run.check(status="Completed")
    assert killed == [len(kills)] and seen == workspace.log(run.id)


@pytest.mark.parametrize(
    "offsets", ["5", "[]", "{", json.dumps({LOG: -1}), json.dumps({LOG: "x"}), json.dumps({LOG: None})]
)
def test_offsets_that_make_no_sense_are_refused(shared: Workspace, offsets: str) -> None:
    run_id = shared.submit("print(1)")
    with pytest.raises(UserErrorException, match="must be a JSON object of log file names"):
        list(shared.client.events(f"/v1/runs/{run_id}/stream", logs=1, offsets=offsets))


def test_a_stream_beyond_the_end_of_a_log_ends_too(shared: Workspace) -> None:
    run_id = shared.submit("print(1)")
    shared.wait(run_id)
    events = list(shared.client.events(f"/v1/runs/{run_id}/stream", logs=1, offsets=json.dumps({LOG: 10**15})))
    assert events[-1].name == "end" and all(event.name != "log" or event.data["file"] != LOG for event in events)


def test_whoever_hangs_up_is_forgotten(shared: Workspace, tmp_path: Path) -> None:
    """Streams that break off leave nothing open in the server."""
    run = Witnessed(shared, tmp_path, READY + "diary.say(1)\n" + WAITS).submit()
    shared.wait_for_text(run.id, "line 000000000")
    server = psutil.Process(shared.server_pid())
    before = server.num_fds()
    for _ in range(30):
        sock: socket.socket = autostart.connect(shared.dir)
        sock.sendall(f"GET /v1/runs/{run.id}/stream?logs=1 HTTP/1.1\r\nHost: windlass\r\n\r\n".encode())
        assert sock.recv(1)
        sock.close()
    go_on(run.id)
    run.check(status="Completed")
    assert server.num_fds() <= before + 5
