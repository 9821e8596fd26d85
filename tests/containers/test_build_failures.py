"""What goes wrong while an image is made: each says what, and leaves the cache and the engine clean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from containers.building import SEED, Kitchen, spec
from windlass import settings
from windlass.specs.container import ContainerSpec
from windlassd.envs import _container_session, container_engine
from windlassd.envs._container_api import Api, EngineRefused
from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped, Work
from windlassd.envs.container import ContainerBuilder
from windlassd.testing import container_engines
from windlassd.testing.container_engines import Bases
from windlassd.testing.package_index import PackageIndex

pytestmark = pytest.mark.containers


def assert_clean(kitchen: Kitchen, before: set[str]) -> None:
    """No container, no image of an environment, and nothing half-made in the cache."""
    assert kitchen.containers() == []
    assert kitchen.tags() == before
    root = os.path.join(settings.home(), "environments")
    assert not [name for name in os.listdir(os.path.join(root, "building")) if not name.endswith(".log")]
    assert not os.listdir(os.path.join(root, "built"))
    folders = os.listdir(os.path.join(settings.home(), "containers"))
    assert not [name for name in folders if not name.startswith(("tools-", "caches"))]


@pytest.fixture
def hung(kitchen: Kitchen, index: PackageIndex) -> Callable[[], None]:
    """Call it: the next installation gets no answer from the index, and the call returns when it waits for one."""
    index.add("alpha")

    def on_line(line: str) -> None:
        if line.startswith("Container image:"):  # resolved; what follows is the installation
            index.asked.clear()
            index.hang("/files/*")

    kitchen.on_line = on_line
    return lambda: index.wait_asked("/files/alpha*")


def test_a_package_that_is_not_there_is_named(kitchen: Kitchen, index: PackageIndex) -> None:
    before = kitchen.tags()
    with pytest.raises(EnvironmentFailed, match=r"The package 'nosuch' cannot be found for Python 3\.11"):
        kitchen.prepare(spec("nosuch"))
    assert_clean(kitchen, before)


def test_an_index_beside_another_that_refuses_access_is_told(
    kitchen: Kitchen, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PackageIndex() as private:
        private.login = ("ada", "correct-horse")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", private.url)
        with pytest.raises(EnvironmentFailed, match=rf"{private.host} refuses access \(401 .*none is set"):
            kitchen.prepare(spec("alpha"))


def test_without_a_network_what_uv_has_in_its_cache_will_do(
    kitchen: Kitchen, index: PackageIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index.add("alpha")
    made = kitchen.prepare(spec("alpha"))
    kitchen.cache.remove(made.key)
    index.stop()
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "other"))  # one that has not resolved it
    other = Kitchen(kitchen.engine)
    ready = other.prepare(spec("alpha"))
    assert other.python(ready, "import alpha; print(1)") == "1"
    assert "cannot be reached: taken from what uv has in its cache" in other.log


def test_a_source_package_that_does_not_build_says_why(kitchen: Kitchen, index: PackageIndex) -> None:
    before = kitchen.tags()
    index.add_source("broken", before='raise SystemExit("error: the turbo encabulator is missing")')
    with pytest.raises(EnvironmentFailed, match=r"(?s)'broken.*turbo encabulator"):
        kitchen.prepare(spec("broken"))
    assert_clean(kitchen, before)


def test_a_stopped_build_leaves_no_image(kitchen: Kitchen, index: PackageIndex, hung: Callable[[], None]) -> None:
    before, stop = kitchen.tags(), threading.Event()
    stopper = threading.Thread(target=lambda: (hung(), stop.set()))
    stopper.start()
    with pytest.raises(EnvironmentStopped):
        kitchen.prepare(spec("alpha"), stop)
    stopper.join()
    assert_clean(kitchen, before)
    kitchen.on_line = lambda line: None
    index.mend()
    assert kitchen.python(kitchen.prepare(spec("alpha")), "import alpha; print(1)") == "1"


def test_a_build_that_takes_too_long_names_the_setting(kitchen: Kitchen, index: PackageIndex, tmp_path: Path) -> None:
    before = kitchen.tags()
    index.add("alpha")
    builder = ContainerBuilder(kitchen.cache.root)
    lock = builder.resolve(spec("alpha"), Work(kitchen.lines.append))
    index.hang("/files/*")
    with pytest.raises(EnvironmentFailed, match="environment_build_timeout_s"):
        builder.build(lock, str(tmp_path), Work(kitchen.lines.append, timeout_s=2.0))
    assert_clean(kitchen, before)


def test_what_a_killed_server_left_is_swept_away(kitchen: Kitchen, index: PackageIndex) -> None:
    before = kitchen.tags()
    index.add("alpha")
    index.hang("/files/*")  # it waits while it resolves, with its container running
    code = f"""
        from containers.building import Kitchen, spec
        Kitchen({kitchen.engine!r}).prepare(spec("alpha"))
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    builder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=env)
    index.wait_asked("/files/alpha*", 60)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert len(kitchen.containers()) == 1
    kitchen.cache.sweep()
    assert_clean(kitchen, before)


