"""Packages of conda's channels, and a Python of theirs, in images; by real engines and a channel in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from containers.building import SEED, Kitchen, spec
from containers.jobs import IMAGE, Jobs, jobs, printed
from windlass.specs.container import ContainerSpec
from windlassd.envs.base import EnvironmentFailed
from windlassd.testing.conda_channel import PLACEHOLDER, CondaChannel, File
from windlassd.testing.container_engines import Base, Bases
from windlassd.testing.package_index import PackageIndex

__all__ = ["jobs"]
pytestmark = pytest.mark.containers

SAYING = 'a "quoted" $HOME, it\'s \\ here'
NATIVE = {
    "bin/native": File.text(
        f"#!{PLACEHOLDER}/bin/python\nprint(open('{PLACEHOLDER}/share/native').read())\n", executable=True
    ),
    "share/native": File.text("native works"),
    "etc/conda/activate.d/native.sh": File.text('export NATIVE_DATA="$CONDA_PREFIX/share"\n'),
    "etc/conda/env_vars.d/native.json": File.text(json.dumps({"NATIVE_SAYS": SAYING})),
}
PREFIX = "/opt/windlass/env"
_LOOK = """
import glob, json, os, subprocess, sys
print(json.dumps({
    "prefix": sys.prefix,
    "native": subprocess.run([sys.prefix + "/bin/native"], capture_output=True, text=True).stdout.strip(),
    "compiled": len(glob.glob(sys.prefix + "/lib/*/site-packages/*/__pycache__/*.pyc")),
    "left": [os.path.exists("/dev/windlass"), os.listdir("/opt/windlass"), os.listdir("/tmp")],
    "set": {name: os.environ.get(name) for name in ("CONDA_PREFIX", "NATIVE_DATA", "NATIVE_SAYS")},
}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> CondaChannel:
    """A channel with a Python that runs in any image of glibc's, and packages."""
    channel = CondaChannel(tmp_path_factory.mktemp("conda") / "channel")
    channel.add_python(whole=True)
    channel.add("nativelib", "1.2", files=NATIVE)
    channel.add("newlib", "2.0", depends=["__glibc >=9.0"])
    channel.add_python_package("condaside", "4.0", body="x = 1\n")
    channel.publish()
    return channel


@pytest.fixture
def channel(made: CondaChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The channel's address; no settings of conda's."""
    for name in [name for name in os.environ if name.startswith("CONDA")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    return made.address


@pytest.fixture
def bare(bases: Bases, kitchen: Kitchen) -> str:
    """An image with a C library and a shell alone."""
    if kitchen.inspect("bare/glibc:1") is None:
        bases.image(kitchen.engine, "bare/glibc:1", Base(pythons=()))
    return "bare/glibc:1"


def test_channels_and_pypi_share_a_prefix_in_the_image(
    each_kitchen: Kitchen, index: PackageIndex, channel: str
) -> None:
    index.add("alpha", "1.5", files={"alpha/__init__.py": "x = 1\n"})
    asked = spec("alpha", conda_packages=("nativelib", "condaside"), channels=(channel,))
    ready = each_kitchen.prepare(asked)
    seen = json.loads(each_kitchen.python(ready, _LOOK))
    assert seen == {
        "prefix": PREFIX,
        "native": "native works",
        "compiled": 2,
        "left": [False, ["env"], []],
        "set": {"CONDA_PREFIX": PREFIX, "NATIVE_DATA": f"{PREFIX}/share", "NATIVE_SAYS": SAYING},
    }
    assert each_kitchen.python(ready, "import alpha, condaside; print(alpha.x + condaside.x)") == "2"
    assert any(note.endswith("(conda channels).") for note in ready.notes), "where its Python comes from"
    assert each_kitchen.containers() == []
    found = Kitchen(each_kitchen.engine).cache.find(asked)
    assert found and found.image == ready.image


def test_an_image_without_python_gets_one_of_the_channels(
    kitchen: Kitchen, index: PackageIndex, channel: str, bare: str
) -> None:
    index.add("alpha")
    with pytest.raises(
        EnvironmentFailed, match=r"No Python was found in the image bare/glibc:1(.|\n)*name a conda channel"
    ):
        kitchen.prepare(spec("alpha", image=bare))
    ready = kitchen.prepare(spec("alpha", image=bare, channels=(channel,), python_version="3.11"))
    assert kitchen.python(ready, "import alpha, sys; print(sys.prefix)") == PREFIX
    assert "No Python was found in the image bare/glibc:1" in kitchen.log


def test_a_job_sees_what_its_conda_packages_set(jobs: Jobs, channel: str) -> None:
    asked = {"conda_packages": ["nativelib"], "channels": [channel], "container": {"image": IMAGE}}
    script = "import json, os, shutil; print(json.dumps([dict(os.environ), shutil.which('native')]))"
    run_id = jobs.submit(script, environment=asked)
    assert jobs.wait(run_id).status == "Completed"
    seen, program = printed(jobs, run_id)
    told = {name: seen.get(name) for name in ("CONDA_PREFIX", "NATIVE_DATA", "NATIVE_SAYS", "IMAGE_SAYS")}
    assert told == {
        "CONDA_PREFIX": PREFIX, "NATIVE_DATA": f"{PREFIX}/share", "NATIVE_SAYS": SAYING, "IMAGE_SAYS": "hello",
    }  # fmt: skip
    assert program == f"{PREFIX}/bin/native"


def test_a_python_that_the_image_has_is_taken_from_it(kitchen: Kitchen, index: PackageIndex, channel: str) -> None:
    index.add("alpha")
    ready = kitchen.prepare(spec("alpha", channels=(channel,)))
    assert kitchen.python(ready, "import os, sys; print(os.path.exists(sys.prefix + '/conda-meta'))") == "False"


def test_all_come_from_the_channels_when_the_setting_says_so(
    kitchen: Kitchen, index: PackageIndex, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("condaside", "9.0")
    asked = spec(conda_packages=("condaside",), channels=(channel,))
    monkeypatch.setenv("WINDLASS_CONDA_PACKAGES_FROM", "conda")
    ready = kitchen.prepare(asked)
    version = "import importlib.metadata as m; print(m.version('condaside'))"
    assert kitchen.python(ready, version) == "4.0"
    assert "conda_packages_from=conda" in "\n".join(ready.notes)


class TestFailures:
    def test_what_neither_pypi_nor_a_channel_has_is_named(
        self, kitchen: Kitchen, index: PackageIndex, channel: str
    ) -> None:
        with pytest.raises(EnvironmentFailed, match=r"'nosuch' is not on the package index.*nosuch"):
            kitchen.prepare(spec(conda_packages=("nosuch",), channels=(channel,)))
        assert kitchen.containers() == []

    def test_a_python_that_neither_has_names_both(self, kitchen: Kitchen, index: PackageIndex, channel: str) -> None:
        index.add("alpha")
        with pytest.raises(
            EnvironmentFailed, match=rf"The image {SEED} has no Python 3\.9; it has 3\.11\.(.|\n)*python"
        ):
            kitchen.prepare(spec("alpha", channels=(channel,), python_version="3.9"))

    def test_the_c_library_of_the_image_decides(self, kitchen: Kitchen, channel: str) -> None:
        with pytest.raises(EnvironmentFailed, match=r"newlib(.|\n)*__glibc"):
            kitchen.prepare(spec(conda_packages=("newlib",), channels=(channel,)))

    def test_an_image_without_the_gnu_c_library_is_refused(self, kitchen: Kitchen, channel: str) -> None:
        empty = ContainerSpec(dockerfile="FROM scratch\nENV EMPTY=1\n")
        with pytest.raises(EnvironmentFailed, match="they need the GNU C library, and none was found"):
            kitchen.prepare(spec(container=empty, conda_packages=("nativelib",), channels=(channel,)))

    def test_a_login_in_a_channel_is_refused_before_anything_is_asked(self, kitchen: Kitchen) -> None:
        with pytest.raises(EnvironmentFailed, match="holds credentials") as caught:
            kitchen.prepare(spec(conda_packages=("nativelib",), channels=("https://ada:sesame@example.org/c",)))
        assert "sesame" not in caught.value.message

    def test_a_package_whose_file_changed_leaves_nothing_behind(
        self, kitchen: Kitchen, channel: str, made: CondaChannel
    ) -> None:
        asked = spec(conda_packages=("nativelib",), channels=(channel,))
        (file,) = made.folder.glob("*/nativelib-1.2-0.tar.bz2")
        kept, before = file.read_bytes(), kitchen.tags()
        file.write_bytes(kept + b" ")
        try:
            with pytest.raises(EnvironmentFailed, match=r"nativelib-1\.2"):
                kitchen.prepare(asked)
        finally:
            file.write_bytes(kept)
        assert kitchen.tags() == before and kitchen.containers() == []
