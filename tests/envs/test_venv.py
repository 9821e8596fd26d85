from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envs.watch import Watch
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped, Lock, Work
from windlassd.envs.cache import EnvironmentCache
from windlassd.envs.venv import VenvBuilder, create
from windlassd.testing.builder_suite import BuilderConformance, quiet

if TYPE_CHECKING:
    from envs.conftest import Wheelhouse


@pytest.fixture
def venv(wheels: Wheelhouse, tmp_path: Path) -> VenvBuilder:
    return create(str(tmp_path / "interpreters.json"))


class TestVenvBuilder(BuilderConformance):
    @pytest.fixture
    def builder(self, venv: VenvBuilder, wheels: Wheelhouse) -> VenvBuilder:
        wheels.add("tiny", requires=("tinier>=1",))
        wheels.add("tinier")
        return venv

    @pytest.fixture
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec(pip_packages=("tiny",))

    @pytest.fixture
    def unsupported(self) -> EnvironmentSpec:
        return EnvironmentSpec(conda_packages=("cudatoolkit=10.1",))

    @pytest.fixture
    def impossible(self) -> EnvironmentSpec:
        return EnvironmentSpec(pip_packages=("not-there",))


def test_a_lock_pins_dependencies_with_hashes(venv: VenvBuilder, wheels: Wheelhouse) -> None:
    wheels.add("tiny", "1.0")
    wheels.add("tiny", "2.0", requires=("tinier",))
    wheels.add("tinier", "0.3")
    lock = venv.resolve(EnvironmentSpec(pip_packages=("tiny",)), quiet())
    assert [line.split(" --hash=sha256:")[0] for line in lock.requirements] == ["tinier==0.3", "tiny==2.0"]
    assert all("--hash=sha256:" in line for line in lock.requirements)


def test_a_wheel_that_changed_after_locking_is_refused(
    venv: VenvBuilder, wheels: Wheelhouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels.add("tiny")
    lock = venv.resolve(EnvironmentSpec(pip_packages=("tiny",)), quiet())
    wheels.add("tiny", body="tampered = True\n")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))  # what is in the cache is what was locked
    with pytest.raises(EnvironmentFailed, match=r"'tiny==1.0' is not the one that was locked"):
        venv.build(lock, str(tmp_path / "prefix"), quiet())


def test_packages_and_scripts_work_after_a_rename(venv: VenvBuilder, wheels: Wheelhouse, tmp_path: Path) -> None:
    wheels.add("tiny", body="def main():\n    print('hello')\n", script="say")
    prefix = _built(venv, EnvironmentSpec(pip_packages=("tiny",)), tmp_path)
    assert subprocess.run([prefix / "bin" / "say"], capture_output=True, text=True, check=True).stdout == "hello\n"


def test_the_path_by_which_packages_came_in_stands_in_no_file(
    venv: VenvBuilder, wheels: Wheelhouse, tmp_path: Path
) -> None:
    wheels.add("tiny", body="def main():\n    print('hello')\n", script="say")
    prefix = _built(venv, EnvironmentSpec(pip_packages=("tiny",)), tmp_path)
    files = [path for path in prefix.rglob("*") if path.is_file() and not path.is_symlink()]
    assert prefix / "bin" / "say" in files
    assert [path for path in files if b"/proc/" in path.read_bytes()] == []


