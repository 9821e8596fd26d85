"""A run from submit to its record, and every way it can go wrong, with real processes."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import uuid

import pytest

from windlass._transport.places import socket_path
from windlass.errors import AzureMLException, ComputeTargetException, ServiceUnavailable, UserErrorException
from windlass.specs.status import RunStatus
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace


def statuses(workspace: Workspace, run_id: str) -> list[str]:
    found = [entry["status"] for entry in workspace.get(run_id).history]
    return [s for i, s in enumerate(found) if i == 0 or found[i - 1] != s]


def test_a_script_becomes_a_record(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        import os, sys
        assert os.path.isdir("outputs") and os.path.isdir("logs")
        print("arguments:", *sys.argv[1:])
        open("outputs/model.txt", "w").write("weights")
        open("logs/note.txt", "w").write("hello")
        open("scratch.txt", "w").write("not kept")
        """,
        "--rate", "0.1", "--home", "$AZUREML_RUN_ID",
    )  # fmt: skip
    run = shared.wait(run_id)
    assert (run.status, run.reason.code) == (RunStatus.COMPLETED, "completed")
    assert run.created <= run.started <= run.ended
    assert shared.log(run_id) == f"arguments: --rate 0.1 --home {run_id}\n"
    kept = [f for f in shared.files(run_id) if "image_build" not in f]
    assert kept == ["azureml-logs/70_driver_log.txt", "logs/note.txt", "outputs/model.txt"]
    assert shared.read(run_id, "outputs/model.txt") == b"weights"
    order = [s.value for s in RunStatus]
    assert statuses(shared, run_id) == sorted(statuses(shared, run_id), key=order.index)


