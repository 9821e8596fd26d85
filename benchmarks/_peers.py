"""What users would pick instead, each in an environment of its own, and how one measures them beside Windlass.

Who takes part is a worker: a process of that tool's environment that runs a file of ``_drivers/`` and does, when told
to, what a user of the tool would do, timing it with its own clock. Windlass and the bare baselines are such workers
too. A tool that cannot be installed or fails is a row of the table with the reason, never a row less.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from _measure import note, table
from _plot import OURS, PEER, Bar

HERE = Path(__file__).resolve().parent
NAMES = {
    "aim": "Aim", "metaflow": "Metaflow", "mlflow": "MLflow", "ray": "Ray", "submitit": "submitit", "wandb": "W&B",
}  # fmt: skip
_ENVIRONMENTS = HERE / ".peers"
_PINS = HERE.parent / "constraints"
_PATIENCE_S, _LIMIT_S = 600, 60
_NO_CALLS_HOME = {
    "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0", "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "METAFLOW_USER": "bench", "GIT_PYTHON_REFRESH": "quiet",
}  # fmt: skip

Times = Mapping[str, float]


class CannotMeasure(Exception):
    """A tool cannot be installed, started or used here; the text is the reason."""


class Worker:
    """A process that runs ``_drivers/{driver}.py`` and obeys; what its tool prints goes into a log of its own."""

    def __init__(self, driver: str, python: str, **variables: str) -> None:
        folder = Path(os.environ["WINDLASS_HOME"], "peers", f"{driver}-{os.urandom(3).hex()}")
        folder.mkdir(parents=True)
        self._log = folder / "worker.log"
        path = os.path.dirname(python) + os.pathsep + os.environ["PATH"]
        environment = {**os.environ, **_NO_CALLS_HOME, "PATH": path, "HOME": str(folder), **variables}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, str(HERE / "_drivers" / f"{driver}.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, cwd=folder, env=environment, text=True,
            )  # fmt: skip

    def __call__(self, verb: str, **given: Any) -> dict[str, Any]:
        """What the worker answers.

        Raises:
            CannotMeasure: it failed; the text is the worker's error.
        """
        into, back = _pipe(self._process.stdin), _pipe(self._process.stdout)
        try:
            into.write(json.dumps({"verb": verb, "given": given}) + "\n")
            into.flush()
            if not select.select([back], [], [], _PATIENCE_S)[0]:
                self._process.kill()
                raise CannotMeasure(f"no answer to {verb!r} for {_PATIENCE_S} s")
            line = back.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            last = self._log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            raise CannotMeasure(f"ended in the middle of {verb!r}: {last or 'without a word'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CannotMeasure(answer["error"])
        return answer

    def close(self) -> None:
        """End the worker, and with it what it started."""
        try:
            _pipe(self._process.stdin).close()
        except BrokenPipeError:
            pass  # it has ended already
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()


@dataclass(frozen=True)
class Contestant:
    """One row: who, what it promises when it says that it is done, and how to begin."""

    label: str
    promise: str
    begin: Callable[[ExitStack], Callable[[], Times]]
    """Starts what is needed, to be ended by the stack; the result does and times the work once."""
    kind: str = PEER


@dataclass
class Result:
    """What a contestant did in each round, or why it could not."""

    contestant: Contestant
    rounds: list[Times] = field(default_factory=list)
    problem: str = ""

    def median(self, what: str) -> float:
        """Of all rounds."""
        return statistics.median(times[what] for times in self.rounds)

    def ratio(self, base: Result, what: str) -> float:
        """Median of what this took in a round over what ``base`` took in the same round."""
        pairs = zip(self.rounds, base.rounds, strict=True)
        return statistics.median(ours[what] / theirs[what] for ours, theirs in pairs)


def race(contestants: Sequence[Contestant], rounds: int) -> list[Result]:
    """Every round does each once, in turns; one round more, the first, is not counted.

    Where the tools are slow there are fewer rounds, but two: none begins after ``_LIMIT_S``. A peer that fails has its
    problem for a result. When Windlass or a baseline fails, the benchmark has failed.
    """
    results = [Result(contestant) for contestant in contestants]
    measures: dict[str, Callable[[], Times]] = {}
    with ExitStack() as stack:
        for result in results:
            _try(result, partial(_begin, result.contestant, measures, stack))
        began = time.monotonic()
        for number in range(rounds + 1):
            if number > 2 and time.monotonic() - began > _LIMIT_S:
                break
            for result in results:
                _try(result, partial(_once, result, measures, counts=number > 0))
    return results


@dataclass(frozen=True)
class Column:
    """Something measured: ``key`` of the times, its title, and how it is written."""

    key: str
    title: str
    form: Callable[[float], str]


def tell(results: Sequence[Result], against: str, columns: Sequence[Column], promise: str = "what holds then") -> None:
    """Print the table: each column's median, and how many times that of ``against`` it is in the same rounds."""
    base = next(result for result in results if result.contestant.label == against)
    titles = [title for column in columns for title in (column.title, f"x {against}")]
    cells = []
    for result in results:
        who = result.contestant
        found = [text for column in columns for text in _measured(result, base, column)]
        if result.problem:
            found[0] = f"**could not be measured**: {result.problem}"
        cells.append([f"**{who.label}**" if who.kind == OURS else who.label, *found, who.promise])
    table(["", *titles, promise], cells)
    note(f"Medians of rounds done in turns: {len(base.rounds)}.")


