"""The environment of a part, made on its node."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from windlass.specs._codec import to_wire
from windlass.specs.container import ContainerLaunch, ContainerOptions
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.launch import EnvironmentLaunch, LaunchSpec
from windlassd.agent import environment
from windlassd.agent.engines import StartRefused
from windlassd.agent.environment import Call, log_name, release
from windlassd.blobs.run_folder import RunFolder
from windlassd.envs import _from_lock
from windlassd.envs.base import EnvironmentFailed, Ready, Work
from windlassd.envs.cache import EnvironmentCache, EnvironmentInUse
from windlassd.testing.fake_builder import FakeBuilder

SPEC = EnvironmentSpec(pip_packages=("tiny",))
LAUNCH = LaunchSpec("run_1", 2, "node-3", 1, "train.py", (), "5" * 64, "")


@dataclass
class Files:
    """Where a snapshot comes from."""

    laid_out: list[str] = field(default_factory=list)

    def lay_out(self, snapshot_id: str, folder: RunFolder, wanted: object) -> None:
        self.laid_out.append(snapshot_id)
        os.makedirs(os.path.join(folder.work, "outputs"))
        Path(folder.work, "requirements.txt").write_text("tiny\n")

    def close(self) -> None:
        pass


@dataclass
class Node:
    home: Path
    folder: RunFolder
    builder: FakeBuilder
    cache: EnvironmentCache
    sources: Files = field(default_factory=Files)
    stop: threading.Event = field(default_factory=threading.Event)
    begun: list[str] = field(default_factory=list)

    def ready(self, **changes: Any) -> tuple[LaunchSpec, dict[str, Any]]:
        lock = to_wire(self.builder.resolve(SPEC, Work(lambda line: None)))
        launch = replace(LAUNCH, **{"environment": EnvironmentLaunch(SPEC, lock), **changes})
        begins = lambda: self.begun.append("begun")  # noqa: E731
        return Call(launch, self.folder, str(self.home), self.stop, self.sources, begins).ready()

    def log(self) -> str:
        return Path(self.folder.files, log_name(LAUNCH)).read_text()


@pytest.fixture
def node(home: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    builder = FakeBuilder()
    cache = EnvironmentCache(
        str(home / "environments"), builder_for=lambda spec: builder, builder_named=lambda name: builder
    )
    monkeypatch.setattr(environment, "_cache", lambda home: cache)
    monkeypatch.setattr(_from_lock, "platform_name", lambda: "fake")
    yield Node(home, folder, builder, cache)
    cache.close()


def test_it_is_made_once_and_then_found_without_a_word(node: Node) -> None:
    launch, about = node.ready()
    assert launch.python == os.path.join(node.cache.root, "built", about["key"], "bin", "python")
    assert node.begun == ["begun"] and about["cached"] is False and about["python_version"] in sys.version
    assert log_name(LAUNCH) == "azureml-logs/20_image_build_log_1.txt" and "Building tiny==1.0." in node.log()
    said = node.log()
    again, about = node.ready()
    assert again.python == launch.python and about["cached"] is True
    assert node.begun == ["begun"] and node.log() == said and node.builder.built == 1


def test_it_stays_until_the_part_has_ended(node: Node) -> None:
    launch, about = node.ready()
    with pytest.raises(EnvironmentInUse, match=r"run_1\.2\.1"):
        node.cache.remove(about["key"])
    release(launch, node.folder, str(node.home))
    node.cache.remove(about["key"])


def test_one_that_was_found_stays_too(node: Node) -> None:
    release(node.ready()[0], node.folder, str(node.home))
    _, about = node.ready()
    with pytest.raises(EnvironmentInUse):
        node.cache.remove(about["key"])


def test_what_fails_is_told_in_the_installers_words(node: Node) -> None:
    def fail(work: Work) -> None:
        raise EnvironmentFailed("The package 'tiny==1.0' cannot be fetched.")

    node.builder.before_build = fail
    with pytest.raises(
        StartRefused, match=r"cannot be made there, .*\. The package 'tiny==1.0' cannot be fetched"
    ) as said:
        node.ready()
    assert said.value.error_code == "environment_failed"
    assert "cannot be fetched" in node.log()
    assert node.cache.list() == []


def test_a_canceled_part_ends_while_its_environment_is_made(node: Node) -> None:
    def cancel(work: Work) -> None:
        node.stop.set()
        work.give_up()

    node.builder.before_build = cancel
    with pytest.raises(StartRefused, match="stopped") as said:
        node.ready()
    assert said.value.error_code != "environment_failed" and node.cache.list() == []


def test_without_a_lock_it_is_resolved_on_the_node(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "EnvironmentCache", lambda root: node.cache)
    launch, about = node.ready(environment=EnvironmentLaunch(SPEC, {}))
    assert launch.python and node.builder.resolved == 2 and about["key"]
    with pytest.raises(EnvironmentInUse):
        node.cache.remove(about["key"])


def test_an_image_is_the_nodes_own(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(spec: EnvironmentSpec, use: object) -> Ready:
        return Ready("k", "container", "/opt/python", "3.9.1", None, True, 0.0, (), "sha256:1", "unix:///node.sock")

    monkeypatch.setattr(node.cache, "find", found)
    options = ContainerOptions(shm_bytes=5)
    launch, _ = node.ready(environment=EnvironmentLaunch(SPEC, {}), container=ContainerLaunch("", "", options))
    assert launch.container == ContainerLaunch("sha256:1", "unix:///node.sock", options)
    assert launch.python == "/opt/python"


def test_the_files_of_a_dockerfile_come_with_the_snapshot(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "EnvironmentCache", lambda root: node.cache)

    def unpack(work: Work) -> None:
        assert node.cache.unpack
        node.cache.unpack("a" * 64, str(tmp_path))

    node.builder.before_build = unpack
    node.ready(environment=EnvironmentLaunch(SPEC, {}))
    assert node.sources.laid_out == ["a" * 64] and (tmp_path / "requirements.txt").read_text() == "tiny\n"
    assert not (tmp_path / "outputs").exists(), "the context of a Dockerfile is the snapshot and nothing else"
    assert not [name for name in os.listdir(node.folder.agent) if name.startswith("context")]
