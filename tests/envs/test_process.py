from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from envs.watch import Watch
from windlassd.envs._process import memory_file, open_folder, run
from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped, Work

ENV = {"PATH": "/usr/bin:/bin"}


def work(stop: threading.Event | None = None, timeout_s: float = 60.0) -> Work:
    return Work(lambda line: None, stop or threading.Event(), timeout_s)


def test_output_status_and_lines() -> None:
    lines: list[str] = []
    done = run(["sh", "-c", "echo out; echo one >&2; printf two >&2; exit 3"], ENV, work(), on_line=lines.append)
    assert (done.code, done.out, done.err, lines) == (3, "out\n", "one\ntwo", ["one", "two"])


def test_large_output_does_not_block() -> None:
    done = run(["sh", "-c", "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2"], ENV, work())
    assert (len(done.out), len(done.err)) == (1000000, 1000000)


def test_a_nameless_file_is_read_by_the_program() -> None:
    with memory_file("content") as file:
        assert run(["cat", file.path, file.path], ENV, work(), files=[file]).out == "contentcontent"


def test_open_folders_are_seen_under_one_path_each_its_own_to_its_program(tmp_path: Path) -> None:
    paths = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with open_folder(str(tmp_path / name)) as folder:
            paths.add(folder.path)
            run(["touch", f"{folder.path}/{name}-was-here"], ENV, work(), files=[folder])
        assert os.listdir(tmp_path / name) == [f"{name}-was-here"]
    assert len(paths) == 1


_PRIORITY = "import os; print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0))"


def test_a_program_and_all_it_starts_give_way_to_jobs_from_their_first_moment() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    command = ["sh", "-c", '"$@"; "$@"', "sh", sys.executable, "-c", _PRIORITY]
    assert run(command, ENV, work()).out == f"{max(own, 10)} {os.SCHED_BATCH}\n" * 2
    assert run(command, ENV, work(), nice=19).out == f"19 {os.SCHED_BATCH}\n" * 2


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no groups of sessions")
@pytest.mark.skipif(os.getuid() != 0, reason="the kernel takes only ten a second of others")
def test_its_session_is_lowered_as_a_whole() -> None:
    assert run(["/bin/cat", "/proc/self/autogroup"], ENV, work(), nice=7).out.endswith(" nice 7\n")


def test_a_stop_ends_the_program_and_its_children(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pids")
    stop, caught = threading.Event(), []  # type: tuple[threading.Event, list[BaseException]]
    command = ["sh", "-c", f"sleep 1000 & echo $$ $! > {tmp_path}/pids; wait"]

    def call() -> None:
        try:
            run(command, ENV, work(stop))
        except EnvironmentStopped as e:
            caught.append(e)

    thread = threading.Thread(target=call)
    thread.start()
    processes = [Watch(int(pid)) for pid in (tmp_path / "pids").read_text().split()]
    stop.set()
    thread.join(10)
    assert len(caught) == 1
    assert all(process.ended() for process in processes)


def test_a_program_out_of_time_is_ended() -> None:
    with pytest.raises(EnvironmentFailed, match=r"after 0\.05 s"):
        run(["sleep", "1000"], ENV, work(timeout_s=0.05))


def test_a_straggler_is_ended_when_the_program_is_done(tmp_path: Path) -> None:
    command = ["sh", "-c", f"sleep 1000 >/dev/null 2>&1 & echo $! > {tmp_path}/pid"]
    run(command, ENV, work())
    pid = int((tmp_path / "pid").read_text())
    assert Watch(pid).ended()


def test_when_the_caller_is_killed_the_program_and_its_children_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pids")
    code = (
        "import sys; from windlassd.envs._process import run; from windlassd.envs.base import Work\n"
        "run(['sh', '-c', 'sleep 1000 & echo $$ $! > ' + sys.argv[1] + '/pids; wait'], {'PATH': '/usr/bin:/bin'}, "
        "Work(print))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    processes = [Watch(int(pid)) for pid in (tmp_path / "pids").read_text().split()]
    caller.kill()
    caller.wait()
    assert all(process.ended() for process in processes)
