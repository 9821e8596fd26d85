"""``DatasetConsumptionConfig``: a dataset as an input of a job; v1's ``azureml.data.dataset_consumption_config``."""

from __future__ import annotations

import re
from typing import Optional

from windlass._not_offered import AbsentMethod
from windlass.abstract_dataset import AbstractDataset
from windlass.data_reference import compute_path
from windlass.errors import UserErrorException
from windlass.specs.data import DIRECT, DOWNLOAD, INPUT, MODES, MOUNT, PLACEHOLDERS, DataSpec

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")


class DatasetConsumptionConfig:
    """A dataset that a job reads.

    Among a job's arguments it becomes the path of the data (for ``direct``: the dataset's id). In the job
    ``run.input_datasets[name]`` is that path (for ``direct``: the dataset).

    Args:
        name: A letter or ``_``, then letters, digits and ``_``: it becomes a variable of the job.
        dataset: The dataset.
        mode: ``mount``: used in place; ``download``: copied before the script starts; ``direct``: the script gets the
            dataset itself.
        path_on_compute: Where to, relative to the script's working folder.
    """

    def __init__(
        self, name: str, dataset: AbstractDataset, mode: str = "direct", path_on_compute: "Optional[str]" = None
    ) -> None:
        if not isinstance(name, str) or not _NAME.match(name):
            raise UserErrorException(
                "%r cannot name an input: a letter or '_', then letters, digits and '_'; it becomes a variable of the "
                "job." % (name,)
            )
        if not isinstance(dataset, AbstractDataset):
            raise UserErrorException("dataset=%r is no dataset." % (dataset,))
        if mode not in MODES[INPUT]:
            raise UserErrorException("mode=%r is none of %s." % (mode, ", ".join(MODES[INPUT])))
        if mode != DIRECT and dataset._kind == "Tabular":
            raise UserErrorException(
                "A tabular dataset is no folder, so it cannot be used with as_%s. Use as_named_input(name) and "
                "run.input_datasets[name].to_pandas_dataframe(), or make it with Dataset.File.from_files." % mode
            )
        self._name = name
        self.dataset = dataset
        self.mode = mode
        self.path_on_compute = path_on_compute

    @property
    def name(self) -> str:
        """The name of the input."""
        return self._name

    def as_mount(self, path_on_compute: "Optional[str]" = None) -> "DatasetConsumptionConfig":
        """The same input, used in place."""
        return DatasetConsumptionConfig(self._name, self.dataset, MOUNT, path_on_compute)

    def as_download(self, path_on_compute: "Optional[str]" = None) -> "DatasetConsumptionConfig":
        """The same input, copied before the script starts."""
        return DatasetConsumptionConfig(self._name, self.dataset, DOWNLOAD, path_on_compute)

    @property
    def arg_val(self) -> str:
        """What stands for the input among a job's arguments."""
        return self._argument()

    as_hdfs = AbsentMethod("Use as_mount() or as_download().")

    def _argument(self) -> str:
        return PLACEHOLDERS[INPUT] + self._name

    def _data(self) -> DataSpec:
        dataset = self.dataset
        return DataSpec(
            name=self._name, kind=INPUT, mode=self.mode, places=dataset._places,
            path_on_compute=compute_path(self.path_on_compute), overwrite=False,
            dataset={
                "id": dataset._known_id(), "name": dataset.name, "version": dataset.version, "type": dataset._kind,
                "definition": dataset._definition(),
            },
        )  # fmt: skip

    def __str__(self) -> str:
        return self._argument()

    def __repr__(self) -> str:
        return "DatasetConsumptionConfig(name=%r, dataset=%r, mode=%r)" % (self._name, self.dataset, self.mode)
