"""The holder and a container's first process, on an engine that starts processes: ends, orders, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.fake_engine import FakeEngine
from windlassd.agent import container_init, holder


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(tmp_path / "engine.sock").serving() as made:
        yield made


class Held:
    """A holder at work."""

    def __init__(self, engine: FakeEngine, folder: Path, script: str, *words: str) -> None:
        self.box = folder / "box"
        self.box.mkdir()
        (self.box / "init.py").write_text(Path(container_init.__file__).read_text())
        self.report = folder / "report"
        create = {
            "Cmd": list(words) or [sys.executable, "-c", script], "Env": ["HOME=/tmp", "PATH=/usr/bin:/bin"],
            "WorkingDir": str(folder), "Labels": {},
            "HostConfig": {"Mounts": [{"Source": str(self.box), "Target": "/.windlass"}]},
        }  # fmt: skip
        plan = {
            "engine": engine.address, "name": "c.1.0", "create": create, "line": str(self.box),
            "report": str(self.report),
        }  # fmt: skip
        (folder / "plan.json").write_text(json.dumps(plan))
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", holder.__file__, str(folder / "plan.json")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip

    def line(self) -> bytes:
        """The next line that the script prints."""
        assert self.process.stdout
        return self.process.stdout.readline()

    def end(self) -> tuple[int, Any, bytes]:
        """Its status as Popen gives it, what it left, and the rest of the output."""
        output, _ = self.process.communicate(timeout=30)
        text = self.report.read_text() if self.report.exists() else ""
        return self.process.returncode, json.loads(text) if text.strip() else None, output


@pytest.mark.parametrize(
    ("script", "code"),
    [("print('out', end='')", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9),
     ("import os; os.abort()", -6), ("import os; os.kill(os.getpid(), 15)", -15)],
)  # fmt: skip
def test_it_ends_as_the_script_does(engine: FakeEngine, tmp_path: Path, script: str, code: int) -> None:
    status, said, output = Held(engine, tmp_path, script).end()
    assert status == code and os.waitstatus_to_exitcode(said["status"]) == code
    assert said["peak_memory_bytes"] > 1 << 20 and said["stopped"] is False
    assert output == (b"out" if code == 0 else b""), "the script writes to the holder's own output"


def test_sigterm_reaches_the_script(engine: FakeEngine, tmp_path: Path) -> None:
    script = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"
    held = Held(engine, tmp_path, script)
    assert held.line() == b"up\n"
    held.process.terminate()
    assert held.end()[0] == 7


def test_its_death_ends_the_container(engine: FakeEngine, tmp_path: Path) -> None:
    held = Held(engine, tmp_path, "print('up', flush=True); import signal; signal.pause()")
    assert held.line() == b"up\n"
    held.process.kill()
    assert engine.processes["c.1.0"].wait(30) == 1
    assert held.process.wait(30) == -signal.SIGKILL and held.report.read_text().strip() == ""
    assert held.process.stdout and held.process.stdout.close() is None


def test_a_container_that_was_killed_is_told(engine: FakeEngine, tmp_path: Path) -> None:
    held = Held(engine, tmp_path, "print('up', flush=True); import signal; signal.pause()")
    assert held.line() == b"up\n"
    engine.processes["c.1.0"].kill()
    held_pid = held.process
    assert held_pid.wait(30) == -signal.SIGKILL
    assert json.loads(held.report.read_text()) == {"lost": True, "oom": False}
    assert held_pid.stdout
    held_pid.stdout.close()


def test_the_engines_own_stop_is_told_apart(engine: FakeEngine, tmp_path: Path) -> None:
    held = Held(engine, tmp_path, "print('up', flush=True); import signal; signal.pause()")
    assert held.line() == b"up\n"
    engine.processes["c.1.0"].terminate()
    status, said, _ = held.end()
    assert status == -signal.SIGTERM and said["stopped"] is True


def test_a_program_that_is_not_there(engine: FakeEngine, tmp_path: Path) -> None:
    status, said, _ = Held(engine, tmp_path, "", "no-such-program").end()
    assert (status, said) == (127, {"errno": 2})


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [("create", 404, "No such image: x"), ("start", 500, "no space left on device"), ("create", 500, "w" * 10_000)],
)
def test_a_refusal_is_told_and_nothing_is_left(
    engine: FakeEngine, tmp_path: Path, call: str, status: int, message: str
) -> None:
    engine.refusals[call] = (status, message)
    code, said, _ = Held(engine, tmp_path, "print('ran')").end()
    assert code == 125 and said["http"] == status and message.startswith(said["message"]) and said["message"]
    assert engine.created == {}


def test_an_engine_that_is_not_there(engine: FakeEngine, tmp_path: Path) -> None:
    engine.address = f"unix://{tmp_path}/nobody.sock"
    code, said, _ = Held(engine, tmp_path, "print('ran')").end()
    assert (code, said) == (125, {"http": 0, "message": "No such file or directory"})


def test_a_container_of_that_name_is_a_killed_agents(engine: FakeEngine, tmp_path: Path) -> None:
    engine.created["c.1.0"] = {}
    assert Held(engine, tmp_path, "print('ran')").end()[0] == 0


def test_a_first_process_that_never_begins_is_told(engine: FakeEngine, tmp_path: Path) -> None:
    held = Held(engine, tmp_path, "print('ran')")
    (held.box / "init.py").write_text("raise SystemExit(4)")
    code, said, _ = held.end()
    assert code == 125 and "ended before the script began, with exit code 4" in said["message"]


def test_an_engine_that_does_not_answer_in_time_keeps_no_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        with pytest.raises(holder.EngineError, match="did not answer within") as caught:
            holder.call(f"unix://{tmp_path}/silent.sock", "GET", "/info", timeout_s=0.01)
        assert caught.value.status == 0
        with silent.accept()[0] as line:
            line.settimeout(10)
            while line.recv(4096):  # to its end
                pass
