"""Images out of a base image and a package list, by real engines."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from containers.building import SEED, Kitchen, spec
from windlass.specs.container import ContainerSpec
from windlassd.envs import _container_bases
from windlassd.envs.base import EnvironmentFailed
from windlassd.testing.container_engines import Base, Bases
from windlassd.testing.package_index import PackageIndex

pytestmark = pytest.mark.containers

_LOOK = """
import glob, importlib.metadata, os, sys
compiled = glob.glob(sys.prefix + "/lib/*/site-packages/alpha/__pycache__/*")
print(sys.prefix, importlib.metadata.version("alpha"), len(compiled))
print(os.path.exists("/dev/windlass"), sorted(os.listdir("/opt/windlass")), sorted(os.listdir("/tmp")))
"""


class TestOnEachEngine:
    def test_packages_are_in_an_image_that_is_called_by_the_key(
        self, each_kitchen: Kitchen, index: PackageIndex
    ) -> None:
        index.add("alpha", "1.5", files={"alpha/__init__.py": "x = 1\n"})
        ready = each_kitchen.prepare(spec("alpha"))

        assert ready.prefix is None and not ready.in_place
        assert ready.engine == each_kitchen.engine
        assert each_kitchen.inspect(f"windlass/env:{ready.key}")["Id"].removeprefix("sha256:") in str(ready.image)
        lines = each_kitchen.python(ready, _LOOK).splitlines()
        assert lines[0] == "/opt/windlass/env 1.5 1", "the package, and its bytecode"
        assert lines[1] == "False ['env'] []", "nothing of the build is left in the image"
        assert each_kitchen.containers() == []
        config = each_kitchen.inspect(str(ready.image))["Config"]
        assert (config["Entrypoint"] or [], config["Cmd"]) == ([], [ready.python]), "no trace of the build's program"
        assert any(line.startswith(f"Container image: {SEED}") for line in ready.notes)

    def test_it_is_found_again_in_another_process_or_later(self, each_kitchen: Kitchen, index: PackageIndex) -> None:
        index.add("alpha")
        made = each_kitchen.prepare(spec("alpha"))
        found = Kitchen(each_kitchen.engine).cache.find(spec("alpha"))
        assert found and (found.key, found.image, found.engine) == (made.key, made.image, made.engine)
        assert found.python == made.python == "/opt/windlass/env/bin/python"

    def test_an_image_that_somebody_removed_is_made_again(self, each_kitchen: Kitchen, index: PackageIndex) -> None:
        index.add("alpha")
        first = each_kitchen.prepare(spec("alpha"))
        each_kitchen.api.call("DELETE", f"/images/{first.image}", force="true")
        assert each_kitchen.cache.find(spec("alpha")) is None
        again = each_kitchen.prepare(spec("alpha"))
        assert again.key == first.key and each_kitchen.python(again, "import alpha; print(1)") == "1"

    def test_a_base_that_somebody_removed_with_it_is_looked_up_anew(
        self, each_kitchen: Kitchen, bases: Bases, index: PackageIndex
    ) -> None:
        index.add("alpha")
        bases.image(each_kitchen.engine, "passing:1")
        first = each_kitchen.prepare(spec("alpha", image="passing:1"))
        for image in (first.image, "passing:1"):
            each_kitchen.api.call("DELETE", f"/images/{image}", force="true")
        with pytest.raises(EnvironmentFailed, match=r"passing:1 is not on this machine|no image \S*passing:1"):
            each_kitchen.prepare(spec("alpha", image="passing:1"))
        bases.image(each_kitchen.engine, "passing:1", changes=["ENV NEW=1"])
        again = each_kitchen.prepare(spec("alpha", image="passing:1"))
        assert each_kitchen.python(again, "import alpha, os; print(os.environ['NEW'])") == "1"

    def test_an_image_of_its_user_that_somebody_removed_is_looked_up_anew(
        self, each_kitchen: Kitchen, bases: Bases
    ) -> None:
        asked = spec(user_managed=True, image="passing:2")
        bases.image(each_kitchen.engine, "passing:2")
        each_kitchen.prepare(asked)
        each_kitchen.api.call("DELETE", "/images/passing:2", force="true")
        with pytest.raises(EnvironmentFailed, match=r"passing:2 is not on this machine|no image \S*passing:2"):
            each_kitchen.prepare(asked)
        bases.image(each_kitchen.engine, "passing:2", changes=["ENV NEW=1"])
        image = str(each_kitchen.prepare(asked).image)
        assert image.endswith(each_kitchen.inspect("passing:2")["Id"].removeprefix("sha256:"))

    def test_removing_the_environment_removes_its_image_alone(self, each_kitchen: Kitchen, index: PackageIndex) -> None:
        index.add("alpha")
        ready = each_kitchen.prepare(spec("alpha"))
        (listed,) = [item for item in each_kitchen.cache.list() if item.key == ready.key]
        assert listed.bytes > 20_000 and listed.builder == "container"
        each_kitchen.cache.remove(ready.key)
        assert f"windlass/env:{ready.key}" not in each_kitchen.tags()
        assert SEED in each_kitchen.tags()
        assert each_kitchen.cache.find(spec("alpha")) is None

    def test_a_dockerfile_is_built_with_the_files_of_its_context(
        self, each_kitchen: Kitchen, index: PackageIndex
    ) -> None:
        def unpack(snapshot: str, folder: str) -> None:
            assert snapshot == "snap"
            os.mkdir(os.path.join(folder, "data"))
            Path(folder, "data", "greeting.txt").write_text("hello")

        each_kitchen.cache.unpack = unpack
        text = f"FROM {SEED}\nCOPY data /srv/data\nRUN echo built-here > /srv/made\n"
        index.add("alpha")
        ready = each_kitchen.prepare(spec("alpha", container=ContainerSpec(dockerfile=text, context="snap")))
        code = "import alpha; print(open('/srv/data/greeting.txt').read(), open('/srv/made').read())"
        assert each_kitchen.python(ready, code) == "hello built-here"
        assert "RUN echo built-here" in each_kitchen.log
        again = each_kitchen.refresh(spec("alpha", container=ContainerSpec(dockerfile=text, context="snap")))
        assert each_kitchen.python(again, code) == "hello built-here", "though its base is in no registry"

    def test_the_image_of_a_dockerfile_goes_with_the_last_environment_on_it(
        self, each_kitchen: Kitchen, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def bases() -> set[str]:
            return {tag for tag in each_kitchen.tags() if "windlass/base:" in tag} - before

        monkeypatch.setattr(_container_bases, "_YOUNG_S", 0.0)
        before: set[str] = set()
        before = bases()
        index.add("alpha")
        container = ContainerSpec(dockerfile=f"FROM {SEED}\nRUN echo mine > /mine\n")
        one, two = (each_kitchen.prepare(spec(*names, container=container)) for names in (["alpha"], []))
        assert len(bases()) == 1
        each_kitchen.cache.remove(one.key)
        assert len(bases()) == 1 and each_kitchen.python(two, "print(open('/mine').read())") == "mine"
        each_kitchen.cache.remove(two.key)
        assert not bases() and SEED in each_kitchen.tags()
        again = each_kitchen.prepare(spec("alpha", container=container))
        assert each_kitchen.python(again, "print(open('/mine').read())") == "mine", "it is made anew"

    def test_the_images_own_python_is_taken_when_the_user_manages_it(self, each_kitchen: Kitchen) -> None:
        ready = each_kitchen.prepare(spec(user_managed=True, interpreter="python"))
        assert ready.in_place and ready.python == "/usr/local/bin/python"
        assert str(ready.image).endswith(each_kitchen.inspect(SEED)["Id"].removeprefix("sha256:"))
        assert each_kitchen.cache.find(spec(user_managed=True, interpreter="python")) is not None


class TestPythons:
    _BOTH = "pythons/both:1"

    @pytest.fixture
    def both(self, kitchen: Kitchen, bases: Bases) -> str:
        if kitchen.inspect(self._BOTH) is None:
            bases.image(kitchen.engine, self._BOTH, Base(pythons=("3.8", "3.11"), programs=()))
        return self._BOTH

    def test_the_newest_in_which_the_list_fits_is_taken(self, kitchen: Kitchen, index: PackageIndex, both: str) -> None:
        index.add("old", tag="cp38-cp38-manylinux2014_x86_64")
        index.add("alpha")
        assert kitchen.prepare(spec("alpha", image=both)).python_version.startswith("3.11.")
        ready = kitchen.prepare(spec("old", image=both))
        assert ready.python_version.startswith("3.8.")
        assert any("the list does not fit 3.11" in note for note in ready.notes)

    def test_a_version_is_honoured_or_refused_with_what_the_image_has(
        self, kitchen: Kitchen, index: PackageIndex, both: str
    ) -> None:
        index.add("alpha")
        ready = kitchen.prepare(spec("alpha", image=both, python_version="3.8"))
        assert kitchen.python(ready, "import sys; print(sys.version_info[:2])") == "(3, 8)"
        with pytest.raises(EnvironmentFailed, match=r"has no Python 3\.9; it has .*3\.11\..*3\.8\.|3\.8\..*3\.11\."):
            kitchen.prepare(spec("alpha", image=both, python_version="3.9"))

    def test_a_bare_environment_takes_the_images_own_python(self, kitchen: Kitchen, both: str) -> None:
        ready = kitchen.prepare(spec(image=both))
        assert ready.python_version.startswith("3.8."), "its `python`, not the newest"
        assert kitchen.python(ready, "import sys; print(sys.prefix)") == "/opt/windlass/env"

    def test_no_python_and_one_that_is_too_old_are_refused(self, kitchen: Kitchen, bases: Bases) -> None:
        bases.image(kitchen.engine, "pythons/none:1", Base(pythons=()))
        with pytest.raises(EnvironmentFailed, match="No Python was found in the image pythons/none:1"):
            kitchen.prepare(spec("alpha", image="pythons/none:1"))
        bases.image(kitchen.engine, "pythons/old:1", Base(pythons=("3.6",)))
        with pytest.raises(EnvironmentFailed, match=r"has only Python 3\.6\.\d+ .*jobs run on Python 3\.7"):
            kitchen.prepare(spec("alpha", image="pythons/old:1"))
        assert kitchen.containers() == []

    def test_a_name_that_the_image_does_not_know_is_refused(self, kitchen: Kitchen) -> None:
        with pytest.raises(EnvironmentFailed, match="has no Python that is called /opt/nosuch/python"):
            kitchen.prepare(spec(user_managed=True, interpreter="/opt/nosuch/python"))

    def test_an_image_of_another_architecture_is_refused(self, kitchen: Kitchen, bases: Bases) -> None:
        bases.foreign(kitchen.engine, "pythons/arm:1", "arm64")
        with pytest.raises(EnvironmentFailed, match="pythons/arm:1 is made for linux/arm64, and this machine is"):
            kitchen.prepare(spec(image="pythons/arm:1"))


@pytest.mark.parametrize("volume", ["/opt", "/opt/windlass/env"])
def test_an_image_with_a_volume_where_the_environment_would_be_is_refused(
    kitchen: Kitchen, bases: Bases, volume: str
) -> None:
    bases.image(kitchen.engine, "volume:1", changes=[f"VOLUME {volume}", "VOLUME /optical"])
    with pytest.raises(EnvironmentFailed, match=rf"volume:1 declares {volume} a volume"):
        kitchen.prepare(spec(image="volume:1"))
    assert kitchen.containers() == []
    bases.image(kitchen.engine, "volume:2", changes=["VOLUME /optical"])
    assert kitchen.prepare(spec(image="volume:2")).image


def test_the_images_own_settings_stay(kitchen: Kitchen, bases: Bases, index: PackageIndex) -> None:
    changes = [
        "USER 1000:1000",
        'ENTRYPOINT ["/bin/sh", "-c"]',
        'CMD ["echo hi"]',
        "WORKDIR /srv",
        "ENV A=b UV_OFFLINE=1",
    ]
    bases.image(kitchen.engine, "own/settings:1", changes=changes)
    index.add("alpha")
    ready = kitchen.prepare(spec("alpha", image="own/settings:1"))
    was, now = (kitchen.inspect(name)["Config"] for name in ("own/settings:1", ready.image))
    assert [now[name] for name in ("User", "Entrypoint", "Cmd", "WorkingDir", "Env")] == [
        was[name] for name in ("User", "Entrypoint", "Cmd", "WorkingDir", "Env")
    ]
    assert kitchen.python(ready, "import os, alpha; print(os.getuid())") == "1000", "another user can import it"


def test_what_azureml_needs_is_left_out(kitchen: Kitchen, index: PackageIndex) -> None:
    index.add("alpha", requires=["azureml-core>=1.0"])
    ready = kitchen.prepare(spec("azureml-defaults", "alpha"))
    names = "import importlib.metadata as m; print(sorted(d.metadata['Name'] for d in m.distributions()))"
    assert kitchen.python(ready, names) == "['alpha']"
    assert "azureml-defaults: satisfied by Windlass, not installed." in ready.notes


def test_local_files_are_installed_and_their_folder_is_not_in_the_image(
    kitchen: Kitchen, index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = index.add("alpha", "2.0")
    folder = tmp_path / "wheel house"
    folder.mkdir()
    (folder / name).write_bytes(index.files.pop(name))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_INDEX_URL")
    (tmp_path / "house").symlink_to(folder)
    ready = kitchen.prepare(spec(f"--find-links {tmp_path / 'house'}", "alpha"))
    assert kitchen.python(ready, "import alpha, os; print(os.path.exists('/dev/windlass'))") == "False"


def test_a_login_for_the_index_is_in_no_image_lock_or_log(
    kitchen: Kitchen, index: PackageIndex, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    index.login = ("ada", "s3cret-word")
    monkeypatch.setenv("PIP_INDEX_URL", index.url_with("ada", "s3cret-word"))
    index.add("alpha")
    ready = kitchen.prepare(spec("alpha"))
    assert index.count("/files/alpha*") > 0
    image = kitchen.inspect(str(ready.image))
    history = kitchen.api.call("GET", f"/images/{ready.image}/history")
    assert "s3cret" not in json.dumps([image, history]) + kitchen.log
    with kitchen.api._answer("GET", f"/images/{ready.image}/get", {}, None, {}) as whole:
        rest = b""
        while chunk := whole.read(1 << 20):
            assert b"s3cret" not in rest + chunk
            rest = chunk[-16:]
    kept = [path for path in home.rglob("*") if path.is_file() and path.suffix in (".json", ".log", ".txt")]
    assert kept and not [path for path in kept if b"s3cret" in path.read_bytes()]


def test_many_that_ask_at_once_build_once(kitchen: Kitchen, index: PackageIndex) -> None:
    index.add("alpha")
    logs: list[str] = []
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(Kitchen(kitchen.engine).cache.prepare(spec("alpha"), logs.append)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ready.image for ready in found}) == 1 and len(found) == 4
    assert index.count("/files/alpha*") < 4, "one resolved and one installed it"


def test_a_moved_tag_counts_from_the_next_refresh(kitchen: Kitchen, bases: Bases, index: PackageIndex) -> None:
    index.add("alpha")
    bases.image(kitchen.engine, "moving/tag:latest")
    first = kitchen.prepare(spec("alpha", image="moving/tag"))
    bases.image(kitchen.engine, "moving/tag:latest", changes=["ENV NEW=1"])
    assert kitchen.prepare(spec("alpha", image="moving/tag")).key == first.key
    second = kitchen.refresh(spec("alpha", image="moving/tag"))
    assert second.key != first.key
    assert kitchen.python(second, "import os; print(os.environ['NEW'])") == "1"
