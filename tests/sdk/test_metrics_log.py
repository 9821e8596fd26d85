"""The spool writer: every point arrives once, in order, whatever the process does and whatever the disk does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from windlass import _metrics_log
from windlass._metrics_log import MetricsLog, metrics_log, plain_value
from windlass.errors import UserErrorException
from windlass.specs import spool


def frames(folder: Path) -> dict[str, list[spool.Frame]]:
    """Decoded frames of each spool file; a torn or damaged one fails the test."""
    found = {}
    for path in sorted(folder.glob("*" + spool.SUFFIX)):
        data = path.read_bytes()
        assert spool.whole_frames(data) == len(data), "torn frame at the end"
        found[path.name] = [frame for _, frame in spool.decode(data)]
    return found


def points(folder: Path) -> dict[str, list[Any]]:
    """Values by series name, over all files."""
    values: dict[str, list[Any]] = {}
    for file in frames(folder).values():
        names: dict[int, str] = {}
        for frame in file:
            if frame.kind == spool.SERIES:
                names[frame.series] = frame.value["name"]
            elif frame.kind != spool.LOST:
                values.setdefault(names[frame.series], []).append(frame.value)
    return values


class Scalar:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def item(self) -> Any:
        return self.inner


class Floaty:
    def __float__(self) -> float:
        return 2.5


def test_each_kind_of_value_comes_back(tmp_path: Path) -> None:
    log = MetricsLog(str(tmp_path))
    given = [0.5, 3, -(2**63), 2**70, True, None, "text", float("inf"), Scalar(7), Floaty(), Scalar(1.5)]
    for value in given:
        log.scalar("m", value, "", None)
    assert points(tmp_path)["m"] == [0.5, 3, -(2**63), 2**70, True, None, "text", float("inf"), 7, 2.5, 1.5]
    log.scalar("nan", float("nan"), "", 3)
    value = points(tmp_path)["nan"][0]
    assert value != value


def test_names_kinds_steps_and_descriptions_are_kept(tmp_path: Path) -> None:
    log = MetricsLog(str(tmp_path))
    log.scalar("loss", 1.0, "the loss", 10)
    log.scalar("loss", 2.0, "ignored", None)
    log.composite("loss", "list", [1, 2], "")
    (file,) = frames(tmp_path).values()
    assert file[0].value == {"name": "loss", "kind": "scalar", "description": "the loss"}
    assert [f.step for f in file[1:3]] == [10, None]
    assert file[3].value["kind"] == "list" and file[4].series == file[3].series == 1
    assert file[1].time_us <= file[2].time_us and file[1].time_us > 1.6e15


@pytest.mark.parametrize("value", [object(), [1, 2], {"a": 1}, b"x", Scalar([1]), 1j])
def test_other_types_are_named(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UserErrorException, match=r"Metric 'acc': a value of type .* cannot be logged"):
        MetricsLog(str(tmp_path)).scalar("acc", value, "", None)


@pytest.mark.parametrize(("name", "step", "says"), [("", None, "name"), (3, None, "name"), ([], None, "name"),
                                                    ("m", 1.5, "step"), ("m", 2**70, "64 bits")])  # fmt: skip
def test_bad_names_and_steps_are_refused(tmp_path: Path, name: Any, step: Any, says: str) -> None:
    log = MetricsLog(str(tmp_path))
    log.scalar("m", 1.0, "", None)
    with pytest.raises(UserErrorException, match=says):
        log.scalar(name, 1.0, "", step)
    assert points(tmp_path) == {"m": [1.0]}


def test_a_point_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(str(tmp_path))
    log.scalar("m", 0.0, "", None)
    writes: list[bytes] = []
    monkeypatch.setattr(_metrics_log, "_write", lambda fd, data: writes.append(data) or os.write(fd, data))
    log.scalar("m", 1.0, "", None)
    log.scalar("m", 2, "", 5)
    assert len(writes) == 2 and all(spool.whole_frames(w) == len(w) for w in writes)


def test_threads_lose_nothing_and_keep_their_order(tmp_path: Path) -> None:
    log = MetricsLog(str(tmp_path))

    def work(number: int) -> None:
        for i in range(500):
            log.scalar(f"t{number}", i, "", None)
            log.scalar("shared", float(i), "", None)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = points(tmp_path)
    assert all(found[f"t{n}"] == list(range(500)) for n in range(4))
    assert len(found["shared"]) == 2000


def run_script(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "AZUREML_RUN_ID": "r1", "WINDLASS_WORKSPACE_DIR": str(folder),
           "WINDLASS_SPOOL_DIR": str(folder / "spool")}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(body)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path) -> None:
    done = run_script(tmp_path, """
        import os
        from windlass import Run
        run = Run.get_context()
        run.log("m", 1.0)
        child = os.fork()
        if child == 0:
            run.log("m", 2.0); run.log("n", 3)
            os._exit(0)
        os.waitpid(child, 0)
        run.log("m", 4.0)
    """)  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = frames(tmp_path / "spool")
    assert len(files) == 2
    assert sorted(len(f) for f in files.values()) == [3, 4]
    assert sorted(points(tmp_path / "spool")["m"]) == [1.0, 2.0, 4.0]


def test_what_was_logged_survives_kill_9(tmp_path: Path) -> None:
    done = run_script(tmp_path, """
        import os, signal
        from windlass import Run
        for i in range(100):
            Run.get_context().log("m", i)
        os.kill(os.getpid(), signal.SIGKILL)
    """)  # fmt: skip
    assert done.returncode == -9
    assert points(tmp_path / "spool")["m"] == list(range(100))


def test_a_full_disk_is_one_warning_and_a_count(tmp_path: Path) -> None:
    done = run_script(tmp_path, """
        import resource
        from windlass import Run
        run = Run.get_context()
        run.log("m", 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
        for i in range(1, 21):
            run.log("m", i)
        run.log("late", 1.0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        run.log("m", 99)
        run.log("late", 2.0)
        print("went on")
    """)  # fmt: skip
    assert done.returncode == 0 and done.stdout == "went on\n", done.stderr
    assert done.stderr.count("metric points cannot be written") == 1
    (file,) = frames(tmp_path / "spool").values()
    kept = points(tmp_path / "spool")["m"]
    (lost,) = [f.value for f in file if f.kind == spool.LOST]
    assert kept[-1] == 99 and kept[:-1] == list(range(len(kept) - 1)) and len(kept) > 3
    assert lost + len(kept) - 1 == 22, "every point is either there or counted"
    assert points(tmp_path / "spool")["late"] == [2.0]


def test_losses_are_told_at_the_end_when_nothing_else_is_logged(tmp_path: Path) -> None:
    done = run_script(tmp_path, """
        import resource
        from windlass import Run
        run = Run.get_context()
        run.log("m", 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (120, resource.RLIM_INFINITY))
        for i in range(9):
            run.log("m", i)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    """)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = frames(tmp_path / "spool").values()
    assert file[-1].kind == spool.LOST and file[-1].value > 5


def test_a_place_that_cannot_be_written_never_raises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    log = MetricsLog(str(tmp_path / "file" / "spool"))
    for i in range(3):
        log.scalar("m", i, "", None)
    assert capsys.readouterr().err.count("cannot be written") == 1
    assert log.mark() is None
    (tmp_path / "file").unlink()
    log.scalar("m", 3, "", None)
    (file,) = frames(tmp_path / "file" / "spool").values()
    assert [f.kind for f in file] == [spool.LOST, spool.SERIES, spool.INT] and file[0].value == 3


def test_one_writer_for_all_run_objects_of_a_process(tmp_path: Path) -> None:
    assert metrics_log(str(tmp_path)) is metrics_log(str(tmp_path))
    assert json.dumps(plain_value("m", Scalar(3))) == "3"
