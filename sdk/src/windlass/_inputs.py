"""``run.input_datasets`` and ``run.output_datasets``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional

from windlass import settings
from windlass.errors import UserErrorException, did_you_mean
from windlass.specs.data import INPUT, DataSpec

if TYPE_CHECKING:
    from windlass.workspace import Workspace


class InputDatasets(Dict[str, Any]):
    """A run's dataset inputs by name.

    In the job: the path of the data, or the dataset when it is read directly. Elsewhere: the datasets.

    Args:
        workspace: Where datasets that are read directly are known.
    """

    def __init__(self, workspace: "Optional[Workspace]") -> None:
        super().__init__()
        self._workspace = workspace
        for name, value in settings.job_inputs().items():
            super().__setitem__(name, value)

    @classmethod
    def _of(cls, workspace: "Workspace", data: "Iterable[DataSpec]") -> "InputDatasets":
        """Those of a run that is no job of this process."""
        inputs = cls.__new__(cls)
        inputs._workspace = workspace
        for spec in data:
            if spec.kind == INPUT:
                dict.__setitem__(inputs, spec.name, settings.JobInput(str(spec.dataset["id"]), True))
        return inputs

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise UserErrorException(
                "The run has no input %r.%s It has: %s."
                % (name, did_you_mean(str(name), self), ", ".join(self) or "none; give dataset.as_named_input(name)")
            )
        value = super().__getitem__(name)
        if isinstance(value, settings.JobInput):
            from windlass.abstract_dataset import AbstractDataset

            if value.direct:
                assert self._workspace is not None, "a job has a workspace"
                value = AbstractDataset.get_by_id(self._workspace, value.text)
            else:
                value = value.text
            self[name] = value
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """The input of that name, or ``default``."""
        return self[name] if name in self else default

    def values(self) -> Any:
        """All inputs."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """All inputs with their names."""
        return [(name, self[name]) for name in self]


class OutputDatasets(Dict[str, Any]):
    """Paths of a job's outputs by name; empty elsewhere."""

    def __init__(self, workspace: "Optional[Workspace]") -> None:
        super().__init__(settings.job_outputs())
        self.workspace = workspace