def test_a_build_that_lives_is_not_swept(kitchen: Kitchen, index: PackageIndex, hung: Callable[[], None]) -> None:
    stop = threading.Event()

    def build() -> None:
        with pytest.raises(EnvironmentStopped):
            kitchen.prepare(spec("alpha"), stop)

    builder = threading.Thread(target=build)
    builder.start()
    hung()
    Kitchen(kitchen.engine).cache.sweep()
    assert len(kitchen.containers()) == 1
    stop.set()
    builder.join()


def test_a_build_whose_container_the_engine_loses_ends(
    kitchen: Kitchen, index: PackageIndex, hung: Callable[[], None]
) -> None:
    failed: list[EnvironmentFailed] = []

    def build() -> None:
        with pytest.raises(EnvironmentFailed) as caught:
            kitchen.prepare(spec("alpha"))
        failed.append(caught.value)

    builder = threading.Thread(target=build)
    builder.start()
    hung()
    (container,) = kitchen.containers()
    mine = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if container["Id"] in _shim_of(pid)]
    for pid in mine:
        os.kill(pid, signal.SIGKILL)
    builder.join()
    assert mine and "the container has ended, or was lost" in failed[0].message


def _shim_of(pid: int) -> list[str]:
    """The words of a process that keeps a container for the engine; none for any other."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
    return words if "containerd-shim" in words[0] else []


def test_a_container_that_the_engine_does_not_remove_spoils_nothing_and_goes_later(
    kitchen: Kitchen, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(api: Api, container: str) -> None:
        raise EngineRefused("Could not kill running container", 500)

    index.add("alpha")
    with monkeypatch.context() as patch:
        patch.setattr(_container_session, "remove_container", refuse)
        assert kitchen.python(kitchen.prepare(spec("alpha")), "import alpha; print(1)") == "1"
        assert "removed later. The container engine says: Could not kill" in kitchen.log
        assert kitchen.containers() != []
    kitchen.prepare(spec(user_managed=True, interpreter="python3"))
    assert kitchen.containers() == []


def test_a_dockerfile_that_fails_shows_the_step_and_its_lines(kitchen: Kitchen) -> None:
    kitchen.cache.sweep()
    text = f"FROM {SEED}\nRUN echo first step fine\nRUN echo this one breaks >&2; exit 3\n"
    with pytest.raises(EnvironmentFailed) as caught:
        kitchen.prepare(spec(container=ContainerSpec(dockerfile=text)))
    assert "exit 3" in caught.value.message and "this one breaks" in caught.value.message
    assert "first step fine" not in caught.value.message
    assert caught.value.message.endswith("this one breaks\nMend it and submit again.")
    assert "first step fine" in kitchen.log
    assert kitchen.containers() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"FROM {SEED}\nRUN --mount=type=cache,target=/c true\n", "without BuildKit, hence"),
        (f"FROM {SEED}\nRUN <<E\necho\nE\n", "without BuildKit, hence"),
        ("FROM localhost:1/none:1\n", "Check the name after FROM"),
    ],
)
def test_the_way_out_fits_what_is_wrong_with_the_dockerfile(kitchen: Kitchen, text: str, words: str) -> None:
    with pytest.raises(EnvironmentFailed, match=words) as caught:
        kitchen.prepare(spec(container=ContainerSpec(dockerfile=text)))
    assert "Mend it" not in caught.value.message


def test_a_step_that_prints_control_characters_cannot_command_terminals(kitchen: Kitchen) -> None:
    text = f"FROM {SEED}\nRUN printf '\\033[31mred\\007\\n'; exit 2\n"
    with pytest.raises(EnvironmentFailed, match="red\n") as caught:
        kitchen.prepare(spec(container=ContainerSpec(dockerfile=text)))
    assert caught.value.message.replace("\n", "").isprintable()


def test_junk_instead_of_a_dockerfile_or_a_name(kitchen: Kitchen) -> None:
    with pytest.raises(EnvironmentFailed, match="The Dockerfile cannot be built"):
        kitchen.prepare(spec(container=ContainerSpec(dockerfile="this is none")))
    for name in ("", "white space", "-flag", "UPPER case", "a" * 300):
        with pytest.raises(EnvironmentFailed):
            kitchen.prepare(spec(image=name))
    with pytest.raises(EnvironmentFailed, match="one of them is the base"):
        kitchen.prepare(spec(container=ContainerSpec(image=SEED, dockerfile="FROM scratch")))


def test_a_misspelt_image_of_this_machine_is_recognized(kitchen: Kitchen) -> None:
    with pytest.raises(
        EnvironmentFailed, match=r"microsoft/mmlspark:0\.13 .*Did you mean '\S*microsoft/mmlspark:0\.12'"
    ):
        kitchen.prepare(spec(image="microsoft/mmlspark:0.13"))
    kitchen.api.call("POST", f"/images/{SEED}/tag", repo="base", tag="1")
    with pytest.raises(EnvironmentFailed, match=r"base:latest is not .*This machine has \S*base:1\."):
        kitchen.prepare(spec(image="base"))
    kitchen.api.call("DELETE", "/images/base:1")


def test_an_engine_that_is_not_there(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", f"unix://{tmp_path}/none.sock")
    with pytest.raises(container_engine.EngineUnavailable, match=r"none\.sock \(no such socket\)") as caught:
        kitchen.prepare(spec("alpha"))
    assert caught.value.transient and "Start Docker" in str(caught.value)


def test_an_engine_that_is_killed_meanwhile(
    bases: Bases, index: PackageIndex, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The run fails with that reason; with the engine back the environment is made, and what was left is removed."""
    folder = tmp_path_factory.mktemp("own")
    index.add("alpha")
    index.hang("/files/*")
    with container_engines.docker(folder, keep=True) as engine:
        monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", engine)
        kitchen = Kitchen(engine)
        bases.image(engine, SEED)
        failed: list[EnvironmentFailed] = []

        def prepare() -> None:
            with pytest.raises(EnvironmentFailed) as caught:
                kitchen.prepare(spec("alpha"))
            failed.append(caught.value)

        builder = threading.Thread(target=prepare)
        builder.start()
        index.wait_asked("/files/alpha*", 60)
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
        builder.join()
    assert isinstance(failed[0], container_engine.EngineUnavailable)
    assert "went away" in failed[0].message
    index.mend()
    with container_engines.docker(folder):
        kitchen.cache.sweep()
        assert kitchen.containers() == []
        assert kitchen.python(kitchen.prepare(spec("alpha")), "import alpha; print(1)") == "1"


def test_a_full_disk_of_the_engine(
    bases: Bases, index: PackageIndex, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It is told as such, and with room again, or less to install, environments are made."""
    folder = tmp_path_factory.mktemp("small")
    index.add("alpha")
    index.add("big", files={f"big/part{i}.txt": "x" * (16 << 20) for i in range(8)})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)], check=True)
    try:
        with container_engines.docker(folder / "d") as engine:
            monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", engine)
            kitchen = Kitchen(engine)
            bases.image(engine, SEED)
            with pytest.raises(EnvironmentFailed, match="The disk of the container engine is full") as caught:
                kitchen.prepare(spec("big"))
            assert caught.value.transient
            assert_clean(kitchen, {SEED})
            assert kitchen.python(kitchen.prepare(spec("alpha")), "import alpha; print(1)") == "1"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
