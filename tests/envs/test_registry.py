from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import registry
from windlassd.envs.base import EnvironmentFailed


def test_the_spec_decides_the_builder(tmp_path: Path) -> None:
    managed = EnvironmentSpec(user_managed=True, interpreter=sys.executable)
    assert registry.builder_for(managed, str(tmp_path)).name == "current"
    assert registry.builder_for(EnvironmentSpec(pip_packages=("numpy",)), str(tmp_path)).name == "venv"
    assert registry.builder_for(EnvironmentSpec(conda_packages=("numpy=1.2", "pip")), str(tmp_path)).name == "venv"
    assert registry.builder_for(EnvironmentSpec(conda_packages=("numpy", "openmpi")), str(tmp_path)).name == "conda"


def test_what_the_builder_cannot_do_is_named_with_the_reason(tmp_path: Path) -> None:
    spec = EnvironmentSpec(user_managed=True, interpreter=sys.executable, pip_packages=("numpy",))
    with pytest.raises(EnvironmentFailed, match=r"cannot be made\. pip_packages: numpy: nothing is installed"):
        registry.builder_for(spec, str(tmp_path))


def test_an_unknown_builder_is_an_error_that_lists_the_others(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"'docker'; there are .*conda.*venv"):
        registry.create("docker", str(tmp_path))


def test_no_builder_is_loaded_before_it_is_used() -> None:
    code = "import sys, windlassd.envs.cache; print([m for m in sys.modules if m in ('uv', 'windlassd.envs.venv')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
