"""Environments that cannot be made: what the user reads, that no node was held, and that the cache is sound after it.

One server, whose only package index is this test's and fails as it is told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from azureml.core import Experiment
from azureml.core import Workspace as UserWorkspace
from azureml.train.estimator import Estimator
from conftest import end_processes_of
from windlass.errors import ActivityFailedException, AzureMLException
from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace
from windlassd.testing.package_index import PackageIndex

SECRET = "s3cr3t-of-the-index"
BUILD_LOG = "azureml-logs/20_image_build_log.txt"
GCC = "import sys; sys.stderr.write(\"error: command 'gcc' failed: No such file or directory\\n\"); sys.exit(1)"
MOST_LINES = 15


@pytest.fixture(scope="module")
def index() -> Iterator[PackageIndex]:
    with PackageIndex() as made:
        made.login = ("team", SECRET)
        made.add("numpy", "1.26.4")
        made.add("numpy", "2.1.0")
        made.add("wants-old", requires=["numpy<2"])
        made.add("brings-old", requires=["wants-old"])
        made.add("wants-new", requires=["numpy>=2"])
        made.add("bystander")
        made.add("for-37", tag="cp37-cp37m-manylinux1_x86_64")
        made.add("for-311", tag="cp311-cp311-manylinux_2_17_x86_64")
        made.add_source("native", before=GCC)
        yield made


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory, index: PackageIndex) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("PIP_", "UV_")):
                patch.delenv(name)
        config = folder / "pip.conf"
        config.write_text(f"[global]\nindex-url = {index.url_with('team', SECRET)}\n")
        patch.setenv("PIP_CONFIG_FILE", str(config))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("UV_CACHE_DIR", str(folder / "uv-cache"))
        patch.setenv("UV_HTTP_RETRIES", "0")
        (folder / "settings.json").write_text('{"python_downloads": "never"}')
        yield folder
        end_processes_of(folder)


@pytest.fixture(autouse=True)
def whole(index: PackageIndex) -> Iterator[None]:
    yield
    index.mend()
    index.login = ("team", SECRET)


def submit(workspace: Workspace, *packages: str, script: str = "print('it ran')", **environment: object) -> str:
    return workspace.submit(script, environment={"pip_packages": list(packages), **environment})


def message(workspace: Workspace, run_id: str) -> str:
    """What the user reads of a run whose environment could not be made, once all else about its end is right."""
    run = workspace.wait(run_id)
    assert run.status is RunStatus.FAILED and run.reason, run
    assert run.reason.code == "environment_failed"
    assert not run.nodes, "it held a node"
    assert [entry["status"] for entry in run.history][-2:] == ["Preparing", "Failed"]
    log = workspace.read(run_id, BUILD_LOG).decode()
    assert run.reason.message in log, "the build log does not end with the reason"
    assert len(run.reason.message.splitlines()) <= MOST_LINES
    assert os.listdir(os.path.join(os.environ["WINDLASS_HOME"], "environments", "building")) == []
    for seen in (run.reason.message, log, json.dumps(workspace.client.get(f"/v1/runs/{run_id}"))):
        assert SECRET not in seen
    return run.reason.message


def fails(workspace: Workspace, *packages: str, **environment: object) -> str:
    return message(workspace, submit(workspace, *packages, **environment))


def works(workspace: Workspace, *packages: str, **environment: object) -> None:
    run = workspace.wait(submit(workspace, *packages, **environment))
    assert run.status is RunStatus.COMPLETED, run.reason


def doctor_finds(workspace: Workspace) -> list[str]:
    answer = workspace.client.open("POST", "/v1/doctor", body=json.dumps({"deep": True}).encode())
    lines = [json.loads(line) for line in answer.read().splitlines()]
    return [str(line["finding"]) for line in lines if "finding" in line and "environment" in line["finding"]["code"]]


def fresh() -> dict[str, str]:
    """An environment that nobody has asked for yet."""
    return {"name": None, "python_version": ">=3.8,!=3.0." + str(uuid.uuid4().int % 10_000)}


def test_an_unknown_package_is_named_with_its_near_match(shared: Workspace) -> None:
    said = fails(shared, "nunpy")
    assert "'nunpy' cannot be found" in said and "Did you mean 'numpy'?" in said


def test_pins_that_exclude_each_other_are_both_named_with_what_they_want(shared: Workspace) -> None:
    said = fails(shared, "brings-old", "wants-new", "bystander")
    assert "'brings-old' needs wants-old, which needs numpy<2" in said
    assert "'wants-new' needs numpy>=2" in said
    assert "Loosen one of them" in said and "bystander" not in said


def test_what_must_be_built_where_no_compiler_is_says_so(shared: Workspace) -> None:
    said = fails(shared, "native")
    assert "'native==1.0' has no wheel" in said and "needs a compiler (gcc)" in said
    assert "a version that has a wheel" in said and "python_version" in said and "install a compiler" in said


def test_a_wheel_for_another_python_says_for_which(shared: Workspace) -> None:
    said = fails(shared, "for-37", python_version="{}.{}".format(*sys.version_info))
    assert "'for-37==1.0' has no wheel" in said and "only for Python 3.7," in said


def test_a_list_that_fits_no_python_says_what_is_wrong_on_which(shared: Workspace) -> None:
    said = fails(shared, "for-37", "for-311")
    assert said.startswith("No Python has all of the list:\n  Python 3.")
    assert ": The package 'for-37==1.0' has no wheel, only for Python 3.7" in said
    assert ": The package 'for-311==1.0' has no wheel, only for Python 3.11" in said


def test_a_python_that_is_not_there_lists_those_that_are(shared: Workspace) -> None:
    said = fails(shared, "numpy", python_version="3.99")
    assert "Python 3.99" in said and "{}.{}.{}".format(*sys.version_info) in said


def test_a_hash_that_the_index_does_not_have_is_refused(shared: Workspace) -> None:
    said = fails(shared, "numpy==2.1.0 --hash=sha256:" + "1" * 64)
    assert "'numpy==2.1.0' is not the one that is asked for" in said and "--hash" in said


def test_a_file_that_changed_after_locking_is_refused_and_locked_anew_on_purpose(
    shared: Workspace, index: PackageIndex
) -> None:
    name = index.add("turned")
    index.hashes[name] = "0" * 64
    said = fails(shared, "turned")
    assert "'turned==1.0' is not the one that was locked" in said and "locked: sha256:0000" in said
    del index.hashes[name]
    works(shared, "turned")


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "refuses access (403 Forbidden)"), (404, "'fetched-404' cannot be found"),
     (429, "answers 429 Too Many Requests"), (503, "answers 503 Service Unavailable")],
)  # fmt: skip
def test_an_index_that_answers_with_an_error_is_named_and_the_list_works_once_it_is_well(
    shared: Workspace, index: PackageIndex, status: int, words: str
) -> None:
    index.add(f"fetched-{status}")
    index.answer(f"/simple/fetched-{status}/", status)
    said = fails(shared, f"fetched-{status}")
    assert words in said
    assert status == 404 or index.host in said
    assert index.count(f"/simple/fetched-{status}/") <= 12, "it is asked for ever"
    index.mend()
    works(shared, f"fetched-{status}")


def test_a_download_that_is_cut_is_called_broken_and_is_fetched_again(shared: Workspace, index: PackageIndex) -> None:
    index.add("cut-off")
    index.cut("/files/cut_off*", after=100)
    said = fails(shared, "cut-off")
    assert "'cut-off==1.0' that came from the index is broken" in said and "Submit again" in said
    index.mend()
    works(shared, "cut-off")


def test_a_changed_password_is_told_from_a_missing_one_also_after_locking(
    shared: Workspace, index: PackageIndex, shared_home: Path
) -> None:
    index.add("locked-first")
    index.answer("/files/locked_first*", 503)  # it locks, and does not build
    assert "503" in fails(shared, "locked-first")
    index.mend()
    index.login = ("team", "changed-meanwhile")
    said = fails(shared, "locked-first")
    assert f"{index.host} refuses access (401 Unauthorized)" in said and "is wrong, has expired" in said
    config = shared_home / "pip.conf"
    before = config.read_text()
    try:
        config.write_text(f"[global]\nindex-url = {index.url}\n")
        assert "none is set" in fails(shared, "locked-first", **fresh())
        config.write_text(f"[global]\nindex-url = {index.url_with('team', 'changed-meanwhile')}\n")
        works(shared, "locked-first")
    finally:
        config.write_text(before)


def test_an_index_that_says_nothing_keeps_nobody_from_canceling(shared: Workspace, index: PackageIndex) -> None:
    index.add("silent")
    index.hang("/simple/silent/")
    run_id = submit(shared, "silent")
    index.wait_asked("/simple/silent/")
    command_lines = [line for line in _command_lines() if "uv" in line]
    assert command_lines and not any(SECRET in line for line in command_lines)
    shared.client.post(f"/v1/runs/{run_id}/cancel")
    assert shared.wait(run_id).status is RunStatus.CANCELED
    index.mend()
    works(shared, "silent")


def test_runs_that_wait_for_the_same_list_fail_together(shared: Workspace, index: PackageIndex) -> None:
    index.add("awaited")
    index.hang("/simple/awaited/")
    run_ids = [submit(shared, "awaited") for _ in range(5)]
    index.wait_asked("/simple/awaited/")
    deadline = time.monotonic() + 60
    while sum("Waiting" in _build_log(shared, run_id) for run_id in run_ids) < len(run_ids) - 1:
        assert time.monotonic() < deadline, "they do not wait for each other"
    index.mend()  # the connection that hung is closed
    said = {message(shared, run_id) for run_id in run_ids}
    assert len(said) == 1 and "could not be reached" in said.pop()
    assert index.count("/simple/awaited/") == 1
    works(shared, "awaited")


def test_a_killed_uv_fails_the_run_and_the_next_one_is_made(shared: Workspace, index: PackageIndex) -> None:
    index.add("killed")
    index.hang("/files/killed*")
    run_id = submit(shared, "killed")
    index.wait_asked("/files/killed*")
    (uv,) = [p for p in psutil.Process(shared.server_pid()).children(recursive=True) if p.name() == "uv"]
    uv.kill()
    said = message(shared, run_id)
    assert "uv was ended by SIGKILL" in said and "memory" in said and "Submit again" in said
    index.mend()
    works(shared, "killed")


def test_an_index_that_says_nothing_is_given_up_in_time(shared: Workspace, index: PackageIndex) -> None:
    index.add("patient")
    index.hang("/simple/patient/")
    settings = Path(os.environ["WINDLASS_HOME"]) / "settings.json"
    before = settings.read_text()
    settings.write_text('{"python_downloads": "never", "environment_build_timeout_s": 1}')
    try:
        said = fails(shared, "patient")
    finally:
        settings.write_text(before)
    assert "not ready after 1 s" in said and "WINDLASS_ENVIRONMENT_BUILD_TIMEOUT_S" in said


def test_without_a_network_what_was_built_works_and_what_was_not_says_so(
    shared: Workspace, index: PackageIndex
) -> None:
    works(shared, "numpy==1.26.4")
    works(shared, "bystander")
    index.stop()
    try:
        works(shared, "numpy==1.26.4")
        said = fails(shared, "numpy==2.1.0", "wants-new")
        assert f"{index.host} could not be reached" in said and "uv's cache; these are not" in said
    finally:
        index.start()
    works(shared, "numpy==2.1.0", "wants-new")
    index.stop()
    try:
        works(shared, "wants-new", "numpy==2.1.0", "bystander")  # a new list of what other lists have brought
    finally:
        index.start()


def test_a_login_in_the_list_is_refused_with_the_way_out_and_kept_nowhere(
    shared: Workspace, index: PackageIndex
) -> None:
    refuse_logins(shared, index)


def refuse_logins(workspace: Workspace, index: PackageIndex) -> None:
    """Name each place of a list where a login could stand; all are refused without repeating it."""
    address = index.url_with("me", "pat-of-mine-123")
    for entry in (f"--extra-index-url {address}", f"--index-url={address}", f"-f {address}",
                  f"a @ git+{address}/a.git", f"a @ {address}/a.whl", "a @ git+https://pat-of-mine-123@h/a.git",
                  "a @ https://h/a.whl?sv=1&sig=pat-of-mine-123"):  # fmt: skip
        with pytest.raises(AzureMLException) as caught:
            submit(workspace, entry, "numpy")
        said = caught.value.message
        assert "pat-of-mine-123" not in said and "****" in said
        assert "~/.netrc" in said or "--find-links" in said


def test_the_command_line_shows_the_reason_and_ends_with_1(shared: Workspace, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)")
    command = [sys.executable, "-c", "import sys; from windlass.cli import main; sys.exit(main())"]
    command += ["submit", "train.py", "--workspace", "test", "--pip", "nunpy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "'nunpy' cannot be found" in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_who_waits_for_the_run_gets_the_reason(shared: Workspace, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)")
    estimator = Estimator(str(tmp_path), entry_script="train.py", compute_target="local", pip_packages=["nunpy"])
    run = Experiment(UserWorkspace.get("test"), "failing").submit(estimator)
    with pytest.raises(ActivityFailedException, match=r"'nunpy' cannot be found.*\n?.*Did you mean 'numpy'"):
        run.wait_for_completion(show_output=False)
    details = run.get_details()
    assert details["status"] == "Failed" and "nunpy" in str(details["error"])
    assert BUILD_LOG in run.get_file_names()


def test_nothing_is_left_behind_and_no_secret_lies_anywhere(
    shared: Workspace, shared_home: Path, index: PackageIndex
) -> None:
    refuse_logins(shared, index)
    fails(shared, "nunpy")
    index.login = ("team", "another")  # what is in the settings is refused now
    fails(shared, "bystander", "for-311", "nunpy")
    index.login = ("team", SECRET)
    works(shared, "numpy", "wants-new")
    assert doctor_finds(shared) == []
    for secret in (SECRET, "pat-of-mine-123"):
        found = subprocess.run(["grep", "-rlaF", secret, shared_home], capture_output=True, text=True)
        assert [path for path in found.stdout.splitlines() if not path.endswith("/pip.conf")] == []


def _build_log(workspace: Workspace, run_id: str) -> str:
    try:
        return workspace.read(run_id, BUILD_LOG).decode()
    except AzureMLException:
        return ""  # not begun


def _command_lines() -> Iterator[str]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
