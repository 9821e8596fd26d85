"""Scripts that end in every way there is, with threads and processes of their own: all they logged is in the record."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from faults.evidence import Witnessed
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace

faults = pytest.mark.faults
ACTS = "diary.log(run, 100); diary.say(20); diary.keep(3)\n"
BASE = 1_000_000

ENDS = {
    "exit code": ("sys.exit(3)", "exit_code", "exited with code 3"),
    "exit text": ("sys.exit('no data in /x')", "exit_code", "no data in /x"),
    "exception": ("raise ValueError('bad rate')", "exit_code", "ValueError: bad rate"),
    "deep recursion": ("def f(): f()\nf()", "exit_code", "RecursionError: maximum recursion depth"),
    "_exit": ("os._exit(7)", "exit_code", "exited with code 7"),
    "abort": ("os.abort()", "signal", "SIGABRT (it crashed in native code)"),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "signal", "SIGSEGV (it crashed in native code)"),
    "killed": ("os.kill(os.getpid(), 9)", "signal", "whose memory limit it passed). It used up to"),
    "out of memory": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); x = bytearray(4 << 30)",
        "out_of_memory",
        "ran out of memory and exited with code 1",
    ),
    "terminal escapes": (
        r"os.write(2, b'\x1b[2J\x1b]0;title\x07 \x00 \xff\n'); sys.exit(1)",
        "exit_code",
        "\\x1b[2J\\x1b]0;title\\x07 \\x00 \ufffd",
    ),
    "stdout closed": ("os.close(1); os.close(2); diary.log(run, 10); sys.exit(4)", "exit_code", "exited with code 4"),
}
QUICK = ("exception", "segmentation fault", "out of memory")


@pytest.mark.parametrize("end", [pytest.param(e, marks=() if e in QUICK else faults) for e in ENDS])
def test_a_script_that_fails_says_why(shared: Workspace, tmp_path: Path, end: str) -> None:
    text, reason, words = ENDS[end]
    Witnessed(shared, tmp_path, ACTS + text).submit().check(status="Failed", reason=reason, words=words)


@pytest.mark.parametrize(
    "text",
    [
        "os._exit(0)",
        "os.close(1); os.close(2); diary.log(run, 10)",
        "os.chdir('/'); diary.log(run, 10)",
        "diary.log(run, 5)\n"
        "os.execv(sys.executable, [sys.executable, '-c', 'from train2 import *; diary.log(run, 50); diary.say(5)'])",
    ],
    ids=["without cleaning up", "closed output", "another folder", "another program"],
)
@faults
def test_a_script_that_ends_well_in_an_odd_way(shared: Workspace, tmp_path: Path, text: str) -> None:
    prologue = "open('train2.py', 'w').write(open('train.py').read().split('# acts')[0])\nsys.path.insert(0, '.')\n"
    script = "# acts\n" + prologue + "os.environ['PYTHONPATH'] += ':.'\n" + ACTS + text
    Witnessed(shared, tmp_path, script).submit().check(status="Completed")


KILLED = """
import random, threading, time
parent, chance = os.getpid(), random.Random({seed})
if os.fork() == 0:
    time.sleep({delay})
    os.kill(parent, 9)
    os._exit(0)
acts = [lambda n: diary.log(run, n), lambda n: diary.say(n), lambda n: diary.keep(n)]
def go_on(chosen):
    while True:
        chance.choice(chosen)(chance.randint(1, 20))
if {threads}:
    for act in acts[1:]:
        threading.Thread(target=go_on, args=([act],), daemon=True).start()
    go_on(acts[:1])
go_on(acts)
"""


def killed_at_random(shared: Workspace, tmp_path: Path, chance: random.Random) -> Witnessed:
    text = KILLED.format(seed=chance.random(), delay=chance.random() ** 3 * 0.3, threads=chance.random() < 0.5)
    return Witnessed(shared, tmp_path, text).submit()


def test_a_kill_at_a_random_point(shared: Workspace, tmp_path: Path, chance: random.Random) -> None:
    killed_at_random(shared, tmp_path, chance).check(status="Failed", reason="signal")


@faults
def test_many_kills_at_random_points(
    shared: Workspace, tmp_path: Path, chance: random.Random, rounds: Callable[[int], range]
) -> None:
    for _ in rounds(4):
        for run in [killed_at_random(shared, tmp_path, chance) for _ in range(4)]:
            run.check(status="Failed", reason="signal")


FORKS = """
import signal, threading
from concurrent.futures import ThreadPoolExecutor
def writes(channel, count=400):
    diary.log(run, count, "several", channel, channel * {base})
def child(channel):
    pid = os.fork()
    if not pid:
        writes(channel)
        if channel == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    return pid
