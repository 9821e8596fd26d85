"""The server is killed at every step of what it does, doubled, stopped, bereft of its lock: nothing lost or twice."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from envs.conftest import Wheelhouse, wheels
from faults.evidence import Witnessed, left_over
from faults.hour import Gate, HeldRun, gone, stopped
from faults.shim import AFTER, BEFORE, Shim
from windlass import Experiment
from windlass import Workspace as UserWorkspace
from windlass._transport.autostart import TRY_AGAIN
from windlass._transport.client import Client
from windlass._transport.places import server_dir, socket_path
from windlass.cli.server import _asked
from windlass.errors import ServiceUnavailable, UserErrorException
from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace, kill

__all__ = ["wheels"]

LOGS = "diary.log(run, 60); diary.say(20); diary.keep(2)"
WAITS = "diary.log(run, 60); print('ready', flush=True); open(os.environ['TOLD']).read(); diary.log(run, 60)"


class Flow:
    """Something a user does, step by step, and what must be there once it is done. Its calls may be repeated."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace = workspace
        self.folder = folder

    def prepare(self) -> None:
        """What is there before; nothing is killed meanwhile."""

    def act(self) -> None:
        """The step under test; the server may die at any of its operations."""
        raise NotImplementedError

    def check(self) -> None:
        """Every acknowledged thing is there once."""
        raise NotImplementedError


class SubmitToEnd(Flow):
    """Submit with a new snapshot, queue, start, ingest, finish."""

    def prepare(self) -> None:
        self.run = Witnessed(self.workspace, self.folder, LOGS + f"  # {uuid.uuid4()}")

    def act(self) -> None:
        self.run.submit()
        self.workspace.wait(self.run.id)

    def check(self) -> None:
        self.run.check(status="Completed", reason="completed")
        again = Witnessed.submit(self.run).id
        assert again == self.run.id, "a repeated submit made another run"


class Build(Flow):
    """A run whose environment is built from local wheels."""

    def prepare(self) -> None:
        house = Wheelhouse.__new__(Wheelhouse)
        house.folder = Path(os.environ["PIP_FIND_LINKS"])
        self.name = f"tiny{uuid.uuid4().hex[:8]}"
        house.add(self.name, body="answer = 42\n")
        self.run = Witnessed(
            self.workspace, self.folder, f"import {self.name}; diary.log(run, {self.name}.answer)",
            environment={"pip_packages": [self.name]},
        )  # fmt: skip

    def act(self) -> None:
        self.run.submit()
        self.workspace.wait(self.run.id)

    def check(self) -> None:
        self.run.check(status="Completed", reason="completed")
        assert len(self.workspace.values(self.run.id, "loss")) == 42


class Upload(Flow):
    """A file uploaded into a run that has ended."""

    def prepare(self) -> None:
        self.run = Witnessed(self.workspace, self.folder, LOGS).submit()
        self.workspace.wait(self.run.id)
        self.content = random.Random(0).randbytes(300_000)

    def act(self) -> None:
        file = self.folder / "upload"
        file.write_bytes(self.content)
        with file.open("rb") as body:
            kept = self.workspace.client.call("PUT", f"/v1/runs/{self.run.id}/files/report.bin", body=body)
        assert kept["sha256"] == hashlib.sha256(self.content).hexdigest()

    def check(self) -> None:
        self.run.check(status="Completed")
        assert self.workspace.read(self.run.id, "report.bin") == self.content
        kept = {f["path"]: f for f in self.workspace.client.get(f"/v1/runs/{self.run.id}/files")["files"]}
        assert kept["report.bin"]["sha256"] == hashlib.sha256(self.content).hexdigest()


class Model(Flow):
    """A model registered from a run's output, twice by the same request."""

    def prepare(self) -> None:
        self.run = Witnessed(self.workspace, self.folder, LOGS).submit()
        self.workspace.wait(self.run.id)
        self.name, self.request_id = f"m{uuid.uuid4().hex[:8]}", str(uuid.uuid4())

    def _register(self) -> int:
        asked = {"name": self.name, "run_id": self.run.id, "path": "outputs", "request_id": self.request_id}
        return int(self.workspace.client.post("/v1/models", asked)["version"])

    def act(self) -> None:
        assert self._register() == 1

    def check(self) -> None:
        assert self._register() == 1, "a repeated registration made another version"
        found = self.workspace.client.get("/v1/models", name=self.name)["models"]
        assert [model["version"] for model in found] == [1]
        for file in found[0]["files"]:
            path = f"/v1/models/{self.name}/versions/1/files/{file['path']}"
            assert hashlib.sha256(self.workspace.client.open("GET", path).read()).hexdigest() == file["sha256"]


