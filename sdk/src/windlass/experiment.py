"""``Experiment``: a name under which runs are kept; v1's ``azureml.core.Experiment``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from windlass._not_offered import AbsentMethod, AbsentProperty, refuse_options, refuse_unknown
from windlass.errors import ExperimentExecutionException, UserErrorException

if TYPE_CHECKING:
    from windlass.run import Run
    from windlass.workspace import Workspace

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")


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
            kwargs: ``priority`` of this run: among those that wait for the same cluster, higher ones are first (0 is
                usual). ``max_retries``: how often it is begun anew, on another node, when a node of it is lost; what
                the script does itself is never repeated. For an estimator ``script_params`` (added to its own),
                ``inputs`` and ``source_directory_data_store`` of this run only.

        Raises:
            UserErrorException, ComputeTargetException, SnapshotException: something in ``config`` is wrong; nothing
                was queued.
        """
        from dataclasses import replace

        from windlass._job import priority, retries
        from windlass._submit import checked_tags, submit
        from windlass.run import Run

        if not hasattr(config, "_job"):
            raise ExperimentExecutionException(
                "submit takes an Estimator or a ScriptRunConfig, not %s." % type(config).__qualname__
            )
        given, again = kwargs.pop("priority", None), kwargs.pop("max_retries", None)
        job = config._job(**kwargs)
        if given is not None:
            job = replace(job, priority=priority("priority", given))
        if again is not None:
            job = replace(job, max_retries=retries("max_retries", again))
        record = submit(self._workspace._client, self._name, job, checked_tags(tags))
        return Run._of(self, record)

    def get_runs(
        self, type: "Optional[str]" = None, tags: Any = None, properties: Any = None, include_children: bool = False
    ) -> "Iterator[Run]":
        """Yield the experiment's runs, newest first.

        Args:
            type: Only runs of this type (``azureml.scriptrun``).
            tags: A key, or a dictionary of keys and values that all must hold.
            properties: As ``tags``, for properties.
            include_children: Children too, not only runs that are nobody's.
        """
        from windlass.run import Run

        return Run.list(self, type=type, tags=tags, properties=properties, include_children=include_children)

    @staticmethod
    def list(
        workspace: "Workspace", experiment_name: "Optional[str]" = None, view_type: str = ViewType.ActiveOnly,
        tags: Any = None,
    ) -> "List[Experiment]":  # fmt: skip
        """The workspace's experiments by name.

        Args:
            workspace: Where they are.
            experiment_name: Only that one, if it is there.
            view_type: Which, of ``ViewType``.
            tags: A key, or a dictionary of keys and values, that they must have.
        """
        if view_type not in (ViewType.ActiveOnly, ViewType.ArchivedOnly, ViewType.All):
            raise UserErrorException(
                "view_type=%r must be one of ViewType's: ActiveOnly, ArchivedOnly, All." % (view_type,)
            )
        found = []
        for entry in workspace._client.get("/v1/experiments")["experiments"]:
            archived = entry.get("archived") is not None
            if view_type != ViewType.All and archived != (view_type == ViewType.ArchivedOnly):
                continue
            if experiment_name in (None, entry["name"]) and has_tags(entry.get("tags") or {}, tags):
                found.append(Experiment(workspace, entry["name"]))
        return sorted(found, key=lambda experiment: experiment.name)

    def tag(self, key: str, value: "Optional[str]" = None) -> None:
        """Set a tag; without ``value`` it is a mark."""
        self.set_tags({key: value})

    def set_tags(self, tags: "Dict[str, Optional[str]]") -> None:
        """Set tags; those of other keys stay."""
        if not isinstance(tags, dict):
            raise UserErrorException("tags must be a dictionary such as {'team': 'vision'}, not %r." % (tags,))
        self._patch({"tags": {str(key): "" if value is None else str(value) for key, value in tags.items()}})

    def remove_tags(self, tags: Any) -> None:
        """Remove tags by key."""
        self._patch({"remove_tags": [tags] if isinstance(tags, str) else [str(key) for key in tags]})

    @property
    def tags(self) -> "Dict[str, str]":
        """Its tags."""
        return dict(self._facts().get("tags") or {})

    def archive(self) -> None:
        """Hide it from ``Experiment.list`` and ``ws.experiments``; a new run in it brings it back."""
        self._patch({"archived": True})

    def reactivate(self, new_name: "Optional[str]" = None) -> None:
        """Show an archived experiment again.

        Args:
            new_name: Not offered: the ids of its runs hold its name.
        """
        refuse_options("Experiment.reactivate", {
            "new_name": (new_name, None, "The ids of its runs hold its name; leave it out."),
        })  # fmt: skip
        self._patch({"archived": False})

    @property
    def archived_time(self) -> "Optional[str]":
        """When it was archived, or None."""
        from windlass._details import iso_time

        return iso_time(self._facts().get("archived"))

    @staticmethod
    def delete(workspace: "Workspace", experiment_id: str) -> None:
        """Delete an experiment with its runs and their files. Models made by them stay.

        Args:
            workspace: Where it is.
            experiment_id: Its ``id``, which is its name.

        Raises:
            UserErrorException: there is none, or one of its runs has not ended.
        """
        workspace._client.delete("/v1/experiments/%s" % Experiment(workspace, experiment_id).name)

    def refresh(self) -> None:
        """Nothing is kept here: everything is read when it is asked for."""

    def _facts(self) -> "Dict[str, Any]":
        for entry in self._workspace._client.get("/v1/experiments")["experiments"]:
            if entry["name"] == self._name:
                return dict(entry)
        return {}

    def _patch(self, changes: "Dict[str, Any]") -> None:
        self._workspace._client.patch("/v1/experiments/%s" % self._name, changes)

    def get_portal_url(self) -> str:
        """Address of its web page."""
        return "%s/runs?experiment=%s" % (self._workspace._web, self._name)

    @property
    def portal_url(self) -> str:
        """Address of its web page."""
        return self.get_portal_url()

    def start_logging(self, *args: Any, **kwargs: Any) -> "Run":
        """Begin an interactive run: this process logs into it and ends it with ``complete()``, or as a context manager.

        ``./outputs`` and ``./logs`` are made; what is written there meanwhile is kept with the run. A process that
        ends without ``complete()`` leaves a Failed run.

        Args:
            args: None: v1 names its options.
            kwargs: ``outputs``, a folder to keep instead of ``./outputs``, or False for none; ``snapshot_directory``,
                the sources to keep (default: the current folder; None: none); ``display_name``.
        """
        from windlass._run_life import start_logging

        if args:
            raise UserErrorException("start_logging takes options by name, such as display_name='first try'.")
        return start_logging(self, kwargs)

    def __repr__(self) -> str:
        return "Experiment(name=%r, workspace=%r)" % (self._name, self._workspace.name)

    def _repr_html_(self) -> str:
        from windlass._details import html_table

        return html_table({"Name": self._name, "Workspace": self._workspace.name}, self.get_portal_url())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and (other._workspace, other._name) == (self._workspace, self._name)

    def __hash__(self) -> int:
        return hash((self._workspace, self._name))

    get_docs_url = AbsentMethod("The documentation lies with the sources of Windlass, in docs/.")
    identity = AbsentProperty("Use name.")
    from_directory = AbsentMethod("Use Experiment(Workspace.from_config(), name).")


def has_tags(tags: "Dict[str, str]", wanted: Any) -> bool:
    """True when ``tags`` has v1's filter: None, a key, a list of keys, or a dictionary of keys and values."""
    if wanted is None:
        return True
    if isinstance(wanted, dict):
        return all(tags.get(str(key)) == str(value) for key, value in wanted.items())
    return all(str(key) in tags for key in ([wanted] if isinstance(wanted, str) else wanted))


def _suggestion(name: Any) -> str:
    mended = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.")[:128] if isinstance(name, str) else ""
    return " For example: %r." % mended if mended else ""