noise = threading.Thread(target=diary.log, args=(run, 3000))  # forks happen in the middle of its points
noise.start()
writes(9, 10)
with ThreadPoolExecutor(3) as pool:  # and from threads
    pids = list(pool.map(child, range(10, 16)))
writes(9)
noise.join()
print(sum(os.waitpid(pid, 0)[1] != 0 for pid in pids), "ended badly")
"""


def test_forks_in_the_middle_of_logging(shared: Workspace, tmp_path: Path) -> None:
    run = Witnessed(shared, tmp_path, FORKS.format(base=BASE)).submit()
    run.check(status="Completed")
    run.check_writers("several", range(9, 16), BASE)
    assert shared.log(run.id) == "1 ended badly\n"
    assert [run.diary.done(channel) for channel in range(9, 16)] == [410, *[400] * 6]


POOL = """
import multiprocessing
def work(channel):
    diary.log(run, 200, "several", channel, channel * {base})
    return channel
if __name__ == "__main__":
    diary.log(run, 100)
    with multiprocessing.get_context("{how}").Pool(3) as pool:
        assert pool.map(work, range(10, 22), chunksize=1) == list(range(10, 22))
    diary.log(run, 100)
"""


@faults
@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(shared: Workspace, tmp_path: Path, how: str) -> None:
    run = Witnessed(shared, tmp_path, POOL.format(base=BASE, how=how)).submit()
    run.check(status="Completed")
    run.check_writers("several", range(10, 22), BASE)


THREADS = """
import threading
def work(channel):
    for part in range(20):
        diary.log(run, 50, "several", channel, channel * {base})
        diary.log(run, 50, "own %d" % channel, channel + 20)
threads = [threading.Thread(target=work, args=(channel,)) for channel in range(10, 18)]
[t.start() for t in threads]
[t.join() for t in threads]
"""


@faults
def test_threads_that_log_the_same_and_their_own(shared: Workspace, tmp_path: Path) -> None:
    run = Witnessed(shared, tmp_path, THREADS.format(base=BASE)).submit()
    run.check(status="Completed")
    run.check_writers("several", range(10, 18), BASE)
    for channel in range(10, 18):
        run.check_points(f"own {channel}", channel + 20)
        assert run.diary.done(channel + 20) == 1000


HIDDEN = """
def hide(channel, body):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            diary.note(channel, os.getpid())
            body()
        os._exit(0)
    os.wait()
def nameless():
    os.execve("/bin/sleep", ["sleep", "1000"], {})
def stopped():
    os.kill(os.getpid(), 19)
def deaf():
    import signal
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True: signal.pause()
def comet():
    while True:
        if os.fork():
            os._exit(0)
for channel, body in enumerate([nameless, stopped, deaf, comet], 30):
    hide(channel, body)
while not all(diary.done(channel) for channel in range(30, 34)): pass
"""


@faults
@pytest.mark.parametrize("end", ["", "sys.exit(1)", "os.abort()"])
def test_hidden_processes_end_with_the_run(shared: Workspace, tmp_path: Path, end: str) -> None:
    run = Witnessed(shared, tmp_path, HIDDEN + ACTS + end).submit()
    run.check(status="Failed" if end else "Completed")
    for channel in range(30, 34):
        pid = run.diary.done(channel)
        assert pid and not (psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


ODD = """
class Scalar:
    def item(self): return 2.5
class Floats:
    def __float__(self): return 1.5
class IntEnumLike(int): pass
for value in [1, float("nan"), float("inf"), float("-inf"), -0.0, 5e-324]: run.log("floats", value)
for value in [2**63 - 1, -2**63, 2**70, -2**70, 10**300, IntEnumLike(7)]: run.log("integers", value)
for value in [True, None, "text \\u2603 \\0 \\x1b[31m", "", Scalar(), Floats()]: run.log("mixed", value)
for name in NAMES: run.log(name, 1)
for name in ["", "x" * 256, "nul\\0", 5, None, b"bytes"]:
    try: run.log(name, 1)
    except Exception as e: print(type(e).__name__)
for value in [object(), [1], {}, 1j, b"bytes"]:
    try: run.log("bad", value)
    except Exception as e: print(type(e).__name__)