class Names(Flow):
    """A cluster, a registered environment, a tag and a dataset's datastore: small things that are acknowledged."""

    def prepare(self) -> None:
        self.run = Witnessed(self.workspace, self.folder, "pass").submit()
        self.workspace.wait(self.run.id)
        self.name = f"n{uuid.uuid4().hex[:8]}"
        (self.folder / self.name).mkdir()

    def act(self) -> None:
        client = self.workspace.client
        client.put(f"/v1/computes/{self.name}", {"name": self.name, "max_nodes": 3})
        made = client.post(f"/v1/registered-environments/{self.name}", {"definition": {"a": 1}, "version": None})
        assert made["version"] == "1"
        client.patch(f"/v1/runs/{self.run.id}", {"tags": {"stage": self.name}, "properties": {"p": self.name}})
        client.put(f"/v1/datastores/{self.name}", {"path": str(self.folder / self.name), "overwrite": True})

    def check(self) -> None:
        client = self.workspace.client
        assert client.get(f"/v1/computes/{self.name}")["spec"]["max_nodes"] == 3
        found = client.get("/v1/registered-environments", name=self.name)["environments"]
        assert [environment["version"] for environment in found] == ["1"]
        run = self.workspace.get(self.run.id)
        assert (run.tags["stage"], run.properties["p"]) == (self.name, self.name)
        assert client.get(f"/v1/datastores/{self.name}")["path"] == str(self.folder / self.name)


class Interactive(Flow):
    """An interactive run of this process, from its begin to its complete."""

    def prepare(self) -> None:
        self.witness = HeldRun(self.workspace, self.folder, "")
        self.experiment = Experiment(UserWorkspace.get("test"), "faults")
        self.runs = len(self.workspace.client.get("/v1/runs", experiment="faults", limit=1000)["runs"])

    def act(self) -> None:
        before = os.getcwd()
        (self.folder / uuid.uuid4().hex).mkdir()
        os.chdir(self.folder)
        try:
            run = self.experiment.start_logging(snapshot_directory=None)
            self.witness.id = run.id
            self.witness.diary.log(run, 50)
            self.witness.diary.keep(2)
            run.complete()
        finally:
            os.chdir(before)

    def check(self) -> None:
        self.witness.check(status="Completed", reason="completed")
        runs = self.workspace.client.get("/v1/runs", experiment="faults", limit=1000)["runs"]
        assert len(runs) == self.runs + 1, "a repeated begin made another run"


class Delete(Flow):
    """An experiment deleted with its runs."""

    def prepare(self) -> None:
        self.name = f"e{uuid.uuid4().hex[:8]}"
        run = Witnessed(self.workspace, self.folder, LOGS, experiment=self.name).submit()
        self.workspace.wait(run.id)
        self.id = run.id

    def act(self) -> None:
        try:
            self.workspace.client.delete(f"/v1/experiments/{self.name}")
        except UserErrorException:  # the repeated call finds nothing: the first one had done it
            pass

    def check(self) -> None:
        assert self.name not in [e["name"] for e in self.workspace.client.get("/v1/experiments")["experiments"]]
        assert not os.path.exists(os.path.join(self.workspace.dir, "runs", self.id)), "its files are left"


FLOWS: list[type[Flow]] = [SubmitToEnd, Build, Upload, Model, Names, Interactive, Delete]


