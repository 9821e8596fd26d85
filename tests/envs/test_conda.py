from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import _conda_resolve, conda
from windlassd.envs._conda_prefix import install
from windlassd.envs._conda_solve import Rattler
from windlassd.envs._shelf import package_versions
from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped, Lock, Work
from windlassd.envs.cache import EnvironmentCache
from windlassd.envs.conda import CondaBuilder
from windlassd.testing.builder_suite import BuilderConformance, quiet
from windlassd.testing.conda_channel import PLACEHOLDER, CondaChannel, File

if TYPE_CHECKING:
    from envs.conftest import Wheelhouse

NATIVE = {
    "bin/native": File.text(
        f"#!{PLACEHOLDER}/bin/python\nprint(open('{PLACEHOLDER}/share/native').read())\n", executable=True
    ),
    "share/native": File.text("native works"),
    "lib/native.bin": File(b"\0" + PLACEHOLDER.encode() + b"/share/native\0end"),
    "etc/conda/activate.d/native.sh": File.text('export NATIVE_DATA="$CONDA_PREFIX/share"\n'),
    "etc/conda/env_vars.d/native.json": File.text('{"NATIVE_MODE": "quick"}'),
    "bin/.nativelib-post-link.sh": File.text("touch $PREFIX/ran\n", executable=True),
}


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of conda's but those of a test."""
    for name in [name for name in os.environ if name.startswith("CONDA")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))


@pytest.fixture
def channel(tmp_path: Path) -> CondaChannel:
    """A Python and a native package; not published yet."""
    made = CondaChannel(tmp_path / "channel")
    made.add_python()
    made.add("nativelib", "1.2", files=NATIVE)
    return made


@pytest.fixture
def builder(made: CondaBuilder) -> CondaBuilder:
    return made


@pytest.fixture
def made(tmp_path: Path, wheels: Wheelhouse) -> CondaBuilder:
    (tmp_path / "cache").mkdir()
    return conda.create(str(tmp_path / "cache" / "interpreters.json"))


def asked(
    channel: CondaChannel, *packages: str, pip: tuple[str, ...] = (), python: str | None = None
) -> EnvironmentSpec:
    """What is asked of a channel, which is published first."""
    channel.publish()
    return EnvironmentSpec(
        conda_packages=packages, pip_packages=pip, channels=(channel.address,), python_version=python
    )


def _files(lock: Lock) -> list[str]:
    """Names of the lock's conda packages, with version and build."""
    return [Path(line.split(" ")[0]).name.removesuffix(".tar.bz2") for line in lock.requirements if "conda+" in line]


def output(*argv: str | Path) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.packages
class TestCondaBuilder(BuilderConformance):
    @pytest.fixture
    def builder(self, made: CondaBuilder) -> CondaBuilder:
        return made

    @pytest.fixture
    def spec(self, channel: CondaChannel) -> EnvironmentSpec:
        return asked(channel, "nativelib")

    @pytest.fixture
    def unsupported(self) -> EnvironmentSpec:
        return EnvironmentSpec(conda_packages=("openmpi",), channels=("https://me:s3cr3t@lab/c",))

    @pytest.fixture
    def impossible(self, channel: CondaChannel) -> EnvironmentSpec:
        return asked(channel, "openmpi")


def test_a_mixed_list_becomes_one_prefix_that_works_where_it_ends_up(
    tmp_path: Path, channel: CondaChannel, wheels: Wheelhouse
) -> None:
    channel.add_python_package("made-here", body="def main():\n    print('made here')\n", script="made-here")
    wheels.add("numpy")
    wheels.add("tiny", requires=("numpy", "azureml-core"), body="def main():\n    print('tiny')\n", script="tiny")
    lines: list[str] = []
    spec = asked(channel, "nativelib=1.2", "made-here", "numpy", "nomkl", pip=("tiny",))
    cache = EnvironmentCache(str(tmp_path / "cache"))
    ready = cache.prepare(spec, lines.append)
    cache.join()
    assert ready.builder == "conda" and ready.prefix
    prefix = Path(ready.prefix)
    assert output(prefix / "bin" / "native") == "native works\n"
    assert (prefix / "lib" / "native.bin").read_bytes().startswith(b"\0" + os.fsencode(prefix) + b"/share/native\0")
    assert output(prefix / "bin" / "made-here") == "made here\n"
    assert output(prefix / "bin" / "tiny") == "tiny\n"
    assert (
        output(ready.python, "-c", "import tiny, numpy, made_here, importlib.util as u; print(u.find_spec('azureml'))")
        == "None\n"
    )
    said = " ".join(ready.notes)
    assert "From PyPI, which has them as well: numpy" in said
    assert "From the conda channels: nativelib=1.2, made-here" in said
    assert any("nativelib" in line and "not run" in line for line in lines) and not (prefix / "ran").exists()
    assert list(prefix.glob("lib/python*/site-packages/made_here/__pycache__/*.pyc")), "bytecode was not compiled"
    again = cache.find(spec)
    assert again and again.cached and again.key == ready.key


