"""The builder of images keeps the contract of all builders."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from containers.building import SEED, Kitchen, spec
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.container import ContainerBuilder
from windlassd.testing.builder_suite import BuilderConformance, quiet
from windlassd.testing.package_index import PackageIndex

pytestmark = pytest.mark.containers


class TestContainerBuilder(BuilderConformance):
    @pytest.fixture
    def builder(self, kitchen: Kitchen) -> ContainerBuilder:
        return ContainerBuilder(kitchen.cache.root)

    @pytest.fixture
    def spec(self, index: PackageIndex) -> EnvironmentSpec:
        index.add("alpha")
        return spec("alpha")

    @pytest.fixture
    def unsupported(self) -> EnvironmentSpec:
        return replace(spec("alpha"), conda_packages=("openmpi",), channels=("https://me:s3cr3t@lab/c",))

    @pytest.fixture
    def impossible(self) -> EnvironmentSpec:
        return spec("nosuch")

    def test_the_interpreter_runs_after_a_rename(
        self, builder: ContainerBuilder, spec: EnvironmentSpec, tmp_path: Path
    ) -> None:
        """Its folder only leads to the image, where the interpreter is."""
        lock, prefix = self._made(builder, spec, tmp_path)
        image, engine = builder.place(lock, prefix)
        ran = Kitchen(engine).run(
            image, builder.interpreter(lock, prefix), "-c", "import sys; print(sys.version_info[:2])"
        )
        assert ran == str(tuple(int(part) for part in lock.python_version.split(".")[:2]))
        assert builder.check(lock, prefix, quiet()) is None
        assert builder.is_there(lock, prefix) and os.listdir(prefix) == ["image.json"]
        builder.discard(lock, prefix)
        assert not builder.is_there(lock, prefix)
        assert Kitchen(engine).inspect(SEED)
