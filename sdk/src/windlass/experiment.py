"""``Experiment``: a name under which runs are kept; v1's ``azureml.core.Experiment``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from windlass._not_offered import AbsentMethod, AbsentProperty, not_offered, refuse_options, refuse_unknown
from windlass.errors import ExperimentExecutionException, UserErrorException

if TYPE_CHECKING:
    from windlass.run import Run
    from windlass.workspace import Workspace

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_TAG_RUNS = "Tag runs instead: run.tag(key, value)."


class ViewType:
    """Which experiments a listing shows; v1's ``azureml.core.experiment.ViewType``."""

    ActiveOnly = "ActiveOnly"
    ArchivedOnly = "ArchivedOnly"
    All = "All"


class Experiment:
    """Runs under one name. It comes into being with its first run.

    Args:
        workspace: The workspace it belongs to.
        name: 1 to 128 letters, digits, ``_``, ``-`` or ``.``, beginning with a letter or digit.

    Raises:
        UserErrorException: the name is none.
    """

    def __init__(self, workspace: "Workspace", name: str, **kwargs: Any) -> None:
        refuse_unknown("Experiment", kwargs)
        if not hasattr(workspace, "_dir"):
            raise UserErrorException(
                "Experiment(workspace=%r): give a Workspace, such as Workspace.from_config()." % (workspace,)
            )
        if not isinstance(name, str) or not _NAME.match(name):
            raise UserErrorException(
                "Experiment(name=%r): a name has 1 to 128 letters, digits, '_', '-' or '.', and begins with a letter "
                "or digit.%s" % (name, _suggestion(name))
            )
        self._workspace = workspace
        self._name = name

    @property
    def workspace(self) -> "Workspace":
        """The workspace it belongs to."""
        return self._workspace

    @property
    def workspace_object(self) -> "Workspace":
        """v1's older name of ``workspace``."""
        return self._workspace

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def id(self) -> str:
        """v1's id; here the name."""
        return self._name

    def submit(self, config: Any, tags: "Optional[Dict[str, str]]" = None, **kwargs: Any) -> "Run":
        """Queue a job; returns its run at once.

        Args:
            config: An Estimator or a ScriptRunConfig.
            tags: Tags of the run.

        Raises:
            UserErrorException, ComputeTargetException, SnapshotException: something in ``config`` is wrong; nothing
                was queued.
        """
        from windlass._submit import checked_tags, submit
        from windlass.run import Run

        refuse_unknown("Experiment.submit", kwargs)
        if not hasattr(config, "_job"):
            raise ExperimentExecutionException(
                "submit takes an Estimator or a ScriptRunConfig, not %s." % type(config).__qualname__
            )
        record = submit(self._workspace._client, self._name, config._job(), checked_tags(tags))
        return Run._of(self, record)

    def get_runs(
        self, type: "Optional[str]" = None, tags: Any = None, properties: Any = None, include_children: bool = False
    ) -> "Iterator[Run]":
        """Yield the experiment's runs, newest first.

        Args:
            type: Only runs of this type (``azureml.scriptrun``).
            tags: A key, or a dictionary of keys and values that all must hold.
            properties: As ``tags``, for properties.
            include_children: No run has children yet.
        """
        from windlass.run import Run

        return Run.list(self, type=type, tags=tags, properties=properties, include_children=include_children)

    @staticmethod
    def list(
        workspace: "Workspace", experiment_name: "Optional[str]" = None, view_type: str = ViewType.ActiveOnly,
        tags: Any = None,
    ) -> "List[Experiment]":  # fmt: skip
        """The workspace's experiments by name; with ``experiment_name``, only that one if it is there."""
        refuse_options("Experiment.list", {"tags": (tags, None, _TAG_RUNS)})
        if view_type == ViewType.ArchivedOnly:
            return []  # nothing can be archived yet
        if view_type not in (ViewType.ActiveOnly, ViewType.All):
            raise UserErrorException(
                "view_type=%r must be one of ViewType's: ActiveOnly, ArchivedOnly, All." % view_type
            )
        names = [entry["name"] for entry in workspace._client.get("/v1/experiments")["experiments"]]
        return [Experiment(workspace, name) for name in sorted(names) if experiment_name in (None, name)]

    def get_portal_url(self) -> str:
        """Address of its web page."""
        return "%s/runs?experiment=%s" % (self._workspace._web, self._name)

    @property
    def portal_url(self) -> str:
        """Address of its web page."""
        return self.get_portal_url()

    def start_logging(self, *args: Any, **kwargs: Any) -> Any:
        """Not offered yet: interactive runs."""
        raise not_offered("Experiment.start_logging()", "Put the code in a script and submit it.")

    def __repr__(self) -> str:
        return "Experiment(name=%r, workspace=%r)" % (self._name, self._workspace.name)

    def _repr_html_(self) -> str:
        from windlass._details import html_table

        return html_table({"Name": self._name, "Workspace": self._workspace.name}, self.get_portal_url())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and (other._workspace, other._name) == (self._workspace, self._name)

    def __hash__(self) -> int:
        return hash((self._workspace, self._name))

    archive = AbsentMethod("Runs are kept.")
    archived_time = AbsentProperty("Nothing can be archived.")
    delete = AbsentMethod("Runs are kept.")
    get_docs_url = AbsentMethod("See the documentation of Windlass.")
    identity = AbsentProperty("Use name.")
    from_directory = AbsentMethod("Use Experiment(Workspace.from_config(), name).")
    reactivate = AbsentMethod("Nothing can be archived.")
    refresh = AbsentMethod("Everything is read afresh.")
    remove_tags = AbsentMethod(_TAG_RUNS)
    set_tags = AbsentMethod(_TAG_RUNS)
    tag = AbsentMethod(_TAG_RUNS)
    tags = AbsentProperty(_TAG_RUNS)


def _suggestion(name: Any) -> str:
    mended = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.")[:128] if isinstance(name, str) else ""
    return " For example: %r." % mended if mended else ""