def test_only_the_first_environment_of_an_interpreter_is_asked_what_it_is(
    venv: VenvBuilder, wheels: Wheelhouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    known = []
    for name in ("one", "two", "three"):
        wheels.add(name)
        venv.build(venv.resolve(EnvironmentSpec(pip_packages=(name,)), quiet()), str(tmp_path / name), quiet())
        known.append(set((tmp_path / "uv").glob("interpreter-*/**/*.msgpack")))
    assert known[0] and known[0] == known[2]


def test_azureml_packages_are_left_out_and_so_are_transitive_ones(
    venv: VenvBuilder, wheels: Wheelhouse, tmp_path: Path
) -> None:
    wheels.add("tiny", requires=("azureml-core>=1.0", "azureml-made-up", "tinier"))
    wheels.add("tinier")
    wheels.add("azureml-made-up", requires=("pulled-in",))
    wheels.add("pulled-in")
    lines: list[str] = []
    lock = venv.resolve(
        EnvironmentSpec(pip_packages=("tiny", "azureml-defaults", "azureml-sdk[notebooks]==1.0.6")), Work(lines.append)
    )
    assert [line.split("==")[0] for line in lock.requirements] == ["tinier", "tiny"]
    assert "azureml-defaults: satisfied by Windlass, not installed." in lock.notes
    assert "azureml-sdk[notebooks]==1.0.6: satisfied by Windlass, not installed." in lock.notes
    assert any(note.startswith("azureml-made-up: ") for note in lock.notes)
    assert set(lines) & set(lock.notes)


def test_a_bare_environment_has_the_default_interpreter(venv: VenvBuilder, tmp_path: Path) -> None:
    lock = venv.resolve(EnvironmentSpec(), quiet())
    assert lock.requirements == ()
    assert lock.python == os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
    prefix = _built(venv, EnvironmentSpec(), tmp_path)
    assert subprocess.run([prefix / "bin" / "python", "-c", "import sys; print(sys.prefix)"],
                          capture_output=True, text=True, check=True).stdout.strip() == str(prefix)  # fmt: skip


def test_conda_packages_come_from_pypi(venv: VenvBuilder, wheels: Wheelhouse) -> None:
    for version in ("0.20.3", "0.21.0"):
        wheels.add("scikit-learn", version)
    wheels.add("torch")
    python = "{}.{}".format(*sys.version_info)
    lock = venv.resolve(EnvironmentSpec(conda_packages=("scikit-learn=0.20", "pytorch", f"python={python}")), quiet())
    assert [line.split(" ")[0] for line in lock.requirements] == ["scikit-learn==0.20.3", "torch==1.0"]


def test_a_version_that_no_framework_has_is_refused_with_those_that_can_be_had(
    venv: VenvBuilder, wheels: Wheelhouse
) -> None:
    wheels.add("torch", "2.9.1")
    wheels.add("numpy", "2.1")
    with pytest.raises(EnvironmentFailed, match=r"(?s)2\.9\.77.*versions that can be had: .*2\.9"):
        venv.resolve(EnvironmentSpec(framework="PyTorch", framework_version="2.9.77"), quiet())


def test_the_version_of_a_framework_is_told(venv: VenvBuilder, wheels: Wheelhouse) -> None:
    wheels.add("torch", "2.9.1")
    wheels.add("numpy", "2.1")
    lock = venv.resolve(EnvironmentSpec(framework="PyTorch"), quiet())
    assert "PyTorch 2.9.1 (torch): the newest that fits, as no framework_version was asked for." in lock.notes
    assert [line.split(" ")[0] for line in lock.requirements] == ["numpy==2.1", "torch==2.9.1"]


def test_build_constraints_hold_when_a_source_package_is_built(
    venv: VenvBuilder, wheels: Wheelhouse, tmp_path: Path
) -> None:
    hold = wheels.add_held("chainer", tmp_path / "hold")
    hold.let_pass()
    for name, version in (
        ("numpy", "1.26"),
        ("setuptools", "70"),
        ("six", "1"),
        ("typing-extensions", "4"),
        ("protobuf", "5"),
    ):
        wheels.add(name, version)
    spec = EnvironmentSpec(framework="Chainer")
    lock = venv.resolve(spec, quiet())
    assert lock.requirements[0] == "--build-constraint setuptools<81" and lock.package_count == 6
    prefix = _built(venv, spec, tmp_path)
    assert venv.check(lock, str(prefix), quiet()) is None


def test_an_unknown_package_is_named_with_a_hint(venv: VenvBuilder) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        venv.resolve(EnvironmentSpec(pip_packages=("nunpy",)), quiet())
    assert "The package 'nunpy' cannot be found" in caught.value.message
    assert "Did you mean 'numpy'?" in caught.value.message
    assert not caught.value.transient


def test_an_unknown_version_is_named(venv: VenvBuilder, wheels: Wheelhouse) -> None:
    wheels.add("tiny")
    with pytest.raises(EnvironmentFailed, match=r"'tiny==9'"):
        venv.resolve(EnvironmentSpec(pip_packages=("tiny==9",)), quiet())


def test_a_requirement_that_cannot_be_read_is_quoted(venv: VenvBuilder) -> None:
    with pytest.raises(EnvironmentFailed, match=r"(?s)cannot be read.*tiny=1") as caught:
        venv.resolve(EnvironmentSpec(pip_packages=("tiny=1",)), quiet())
    assert "/proc/" not in caught.value.message


def test_an_index_out_of_reach_is_transient_and_shows_no_credentials(
    venv: VenvBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://somebody:s3cr3t-word@127.0.0.1:9/simple")
    spec, lines = EnvironmentSpec(pip_packages=("tiny",)), []  # type: tuple[EnvironmentSpec, list[str]]
    with pytest.raises(EnvironmentFailed, match=r"127\.0\.0\.1:9 could not be reached") as caught:
        venv.resolve(spec, Work(lines.append))
    assert caught.value.transient
    assert "s3cr3t-word" not in caught.value.message + "".join(lines) + str(venv.request(spec))


def test_another_index_is_another_request(venv: VenvBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvironmentSpec(pip_packages=("tiny",))
    before = venv.request(spec)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/more")
    assert venv.request(spec) != before


def test_a_missing_python_lists_those_that_can_be_had(venv: VenvBuilder) -> None:
    mine = r"{}\.{}\.{}".format(*sys.version_info)
    with pytest.raises(EnvironmentFailed, match=rf"Python 3\.99 can be had\. Installed .*{mine}"):
        venv.resolve(EnvironmentSpec(python_version="3.99"), quiet())


def test_a_python_before_3_7_is_refused_at_once(venv: VenvBuilder) -> None:
    assert "3.7 and newer" in venv.unsupported(EnvironmentSpec(python_version="3.6.2"))["python_version"]


def test_files_are_hard_links_and_unchanged_by_compiling(venv: VenvBuilder, wheels: Wheelhouse, tmp_path: Path) -> None:
    wheels.add("tiny", body="x = 1\n")
    cache = EnvironmentCache(str(tmp_path / "cache"), builder_for=lambda spec: venv)
    ready = cache.prepare(EnvironmentSpec(pip_packages=("tiny",)), _drop)
    assert ready.prefix
    (module,) = Path(ready.prefix).glob("lib/python*/site-packages/tiny/__init__.py")
    before = module.stat()
    cache.join()
    after = module.stat()
    assert before.st_nlink > 1
    assert (before.st_ino, before.st_mtime_ns, before.st_size) == (after.st_ino, after.st_mtime_ns, after.st_size)
    assert list(module.parent.glob("__pycache__/*.pyc"))


def test_a_stopped_build_leaves_no_process(venv: VenvBuilder, wheels: Wheelhouse, tmp_path: Path) -> None:
    hold = wheels.add_held("held", tmp_path / "hold")
    lock = venv.resolve(EnvironmentSpec(pip_packages=("held",)), quiet())
    stop, caught = threading.Event(), []  # type: tuple[threading.Event, list[Exception]]
    thread = threading.Thread(target=_build, args=(venv, lock, tmp_path / "prefix", Work(_drop, stop), caught))
    thread.start()
    backend = Watch(hold.wait_started())
    stop.set()
    thread.join(10)
    assert [type(e) for e in caught] == [EnvironmentStopped]
    assert backend.ended()


def test_a_build_that_takes_too_long_is_ended(
    venv: VenvBuilder, wheels: Wheelhouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels.add_held("held", tmp_path / "hold")
    monkeypatch.setenv("WINDLASS_ENVIRONMENT_BUILD_TIMEOUT_S", "1")
    cache = EnvironmentCache(str(tmp_path / "cache"), builder_for=lambda spec: venv)
    with pytest.raises(EnvironmentFailed, match=r"after 1 s.*WINDLASS_ENVIRONMENT_BUILD_TIMEOUT_S"):
        cache.prepare(EnvironmentSpec(pip_packages=("held",)), _drop)
    assert cache.list() == []
    assert os.listdir(tmp_path / "cache" / "building") == []


def test_after_a_kill_in_mid_build_nothing_runs_and_the_next_one_builds(wheels: Wheelhouse, tmp_path: Path) -> None:
    hold = wheels.add_held("held", tmp_path / "hold")
    root = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, "-c", _PREPARE, str(root), "held"], stdin=subprocess.DEVNULL)
    backend = Watch(hold.wait_started())
    assert os.listdir(root / "building")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert backend.ended()
    hold.let_pass()
    cache = EnvironmentCache(str(root))
    ready = cache.prepare(EnvironmentSpec(pip_packages=("held",)), _drop)
    cache.close()
    assert not ready.cached
    assert os.listdir(root / "building") == []


_PREPARE = """
import sys
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.cache import EnvironmentCache
cache = EnvironmentCache(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(cache.prepare(EnvironmentSpec(pip_packages=tuple(sys.argv[2:])), lambda line: None).cached)
cache.close()
"""


def test_eight_threads_and_three_processes_build_once(wheels: Wheelhouse, tmp_path: Path) -> None:
    wheels.add("tiny")
    root = str(tmp_path / "cache")
    command = [sys.executable, "-c", _PREPARE, root, "tiny"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    cache, cached = EnvironmentCache(root), []  # type: tuple[EnvironmentCache, list[bool]]
    spec = EnvironmentSpec(pip_packages=("tiny",))
    threads = [threading.Thread(target=lambda: cached.append(cache.prepare(spec, _drop).cached)) for _ in range(8)]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [process.communicate()[0] for process in processes]
    cache.close()
    assert sorted([*(str(value) for value in cached), *(text.strip() for text in said)]) == ["False"] + ["True"] * 10
    assert len(cache.list()) == 1


@pytest.mark.interpreters
def test_every_interpreter_gets_an_environment_that_starts_and_is_compiled(wheels: Wheelhouse, tmp_path: Path) -> None:
    wheels.add("tiny", body="x = 1\n")
    cache = EnvironmentCache(str(tmp_path / "cache"))
    for version in ("3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13"):
        ready = cache.prepare(EnvironmentSpec(python_version=version, pip_packages=("tiny",)), _drop)
        assert ready.python_version.startswith(version + ".")
        cache.join()
        command = [ready.python, "-c", "import os, tiny; print(os.path.exists(tiny.__cached__))"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.packages
def test_scikit_learn_from_the_index(tmp_path: Path) -> None:
    cache = EnvironmentCache(str(tmp_path / "cache"))
    spec = EnvironmentSpec(pip_packages=("scikit-learn",))
    ready = cache.prepare(spec, _drop)
    command = [ready.python, "-c", "import sklearn.datasets as d; print(d.load_digits().data.shape)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1797, 64)"
    found = cache.find(spec)
    cache.close()
    assert found and found.cached and found.key == ready.key
    assert found.seconds < 0.05


def _built(builder: VenvBuilder, spec: EnvironmentSpec, tmp_path: Path) -> Path:
    lock = builder.resolve(spec, quiet())
    beside, final = tmp_path / "beside", tmp_path / "final"
    beside.mkdir()
    builder.build(lock, str(beside), quiet())
    os.replace(beside, final)
    return final


def _build(builder: VenvBuilder, lock: Lock, prefix: Path, work: Work, caught: list[Exception]) -> None:
    try:
        builder.build(lock, str(prefix), work)
    except Exception as e:
        caught.append(e)


def _drop(line: str) -> None:
    pass
