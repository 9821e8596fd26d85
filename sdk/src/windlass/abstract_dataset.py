"""``AbstractDataset``: what file and tabular datasets share; v1's ``azureml.data.abstract_dataset``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

from windlass._not_offered import AbsentMethod, AbsentProperty, refuse_unknown
from windlass.errors import UserErrorException
from windlass.specs.data import DIRECT, DataPlace, DataSpec

if TYPE_CHECKING:
    from windlass.dataset_consumption_config import DatasetConsumptionConfig
    from windlass.workspace import Workspace

Self = TypeVar("Self", bound="AbstractDataset")
_NO_PARTITIONS = "Give a pattern such as 'year=2026/**/*.csv' as path."
_KINDS = {"File": ("windlass.file_dataset", "FileDataset"), "Tabular": ("windlass.tabular_dataset", "TabularDataset")}


class AbstractDataset:
    """Files, described by their paths. Make one with ``Dataset.File`` or ``Dataset.Tabular``; it never changes."""

    _kind = ""
    _default_mode = DIRECT

    def __init__(self) -> None:
        raise UserErrorException(
            "Make a dataset with Dataset.File.from_files, Dataset.Tabular.from_delimited_files, or Dataset.get_by_name."
        )

    def _begin(
        self, workspace: "Optional[Workspace]", places: "Sequence[DataPlace]", read: "Mapping[str, Any]",
        steps: "Sequence[Mapping[str, Any]]", registered: "Optional[Mapping[str, Any]]" = None,
    ) -> None:  # fmt: skip
        self._workspace = workspace
        self._places: "Tuple[DataPlace, ...]" = tuple(places)
        self._read = dict(read)
        self._steps: "List[Dict[str, Any]]" = [dict(step) for step in steps]
        self._registered = registered

    @classmethod
    def _make(
        cls: "Type[Self]", workspace: "Optional[Workspace]", places: "Sequence[DataPlace]",
        read: "Optional[Mapping[str, Any]]" = None, steps: "Sequence[Mapping[str, Any]]" = (),
        registered: "Optional[Mapping[str, Any]]" = None,
    ) -> "Self":  # fmt: skip
        dataset = cls.__new__(cls)
        dataset._begin(workspace, places, read or {}, steps, registered)
        return dataset

    def _then(self: "Self", **step: Any) -> "Self":
        """This dataset with one more step."""
        return self._make(self._workspace, self._places, self._read, [*self._steps, step])

    @staticmethod
    def get_by_name(workspace: "Workspace", name: str, version: Any = "latest", **kwargs: Any) -> Any:
        """A registered dataset: a version of it, or its latest.

        Raises:
            UserErrorException: there is none; near matches are named.
        """
        from windlass._transport.client import quote

        refuse_unknown("Dataset.get_by_name", kwargs)
        return dataset_of(
            workspace, workspace._client.get("/v1/dataset-names/%s/versions/%s" % (_part(name), quote(str(version))))
        )

    @staticmethod
    def get_by_id(workspace: "Workspace", id: str, **kwargs: Any) -> Any:
        """The dataset of that id, registered or read by a run.

        Raises:
            UserErrorException: there is none.
        """
        refuse_unknown("Dataset.get_by_id", kwargs)
        return dataset_of(workspace, workspace._client.get("/v1/datasets/%s" % _part(id)))

    @staticmethod
    def get_all(workspace: "Workspace") -> "Dict[str, AbstractDataset]":
        """The latest version of each registered dataset by name."""
        found: "Dict[str, AbstractDataset]" = {}
        for data in workspace._client.get("/v1/datasets")["datasets"]:
            known = found.get(data["name"])
            if known is None or (known.version or 0) < data["version"]:
                found[data["name"]] = dataset_of(workspace, data)
        return found

    def register(
        self: "Self", workspace: "Workspace", name: str, description: "Optional[str]" = None,
        tags: "Optional[Dict[str, str]]" = None, create_new_version: bool = False,
    ) -> "Self":  # fmt: skip
        """This dataset under a name; returns the registered one.

        Args:
            workspace: Where.
            name: Its name there.
            description: Text for people.
            tags: Text by key.
            create_new_version: Add a version when the name is taken. Without it only the same dataset can be
                registered again, which changes nothing but description and tags.

        Raises:
            UserErrorException: the name is taken by another dataset.
        """
        from windlass._submit import checked_tags

        if not isinstance(name, str) or not name:
            raise UserErrorException("name=%r: give the dataset a name." % (name,))
        body = {
            "name": name, "description": description, "tags": checked_tags(tags), "type": self._kind,
            "definition": self._definition(), "new_version": bool(create_new_version),
        }  # fmt: skip
        data = workspace._client.post("/v1/datasets", body)
        return self._make(workspace, self._places, self._read, self._steps, data)

    def as_named_input(self, name: str) -> "DatasetConsumptionConfig":
        """This dataset as an input of a job, under a name that the script knows it by."""
        from windlass.dataset_consumption_config import DatasetConsumptionConfig

        return DatasetConsumptionConfig(name, self, self._default_mode)

    @property
    def id(self) -> "Optional[str]":
        """Its id; None until it is registered."""
        found: "Optional[str]" = self._fact("id")
        return found

    @property
    def name(self) -> "Optional[str]":
        """The name it is registered under; None when it is not."""
        found: "Optional[str]" = self._fact("name")
        return found

    @property
    def version(self) -> "Optional[int]":
        """Its version; None when it is not registered."""
        found: "Optional[int]" = self._fact("version")
        return found

    @property
    def description(self) -> "Optional[str]":
        """Text for people."""
        found: "Optional[str]" = self._fact("description")
        return found

    @property
    def tags(self) -> "Dict[str, str]":
        """Text by key."""
        return dict(self._fact("tags") or {})

    @property
    def data_changed_time(self) -> Any:
        """When a file of it changed last; None when it has no files. An aware time, UTC."""
        import os
        from datetime import datetime, timezone

        from windlass._data_files import files_of

        files = files_of(self._workspace, self._places)
        times = [os.stat(file.place).st_mtime if file.changed is None else file.changed for file in files]
        return datetime.fromtimestamp(max(times), timezone.utc) if times else None

    def add_tags(self, tags: "Optional[Dict[str, str]]" = None) -> None:
        """Set tags; others stay."""
        from windlass._submit import checked_tags

        self._change(tags=checked_tags(tags))

    def remove_tags(self, tags: "Optional[List[str]]" = None) -> None:
        """Take away the tags of these keys."""
        self._change(remove_tags=[str(key) for key in tags or ()])

    def update(self, description: "Optional[str]" = None, tags: "Optional[Dict[str, str]]" = None) -> Any:
        """Set description and tags; returns this dataset."""
        from windlass._submit import checked_tags

        self._change(description=description, tags=checked_tags(tags))
        return self

    def unregister_all_versions(self) -> None:
        """Take its name away, with all versions. Runs that read them still know them by id."""
        self._need_registration("unregister_all_versions")
        assert self._workspace is not None
        self._workspace._client.delete("/v1/dataset-names/%s" % _part(str(self.name)))
        self._registered = None

    def _change(self, **changes: Any) -> None:
        self._need_registration("Changing description and tags")
        assert self._workspace is not None
        self._registered = self._workspace._client.patch("/v1/datasets/%s" % _part(str(self.id)), changes)

    def _need_registration(self, what: str) -> None:
        if self._registered is None or self._workspace is None:
            raise UserErrorException("%s needs a registered dataset; call register(workspace, name) first." % what)

    def take_sample(self: "Self", probability: float, seed: "Optional[int]" = None) -> "Self":
        """A part of it: each file (of a table: each row) with this probability, the same for the same ``seed``."""
        return sampled(self, 0.0, fraction("probability", probability), seed)

    def random_split(self: "Self", percentage: float, seed: "Optional[int]" = None) -> "Tuple[Self, Self]":
        """Two parts, of which the first has about ``percentage`` (from 0 to 1) of the files (of a table: rows)."""
        first = sampled(self, 0.0, fraction("percentage", percentage), seed)
        return first, sampled(self, first._steps[-1]["high"], 1.0, first._steps[-1]["seed"])

    def _fact(self, key: str) -> Any:
        return self._registered[key] if self._registered is not None else None

    def _definition(self) -> "Dict[str, Any]":
        places = [{"path": place.path, "datastore": place.datastore} for place in self._places]
        return {"places": places, "read": self._read, "steps": self._steps}

    def _known_id(self) -> str:
        """The id under which a run knows it: the registered one's, else one that its content gives."""
        if self.id is not None:
            return self.id
        import hashlib
        import uuid

        content = json.dumps([self._kind, self._definition()], sort_keys=True).encode()
        return str(uuid.UUID(hashlib.sha256(content).hexdigest()[:32]))

    def _input(self) -> "DatasetConsumptionConfig":
        """As an input that nobody named."""
        return self.as_named_input("input_%s" % self._known_id()[:8])

    def _argument(self) -> str:
        return self._input()._argument()

    def _data(self) -> DataSpec:
        return self._input()._data()

    def __repr__(self) -> str:
        shown = [(place.datastore, place.path) if place.datastore else place.path for place in self._places]
        facts = ", name=%r, version=%r" % (self.name, self.version) if self.name else ""
        return "%s(source=%r%s)" % (type(self).__name__, shown, facts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AbstractDataset) and other._known_id() == self._known_id()

    def __hash__(self) -> int:
        return hash(self._known_id())

    get_partition_key_values = AbsentMethod(_NO_PARTITIONS)
    __getitem__ = AbsentMethod("Read the data: to_pandas_dataframe()[column], or download() and the files.")
    partition_keys = AbsentProperty(_NO_PARTITIONS)


