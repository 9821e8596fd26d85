"""A run in a container means what a run without one means: its end, log, files, variables, data, and the SDK in it."""

from __future__ import annotations

import getpass
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.jobs import ENVIRONMENT, Jobs, jobs, printed, process_of, workspace_on
from windlass.specs._codec import to_wire
from windlass.specs.data import DataPlace, DataSpec
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.agent import holder
from windlassd.testing.container_engines import Bases
from windlassd.testing.harness import kill

__all__ = ["jobs"]
pytestmark = pytest.mark.containers
MIB = 1 << 20


@pytest.fixture
def on_podman(home: Path, podman: str, bases: Bases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """An empty workspace on the tests' Podman."""
    yield from workspace_on(podman, bases, monkeypatch)


ENDINGS = {
    "well": ("print('fine')", RunStatus.COMPLETED, None, None, "completed"),
    "with a code": ("import sys; sys.exit(3)", RunStatus.FAILED, 3, None, "exit_code"),
    "by an exception": ("raise ValueError('wrong')", RunStatus.FAILED, 1, None, "exit_code"),
    "by a crash": ("import os; os.kill(os.getpid(), 11)", RunStatus.FAILED, None, "SIGSEGV", "signal"),
    "by SIGKILL": ("import os; os.kill(os.getpid(), 9)", RunStatus.FAILED, None, "SIGKILL", "signal"),
    "by SIGTERM": ("import os; os.kill(os.getpid(), 15)", RunStatus.FAILED, None, "SIGTERM", "signal"),
}


def ending(run: RunRecord) -> tuple[object, ...]:
    return run.status, run.exit_code, run.exit_signal, run.reason.code if run.reason else None


def test_it_ends_as_it_would_without_a_container(jobs: Jobs) -> None:
    for how, (script, *expected) in ENDINGS.items():
        inside, outside = jobs.submit(script), jobs.plain(script)
        assert ending(jobs.wait(inside)) == ending(jobs.wait(outside)) == tuple(expected), how
        jobs.assert_nothing_left(inside)


def test_the_same_on_podman(on_podman: Jobs) -> None:
    for how, (script, *expected) in ENDINGS.items():
        run_id = on_podman.submit(script)
        assert ending(on_podman.wait(run_id)) == tuple(expected), how
        on_podman.assert_nothing_left(run_id)


def test_output_comes_whole_and_once(jobs: Jobs) -> None:
    run_id = jobs.submit(
        """
        import os, subprocess, sys
        print("first")
        for _ in range(40):
            os.write(1, b"x" * 1048575 + b"\\n")
        subprocess.run(["sh", "-c", "echo of a child; echo of its stderr >&2"])
        print("no end of line", end="", file=sys.stderr)
        """
    )
    assert jobs.wait(run_id).status is RunStatus.COMPLETED
    assert jobs.log(run_id) == "first\n" + ("x" * (MIB - 1) + "\n") * 40 + (
        "of a child\nof its stderr\nno end of line"
    )  # fmt: skip


def test_a_line_is_seen_while_the_run_goes(jobs: Jobs) -> None:
    run_id = jobs.submit("import time; print('up'); time.sleep(1000)")
    jobs.wait_for_text(run_id, "up\n")
    jobs.client.post(f"/v1/runs/{run_id}/cancel", {})
    assert jobs.wait(run_id).status is RunStatus.CANCELED
    jobs.assert_nothing_left(run_id)


SURROUNDINGS = """
    import getpass, json, os, sys
    home = os.path.expanduser("~")
    for place in (home, "/tmp", "outputs", "."):
        open(os.path.join(place, "written"), "w").close()
    def closed(path):
        try:
            open(path, "w").close()
        except OSError:
            return True
    print(json.dumps({
        "cwd": os.getcwd(), "user": getpass.getuser(), "uid": os.getuid(), "gid": os.getgid(), "home": home,
        "environ": dict(os.environ), "argv": sys.argv[1:], "python": sys.executable,
        "host": [path for path in os.environ["HOST_PATHS"].split(":") if os.path.exists(path)],
        "closed": [closed(os.path.join(os.environ["PYTHONPATH"].split(":")[0], "x")), closed("/.windlass/init.py")],
        "mine": len([name for name in os.listdir("/proc") if name.isdigit()]),
    }))
"""


def test_what_the_script_finds_around_itself(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "of the server's shell")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    theirs = [f"{jobs.dir}/store.sqlite", f"{jobs.dir}/blobs", os.path.expanduser("~/.pyenv"), "/etc/shadow"]
    run_id = jobs.submit(
        SURROUNDINGS, "$AZUREML_RUN_ID", "${IMAGE_SAYS}", "$MINE", "$NOBODYS",
        environment_variables={"MINE": "1", "HOST_PATHS": ":".join(theirs)},
    )  # fmt: skip
    run = jobs.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    found = printed(jobs, run_id)
    assert found["argv"] == [run_id, "hello", "1", "$NOBODYS"]
    assert found["cwd"] == os.path.join(jobs.dir, "runs", run_id, "work")
    assert (found["uid"], found["gid"], found["user"]) == (os.getuid(), os.getgid(), getpass.getuser())
    environ = found["environ"]
    assert environ["IMAGE_SAYS"] == "hello" and environ["MINE"] == "1" and "A_SECRET" not in environ
    assert environ["HTTPS_PROXY"] == "http://proxy.example", "or it gets nowhere"
    assert environ["PATH"].split(":")[0] == "/usr/local/bin" and environ["AZUREML_RUN_ID"] == run_id
    assert found["python"] == "/usr/local/bin/python" and found["closed"] == [True, True]
    assert found["host"] == [] and found["mine"] == 2, "its first process and itself"
    assert jobs.files(run_id) == [
        "azureml-logs/20_image_build_log.txt", "azureml-logs/70_driver_log.txt", "outputs/written",
    ]  # fmt: skip
    assert os.stat(os.path.join(jobs.dir, "runs", run_id, "files/outputs/written")).st_uid == os.getuid()


def test_commands_and_shells(jobs: Jobs) -> None:
    runs = {
        jobs.submit("", command=["sh", "-c", "echo $0 $AZUREML_RUN_ID"]): "sh {}\n",
        jobs.submit("", command=["echo $IMAGE_SAYS; exit 0"], shell=True): "hello\n",
        jobs.submit("", command=["python", "-c", "import sys; print(sys.argv[1:])", "$IMAGE_SAYS"]): "['hello']\n",
    }
    for run_id, expected in runs.items():
        run = jobs.wait(run_id)
        assert run.status is RunStatus.COMPLETED, run.reason
        assert jobs.log(run_id) == expected.format(run_id)
    run = jobs.wait(jobs.submit("", command=["frobnicate", "--all"]))
    assert run.reason is not None and run.reason.code == "start_failed"
    assert "No such file or directory: frobnicate" in run.reason.message


def test_the_sdk_works_inside(jobs: Jobs) -> None:
    run_id = jobs.submit(
        """
        from azureml.core import Run
        run = Run.get_context()
        for i in range(100):
            run.log("loss", i)
        assert run.get_metrics()["loss"] == list(range(100))
        open("/tmp/kept.txt", "w").write("from the container's own layer")
        run.upload_file("kept.txt", "/tmp/kept.txt")
        open("outputs/model.bin", "wb").write(b"weights")
        model = run.register_model("net", "outputs/model.bin")
        print(model.name, model.version)
        with run.child_run("part") as child:
            child.log("loss", 7)
        print(sorted(c.get_status() for c in run.get_children()))
        run.tag("inside")
        """
    )
    run = jobs.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    assert jobs.log(run_id) == "net 1\n['Completed']\n"
    assert jobs.values(run_id, "loss") == list(range(100)) and "inside" in jobs.get(run_id).tags
    assert jobs.read(run_id, "kept.txt") == b"from the container's own layer"


def test_a_child_inside_outlives_the_server(jobs: Jobs) -> None:
    run_id = jobs.submit(
        """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        from azureml.core import Run
        with Run.get_context().child_run("part") as child:
            child.log("loss", 1)
            child.flush()
            print(child.id, flush=True)
            signal.sigwait([signal.SIGUSR1])
            child.log("loss", 2)
        """
    )
    child_id = jobs.wait_for_text(run_id, "\n").strip()
    kill(jobs.server_pid())
    jobs.get(run_id)  # a new one looks whose process lives
    os.kill(process_of(run_id, "train.py"), signal.SIGUSR1)
    assert jobs.wait(run_id).status is RunStatus.COMPLETED
    child = jobs.get(child_id)
    assert child.status is RunStatus.COMPLETED, child.reason
    assert jobs.values(child_id, "loss") == [1, 2]


def test_data_inside(jobs: Jobs, tmp_path: Path) -> None:
    given, made = tmp_path / "given", tmp_path / "made"
    (given / "sub").mkdir(parents=True)
    (given / "sub" / "a.txt").write_text("read")
    made.mkdir()
    for name, path in (("given", given), ("made", made)):
        asked = {"name": name, "type": "local", "path": str(path)}
        jobs.client.put(f"/v1/datastores/{name}", asked)
    data = [
        DataSpec("whole", places=(DataPlace("", "given"),)),
        DataSpec("copied", mode="download", places=(DataPlace("sub", "given"),)),
        DataSpec("linked", kind="input", places=(DataPlace("sub/*.txt", "given"),)),
        DataSpec("target", kind="output", places=(DataPlace("result", "made"),)),
        DataSpec("sent", mode="upload", places=(DataPlace("sent", "made"),)),
    ]
    run_id = jobs.submit(
        """
        import os
        at = lambda name: os.environ["AZUREML_DATAREFERENCE_" + name]
        print(open(at("whole") + "/sub/a.txt").read(), open(at("copied") + "/a.txt").read())
        print(open(at("linked") + "/a.txt").read())
        for name in ("target", "sent"):
            open(at(name) + "/written.txt", "w").write(name)
        try:
            open(at("whole") + "/new.txt", "w")
        except OSError as problem:
            print(problem.strerror)
        """,
        data=[to_wire(entry) for entry in data],
    )
    run = jobs.wait(run_id)
    assert run.status is RunStatus.COMPLETED, (run.reason, jobs.log(run_id))
    assert jobs.log(run_id) == "read read\nread\nRead-only file system\n"
    assert {p.relative_to(made).as_posix() for p in made.rglob("*.txt")} == {"result/written.txt", "sent/written.txt"}


LIMITS = """
    import json, os, resource
    shm = os.statvfs("/dev/shm")
    def read(*paths):
        return next((open(path).read().split() for path in paths if os.path.exists(path)), None)
    print(json.dumps({
        "shm": shm.f_blocks * shm.f_frsize, "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "network": os.listdir("/sys/class/net"),
        "memory": read("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        "cpu": read("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
        "volumes": [os.path.exists(p) and os.access(p, os.W_OK) for p in ("/in/x", "/out/x")],
    }))
"""


def test_each_option_holds(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    asked = {
        "shm_bytes": 96 * MIB, "memory_bytes": 300 * MIB, "cpus": 0.5, "network": "none",
        "ulimits": ["nofile=900:1000"], "volumes": [f"{tmp_path}:/in:ro", f"{tmp_path}:/out"],
    }  # fmt: skip
    run_id = jobs.submit(LIMITS, container=asked)
    run = jobs.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    found = printed(jobs, run_id)
    assert (found["shm"], found["nofile"], found["network"]) == (96 * MIB, [900, 1000], ["lo"])
    assert found["memory"] == [str(300 * MIB)] and found["cpu"][0] == "50000" and found["volumes"] == [False, True]


def test_without_options_it_has_the_machine(jobs: Jobs) -> None:
    run_id = jobs.submit(LIMITS)
    jobs.wait(run_id)
    found = printed(jobs, run_id)
    assert found["shm"] == 2 << 30 and found["network"] == sorted(
        found["network"], key=os.listdir("/sys/class/net").index
    )
    shared = jobs.submit(LIMITS, container={"host_ipc": True})
    jobs.wait(shared)
    host = os.statvfs("/dev/shm")
    assert printed(jobs, shared)["shm"] == host.f_blocks * host.f_frsize


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gpus": "all"}, "cannot hand GPUs to containers"),
        ({"volumes": ["cache:/cache"]}, "write /on/host:/in/container"),
        ({"volumes": ["/no/such/folder:/cache"]}, "this machine has no /no/such/folder"),
        ({"ulimits": ["nofile"]}, "write name=soft or name=soft:hard"),
        ({"cpus": 10_000}, "more than the"),
        ({"network": "nonesuch"}, "nonesuch"),
    ],
)
def test_an_option_that_cannot_be_honoured_fails_the_run(jobs: Jobs, options: dict[str, object], words: str) -> None:
    run_id = jobs.submit("print('ran')", container=options)
    run = jobs.wait(run_id)
    assert run.status is RunStatus.FAILED and run.reason is not None and run.reason.code == "start_failed"
    assert words in run.reason.message
    jobs.assert_nothing_left(run_id)


