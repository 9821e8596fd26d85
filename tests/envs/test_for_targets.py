"""Locks for other machines: what decides which packages and Pythons they name, and how long they hold."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from windlass.specs.container import ContainerSpec
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import _frameworks
from windlassd.envs._layout import Layout
from windlassd.envs._records import sweep_records
from windlassd.envs._requirements import wanted
from windlassd.envs.base import EnvironmentFailed, LeftToNodes, Lock
from windlassd.envs.cache import EnvironmentCache, Use
from windlassd.envs.interpreters import own
from windlassd.envs.target import Target, platform_name, runs_on
from windlassd.testing.conda_channel import CondaChannel
from windlassd.testing.fake_builder import FakeBuilder
from windlassd.testing.packages import archive, source, wheel, wheel_name

if TYPE_CHECKING:
    from envs.conftest import Wheelhouse

OTHER = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
PYTHONS = (("3.9.18", "/opt/python3.9"), ("3.12.4", "/opt/python3.12"))
FAR = Target(f"linux-{OTHER}-glibc2.17", PYTHONS)
BROKEN = {
    "PKG-INFO": "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n",
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "made"\nbackend-path = ["."]\n',
    "made.py": 'raise SystemExit("no compiler for this")\n',
}


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cache(tmp_path: Path, wheels: Wheelhouse) -> Iterator[EnvironmentCache]:
    made = EnvironmentCache(str(tmp_path / "environments"))
    yield made
    made.close()


@pytest.fixture
def faked(tmp_path: Path) -> Iterator[tuple[EnvironmentCache, FakeBuilder, Clock]]:
    builder, clock = FakeBuilder(), Clock()
    made = EnvironmentCache(
        str(tmp_path / "environments"), clock=clock, builder_for=lambda spec: builder,
        builder_for_target=lambda spec, target: builder,
    )  # fmt: skip
    yield made, builder, clock
    made.close()


def tagged(wheels: Wheelhouse, name: str, version: str, tag: str, requires: tuple[str, ...] = ()) -> None:
    made = wheel(name, version, tag=tag, requires=requires)
    (wheels.folder / wheel_name(name, version, tag)).write_bytes(made)


def asked(*packages: str, **more: str) -> EnvironmentSpec:
    return EnvironmentSpec(pip_packages=packages, **more)  # type: ignore[arg-type]


def drop(line: str) -> None:
    pass


def pins(lock: Lock) -> list[str]:
    return [line.split(" ")[0] for line in lock.requirements]


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ("linux-x86_64-glibc2.36", "x86_64-manylinux_2_36"),
        ("linux-x86_64-glibc2.30", "x86_64-manylinux_2_28"),
        ("linux-aarch64-glibc2.27", "aarch64-manylinux_2_17"),
        ("linux-aarch64-glibc2.99", "aarch64-manylinux_2_40"),
        ("linux-x86_64-musl1.2", "x86_64-unknown-linux-musl"),
        ("linux-x86_64-musl1.1", None),
        ("linux-x86_64-glibc2.12", None),
        ("linux-riscv64-glibc2.39", None),
        ("plan9", None),
    ],
)
def test_uv_is_told_the_newest_platform_whose_wheels_run_there(platform: str, name: str | None) -> None:
    assert Target(platform).uv_platform == name


@pytest.mark.parametrize(
    ("made_for", "here", "runs"),
    [
        ("linux-x86_64-glibc2.17", "linux-x86_64-glibc2.36", True),
        ("linux-x86_64-glibc2.36", "linux-x86_64-glibc2.36", True),
        ("linux-x86_64-glibc2.36", "linux-x86_64-glibc2.17", False),
        ("linux-aarch64-glibc2.17", "linux-x86_64-glibc2.36", False),
        ("linux-x86_64-musl1.2", "linux-x86_64-glibc2.36", False),
        ("linux-x86_64-glibc2.17", "somewhere", False),
    ],
)
def test_what_was_chosen_for_an_older_c_library_runs_with_a_newer_one(made_for: str, here: str, runs: bool) -> None:
    assert runs_on(made_for, here) is runs


def test_wheels_markers_and_python_are_the_targets(cache: EnvironmentCache, wheels: Wheelhouse) -> None:
    here = os.uname().machine
    only_there = f'armhelp; platform_machine == "{OTHER}"'
    tagged(wheels, "numeric", "2.0", f"cp312-cp312-manylinux_2_28_{OTHER}")
    tagged(wheels, "numeric", "1.5", f"cp39-cp39-manylinux_2_17_{OTHER}", (only_there,))
    tagged(wheels, "numeric", "3.0", f"cp312-cp312-manylinux_2_17_{here}")
    wheels.add("armhelp")
    lock = cache.for_targets.resolve(asked("numeric"), FAR, drop)
    assert pins(lock) == ["armhelp==1.0", "numeric==1.5"], "its glibc is too old for 2.0, and 3.0 is for this machine"
    assert (lock.python, lock.python_version, lock.platform) == ("/opt/python3.9", "3.9.18", FAR.platform)
    newer = replace(FAR, platform=f"linux-{OTHER}-glibc2.30")
    assert pins(cache.for_targets.resolve(asked("numeric"), newer, drop)) == ["numeric==2.0"]
    assert cache.list() == [], "nothing is built here"


def test_a_python_that_only_the_target_has_is_taken(cache: EnvironmentCache, wheels: Wheelhouse) -> None:
    wheels.add("tiny")
    target = replace(FAR, pythons=(("3.18.7", "/opt/python3.18"),))
    lock = cache.for_targets.resolve(asked("tiny"), target, drop)
    assert (lock.python, lock.python_version) == ("/opt/python3.18", "3.18.7")


def test_a_python_that_nobody_has_is_left_to_a_download_there(
    cache: EnvironmentCache, wheels: Wheelhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels.add("tiny")
    lock = cache.for_targets.resolve(asked("tiny", python_version="3.10"), FAR, drop)
    assert lock.python == "" and lock.python_version.startswith("3.10."), "which is found there by its version"
    assert "uv downloads there" in lock.notes[0]
    monkeypatch.setenv("WINDLASS_PYTHON_DOWNLOADS", "never")
    with pytest.raises(EnvironmentFailed, match=r"Installed on the nodes: 3.12.4, 3.9.18") as caught:
        cache.for_targets.resolve(asked("tiny", python_version="3.10"), replace(FAR, gpus=True), drop)
    assert "python_downloads" in caught.value.message


def test_a_bare_environment_gets_the_python_that_is_most_like_the_servers(cache: EnvironmentCache) -> None:
    mine = "{}.{}".format(*own().numbers)
    both = replace(FAR, pythons=((f"{mine}.1", "/opt/same"), ("3.18.1", "/opt/newest")))
    assert cache.for_targets.resolve(asked(), both, drop).python == "/opt/same"
    assert cache.for_targets.resolve(asked(), replace(FAR, pythons=PYTHONS[:1]), drop).python == "/opt/python3.9"


def test_the_targets_gpus_decide_which_build_of_a_framework_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_frameworks, "has_gpu", lambda: False)
    spec = EnvironmentSpec(framework="TensorFlow")
    assert wanted(spec).requirements[0] == "tensorflow-cpu"
    assert wanted(spec, target=replace(FAR, gpus=True)).requirements[0] == "tensorflow[and-cuda]"
    monkeypatch.setattr(_frameworks, "has_gpu", lambda: True)
    assert wanted(spec, target=FAR).requirements[0] == "tensorflow-cpu"


def test_what_does_not_fit_there_fails_here_with_the_resolvers_words(
    cache: EnvironmentCache, wheels: Wheelhouse
) -> None:
    tagged(wheels, "numeric", "2.0", f"cp312-cp312-manylinux_2_28_{OTHER}")
    with pytest.raises(EnvironmentFailed, match="numeric") as caught:
        cache.for_targets.resolve(asked("numeric", python_version="3.12"), FAR, drop)
    assert f"manylinux_2_28_{OTHER}" in caught.value.message, "what there would be is named"


def test_sources_are_looked_into_here_and_built_there(cache: EnvironmentCache, wheels: Wheelhouse) -> None:
    (wheels.folder / "sourced-1.0.tar.gz").write_bytes(source("sourced", requires=["tiny"]))
    wheels.add("tiny")
    lock = cache.for_targets.resolve(asked("sourced"), FAR, drop)
    assert pins(lock) == ["sourced==1.0", "tiny==1.0"]
    assert any("built from source: sourced" in note for note in lock.notes)


def test_a_build_that_fails_here_says_nothing_of_another_kind_of_machine(
    cache: EnvironmentCache, wheels: Wheelhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_PYTHON_DOWNLOADS", "never")
    (wheels.folder / "broken-1.0.tar.gz").write_bytes(archive("broken-1.0", BROKEN))
    one = replace(FAR, pythons=PYTHONS[:1])
    with pytest.raises(LeftToNodes, match=r"'broken==1.0' has no wheel"):
        cache.for_targets.resolve(asked("broken"), one, drop)
    with pytest.raises(EnvironmentFailed, match="no compiler for this") as caught:
        cache.for_targets.resolve(asked("broken"), replace(one, platform=platform_name()), drop)
    assert not isinstance(caught.value, LeftToNodes), "the same kind of machine would not do better"


@pytest.mark.parametrize(
    ("spec", "platform", "why"),
    [
        (asked("tiny"), FAR.platform, None),
        (asked("tiny"), "linux-x86_64-musl1.1", "linux-x86_64-musl1.1"),
        (EnvironmentSpec(conda_packages=("cudatoolkit",)), "linux-x86_64-musl1.2", "linux-x86_64-musl1.2"),
        (EnvironmentSpec(container=ContainerSpec(image="a:1")), FAR.platform, "container engine of the node"),
        (EnvironmentSpec(user_managed=True, interpreter="/p"), FAR.platform, "node's own"),
    ],
)
def test_what_cannot_be_resolved_from_here_is_left_to_the_nodes(
    cache: EnvironmentCache, spec: EnvironmentSpec, platform: str, why: str | None
) -> None:
    said = cache.for_targets.left(spec, Target(platform))
    assert said is None if why is None else said is not None and why in said


def test_what_this_machine_lacks_is_no_reason_against_a_run_elsewhere(
    cache: EnvironmentCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_PYTHON_DOWNLOADS", "never")
    monkeypatch.setattr("windlassd.envs.interpreters._candidates", list)  # only windlassd's own Python is here
    old = EnvironmentSpec(framework="PyTorch", framework_version="1.4")
    with pytest.raises(EnvironmentFailed, match="this machine has none"):
        cache.check(old)
    cache.check(old, elsewhere=True)
    with pytest.raises(EnvironmentFailed, match=r"there is no PyTorch 1\.77"):
        cache.check(replace(old, framework_version="1.77"), elsewhere=True)


def test_a_lock_is_found_again_and_belongs_to_its_target(
    faked: tuple[EnvironmentCache, FakeBuilder, Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, builder, clock = faked
    locks, spec = cache.for_targets, asked("tiny")
    assert locks.find(spec, FAR) is None
    made = locks.resolve(spec, FAR, drop)
    assert locks.find(spec, FAR) == made and locks.lock(made.key) == made and builder.resolved == 1
    monkeypatch.setenv("WINDLASS_ENVIRONMENT_TTL_S", "60")
    clock.now += 61
    assert locks.find(spec, FAR) is None
    builder.versions["tiny"] = "2.0"
    assert pins(locks.resolve(spec, FAR, drop)) == ["tiny==2.0"]


def test_each_target_has_requests_of_its_own(cache: EnvironmentCache) -> None:
    spec, locks = asked("tiny"), cache.for_targets
    targets = [FAR, replace(FAR, gpus=True), replace(FAR, pythons=()), Target(platform_name(), PYTHONS)]
    keys = {locks.request_key(spec, target) for target in targets} | {cache.request_key(spec)}
    assert len(keys) == 5


def test_many_who_ask_at_once_wait_for_one_resolution(faked: tuple[EnvironmentCache, FakeBuilder, Clock]) -> None:
    cache, builder, _ = faked
    found: list[Lock] = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.for_targets.resolve(asked("tiny"), FAR, drop)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 6 and len({lock.key for lock in found}) == 1 and builder.resolved == 1


def test_without_a_network_the_packages_of_before_are_used_and_that_is_said(
    faked: tuple[EnvironmentCache, FakeBuilder, Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, builder, clock = faked
    monkeypatch.setenv("WINDLASS_ENVIRONMENT_TTL_S", "60")
    first = cache.for_targets.resolve(asked("tiny"), FAR, drop)
    clock.now += 61
    builder.away = "The index cannot be reached."
    again = cache.for_targets.resolve(asked("tiny"), FAR, drop)
    assert again.key == first.key and "could not be looked up anew" in again.notes[-1]
    soon = cache.for_targets.find(asked("tiny"), FAR)
    assert soon is not None and soon.key == first.key, "nobody waits for the same soon after"
    with pytest.raises(EnvironmentFailed, match="cannot be reached"):
        cache.for_targets.resolve(asked("new"), FAR, drop)


def test_a_lock_stays_as_long_as_a_run_needs_it(
    faked: tuple[EnvironmentCache, FakeBuilder, Clock], tmp_path: Path
) -> None:
    cache, _, _ = faked
    use = Use(str(tmp_path), "run_1")
    lock = cache.for_targets.resolve(asked("tiny"), FAR, drop, holders=lambda: (use,))
    layout = Layout(cache.root)
    long_after = time.time() + 1e9

    def sweep() -> None:
        sweep_records(layout, long_after, 60.0, cache.shelf._uses.by_key())

    sweep()
    assert cache.for_targets.lock(lock.key) == lock
    cache.release(use)
    sweep()
    assert cache.for_targets.lock(lock.key) is None


@pytest.mark.packages
def test_conda_packages_are_those_of_the_targets_platform(
    tmp_path: Path, wheels: Wheelhouse, cache: EnvironmentCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("CONDA")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    there = "linux-aarch64" if OTHER == "aarch64" else "linux-64"
    channel = CondaChannel(tmp_path / "channel")
    channel.add("python", "3.9.7", subdir=there)
    channel.add("nativelib", "1.0", subdir=there, depends=["__glibc >=2.17", f"__archspec * {OTHER}"])
    channel.add("nativelib", "2.0", subdir=there, depends=["__glibc >=2.28"])
    channel.add("nativelib", "1.5", build="cuda", subdir=there, depends=["__cuda"])
    channel.publish()
    tagged(wheels, "numeric", "1.5", f"cp39-cp39-manylinux_2_17_{OTHER}")
    spec = EnvironmentSpec(
        conda_packages=(f"{channel.address}::nativelib",), pip_packages=("numeric",), channels=(channel.address,)
    )
    names = [line.split(" ")[0].rpartition("/")[2] for line in cache.for_targets.resolve(spec, FAR, drop).requirements]
    assert names == ["nativelib-1.0-0.tar.bz2", "python-3.9.7-0.tar.bz2", "numeric==1.5"]
    lock = cache.for_targets.resolve(spec, replace(FAR, gpus=True), drop)
    assert any("nativelib-1.5-cuda" in line for line in lock.requirements)
    assert any("CONDA_OVERRIDE_CUDA" in note for note in lock.notes), "what was assumed of the driver is said"


@pytest.mark.packages
def test_a_real_index_resolves_for_another_machine(tmp_path: Path) -> None:
    cache = EnvironmentCache(str(tmp_path / "environments"))
    lock = cache.for_targets.resolve(asked("numpy", python_version="3.9"), FAR, drop)
    cache.close()
    assert lock.python_version == "3.9.18" and lock.platform == FAR.platform
    assert [line.split("==")[0] for line in lock.requirements] == ["numpy"]
    assert lock.requirements[0].startswith("numpy==2.0."), "the last that runs on Python 3.9"