def dataset_of(workspace: "Workspace", data: "Mapping[str, Any]") -> Any:
    """The object for what the server says of a dataset."""
    import importlib

    module, name = _KINDS[data["type"]]
    kind = getattr(importlib.import_module(module), name)
    definition = data["definition"]
    places = [DataPlace(place["path"], place.get("datastore")) for place in definition["places"]]
    return kind._make(workspace, places, definition.get("read"), definition.get("steps") or (), data)


def sampled(dataset: "Self", low: float, high: float, seed: "Optional[int]") -> "Self":
    """The part of a dataset whose drawn numbers lie from ``low`` to ``high``."""
    if seed is None:
        import random

        seed = random.SystemRandom().randrange(1 << 32)
    return dataset._then(op="sample", low=low, high=high, seed=seed)


def fraction(name: str, value: Any) -> float:
    """``value`` as a number from 0 to 1.

    Raises:
        UserErrorException: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UserErrorException("%s=%r must be a number from 0 to 1." % (name, value))
    return float(value)


def positive(name: str, value: Any) -> int:
    """``value`` as a whole number of at least 0.

    Raises:
        UserErrorException: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserErrorException("%s=%r must be a whole number of at least 0." % (name, value))
    return value


def _part(text: str) -> str:
    from urllib.parse import quote

    return quote(str(text), safe="")