@pytest.fixture
def shim(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Shim:
    """Counts what the workspace's server does to files."""
    made = Shim(tmp_path, home)
    for name, value in made.variables.items():
        monkeypatch.setenv(name, value)
    return made


class Struck:
    """A workspace whose server is killed at chosen operations."""

    def __init__(self, workspace: Workspace, shim: Shim, home: Path, folder: Path) -> None:
        self.workspace, self.shim, self.home, self.folder = workspace, shim, home, folder

    def operations(self, kind: type[Flow]) -> int:
        """How many operations of the server the flow has, without any death."""
        flow = self._prepared(kind)
        flow.act()
        count = self.shim.count
        self.shim.only(-1)
        flow.check()
        return count

    def strike(self, kind: type[Flow], number: int, when: int) -> bool:
        """Let the server die at that operation of the flow, and check everything; False when it did not come so far."""
        flow = self._prepared(kind)
        server = self.workspace.server_pid()
        self.shim.kill_at(number, when)
        try:
            flow.act()
        finally:
            self.shim.mend()
            self.shim.only(-1)
        died = self.workspace.server_pid() != server
        flow.check()
        return died

    def _prepared(self, kind: type[Flow]) -> Flow:
        flow = kind(self.workspace, self.folder)
        flow.prepare()
        self.shim.reset()
        self.shim.only(self.workspace.server_pid())
        return flow

    def finish(self) -> None:
        """Server and agent end in good order: nothing half done is left, also by the servers that were killed."""
        self.workspace.client.get("/v1/server")
        self.workspace.agent_pid()  # the one that may yet be clearing up
        stopped(self.workspace)
        assert not left_over(self.home)


@pytest.fixture
def struck(workspace: Workspace, shim: Shim, home: Path, tmp_path: Path, wheels: Wheelhouse) -> Struck:
    workspace.client.get("/v1/server")
    return Struck(workspace, shim, home, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("kind", FLOWS, ids=lambda kind: kind.__name__)
def test_the_server_is_killed_at_every_operation_of(
    kind: type[Flow], struck: Struck, chance: random.Random, rounds: Callable[[int], range]
) -> None:
    """A sample of them by default; with ``--rounds`` as many, evenly spread, so that enough rounds are all of them."""
    count, sample = struck.operations(kind), len(rounds(4))
    assert count, "the shim has seen nothing of the server"
    places = sorted(chance.sample(range(1, count + 1), min(sample, count)))
    died = 0
    for number in places:
        when = chance.choice((BEFORE, AFTER))
        print(f"{kind.__name__}: operation {number} of {count}, {'before' if when == BEFORE else 'after'}")
        died += struck.strike(kind, number, when)
    print(f"the server died {died} times of {len(places)}")
    assert died, "the server never died"
    struck.finish()


# Many servers, one workspace


def by_hand(workspace: Workspace) -> subprocess.Popen[str]:
    """A server started as somebody would by hand."""
    return subprocess.Popen(
        [sys.executable, "-m", "windlassd", "serve", "--workspace-dir", workspace.dir],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def refused(server: subprocess.Popen[str]) -> str:
    """What a server says that may not serve."""
    said = server.communicate(timeout=60)[1]
    assert server.returncode == TRY_AGAIN, said
    return said


def test_a_second_server_ends_at_once_and_says_which_has_the_workspace(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workspace.server_pid()
    said = refused(by_hand(workspace))
    assert f"Another server (pid {first}) has the workspace {workspace.dir}" in said and "server status" in said
    os.unlink(os.path.join(server_dir(workspace.dir), "server.lock"))
    assert f"(pid {first})" in refused(by_hand(workspace)), "whoever deletes the lock must not let in a second server"
    Witnessed(workspace, tmp_path, LOGS).submit().check(status="Completed")
    assert workspace.server_pid() == first


@pytest.mark.faults
def test_many_servers_and_clients_at_once_make_one_server(workspace: Workspace, tmp_path: Path) -> None:
    servers = [by_hand(workspace) for _ in range(6)]
    run = Witnessed(workspace, tmp_path, LOGS).submit()
    run.check(status="Completed")
    pid = workspace.server_pid()
    losers = [server for server in servers if server.pid != pid]
    assert len(losers) >= 5
    for server in losers:
        assert "Another server" in refused(server)
    assert workspace.server_pid() == pid
    workspace.stop()
    for server in servers:
        server.wait(60)
        server.communicate()


@pytest.mark.faults
def test_a_stopped_server_keeps_its_workspace_and_goes_on_where_it_was(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.2")
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "1")
    told = tmp_path / "told"
    os.mkfifo(told)
    run = Witnessed(workspace, tmp_path, WAITS, environment_variables={"TOLD": str(told)}).submit()
    workspace.wait_for_text(run.id, "ready")
    server = workspace.server_pid()
    os.kill(server, signal.SIGSTOP)
    try:
        told.write_text("go on")
        assert "Another server" in refused(by_hand(workspace))
        client = Client(workspace.dir)
        with pytest.raises(ServiceUnavailable, match=f"process {server} was stopped.*kill -CONT {server}"):
            client.open("GET", "/v1/server", timeout_s=3.0)
        client.close()
        monkeypatch.setattr("windlass.cli.server._ANSWER_S", 2.0)
        with pytest.raises(ServiceUnavailable, match=f"kill -CONT {server}"):
            _asked(workspace.dir)
    finally:
        os.kill(server, signal.SIGCONT)
    record = run.check(status="Completed")
    assert workspace.server_pid() == server
    statuses = [entry["status"] for entry in record.history]
    assert "NotResponding" not in statuses, "it was the server that was silent, not the agent"


@pytest.mark.faults
def test_a_server_whose_socket_is_gone_makes_room(workspace: Workspace, tmp_path: Path) -> None:
    first = workspace.server_pid()
    os.unlink(socket_path(workspace.dir))
    Witnessed(workspace, tmp_path, LOGS).submit().check(status="Completed")
    assert workspace.server_pid() != first


# Killed again and again


@pytest.mark.faults
def test_a_server_that_is_killed_again_and_again_while_jobs_go(
    workspace: Workspace, shim: Shim, home: Path, tmp_path: Path, chance: random.Random,
    rounds: Callable[[int], range], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Jobs that log all the while, others in line behind them, and no server that lives long."""
    monkeypatch.setenv("WINDLASS_LOCAL_SLOTS", "3")
    for number in rounds(2):
        told = [tmp_path / f"told-{number}-{i}" for i in range(3)]
        going = []
        for path in told:
            os.mkfifo(path)
            text = f"print('ready', flush=True); {LOGS}; open(os.environ['TOLD']).read(); {LOGS}"
            going.append(Witnessed(workspace, tmp_path, text, environment_variables={"TOLD": str(path)}).submit())
        waiting = [Witnessed(workspace, tmp_path, LOGS) for _ in range(3)]
        for job, behind, path in zip(going, waiting, told, strict=True):
            server = workspace.server_pid()
            shim.reset()
            shim.only(server)
            place, when = chance.randint(1, 150), chance.choice((BEFORE, AFTER))
            print(f"round {number}: the server dies at operation {place}, {when}")
            shim.kill_at(place, when)
            behind.submit()
            workspace.wait_for_text(job.id, "ready")
            path.write_text("go on")
        shim.mend()
        for run in (*going, *waiting):
            run.check(status="Completed", reason="completed")
    stopped(workspace)
    assert not left_over(home)


@pytest.mark.faults
def test_a_server_is_killed_at_every_operation_of_its_start(
    workspace: Workspace, shim: Shim, home: Path, tmp_path: Path, chance: random.Random, rounds: Callable[[int], range]
) -> None:
    """There is something to take up: a job that goes, one in line, an ended run and a file that is half sent."""
    told = tmp_path / "told"
    os.mkfifo(told)
    workspace.client.put("/v1/computes/small", {"name": "small", "max_nodes": 1})
    ended = Witnessed(workspace, tmp_path, LOGS).submit()
    ended.check(status="Completed")
    going = Witnessed(workspace, tmp_path, WAITS, target="small", environment_variables={"TOLD": str(told)}).submit()
    workspace.wait_for_text(going.id, "ready")
    waiting = Witnessed(workspace, tmp_path, LOGS, target="small").submit()
    half = b"x" * 100_000
    part = f"/v1/blobs/{hashlib.sha256(half).hexdigest()}?size={len(half)}&offset="
    workspace.client.call("PUT", part + "0", body=half[:50_000])
    shim.only(-1)
    count = 60  # the start's own operations and what follows at once; fewer do no harm
    for number in sorted(chance.sample(range(1, count + 1), min(count, len(rounds(4))))):
        kill(workspace.server_pid())
        print(f"the server that starts dies at operation {number}")
        shim.reset()
        starting = by_hand(workspace)
        shim.only(starting.pid)
        shim.kill_at(number, chance.choice((BEFORE, AFTER)))
        workspace.client.get("/v1/server")
        shim.mend()
        shim.only(-1)
        if starting.pid != workspace.server_pid():
            starting.wait(60)
        assert starting.stdout and starting.stderr
        starting.stdout.close()
        starting.stderr.close()
        starting.returncode = starting.returncode or 0  # it may live on without us
    answer = workspace.client.call("PUT", part + "50000", body=half[50_000:])
    assert answer["stored"]
    told.write_text("go on")
    for run in (ended, going, waiting):
        run.check(status="Completed")
    stopped(workspace)
    assert not left_over(home)


@pytest.mark.faults
def test_a_server_is_killed_in_the_middle_of_a_build(
    workspace: Workspace, home: Path, tmp_path: Path, wheels: Wheelhouse
) -> None:
    """The builder dies with it; the next server builds anew, and nothing half built is left."""
    hold = wheels.add_held("slowly", tmp_path / "hold")
    run = Witnessed(
        workspace, tmp_path, "import slowly; diary.log(run, 5)", environment={"pip_packages": ["slowly"]}
    ).submit()
    builder = hold.wait_started()
    assert workspace.get(run.id).status is RunStatus.PREPARING
    kill(workspace.server_pid())
    gone(builder)
    hold.let_pass()
    run.check(status="Completed", reason="completed")
    statuses = [entry["status"] for entry in workspace.get(run.id).history]
    assert len(statuses) == len(set(statuses)), statuses
    stopped(workspace)
    assert not left_over(home)


# Idle, with something left to do

CARRIES = """
import sys
sys.path.insert(0, sys.argv[3])
from diary import Diary
from azureml.core import Run, Workspace
diary = Diary(sys.argv[2])
diary.log(Run.get(Workspace.get("test"), sys.argv[1]), 200)
print("logged", flush=True)
sys.stdin.readline()
"""


@pytest.mark.faults
def test_what_a_dead_process_logged_into_an_ended_run_is_brought_in_at_the_next_start(
    workspace: Workspace, tmp_path: Path, home: Path
) -> None:
    gate = Gate(home, tmp_path)
    run = Witnessed(workspace, tmp_path, "pass").submit()
    run.check(status="Completed")
    server = workspace.server_pid()
    client = subprocess.Popen(
        [sys.executable, "-c", CARRIES, run.id, run.diary.path, os.path.dirname(__file__)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert client.stdout is not None and client.stdout.readline() == "logged\n"
    gate.shut()
    kill(server)
    client.kill()
    client.communicate()
    gate.open()
    workspace.client.get("/v1/server")
    run.check_points()
    clients = os.path.join(workspace.dir, "clients")
    assert not os.path.isdir(clients) or not os.listdir(clients)


@pytest.mark.faults
def test_a_server_does_not_stop_before_big_outputs_have_their_checksums(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_SERVER_IDLE_S", "0.05")
    size = 40 << 20
    run = Witnessed(workspace, tmp_path, f"diary.keep(2, {size})", size=size).submit()
    record = workspace.wait(run.id)
    server = workspace.server_pid()
    gone(server)
    record = run.check(status="Completed")
    assert record.verified
    kept = {f["path"]: f for f in workspace.client.get(f"/v1/runs/{run.id}/files")["files"]}
    assert all(f["sha256"] for f in kept.values())


@pytest.mark.faults
def test_checksums_that_a_killed_server_did_not_come_to_are_made_by_the_next(
    workspace: Workspace, tmp_path: Path
) -> None:
    run = Witnessed(workspace, tmp_path, "diary.keep(2, 40 << 20)", size=40 << 20).submit()
    workspace.wait(run.id)
    kill(workspace.server_pid())
    workspace.client.get("/v1/server")
    workspace.wait_for(run.id, lambda record: record.verified)
    run.check(status="Completed")


@pytest.mark.faults
def test_an_open_stream_keeps_the_server(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_SERVER_IDLE_S", "0.2")
    server = workspace.server_pid()
    stream = workspace.client.open("GET", "/v1/stream", own_connection=True)
    with pytest.raises(AssertionError, match="does not end"):
        gone(server, timeout_s=2)
    stream.close()
    gone(server)
