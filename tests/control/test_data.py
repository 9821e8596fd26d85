from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control.conftest import InWorld
from control.world import SNAPSHOT, World
from windlass.errors import UserErrorException
from windlass.specs.data import DataPlace, DataSpec
from windlass.specs.run import RunSpec
from windlassd.control import data
from windlassd.control.data import Data
from windlassd.store.base import Conflict

PLACES = {"places": [{"path": "mnist", "datastore": "workspaceblobstore"}]}


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def asked(**values: Any) -> dict[str, Any]:
    return {"type": "File", "definition": PLACES, "name": "digits", **values}


def test_the_default_datastore_can_be_another(in_world: InWorld, tmp_path: Path) -> None:
    async def work(world: World) -> None:
        stores = Data(world.core)
        assert stores.stores()["default"] == "workspaceblobstore"
        await stores.register("mine", str(tmp_path), overwrite=False, create=False)
        assert (await stores.make_default("mine"))["default"]
        with pytest.raises(Conflict, match="overwrite=True"):
            await stores.register("mine", str(tmp_path), overwrite=False, create=False)
        await stores.unregister("mine")
        assert stores.stores()["default"] == "workspaceblobstore"
        with pytest.raises(UserErrorException, match=r"no datastore 'workspaceblob'.*Did you mean"):
            await stores.make_default("workspaceblob")

    in_world(work)


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("a/b", "/tmp", "cannot name a datastore"),
        ("", "/tmp", "cannot name a datastore"),
        ("workspacefilestore", "/tmp", "the workspace's own"),
        ("mine", "relative", "absolute path"),
        ("mine", "/nowhere/at/all", "is no folder"),
    ],
)
def test_what_cannot_be_a_datastore(in_world: InWorld, name: str, path: str, message: str) -> None:
    async def work(world: World) -> None:
        with pytest.raises(UserErrorException, match=message):
            await Data(world.core).register(name, path, overwrite=False, create=False)

    in_world(work)


def test_an_upload_is_whole_or_absent(in_world: InWorld) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    async def work(world: World) -> None:
        stores = Data(world.core)
        kept = await stores.upload("workspaceblobstore", "deep/x", chunks(b"ab", b"c"))
        assert stores.locate("workspaceblobstore", "deep/x").sha256 == kept["sha256"]
        with pytest.raises(ConnectionResetError):
            await stores.upload("workspaceblobstore", "deep/x", broken())
        with pytest.raises(Conflict):
            await stores.upload("workspaceblobstore", "deep/x", chunks(b"new"), overwrite=False)
        assert [(f["path"], f["size"]) for f in stores.files("workspaceblobstore", "")] == [("deep/x", 3)]
        folder = stores.store("workspaceblobstore")["path"]
        assert os.listdir(os.path.join(folder, "deep")) == ["x"]
        await stores.upload("workspaceblobstore", "deep/x", chunks(b"xyz"))
        assert stores.locate("workspaceblobstore", "deep/x").sha256 != kept["sha256"], "a checksum is not kept too long"

    in_world(work)


def test_registering_again(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        sets = Data(world.core)
        first = await sets.add(asked(tags={"a": "1"}))
        again = await sets.add(asked(description="said later"))
        assert (again.id, again.version, again.description, again.tags) == (first.id, 1, "said later", {"a": "1"})
        other = {"places": [{"path": "other", "datastore": "workspaceblobstore"}]}
        with pytest.raises(Conflict, match="create_new_version=True"):
            await sets.add(asked(definition=other))
        assert (await sets.add(asked(definition=other, new_version=True))).version == 2
        assert sets.dataset("digits", "1").id == first.id and sets.dataset("digits", "latest").version == 2
        with pytest.raises(UserErrorException, match="no version 3; it has 1, 2"):
            sets.dataset("digits", "3")
        with pytest.raises(UserErrorException, match="Did you mean 'digits'"):
            sets.dataset("digit", "latest")

    in_world(work)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "Other"},
        {"definition": {"places": []}},
        {"definition": {"places": [{"path": "x", "datastore": "nope"}]}},
        {"name": "a/b"},
    ],
)
def test_what_is_no_dataset(in_world: InWorld, wrong: dict[str, Any]) -> None:
    async def work(world: World) -> None:
        with pytest.raises(UserErrorException):
            await Data(world.core).add(asked(**wrong))
        assert Data(world.core).datasets() == ()

    in_world(work)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([DataSpec("x", mode="download", places=(DataPlace("", "nope"),))], "no datastore 'nope'"),
        ([DataSpec("x", mode="fly")], "cannot be a 'reference' with mode 'fly'"),
        ([DataSpec("x", kind="reference", mode="direct")], "with mode 'direct'"),
        ([DataSpec("x y")], "cannot name data"),
        ([DataSpec("x", places=(DataPlace("relative"),))], "must be absolute"),
        ([DataSpec("x", places=(DataPlace("../x", "workspaceblobstore"),))], "without '..'"),
        (
            [DataSpec("x", places=(DataPlace(p, "workspaceblobstore"),)) for p in ("a", "b")],
            "Two different pieces of data",
        ),
    ],
)
def test_data_that_no_run_can_have_is_refused_at_submit(in_world: InWorld, specs: list[DataSpec], message: str) -> None:
    async def work(world: World) -> None:
        with pytest.raises(UserErrorException, match=message):
            data.check(world.core, RunSpec("e", "train.py", SNAPSHOT, data=tuple(specs)))

    in_world(work)