"""
NAMES = ["a/b", "x" * 255, "snow \u2603", "new\nline", "'; DROP TABLE series; --", "%s {0}", "\u202e", " ", "..", "<b>"]


@faults
def test_odd_values_and_names_come_back_as_they_were(shared: Workspace, tmp_path: Path) -> None:
    run = Witnessed(shared, tmp_path, f"NAMES = {NAMES!r}\n" + ODD).submit()
    run.check(status="Completed")
    series = shared.client.get(f"/v1/runs/{run.id}/metrics")["metrics"]
    assert series["floats"]["values"] == [1.0, "NaN", "Infinity", "-Infinity", 0.0, 5e-324]
    assert math.copysign(1, series["floats"]["values"][4]) == -1
    assert series["integers"]["values"] == [2**63 - 1, -(2**63), 2**70, -(2**70), 10**300, 7]
    assert series["mixed"]["values"] == [True, None, "text \u2603 \0 \x1b[31m", "", 2.5, 1.5]
    assert all(series[name]["values"] == [1] for name in NAMES)
    assert shared.log(run.id).split() == ["UserErrorException"] * 11


@faults
def test_a_million_points_as_fast_as_it_can(shared: Workspace, tmp_path: Path) -> None:
    run = Witnessed(shared, tmp_path, "diary.log(run, 1_000_000)").submit()
    run.check(status="Completed")
    assert run.diary.done() == 1_000_000


SPOOL = """
import glob, random, shutil, struct
folder = os.environ["WINDLASS_SPOOL_DIR"]
def spoil(junk):
    with open(glob.glob(folder + "/%d-*.spool" % os.getpid())[0], "ab") as f:
        f.write(junk)
"""
JUNK = {
    "absurd length": "struct.pack('<II', 0xFFFFFFFF, 7) + b'x' * 20",
    "too long": "struct.pack('<II', 5000, 7) + b'x' * 20",
    "zeros": "bytes(4096)",
    "half a frame": "struct.pack('<II', 29, 7) + b'x' * 11",
}


@pytest.mark.parametrize("junk", [pytest.param(j, marks=() if j == "too long" else faults) for j in JUNK])
def test_damage_among_the_points_costs_no_point(shared: Workspace, tmp_path: Path, junk: str) -> None:
    text = SPOOL + f"diary.log(run, 100); spoil({JUNK[junk]}); diary.log(run, 100); spoil({JUNK[junk]})"
    run = Witnessed(shared, tmp_path, text).submit()
    record = shared.wait(run.id)
    run.check_points()
    assert run.diary.done() == 200 and record.status.value == "Completed"
    assert record.lost_points >= 2 and "their file was damaged" in record.reason.message


@faults
def test_random_damage_costs_no_point(
    shared: Workspace, tmp_path: Path, chance: random.Random, rounds: Callable[[int], range]
) -> None:
    spoils = "chance = random.Random({seed})\nfor _ in range(30):\n    diary.log(run, 50)\n    spoil(chance.randbytes("
    spoils += "chance.choice([1, 7, 8, 9, 37, 500])))\ndiary.log(run, 50)"
    runs = [Witnessed(shared, tmp_path, SPOOL + spoils.format(seed=chance.random())).submit() for _ in rounds(4)]
    for run in runs:
        assert shared.wait(run.id).lost_points >= 1
        run.check_points()
        assert run.diary.done() == 1550


REMOVED = {
    "the folder of its points": "shutil.rmtree(folder)",
    "its file of points": "[os.unlink(path) for path in glob.glob(folder + '/*.spool')]",
    "the folder, for a file": "shutil.rmtree(folder); open(folder, 'w').write('x')",
}


@pytest.mark.parametrize("what", [pytest.param(w, marks=() if "folder of" in w else faults) for w in REMOVED])
def test_a_script_that_removes_its_own_points_loses_none(shared: Workspace, tmp_path: Path, what: str) -> None:
    text = SPOOL + f"diary.log(run, 100); run.flush(); {REMOVED[what]}; diary.log(run, 100); diary.keep(3)"
    run = Witnessed(shared, tmp_path, text).submit()
    run.check(status="Completed")
    after = Witnessed(shared, tmp_path, ACTS).submit()
    after.check(status="Completed")


@faults
def test_what_cannot_be_saved_is_said(shared: Workspace, tmp_path: Path) -> None:
    """The folder that everything of the run lies in is removed: the run ends all the same, and others go on."""
    run = Witnessed(shared, tmp_path, SPOOL + ACTS + "shutil.rmtree(os.path.dirname(folder))").submit()
    record = shared.wait(run.id)
    assert "70_driver_log.txt was removed while the run went" in record.reason.message
    assert not processes_of(run.id)
    Witnessed(shared, tmp_path, ACTS).submit().check(status="Completed")


@faults
def test_absurd_counts_of_lost_points_stop_nobody(shared: Workspace, tmp_path: Path) -> None:
    text = SPOOL + "open(folder + '/1-1.lost', 'wb').write(bytes([255]) * 8)\n" + ACTS
    run = Witnessed(shared, tmp_path, text).submit()
    assert shared.wait(run.id).lost_points > 0
    run.check_points()
    Witnessed(shared, tmp_path, ACTS).submit().check(status="Completed")