def test_options_without_a_container_are_noted(jobs: Jobs) -> None:
    run = jobs.wait(jobs.plain("print('ran')", container={"shm_bytes": 4 << 30, "cpus": 2}))
    assert run.status is RunStatus.COMPLETED
    said = [note for note in run.environment["notes"] if "containers only" in note]
    assert said == ["shm_size, the limit of cpus hold in containers only: the environment of this run has no image."]


def test_memory_that_runs_out_is_named(jobs: Jobs) -> None:
    run_id = jobs.submit("held = []\nwhile True: held.append(bytearray(1 << 22))", container={"memory_bytes": 96 * MIB})
    run = jobs.wait(run_id)
    assert ending(run) == (RunStatus.FAILED, None, "SIGKILL", "out_of_memory")
    assert run.reason is not None and "its memory limit of 96 MiB" in run.reason.message
    jobs.assert_nothing_left(run_id)


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 7)", "open('/dev/shm/x', 'wb').write(bytes(128 << 20))"])
def test_shared_memory_that_runs_out_is_named(jobs: Jobs, how: str) -> None:
    run = jobs.wait(jobs.submit(f"import os\n{how}", container={"shm_bytes": 64 * MIB}))
    assert run.reason is not None and "/dev/shm looks the same: its container has 64 MiB" in run.reason.message