def _measured(result: Result, base: Result, column: Column) -> tuple[str, str]:
    """The median and the ratio, as text."""
    if result.problem or not all(column.key in times for times in result.rounds):
        return "", ""
    return column.form(result.median(column.key)), ratio_text(result.ratio(base, column.key))


def chart(results: Sequence[Result], key: str) -> list[Bar]:
    """A bar for each that was measured, or its reason for none."""
    found = []
    for result in results:
        who = result.contestant
        if result.problem:
            found.append(Bar(who.label, None, who.kind, f"could not be measured: {result.problem}"[:70]))
        elif all(key in times for times in result.rounds):
            found.append(Bar(who.label, result.median(key), who.kind))
    return found


def ratio_text(ratio: float) -> str:
    """``12x``, with as many digits as make sense."""
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2f}x"


def peer(name: str) -> str:
    """The interpreter of that tool's environment, which is made when it is not there or its pins have changed.

    Raises:
        CannotMeasure: it cannot be installed here.
    """
    pins = _PINS / f"bench-{name}.txt"
    wanted = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    folder = _ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "made"
    if not stamp.exists() or stamp.read_text() != wanted:
        sys.stderr.write(f"{NAMES[name]}: making its environment (once) …\n")
        _uv("venv", "-q", "--clear", "--python", sys.executable, str(folder))
        _uv("pip", "install", "-q", "--python", str(python), "-r", str(pins))
        stamp.write_text(wanted)
    return str(python)


def worker(stack: ExitStack, driver: str, name: str = "", **variables: str) -> Worker:
    """A worker in the tool's environment, in Windlass' own without a name; it ends with the stack."""
    found = Worker(driver, peer(name) if name else sys.executable, **variables)
    stack.callback(found.close)
    return found


def once(begin: Callable[[ExitStack], Worker]) -> Callable[[ExitStack], Worker]:
    """``begin``, for contestants that share its worker: it is begun by the first of them."""
    begun: list[Worker] = []

    def again(stack: ExitStack) -> Worker:
        if not begun:
            begun.append(begin(stack))
        return begun[0]

    return again


def windlass() -> Callable[[ExitStack], Worker]:
    """Windlass' worker, for all contestants that are Windlass."""
    return once(lambda stack: worker(stack, "drive_windlass"))


def mlflow(served: bool) -> Callable[[ExitStack], Worker]:
    """MLflow's, on a SQLite database of its own, directly or through its server on this machine."""

    def begin(stack: ExitStack) -> Worker:
        folder = os.path.join(os.environ["WINDLASS_HOME"], "mlflow-" + os.urandom(3).hex())
        os.mkdir(folder)
        database, artifacts, port = f"sqlite:///{folder}/mlflow.db", folder + "/artifacts", free_port()
        uri = f"http://127.0.0.1:{port}" if served else database
        found = worker(stack, "drive_mlflow", "mlflow", MLFLOW_TRACKING_URI=uri, BENCH_ARTIFACTS=artifacts)
        if served:
            found("serve_http", database=database, artifacts=artifacts, port=port)
        return found

    return once(begin)


def ray(stack: ExitStack) -> Worker:
    """Ray's, with a head and a dashboard of its own that are up when it comes back."""
    short = tempfile.mkdtemp(prefix="ray-")  # paths of sockets have little room
    stack.callback(shutil.rmtree, short, ignore_errors=True)
    found = worker(stack, "drive_ray", "ray")
    found("start", port=free_port(), gcs_port=free_port(), folder=short)
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _uv(*arguments: str) -> None:
    done = subprocess.run(["uv", *arguments], capture_output=True, text=True, env={**os.environ, "PATH": _path()})
    if done.returncode:
        raise CannotMeasure(f"cannot be installed here: {' '.join(done.stderr.split())[:300]}")


def _path() -> str:
    return os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]


def _try(result: Result, step: Callable[[], object]) -> None:
    """One contestant's failure is its row, and the others go on."""
    if result.problem:
        return
    try:
        step()
    except CannotMeasure as problem:
        if result.contestant.kind != PEER:
            sys.exit(f"{result.contestant.label}: {problem}")  # nothing to hold the others against
        result.problem = " ".join(str(problem).split())[:300]
        sys.stderr.write(f"{result.contestant.label} could not be measured: {result.problem}\n")


def _begin(who: Contestant, measures: dict[str, Callable[[], Times]], stack: ExitStack) -> None:
    measures[who.label] = who.begin(stack)


def _once(result: Result, measures: Mapping[str, Callable[[], Times]], counts: bool) -> None:
    measured = measures[result.contestant.label]()
    if counts:
        result.rounds.append(measured)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
