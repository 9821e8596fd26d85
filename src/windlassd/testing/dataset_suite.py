"""What every store promises of datastores and datasets: subclass ``DatasetSuite`` and give it a ``store`` fixture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from windlassd.store.base import Conflict, DatasetRecord, DatastoreRecord, Store


def _dataset(number: int, name: str | None = "digits") -> DatasetRecord:
    return DatasetRecord(f"id-{number}", "File", {"places": [{"path": "x"}]}, 5.0, name, tags={"n": str(number)})


class DatasetSuite:
    """Datastores, datasets and their versions."""

    def test_versions_count_up_even_when_many_register_at_once(self, store: Store) -> None:
        """Twenty at once become versions 1 to 20."""
        with ThreadPoolExecutor(8) as pool:
            futures = list(pool.map(lambda n: store.write(lambda tx: tx.add_dataset(_dataset(n))), range(20)))
        assert sorted(int(f.result().version or 0) for f in futures) == list(range(1, 21))
        latest = store.read(lambda tx: tx.find_dataset("digits"))
        assert latest is not None and latest.version == 20 and latest.definition == {"places": [{"path": "x"}]}
        assert [d.version for d in store.read(lambda tx: tx.datasets("digits"))] == list(range(20, 0, -1))

    def test_a_dataset_without_a_name_is_known_by_its_id_alone(self, store: Store) -> None:
        """What a run read is kept without being registered."""
        store.write(lambda tx: tx.add_dataset(_dataset(1, None))).result()
        assert store.write(lambda tx: tx.add_dataset(_dataset(1, "late"))).result().name is None, "a known id stays"
        assert store.read(lambda tx: tx.datasets()) == ()
        found = store.read(lambda tx: tx.find_dataset_by_id("id-1"))
        assert found is not None and (found.version, found.created, found.tags) == (None, 5.0, {"n": "1"})

    def test_unregistered_versions_stay_known_by_id(self, store: Store) -> None:
        """Taking the name away keeps what runs refer to."""
        for number in (1, 2):
            store.write(lambda tx, n=number: tx.add_dataset(_dataset(n))).result()  # type: ignore[misc]
        store.write(lambda tx: tx.update_dataset("id-2", 9.0, tags={}, description="d")).result()
        assert store.write(lambda tx: tx.unregister_dataset("digits")).result() == 2
        assert store.read(lambda tx: tx.find_dataset("digits")) is None
        kept = store.read(lambda tx: tx.find_dataset_by_id("id-2"))
        assert kept is not None and (kept.name, kept.description, kept.modified) == (None, "d", 9.0)
        with pytest.raises(Conflict):
            store.write(lambda tx: tx.update_dataset("nope", 9.0, tags={})).result()

    def test_datastores(self, store: Store) -> None:
        """They are registered, changed and forgotten by name."""
        store.write(lambda tx: tx.put_datastore(DatastoreRecord("b", "/b", 1.0))).result()
        store.write(lambda tx: tx.put_datastore(DatastoreRecord("a", "/a", 2.0))).result()
        store.write(lambda tx: tx.put_datastore(DatastoreRecord("b", "/c", 3.0))).result()
        assert [(s.name, s.path, s.created) for s in store.read(lambda tx: tx.datastores())] == [
            ("a", "/a", 2.0), ("b", "/c", 1.0),
        ]  # fmt: skip
        store.write(lambda tx: tx.delete_datastore("b")).result()
        assert store.read(lambda tx: tx.find_datastore("b")) is None
