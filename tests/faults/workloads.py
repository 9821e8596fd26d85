"""What a child process does to a folder while it is cut: the works of a workspace, each acknowledged as it is done.

Started as ``python -m faults.workloads`` below the shim. Each line on its stdin is ``name folder acknowledgements``: a
fork carries that workload out and may die at any moment; how it ended comes back as a line. A fork costs a
thirtieth of a new interpreter.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from windlass.specs.cluster import ClusterSpec
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.run import Reason, RunSpec
from windlass.specs.spool import FLOAT, JSON, LOST, SERIES, Frame
from windlass.specs.status import RunStatus
from windlassd.blobs.files import FileBlobStore
from windlassd.envs.cache import EnvironmentCache, Use
from windlassd.store import _sqlite
from windlassd.store.base import DatasetRecord, DatastoreRecord, ModelRecord, Writer
from windlassd.store.sql import SqlStore
from windlassd.testing.fake_builder import FakeBuilder

Step = Callable[[Writer], Any]
Acknowledge = Callable[[str], None]
PLACE = "workspaces/one"
"""Of the store, below the folder that is cut."""
BATCHES, POINTS = 40, 180
ENVIRONMENTS = EnvironmentSpec(pip_packages=("a",)), EnvironmentSpec(pip_packages=("b", "c"))
PAYLOAD = 20_000


def steps() -> Sequence[Step]:
    """Writes of every kind, in order; made anew they are the same. The state after each is known by its number."""
    return [*_made(), *(_batch(number) for number in range(BATCHES)), *_batches_that_change_nothing(), *_ended()]


def _spec(experiment: str, **values: Any) -> RunSpec:
    return RunSpec(experiment=experiment, script="train.py", snapshot_id="0" * 64, **values)


def _made() -> list[Step]:
    files = [{"path": "train.py", "sha256": "1" * 64, "size": 3, "mode": 420}]
    return [
        lambda w: w.put_cluster(ClusterSpec("gpu", max_nodes=3), 1.0),
        lambda w: w.set_meta("a", "b"),
        lambda w: w.add_snapshot("0" * 64, files, 1.0),
        lambda w: w.create_run("r", _spec("one", tags={"a": "b"}), now=2.0, request_id="q"),
        lambda w: w.create_run("s", _spec("two"), now=3.0),
        lambda w: w.create_run(w.next_child_id("r"), _spec("one", parent_id="r"), now=4.0),
        lambda w: w.transition("r", RunStatus.STARTING, now=5.0),
        lambda w: w.transition("r", RunStatus.RUNNING, now=6.0, reason=Reason("running", "It runs.")),
        lambda w: w.tag("r", {"c": "d"}, remove=["a"]),
        lambda w: w.add_properties("r", {"p": "q"}),
        lambda w: w.update_run("r", nodes=["here"], environment={"key": "x"}),
    ]


def _batch(number: int) -> Step:
    """One of the batches of a spool; together they fill several chunks, of which some are sealed."""
    frames = (
        [Frame(SERIES, s, 0, None, {"name": name}) for s, name in enumerate(("loss", "note"))] if not number else []
    )
    for i in range(number * POINTS, (number + 1) * POINTS):
        frames.append(Frame(FLOAT, 0, i * 1000, i, i / 8))
    frames.append(Frame(JSON, 1, number * 1000, None, {"row": [number, None]}))
    if number == 5:
        frames.append(Frame(LOST, 0, 0, None, 7))
    return lambda w: w.append("r", "1-a.spool", number * 1000, (number + 1) * 1000, frames)


def _batches_that_change_nothing() -> list[Step]:
    return [_batch(3), _batch(BATCHES + 3)]


def _ended() -> list[Step]:
    kept = [{"path": f"outputs/{i}", "size": i, "sha256": "2" * 64} for i in range(20)]
    model = ModelRecord("net", 0, 7.0, run_id="r", path="outputs/1", files=kept[:2], tags={})
    return [
        lambda w: w.keep_files("r", kept),
        lambda w: w.transition("r", RunStatus.FINALIZING, now=7.0),
        lambda w: w.transition("r", RunStatus.COMPLETED, now=8.0, reason=Reason("completed", "It is done.")),
        lambda w: w.add_model(model),
        lambda w: w.add_model(model),
        lambda w: w.update_model("net", 1, tags={"best": "yes"}),
        lambda w: w.delete_model("net", 2),
        lambda w: w.put_datastore(DatastoreRecord("data", "/data", 9.0)),
        lambda w: w.add_dataset(DatasetRecord("id-1", "File", {"places": []}, 9.0, name="set")),
        lambda w: w.update_dataset("id-1", 10.0, description="described"),
        lambda w: w.add_environment("env", {"packages": ["x"]}, 10.0),
        lambda w: w.label_environment("env", "1", ["stable"]),
        lambda w: w.update_experiment("one", 11.0, tags={"x": "y"}),
        lambda w: w.transition("s", RunStatus.CANCEL_REQUESTED, now=11.0),
        lambda w: w.transition("s", RunStatus.CANCELED, now=12.0),
        lambda w: w.delete_experiment("two"),
        lambda w: w.delete_cluster("gpu"),
        lambda w: w.set_meta("end", "yes"),
    ]


def store(folder: str, acknowledge: Acknowledge) -> None:
    """All steps, some of them sharing a commit; checkpoints come often, as they would after days."""
    _sqlite._WRITER_SETTINGS = (*_sqlite._WRITER_SETTINGS, "PRAGMA wal_autocheckpoint=30")
    opened = SqlStore.open(os.path.join(folder, PLACE))
    acknowledge("0")
    todo = steps()
    for first in range(0, len(todo), 4):
        for number, future in enumerate([opened.write(step) for step in todo[first : first + 4]], first + 1):
            future.result()
            acknowledge(str(number))
        opened.read(lambda r: r.list_runs())
    opened.close()
    acknowledge("closed")


def migrate(folder: str, acknowledge: Acknowledge) -> None:
    """Open what an older version left, and write to it."""
    opened = SqlStore.open(os.path.join(folder, PLACE))
    acknowledge("open")
    opened.write(lambda w: w.set_meta("migrated", "yes")).result()
    acknowledge("written")
    opened.close()


def blob(number: int) -> bytes:
    """The content of the blob of this number."""
    return hashlib.sha256(b"%d" % number).digest() * (1 + number * 40 % 500)


def blobs(folder: str, acknowledge: Acknowledge) -> None:
    """Blobs alone, many together, from a file, one twice."""
    opened = FileBlobStore(os.path.join(folder, "blobs"))
    for number in (0, 1, 2, 1):
        opened.put([blob(number)], hashlib.sha256(blob(number)).hexdigest())
        acknowledge(str(number))
    for numbers in (range(10, 25), range(100, 170)):
        opened.put_many((hashlib.sha256(blob(n)).hexdigest(), [blob(n)]) for n in numbers)
        for number in numbers:
            acknowledge(str(number))
    opened.delete(hashlib.sha256(blob(2)).hexdigest())
    opened.close()


def environment_cache(folder: str) -> tuple[EnvironmentCache, FakeBuilder]:
    """The environments below ``folder``, made by a builder without packages."""
    builder = FakeBuilder()
    builder.payload = PAYLOAD
    root = os.path.join(folder, "environments")
    return EnvironmentCache(root, builder_for=lambda spec: builder, builder_named=lambda name: builder), builder


def environments(folder: str, acknowledge: Acknowledge) -> None:
    """Environments made for runs, made anew, released and removed; what is told ready is acknowledged by its key."""
    made, builder = environment_cache(folder)
    os.makedirs(os.path.join(folder, "ws"), exist_ok=True)
    uses = [Use(os.path.join(folder, "ws"), f"run_{number}") for number in range(2)]
    first = made.prepare(ENVIRONMENTS[0], _drop, holders=lambda: uses[:1])
    acknowledge("has " + first.key)
    second = made.prepare(ENVIRONMENTS[1], _drop, holders=lambda: uses[1:])
    acknowledge("has " + second.key)
    made.join()
    acknowledge("settled")
    builder.versions["a"] = "2.0"
    acknowledge("has " + made.refresh(ENVIRONMENTS[0], _drop).key)
    made.join()
    acknowledge("removes " + first.key)
    made.release(uses[0])
    made.remove(first.key)
    acknowledge("prunes")
    made.shelf.prune(max_bytes=0)
    made.close()


def _drop(line: str) -> None:
    pass


WORKLOADS: dict[str, Callable[[str, Acknowledge], None]] = {
    "store": store, "migrate": migrate, "blobs": blobs, "environments": environments,
}  # fmt: skip


def acknowledger(path: str) -> Acknowledge:
    """Says what is done in the file ``path``, and in the trace where the shim keeps one."""
    mark = getattr(ctypes.CDLL(None), "cut_mark", None)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def acknowledge(text: str) -> None:
        os.write(descriptor, text.encode() + b"\n")
        if mark is not None:
            mark(text.encode())

    return acknowledge


def main() -> None:
    """Carry out what stdin asks for, each in a fork."""
    for line in sys.stdin:
        name, folder, acknowledgements = json.loads(line)
        child = os.fork()
        if not child:
            try:
                WORKLOADS[name](folder, acknowledger(acknowledgements))
            except BaseException:  # the edge of the child: it must not go on as its parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