def test_a_script_sees_neither_the_servers_packages_nor_its_variables(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    run_id = workspace.submit(
        """
        import os, sys
        print([p for p in sys.path if "windlass" in p and not p.endswith("work")])
        print({k for k in os.environ if k.startswith("PYTHON")}, os.environ.get("VIRTUAL_ENV"))
        import azureml, windlass
        print(os.listdir(os.path.dirname(os.path.dirname(windlass.__file__))))
        """
    )
    assert workspace.wait(run_id).status is RunStatus.COMPLETED
    _, variables, packages = workspace.log(run_id).splitlines()
    assert "DONTWRITEBYTECODE" not in variables and variables.endswith("None")
    metadata = {name for name in eval(packages) if name.endswith(".dist-info")}
    assert set(eval(packages)) - metadata == {"windlass", "azureml"}
    assert all(name.startswith("azureml_") for name in metadata)


@pytest.mark.parametrize(
    ("script", "code", "signal_name", "reason", "words"),
    [
        ("import sys; print('going'); sys.exit(3)", 3, None, "exit_code", ["exited with code 3", "going"]),
        ("raise ValueError('bad learning rate')", 1, None, "exit_code", ["code 1", "ValueError: bad learning rate"]),
        ("import os; os.kill(os.getpid(), 9)", None, "SIGKILL", "signal", ["SIGKILL", "wrote nothing"]),
        ("import os; os.kill(os.getpid(), 11)", None, "SIGSEGV", "signal", ["SIGSEGV", "crashed in native code"]),
        ("x = [0] * (1 << 60)", 1, None, "out_of_memory", ["ran out of memory", "MemoryError"]),
    ],
)
def test_a_failed_run_says_why(
    shared: Workspace, script: str, code: int | None, signal_name: str | None, reason: str, words: list[str]
) -> None:
    run = shared.wait(shared.submit(script))
    assert (run.status, run.exit_code, run.exit_signal) == (RunStatus.FAILED, code, signal_name)
    assert run.reason.code == reason
    for word in words:
        assert word in run.reason.message
    assert "local-0" in run.reason.message


def test_outputs_and_logs_are_seen_while_the_run_goes(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        import os, signal
        open("outputs/first.txt", "w").write("early")
        print("wrote it", flush=True)
        signal.pause()
        """
    )
    shared.wait_for_text(run_id, "wrote it")
    assert shared.read(run_id, "outputs/first.txt") == b"early"
    assert shared.log(run_id) == "wrote it\n"
    shared.client.post(f"/v1/runs/{run_id}/cancel")
    assert shared.wait(run_id).status is RunStatus.CANCELED
    assert shared.read(run_id, "outputs/first.txt") == b"early"


def test_cancel_gives_the_script_time_and_ends_its_children(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        import os, signal, subprocess, sys
        child = "import os, signal; os.setsid(); print('child', flush=True); signal.pause()"
        subprocess.Popen([sys.executable, "-c", child])
        signal.signal(signal.SIGTERM, lambda *_: (open("outputs/last.txt", "w").write("saved"), sys.exit(0)))
        while True:
            signal.pause()
        """
    )
    shared.wait_for_text(run_id, "child")
    shared.client.post(f"/v1/runs/{run_id}/cancel")
    run = shared.wait(run_id)
    assert run.status in (RunStatus.CANCELED, RunStatus.COMPLETED)
    assert shared.read(run_id, "outputs/last.txt") == b"saved"
    assert processes_of(run_id) == []


def test_a_script_that_ignores_sigterm_is_killed_after_the_grace(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_STOP_GRACE_S", "0.2")
    run_id = workspace.submit(
        """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        while True:
            signal.pause()
        """
    )
    workspace.wait_for_text(run_id, "deaf")
    workspace.client.post(f"/v1/runs/{run_id}/cancel")
    run = workspace.wait(run_id)
    assert (run.status, run.reason.code) == (RunStatus.CANCELED, "canceled")
    assert "CancelRequested" in statuses(workspace, run_id)
    assert processes_of(run_id) == []


def test_a_run_that_takes_too_long_is_ended_and_says_so(shared: Workspace) -> None:
    run = shared.wait(shared.submit("import signal; signal.pause()", max_run_duration_s=1))
    assert (run.status, run.reason.code) == (RunStatus.FAILED, "time_limit")
    assert "1 s" in run.reason.message


def test_runs_wait_in_line_and_say_why(shared: Workspace) -> None:
    shared.client.put("/v1/computes/small", {"name": "small", "max_nodes": 1})
    wait = "import signal; print('up', flush=True); signal.pause()"
    first = shared.submit(wait, target="small")
    shared.wait_for_text(first, "up")
    second = shared.submit("print('second')", target="small")
    third = shared.submit("print('third')", target="small")
    for run_id in (second, third):
        shared.wait_for(run_id, lambda run: run.status is RunStatus.QUEUED)
    first_in_line = f"1st in line on small, waits for 1 node, 0 free; {first} has 1 node without a time limit"
    assert shared.get(second).reason.message == first_in_line
    behind = f"2nd in line on small, waits for 1 node, 0 free; {second} is first in line"
    assert shared.get(third).reason.message == behind
    shared.client.post(f"/v1/runs/{third}/cancel")
    assert shared.wait(third).status is RunStatus.CANCELED
    assert shared.get(third).started is None
    shared.client.post(f"/v1/runs/{first}/cancel")
    assert shared.wait(second).status is RunStatus.COMPLETED


def test_the_same_request_makes_one_run(workspace: Workspace) -> None:
    snapshot = workspace.snapshot({"train.py": b"print(1)"})
    environment = {"user_managed": True, "interpreter": sys.executable}
    spec = {"experiment": "once", "script": "train.py", "snapshot_id": snapshot, "environment": environment}
    body = {"request_id": str(uuid.uuid4()), "spec": spec}
    ids = {workspace.client.post("/v1/runs", body)["id"] for _ in range(3)}
    assert len(ids) == 1
    assert workspace.client.get("/v1/experiments")["experiments"][0]["runs"] == 1


def test_two_names_for_one_log(shared: Workspace) -> None:
    run_id = shared.submit("print('words')")
    shared.wait(run_id)
    assert shared.read(run_id, "user_logs/std_log.txt") == b"words\n"


def test_invalid_text_and_split_characters_arrive_whole(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        import os
        data = "ä€😀".encode() * 30000 + b"\\xff\\xfe" + b"end\\n"
        os.write(1, data[:5]); os.write(1, data[5:])
        """
    )
    run = shared.wait_for_text(run_id, "end")
    assert run == "ä€😀" * 30000 + "\ufffd\ufffdend\n"


def test_links_in_outputs_do_not_lead_out(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        import os
        open("outputs/real.txt", "w").write("mine")
        os.symlink("/etc/passwd", "outputs/stolen.txt")
        os.symlink("/etc", "outputs/etc")
        os.symlink("real.txt", "outputs/alias.txt")
        os.symlink(os.path.abspath("outputs/real.txt"), "outputs/absolute.txt")
        """
    )
    shared.wait(run_id)
    kept = [f for f in shared.files(run_id) if f.startswith("outputs/")]
    assert kept == ["outputs/absolute.txt", "outputs/alias.txt", "outputs/real.txt"]
    assert shared.read(run_id, "outputs/absolute.txt") == b"mine"
    for path in ("outputs/stolen.txt", "outputs/etc/passwd", "../../windlass.db", "/etc/passwd"):
        with pytest.raises(UserErrorException):
            shared.read(run_id, path)


def test_what_cannot_work_is_refused_before_it_is_queued(workspace: Workspace) -> None:
    workspace.client.put("/v1/computes/cpucluster", {"name": "cpucluster", "max_nodes": 2})
    with pytest.raises(ComputeTargetException, match=r"'cpuclustr'.*Did you mean 'cpucluster'"):
        workspace.submit("print(1)", target="cpuclustr")
    with pytest.raises(ComputeTargetException, match="node_count is 3, but 'cpucluster' has at most 2"):
        workspace.submit("print(1)", target="cpucluster", node_count=3)
    with pytest.raises(UserErrorException, match=r"'tran.py' is not in the source folder.*train.py"):
        workspace.submit("print(1)", name="tran.py")
    with pytest.raises(UserErrorException, match="cannot name an experiment"):
        workspace.submit("print(1)", experiment="no/slash")
    with pytest.raises(ComputeTargetException, match=r"Unknown vm_size 'STANDARD_D2_V22'.*STANDARD_D2_V2"):
        workspace.client.put("/v1/computes/other", {"name": "other", "vm_size": "STANDARD_D2_V22"})
    with pytest.raises(AzureMLException, match="does not fit the API"):
        workspace.client.post("/v1/runs", {"junk": 1})
    assert workspace.client.get("/v1/runs")["runs"] == []


def test_tags_properties_uploads_and_models(shared: Workspace) -> None:
    run_id = shared.submit("open('outputs/model.bin', 'wb').write(b'weights')")
    shared.wait(run_id)
    shared.client.patch(f"/v1/runs/{run_id}", {"tags": {"good": "yes"}, "properties": {"seed": "1"}})
    with pytest.raises(UserErrorException, match="seed"):
        shared.client.patch(f"/v1/runs/{run_id}", {"properties": {"seed": "2"}})
    shared.client.call("PUT", f"/v1/runs/{run_id}/files/plots/loss.csv", body=b"1,2")
    assert shared.read(run_id, "plots/loss.csv") == b"1,2"
    ask = {"name": "digits", "run_id": run_id, "path": "outputs/"}
    versions = [shared.client.post("/v1/models", ask)["version"] for _ in range(2)]
    assert versions == [1, 2]
    model = shared.client.get("/v1/models/digits/versions/latest")
    assert (model["version"], model["run_id"], [f["path"] for f in model["files"]]) == (
        2,
        run_id,
        ["outputs/model.bin"],
    )
    data = shared.client.open("GET", "/v1/models/digits/versions/1/files/outputs/model.bin").read()
    assert data == b"weights"
    with pytest.raises(AzureMLException, match=r"no file or folder 'outputs/modle.bin'.*outputs/model.bin"):
        shared.client.post("/v1/models", {"name": "digits", "run_id": run_id, "path": "outputs/modle.bin"})
    assert shared.get(run_id).tags == {"good": "yes"}


def test_the_server_stops_when_idle_and_is_back_at_the_next_call(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_SERVER_IDLE_S", "0.3")
    run_id = workspace.submit("print(1)")
    workspace.wait(run_id)
    pid = workspace.server_pid()
    gone = os.pidfd_open(pid)
    assert select.select([gone], [], [], 30)[0]
    os.close(gone)
    assert workspace.get(run_id).status is RunStatus.COMPLETED
    assert workspace.server_pid() != pid


def test_stop_is_refused_while_runs_go(workspace: Workspace) -> None:
    run_id = workspace.submit("import signal; print('up', flush=True); signal.pause()")
    workspace.wait_for_text(run_id, "up")
    with pytest.raises(UserErrorException, match=run_id):
        workspace.client.post("/v1/server/stop", {})
    workspace.client.post("/v1/server/stop", {"force": True})
    assert workspace.wait(run_id).status is RunStatus.CANCELED
    assert processes_of(run_id) == []


def test_junk_on_the_socket_hurts_nobody(shared: Workspace) -> None:
    shared.server_pid()
    for junk in (
        b"\x00\xff" * 1000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 50,
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{{{{{",
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(socket_path(shared.dir))
            sock.sendall(junk)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(100)
    assert shared.wait(shared.submit("print(1)")).status is RunStatus.COMPLETED


def test_a_server_that_cannot_start_says_why(workspace: Workspace) -> None:
    os.makedirs(workspace.dir)
    with open(os.path.join(workspace.dir, "windlass.db"), "wb") as f:
        f.write(b"this is no database, whatever its name says" * 100)
    with pytest.raises((ServiceUnavailable, UserErrorException), match=r"windlass\.db"):
        workspace.server_pid()


def test_an_interpreter_that_is_gone_fails_the_run_with_its_path(shared: Workspace) -> None:
    run_id = shared.submit("print(1)", environment={"user_managed": True, "interpreter": "/no/such/python"})
    run = shared.wait(run_id)
    assert run.status is RunStatus.FAILED and run.started is None
    assert "/no/such/python" in run.reason.message


def test_metrics_logged_before_a_kill_are_there_once(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        import os, signal
        from azureml.core import Run
        run = Run.get_context()
        for i in range(5000):
            run.log("loss", 1.0 / (i + 1), step=i)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert shared.wait(run_id).exit_signal == signal.SIGKILL.name
    assert shared.values(run_id, "loss") == [1.0 / (i + 1) for i in range(5000)]
    assert json.dumps(shared.get(run_id).lost_points) == "0"