@pytest.mark.packages
def test_a_lock_names_each_package_with_its_hash_and_is_enough_to_build_from(
    tmp_path: Path, channel: CondaChannel, builder: CondaBuilder
) -> None:
    lock = builder.resolve(asked(channel, "nativelib"), quiet())
    assert _files(lock) == ["nativelib-1.2-0", f"python-{lock.python_version}-0"]
    assert all(line.startswith("conda+file://") and "--hash=sha256:" in line for line in lock.requirements)
    for index in channel.folder.rglob("repodata*"):
        index.unlink()  # nothing can be solved any more
    (tmp_path / "prefix").mkdir()
    builder.build(Lock(**json.loads(json.dumps(vars(lock)))), str(tmp_path / "prefix"), quiet())
    assert builder.check(lock, str(tmp_path / "prefix"), quiet()) is None


@pytest.mark.packages
def test_a_list_of_which_pypi_has_everything_stays_a_virtual_environment(
    channel: CondaChannel, builder: CondaBuilder, wheels: Wheelhouse
) -> None:
    wheels.add("odd-name", "2.1")
    lock = builder.resolve(EnvironmentSpec(conda_packages=("odd-name=2",)), quiet())
    assert lock.builder == "venv"
    assert lock.requirements[0].startswith("odd-name==2.1")


