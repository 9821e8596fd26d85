"""What every environment builder must do; a builder's test is a subclass with its fixtures."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import Builder, EnvironmentFailed, EnvironmentStopped, Lock, Work


class BuilderConformance:
    """Subclass it and define the four fixtures."""

    @pytest.fixture
    def builder(self) -> Builder:
        """A new builder."""
        raise NotImplementedError

    @pytest.fixture
    def spec(self) -> EnvironmentSpec:
        """What the builder can make here, quickly."""
        raise NotImplementedError

    @pytest.fixture
    def unsupported(self) -> EnvironmentSpec:
        """What the builder cannot make by its nature."""
        raise NotImplementedError

    @pytest.fixture
    def impossible(self) -> EnvironmentSpec:
        """What the builder could make by its nature, and cannot here."""
        raise NotImplementedError

    def test_what_it_can_make_is_supported(self, builder: Builder, spec: EnvironmentSpec) -> None:
        """No reason is given against it."""
        assert builder.unsupported(spec) == {}

    def test_unsupported_names_a_feature_and_a_reason(self, builder: Builder, unsupported: EnvironmentSpec) -> None:
        """Both are text for the user."""
        reasons = builder.unsupported(unsupported)
        assert reasons
        assert all(feature and reason for feature, reason in reasons.items())

    def test_request_is_json_and_stays_the_same(self, builder: Builder, spec: EnvironmentSpec) -> None:
        """It makes a key, so it must not change between two calls."""
        assert json.dumps(builder.request(spec), sort_keys=True) == json.dumps(builder.request(spec), sort_keys=True)

    def test_resolving_twice_gives_the_same_key(self, builder: Builder, spec: EnvironmentSpec) -> None:
        """Two runs with the same packages share an environment."""
        first, second = builder.resolve(spec, quiet()), builder.resolve(spec, quiet())
        assert first.key == second.key
        assert first.builder == builder.name

    def test_a_lock_survives_json(self, builder: Builder, spec: EnvironmentSpec) -> None:
        """It is kept in a file."""
        lock = builder.resolve(spec, quiet())
        data = json.loads(json.dumps(vars(lock)))
        assert Lock(**data).key == lock.key

    def test_notes_are_no_part_of_the_key(self, builder: Builder, spec: EnvironmentSpec) -> None:
        """They are for people."""
        lock = builder.resolve(spec, quiet())
        assert replace(lock, notes=("something else",)).key == lock.key

    def test_the_interpreter_runs_after_a_rename(self, builder: Builder, spec: EnvironmentSpec, tmp_path: Path) -> None:
        """What is built beside works in its final place, with the version of the lock."""
        lock, prefix = self._made(builder, spec, tmp_path)
        python = builder.interpreter(lock, prefix)
        command = [python, "-I", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == lock.python_version
        assert builder.check(lock, prefix, quiet()) is None

    def test_check_sees_a_broken_environment(self, builder: Builder, spec: EnvironmentSpec, tmp_path: Path) -> None:
        """An interpreter of another version than the lock's is found out."""
        lock, prefix = self._made(builder, spec, tmp_path)
        assert builder.check(replace(lock, python_version="3.7.99"), prefix, quiet())

    def test_what_cannot_be_made_fails_with_a_reason(self, builder: Builder, impossible: EnvironmentSpec) -> None:
        """The message is a sentence for the user."""
        with pytest.raises(EnvironmentFailed) as caught:
            builder.resolve(impossible, quiet())
        assert len(caught.value.message) > 20

    def test_a_stopped_build_ends(self, builder: Builder, spec: EnvironmentSpec, tmp_path: Path) -> None:
        """With the error that says so, not as a failure of the packages."""
        if builder.in_place:
            pytest.skip("builds nothing")
        lock, work = builder.resolve(spec, quiet()), quiet()
        work.stop.set()
        with pytest.raises(EnvironmentStopped):
            builder.build(lock, str(tmp_path), work)

    def test_a_build_out_of_time_ends(self, builder: Builder, spec: EnvironmentSpec, tmp_path: Path) -> None:
        """The message names the setting that gives more."""
        if builder.in_place:
            pytest.skip("builds nothing")
        lock = builder.resolve(spec, quiet())
        with pytest.raises(EnvironmentFailed, match="environment_build_timeout_s"):
            builder.build(lock, str(tmp_path), Work(_drop, threading.Event(), timeout_s=0.0))

    def _made(self, builder: Builder, spec: EnvironmentSpec, tmp_path: Path) -> tuple[Lock, str]:
        lock = builder.resolve(spec, quiet())
        beside, final = tmp_path / "beside", tmp_path / "final"
        beside.mkdir()
        if not builder.in_place:
            builder.build(lock, str(beside), quiet())
        os.replace(beside, final)
        return lock, str(final)


def quiet() -> Work:
    """Work that nobody stops and whose lines nobody reads."""
    return Work(_drop)


def _drop(line: str) -> None:
    """Take a line of the log."""