def test_children_end_with_the_script(jobs: Jobs) -> None:
    run_id = jobs.submit(
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        print("parent")
        """
    )
    assert jobs.wait(run_id).status is RunStatus.COMPLETED
    jobs.assert_nothing_left(run_id)


def test_an_image_that_is_gone_is_told(jobs: Jobs) -> None:
    assert jobs.wait(jobs.submit("print('ran')")).status is RunStatus.COMPLETED
    jobs.client.put("/v1/computes/small", {"name": "small", "max_nodes": 1})
    first = jobs.plain("import time; time.sleep(1000)", target="small")
    jobs.wait_for(first, lambda run: run.status is RunStatus.RUNNING)
    second = jobs.submit("print('ran')", target="small")
    jobs.wait_for(second, lambda run: run.status is RunStatus.QUEUED)
    holder.call(jobs.engine, "DELETE", f"/images/{jobs.image}?force=1")
    jobs.client.post(f"/v1/runs/{first}/cancel", {})
    run = jobs.wait(second)
    assert run.reason is not None and run.reason.code == "image_gone" and "Submit again" in run.reason.message


def test_the_images_own_user_entrypoint_and_folder_do_not_count(jobs: Jobs, bases: Bases) -> None:
    changes = ["USER 1234", 'ENTRYPOINT ["/bin/false"]', "WORKDIR /var/tmp", 'HEALTHCHECK CMD ["/bin/false"]']
    bases.image(jobs.engine, "odd:1", changes=changes)
    odd = {**ENVIRONMENT, "container": {"image": "odd:1"}}
    run_id = jobs.submit("import os; print(os.getuid(), os.environ['HOME'], os.getcwd())", environment=odd)
    assert jobs.wait(run_id).status is RunStatus.COMPLETED
    assert jobs.log(run_id) == f"{os.getuid()} /root {jobs.dir}/runs/{run_id}/work\n"