def test_what_pypi_does_not_know_is_looked_for_in_the_channels(
    channel: CondaChannel, builder: CondaBuilder, wheels: Wheelhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels.add("numpy")
    channel.add("odd-tool", "3.0")
    channel.publish()
    monkeypatch.setenv("CONDA_CHANNELS", channel.address)
    monkeypatch.setattr(_conda_resolve, "PUBLIC", (channel.address,))  # as conda-forge: PyPI is asked first
    lines: list[str] = []
    lock = builder.resolve(EnvironmentSpec(conda_packages=("odd-tool", "numpy")), Work(lines.append))
    assert lock.builder == "conda"
    assert any("odd-tool-3.0" in line for line in lock.requirements)
    assert any("odd-tool: not on the package index" in line for line in lines)


@pytest.mark.packages
def test_a_name_that_a_teams_own_channel_has_is_not_taken_from_pypi(
    channel: CondaChannel, builder: CondaBuilder, wheels: Wheelhouse
) -> None:
    wheels.add("team-tool", "9.0")
    channel.add("team-tool", "1.0")
    lock = builder.resolve(asked(channel, "team-tool"), quiet())
    assert any("team-tool-1.0" in line for line in lock.requirements)


@pytest.mark.packages
def test_builds_versions_and_channels_are_honoured(
    tmp_path: Path, channel: CondaChannel, builder: CondaBuilder
) -> None:
    for version, build in (("1.0", "cpu_0"), ("1.0", "gpu_0"), ("2.0", "cpu_0")):
        channel.add("odd-tool", version, build=build)
    for entry in (
        "odd-tool=1.0=cpu_0", "odd-tool 1.* cpu*", f"{channel.address}::odd-tool=1.0=cpu_0",
        "odd-tool[version='<2', build='cpu*']",
    ):  # fmt: skip
        lock = builder.resolve(asked(channel, entry, "nativelib"), quiet())
        assert any("odd-tool-1.0-cpu_0" in line for line in lock.requirements), entry


@pytest.mark.packages
def test_the_python_asked_for_is_the_one_that_the_channel_has(channel: CondaChannel, builder: CondaBuilder) -> None:
    have = channel.add_python()
    minor = have.rpartition(".")[0]
    channel.add_python("3.19.4")
    for wanted in (minor, have, f">={minor},<{minor}.99"):
        assert builder.resolve(asked(channel, "nativelib", python=wanted), quiet()).python_version == have
    assert builder.resolve(asked(channel, "nativelib"), quiet()).python_version == "3.19.4"
    with pytest.raises(EnvironmentFailed, match=r"No version or build of 'python'(.|\n)*There are: .*3\.19\.4"):
        builder.resolve(asked(channel, "nativelib", python="3.18"), quiet())


@pytest.mark.packages
def test_an_older_python_of_the_channel_is_taken_when_the_wheels_ask_for_it(
    channel: CondaChannel, builder: CondaBuilder, wheels: Wheelhouse
) -> None:
    have = channel.add_python()
    channel.add_python("3.19.4")
    wheels.add("tiny")
    old = next(wheels.folder.glob("tiny-*"))
    old.rename(old.with_name(old.name.replace("py3-none", f"cp{have.replace('.', '')[:3]}-none")))
    lock = builder.resolve(asked(channel, "nativelib", pip=("tiny",)), quiet())
    assert lock.python_version == have


@pytest.mark.packages
def test_packages_that_the_channels_bring_along_are_not_installed_twice(
    tmp_path: Path, channel: CondaChannel, builder: CondaBuilder, wheels: Wheelhouse
) -> None:
    channel.add_python_package("numpy", "1.20")
    channel.add_python_package("numpy", "1.26")
    channel.add("odd-tool", depends=("numpy",))
    wheels.add("numpy", "2.0")
    wheels.add("tiny", requires=("numpy",))
    lock = builder.resolve(asked(channel, "odd-tool", "nativelib", "numpy=1.20", pip=("tiny",)), quiet())
    assert any("numpy-1.20" in line for line in lock.requirements)
    assert not any(line.startswith("numpy==") for line in lock.requirements)
    wheels.add("tiny", "2.0", requires=("numpy>=1.25",))
    lock = builder.resolve(asked(channel, "odd-tool", "nativelib", "numpy=1.20", pip=("tiny",)), quiet())
    (tmp_path / "prefix").mkdir()
    with pytest.raises(EnvironmentFailed, match=r"'tiny' from PyPI needs 'numpy>=1.25'.*numpy 1.20"):
        builder.build(lock, str(tmp_path / "prefix"), quiet())


@pytest.mark.packages
def test_what_needs_a_gpu_is_refused_without_one_and_solved_for_a_machine_that_has_one(
    channel: CondaChannel, builder: CondaBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel.add("odd-tool", build="gpu_0", depends=("__cuda >=11", "__glibc >=2.17"))
    spec = asked(channel, "odd-tool", "nativelib")
    without = builder.request(spec)
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "")  # as on a machine without
    with pytest.raises(EnvironmentFailed, match="need a GPU"):
        builder.resolve(spec, quiet())
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.1")
    assert "odd-tool-1.0-gpu_0" in _files(builder.resolve(spec, quiet()))
    assert builder.request(spec) != without


@pytest.mark.packages
def test_dependencies_on_azureml_packages_are_satisfied(channel: CondaChannel, builder: CondaBuilder) -> None:
    channel.add("odd-tool", depends=("azureml-core >=1.10,<2", "azureml-made-up ==3.1"))
    lock = builder.resolve(asked(channel, "odd-tool", "nativelib"), quiet())
    assert sorted(_files(lock)) == ["nativelib-1.2-0", "odd-tool-1.0-0", f"python-{lock.python_version}-0"]


@pytest.mark.packages
def test_an_unknown_package_is_named_with_a_near_one_and_the_channels(
    channel: CondaChannel, builder: CondaBuilder
) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        builder.resolve(asked(channel, "nativelob"), quiet())
    assert "'nativelob' is not in" in caught.value.message and channel.address in caught.value.message
    assert "Did you mean 'nativelib'?" in caught.value.message


@pytest.mark.packages
def test_what_does_not_fit_is_shown_with_both_pins(channel: CondaChannel, builder: CondaBuilder) -> None:
    channel.add("libodd", "1.0")
    channel.add("libodd", "2.0")
    channel.add("odd-tool", "1.0", depends=("libodd <2",))
    with pytest.raises(EnvironmentFailed) as caught:
        builder.resolve(asked(channel, "odd-tool=1.0", "libodd=2.0", "nativelib"), quiet())
    assert "libodd <2" in caught.value.message and "'odd-tool=1.0', 'libodd=2.0'" in caught.value.message
    assert not caught.value.transient


@pytest.mark.packages
def test_a_build_that_is_not_there_is_refused_with_those_that_are(channel: CondaChannel, builder: CondaBuilder) -> None:
    channel.add("nativelib", "1.2", build="cpu_1")
    with pytest.raises(EnvironmentFailed, match=r"There are: 1\.2=0, 1\.2=cpu_1\."):
        builder.resolve(asked(channel, "nativelib=1.2=gpu_0"), quiet())


@pytest.mark.packages
def test_a_package_of_another_platform_is_told_as_such(channel: CondaChannel, builder: CondaBuilder) -> None:
    channel.add("wintool", subdir="win-64")
    with pytest.raises(EnvironmentFailed, match=r"'wintool' is in .* for win-64 only"):
        builder.resolve(asked(channel, "wintool", "nativelib"), quiet())


@pytest.mark.packages
def test_channels_without_python_say_so(tmp_path: Path, builder: CondaBuilder) -> None:
    channel = CondaChannel(tmp_path / "bare")
    channel.add("nativelib")
    with pytest.raises(EnvironmentFailed, match="There is no Python in the channels file"):
        builder.resolve(asked(channel, "nativelib"), quiet())


@pytest.mark.packages
def test_a_channel_that_is_not_there_and_one_that_does_not_answer(tmp_path: Path, builder: CondaBuilder) -> None:
    gone = EnvironmentSpec(conda_packages=("openmpi",), channels=(f"file://{tmp_path}/gone",))
    with pytest.raises(EnvironmentFailed, match=r"channel file://.*/gone.* does not exist") as caught:
        builder.resolve(gone, quiet())
    assert not caught.value.transient
    dead = EnvironmentSpec(conda_packages=("openmpi",), channels=("http://127.0.0.1:9/lab",))
    with pytest.raises(EnvironmentFailed, match=r"http://127\.0\.0\.1:9/lab.* could not be reached") as caught:
        builder.resolve(dead, quiet())
    assert caught.value.transient


@pytest.mark.packages
def test_a_package_that_changed_after_locking_is_refused(
    tmp_path: Path, channel: CondaChannel, builder: CondaBuilder
) -> None:
    lock = builder.resolve(asked(channel, "nativelib"), quiet())
    channel.add("nativelib", "1.2", files={"share/native": File.text("tampered")})
    (tmp_path / "prefix").mkdir()
    with pytest.raises(EnvironmentFailed, match=r"nativelib-1\.2-0\.tar\.bz2 is not the one that was locked"):
        builder.build(lock, str(tmp_path / "prefix"), quiet())


@pytest.mark.packages
def test_a_package_published_anew_under_its_old_name_is_not_taken_from_the_package_cache(
    tmp_path: Path, channel: CondaChannel, builder: CondaBuilder
) -> None:
    for text in ("first", "second"):
        channel.add("nativelib", "1.2", files={"share/native": File.text(text)})
        lock = builder.resolve(asked(channel, "nativelib"), quiet())
        (tmp_path / text).mkdir()
        builder.build(lock, str(tmp_path / text), quiet())
        assert (tmp_path / text / "share" / "native").read_text() == text


class _Guarded(http.server.SimpleHTTPRequestHandler):
    """A channel behind a login."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == "Basic bWU6czNjcjN0":
            super().do_GET()
        else:
            self.send_error(401)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def guarded(channel: CondaChannel) -> Iterator[str]:
    """Host and port of the channel behind the login me:s3cr3t."""
    channel.publish()

    def handler(*args: object, **more: object) -> _Guarded:
        return _Guarded(*args, directory=str(channel.folder), **more)  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.packages
def test_a_login_of_the_servers_user_is_used_and_stands_nowhere(
    tmp_path: Path, guarded: str, builder: CondaBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    condarc = tmp_path / ".condarc"
    condarc.write_text(f"default_channels:\n  - http://me:s3cr3t@{guarded}\n")
    monkeypatch.setenv("CONDARC", str(condarc))
    lines: list[str] = []
    spec = EnvironmentSpec(conda_packages=("nativelib",), channels=("defaults",))
    lock = builder.resolve(spec, Work(lines.append))
    (tmp_path / "prefix").mkdir()
    builder.build(lock, str(tmp_path / "prefix"), Work(lines.append))
    assert f"conda+http://{guarded}/" in lock.requirements[0]
    assert "s3cr3t" not in json.dumps([vars(lock), lines, dict(builder.request(spec))], default=str)
    kept = [path for path in (tmp_path / "prefix").rglob("*.json") if "s3cr3t" in path.read_text()]
    assert kept == []
    condarc.write_text(f"default_channels:\n  - http://{guarded}\n")
    with pytest.raises(EnvironmentFailed, match="refuses access") as caught:
        conda.create(str(tmp_path / "other" / "interpreters.json")).resolve(spec, quiet())
    assert not caught.value.transient


@pytest.mark.packages
def test_a_stop_ends_the_solver_that_waits_for_a_channel(builder: CondaBuilder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        spec = EnvironmentSpec(conda_packages=("openmpi",), channels=(f"http://127.0.0.1:{silent.getsockname()[1]}/c",))
        work, taken = quiet(), []

        def stop_when_asked() -> None:
            taken.append(silent.accept()[0])  # the solver waits now; nobody ever answers
            work.stop.set()

        thread = threading.Thread(target=stop_when_asked)
        thread.start()
        with pytest.raises(EnvironmentStopped):
            builder.resolve(spec, work)
        thread.join()
        while taken[0].recv(4096):  # until the solver is gone
            pass
        taken[0].close()


@pytest.mark.packages
def test_a_damaged_package_cache_is_mended(tmp_path: Path, channel: CondaChannel, builder: CondaBuilder) -> None:
    lock = builder.resolve(asked(channel, "nativelib"), quiet())
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        builder.build(lock, str(tmp_path / name), quiet())
        assert (tmp_path / name / "share" / "native").read_text() == "native works"
        kept = tmp_path / "cache" / "conda" / "packages" / "nativelib-1.2-0" / "share" / "native"
        kept.unlink()
        kept.write_text("damaged")


@pytest.mark.packages
def test_a_prefix_can_be_made_for_a_path_of_another_machine(
    tmp_path: Path, channel: CondaChannel, builder: CondaBuilder, wheels: Wheelhouse
) -> None:
    wheels.add("tiny", script="tiny")
    lock = builder.resolve(asked(channel, "nativelib", pip=("tiny",)), quiet())
    (tmp_path / "image").mkdir()
    install(Rattler(str(tmp_path / "packages")), lock, str(tmp_path / "image"), "/opt/environment", quiet())
    assert (tmp_path / "image" / "bin" / "native").read_text().startswith("#!/opt/environment/bin/python")
    assert "/opt/environment/bin/python" in (tmp_path / "image" / "bin" / "tiny").read_text()
    kept = json.loads((tmp_path / "image" / "windlass.activation.json").read_text())
    assert kept["NATIVE_DATA"] == "/opt/environment/share"
    assert str(tmp_path) not in "".join(kept.values())


@pytest.mark.packages
def test_packages_that_no_environment_uses_any_more_are_deleted(tmp_path: Path, channel: CondaChannel) -> None:
    channel.add("odd-tool")
    cache = EnvironmentCache(str(tmp_path / "cache"))
    both = cache.prepare(asked(channel, "nativelib", "odd-tool"), quiet().log)
    one = cache.prepare(asked(channel, "odd-tool"), quiet().log)
    cache.join()
    lock = cache.locked(asked(channel, "odd-tool"))
    assert lock and {"name": "odd-tool", "version": "1.0"} in package_versions(lock)
    unpacked = tmp_path / "cache" / "conda" / "packages"
    for path in unpacked.iterdir():
        os.utime(path, (0, 0))  # long ago
    cache.remove(both.key)
    left = sorted(path.name for path in unpacked.iterdir() if path.is_dir())
    assert left == ["odd-tool-1.0-0", f"python-{one.python_version}-0"]
    assert (Path(one.prefix or "") / "share" / "odd-tool" / "version").read_text() == "1.0"


@pytest.mark.packages
def test_a_conda_prefix_of_a_home_that_was_moved_is_built_anew(tmp_path: Path, channel: CondaChannel) -> None:
    spec = asked(channel, "nativelib")
    old = EnvironmentCache(str(tmp_path / "old"))
    key = old.prepare(spec, quiet().log).key
    old.join()
    (tmp_path / "old").rename(tmp_path / "new")
    moved = EnvironmentCache(str(tmp_path / "new"))
    assert moved.find(spec) is None
    ready = moved.prepare(spec, quiet().log)
    moved.join()
    assert ready.key == key and ready.prefix
    assert output(Path(ready.prefix) / "bin" / "native") == "native works\n"


@pytest.mark.packages
def test_the_setting_takes_everything_from_the_channels(
    channel: CondaChannel, builder: CondaBuilder, wheels: Wheelhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel.add_python_package("numpy", "1.21")
    wheels.add("numpy", "2.0")
    monkeypatch.setenv("WINDLASS_CONDA_PACKAGES_FROM", "conda")
    lock = builder.resolve(asked(channel, "numpy=1.21.*"), quiet())
    assert any("numpy-1.21-py_0" in line for line in lock.requirements)
    assert any("conda_packages_from=conda" in note for note in lock.notes)


def test_another_channel_makes_another_request_and_the_name_of_the_list_does_not(builder: CondaBuilder) -> None:
    spec = EnvironmentSpec(conda_packages=("openmpi",), channels=("conda-forge",))
    assert builder.request(spec) == builder.request(replace(spec, name="x"))
    assert builder.request(spec) != builder.request(replace(spec, channels=("bioconda",)))
