"""What every store must do with what users register: models, environments, and what they say of experiments.

A store's test subclasses it beside ``store_suite``, with the same fixture ``store``.
"""

# ruff: noqa: D102 - the names of tests say what they show

from __future__ import annotations

from typing import Any

import pytest

from windlass.errors import ModelNotFoundException, UserErrorException
from windlass.specs.status import RunStatus
from windlassd.store.base import Conflict, ModelRecord, Store
from windlassd.testing.store_suite import create


class RegisteredConformance:
    """Versions that are never given twice, labels, tags, archives, and what goes with an experiment."""

    def test_a_deleted_models_version_is_not_given_again(self, store: Store) -> None:
        first = store.write(lambda w: w.add_model(ModelRecord("m", 0, 1.0, request_id="a"))).result(60)
        assert store.write(lambda w: w.add_model(ModelRecord("m", 0, 2.0, request_id="a"))).result(60) == first
        assert store.read(lambda r: (r.model_of_request("a"), r.model_of_request("b"))) == (first, None)
        assert store.write(lambda w: w.delete_model("m", 1)).result(60) == first
        assert store.write(lambda w: w.delete_model("m", 1)).result(60) is None
        assert store.write(lambda w: w.add_model(ModelRecord("m", 0, 3.0))).result(60).version == 2

    def test_what_is_said_of_a_model_changes(self, store: Store) -> None:
        store.write(lambda w: w.add_model(ModelRecord("m", 0, 1.0, tags={"a": "1"}))).result(60)
        used = ({"name": "training", "id": "d"},)
        changed = store.write(lambda w: w.update_model("m", 1, tags={"b": "2"}, datasets=used)).result(60)
        assert (changed.tags, changed.datasets) == ({"b": "2"}, used) and store.read(
            lambda r: r.find_model("m")
        ) == changed
        with pytest.raises(UserErrorException, match="files"):
            store.write(lambda w: w.update_model("m", 1, files=())).result(60)
        with pytest.raises(ModelNotFoundException):
            store.write(lambda w: w.update_model("m", 2, tags={})).result(60)

    def test_blobs_that_models_and_snapshots_use(self, store: Store) -> None:
        files = ({"path": "x", "size": 1, "sha256": "a"},)
        store.write(lambda w: w.add_model(ModelRecord("m", 0, 1.0, files=files))).result(60)
        store.write(lambda w: w.add_snapshot("s", [{"path": "y", "sha256": "b"}], 1.0)).result(60)
        assert store.read(lambda r: r.used_blobs("abc")) == {"a", "b"}
        known = store.read(lambda r: r.snapshot_ids())
        store.write(lambda w: w.add_snapshot("later", [{"path": "x", "sha256": "c", "size": 1}], 2.0)).result(60)
        new = store.read(lambda r: r.used_blobs("abc", known))
        assert "c" in new and store.read(lambda r: r.snapshot_ids()) - known == {"later"}

    def test_environments_count_their_changes(self, store: Store) -> None:
        def add(definition: dict[str, Any], version: str | None = None) -> str:
            return str(store.write(lambda w: w.add_environment("e", definition, 1.0, version)).result(60).version)

        assert [add({"p": 1}), add({"p": 1}), add({"p": 2}), add({"p": 1}), add({"p": 4}, "rc"), add({"p": 5})] == [
            "1", "1", "2", "3", "rc", "4",
        ]  # fmt: skip
        with pytest.raises(Conflict, match="rc"):
            add({"p": 6}, "rc")
        store.write(lambda w: w.label_environment("e", "1", ["x", "y"])).result(60)
        store.write(lambda w: w.label_environment("e", "2", ["x"])).result(60)
        assert [(e.version, e.labels) for e in store.read(lambda r: r.environments("e"))] == [
            ("4", ()), ("rc", ()), ("3", ()), ("2", ("x",)), ("1", ("y",)),
        ]  # fmt: skip
        found = store.read(lambda r: (r.find_environment("e", label="y"), r.find_environment("e")))
        assert [e.version for e in found if e] == ["1", "4"]
        assert store.read(lambda r: (r.find_environment("e", "9"), r.find_environment("no"))) == (None, None)
        with pytest.raises(UserErrorException, match="version '9'"):
            store.write(lambda w: w.label_environment("e", "9", ["x"])).result(60)

    def test_experiments_are_described_and_deleted_with_their_runs(self, store: Store) -> None:
        run = create(store, "r1", experiment="a").id
        store.write(lambda w: w.update_experiment("a", 1.0, tags={"k": "v"}, archived=5.0)).result(60)
        store.write(lambda w: w.update_experiment("b", 2.0, tags={"only": "tags"})).result(60)
        found = store.read(lambda r: r.count_runs())
        assert (found["a"]["tags"], found["a"]["archived"]) == ({"k": "v"}, 5.0)
        assert (found["b"]["runs"], found["b"]["last"]) == (0, None) and store.read(
            lambda r: r.find_experiment("b")
        ) == found["b"]
        with pytest.raises(Conflict, match="have not ended"):
            store.write(lambda w: w.delete_experiment("a")).result(60)
        create(store, "r2", experiment="a")
        assert store.read(lambda r: r.find_experiment("a"))["archived"] is None  # type: ignore[index]
        for name in (run, "r2"):
            store.write(lambda w, n=name: w.transition(n, RunStatus.FAILED, now=3.0)).result(60)  # type: ignore[misc]
        assert store.write(lambda w: w.delete_experiment("a")).result(60) == (run, "r2")
        assert store.read(lambda r: (r.find_run(run), r.find_experiment("a"))) == (None, None)
        assert create(store, "r3", experiment="a").number == 1
