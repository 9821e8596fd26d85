"""The family half of ``Run``: children that this process logs into, children that are submitted, and the parent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from windlass._not_offered import refuse_unknown
from windlass.errors import ExperimentExecutionException, UserErrorException

if TYPE_CHECKING:
    from windlass.experiment import Experiment
    from windlass.run import Run
    from windlass.specs.run import RunRecord


class RunChildren:
    """Children of a run. Their ids are ``<parent>_<n>``."""

    _id: str

    @property
    def experiment(self) -> "Experiment":
        """See ``Run.experiment``."""
        raise NotImplementedError

    def child_run(self, name: "Optional[str]" = None, run_id: "Optional[str]" = None, outputs: Any = None) -> "Run":
        """A child that is Running; this process logs into it and completes it.

        Args:
            name: Its display name.
            run_id: Its id; default: ``<parent>_<n>``.
            outputs: A folder whose files the child keeps; without one, what lies in ``./outputs`` is its parent's.

        Raises:
            UserErrorException: there is a run of that id, or it cannot be one.
        """
        from windlass._run_life import begin_run, folders

        kept = None if outputs is None else folders(os.getcwd(), outputs, ["outputs"])
        return begin_run(self.experiment, {"parent_id": self._id, "display_name": name}, kept, run_id)

    def create_children(
        self, count: "Optional[int]" = None, tag_key: "Optional[str]" = None, tag_values: Any = None
    ) -> "List[Run]":
        """Several children: ``count`` of them, or one for each of ``tag_values``, tagged with it under ``tag_key``."""
        from windlass._run_life import begin_run

        specs: "List[Dict[str, Any]]" = []
        if count is not None:
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise UserErrorException("count=%r must be a whole number of at least 1." % (count,))
            if tag_key is not None or tag_values is not None:
                raise UserErrorException("Give count, or tag_key with tag_values, not both.")
            specs = [{"parent_id": self._id}] * count
        elif isinstance(tag_key, str) and tag_values is not None and not isinstance(tag_values, str):
            specs = [{"parent_id": self._id, "tags": {tag_key: str(value)}} for value in tag_values]
        else:
            raise UserErrorException("create_children needs count, or tag_key (text) with tag_values (a list).")
        return [begin_run(self.experiment, spec, None) for spec in specs]

    def submit_child(self, config: Any, tags: "Optional[Dict[str, str]]" = None, **kwargs: Any) -> "Run":
        """Queue a job as a child of this run; see ``Experiment.submit``."""
        from windlass._submit import checked_tags, submit
        from windlass.run import Run

        refuse_unknown("Run.submit_child", kwargs)
        if not hasattr(config, "_job"):
            raise ExperimentExecutionException(
                "submit_child takes an Estimator or a ScriptRunConfig, not %s." % type(config).__qualname__
            )
        experiment = self.experiment
        client = experiment.workspace._client
        record = submit(client, experiment.name, config._job(), checked_tags(tags), parent_id=self._id)
        return Run._of(experiment, record)

    def get_children(
        self, recursive: bool = False, tags: Any = None, properties: Any = None, type: "Optional[str]" = None,
        status: "Optional[str]" = None,
    ) -> "Iterator[Run]":  # fmt: skip
        """Yield its children, newest first.

        Args:
            recursive: Their children too, each after its parent.
            tags: A key, or a dictionary of keys and values that all must hold.
            properties: As ``tags``, for properties.
            type: Only runs of this type (``azureml.scriptrun``).
            status: One of v1's statuses.
        """
        from windlass.run import Fits, Run

        fits = Fits(type, tags, properties, status)
        experiment = self.experiment
        for record in descendants(experiment, self._id, recursive):
            if fits(record):
                yield Run._of(experiment, record)


def descendants(experiment: "Experiment", run_id: str, recursive: bool) -> "Iterator[RunRecord]":
    """Yield records of a run's children, newest first; with ``recursive`` each is followed by its own."""
    from windlass.run import list_records

    for record in list_records(experiment.workspace._client, parent=run_id):
        yield record
        if recursive:
            for below in descendants(experiment, record.id, True):
                yield below
