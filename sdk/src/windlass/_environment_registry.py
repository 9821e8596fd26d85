"""Environments that a workspace knows by name and version, and builds of them without a run."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Tuple

from windlass._transport.client import quote
from windlass.errors import UserErrorException

if TYPE_CHECKING:
    from windlass.environment import Environment
    from windlass.workspace import Workspace

_CURATED = "AzureML-"
_WAIT_S = 20.0
_RUNNING, _SUCCEEDED = "Running", "Succeeded"

_CURATED_PACKAGES: "Tuple[Tuple[str, Tuple[str, ...]], ...]" = (
    (r"AzureML-Minimal", ("azureml-defaults",)),
    (r"AzureML-Tutorial", ("azureml-defaults", "numpy", "pandas", "scikit-learn", "matplotlib", "joblib")),
    (r"AzureML-(?:sklearn|Scikit-[Ll]earn)-(\d+\.\d+).*", ("azureml-defaults", "scikit-learn==%s.*", "pandas")),
    (r"AzureML-(?:pytorch|PyTorch)-(\d+\.\d+).*", ("azureml-defaults", "torch==%s.*", "torchvision")),
    (r"AzureML-(?:tensorflow|TensorFlow)-(\d+\.\d+).*", ("azureml-defaults", "tensorflow==%s.*")),
)
"""v1's curated environments whose packages are plain: pattern of the name, packages with the name's version put in."""


def register(environment: "Environment", workspace: "Workspace") -> "Environment":
    """Keep ``environment`` under its name; returns it as it is kept, with its version.

    The version counts up when the content differs from the newest version's. One that the user chose, and the name does
    not have yet, is taken as it is.
    """
    definition = environment._to_dictionary()
    definition.pop("version", None)
    if not environment.name:
        raise UserErrorException("The environment has no name. Set env.name, or use Environment(name).")
    known = _versions(workspace, environment.name)
    chosen = environment.version if environment.version is not None and environment.version not in known else None
    return _environment(workspace._client.post(
        _address(environment.name), {"definition": definition, "version": None if chosen is None else str(chosen)}
    ))  # fmt: skip


def get(workspace: "Workspace", name: str, version: "Optional[str]", label: "Optional[str]") -> "Environment":
    """A registered environment: of that version, of that label, or the newest.

    v1's curated names (``AzureML-…``) that were not registered give their packages, where those are plain.

    Raises:
        UserErrorException: there is none.
    """
    if version is not None and label is not None:
        raise UserErrorException("Environment.get(version=%r, label=%r): give one of them." % (version, label))
    try:
        query = {"version": None if version is None else str(version), "label": label}
        return _environment(workspace._client.get(_address(name), **query))
    except UserErrorException:
        if not str(name).startswith(_CURATED) or _versions(workspace, name):
            raise
    return _curated(name)


def newest(workspace: "Workspace") -> "Dict[str, Environment]":
    """The newest version of each registered environment by name."""
    answer = workspace._client.get("/v1/registered-environments")
    return {data["name"]: _environment(data) for data in answer["environments"]}


def label(workspace: "Workspace", name: str, version: str, labels: "Iterable[str]") -> None:
    """Put labels on a version; they leave the one they stood on."""
    wanted = [labels] if isinstance(labels, str) else [str(text) for text in labels]
    address = "%s/versions/%s/labels" % (_address(name), quote(str(version)))
    workspace._client.put(address, {"labels": wanted})


class ImageBuildDetails:
    """A build of an environment; v1's ``azureml.core.environment.ImageBuildDetails``."""

    def __init__(self, environment_client: Any, location: str) -> None:
        self.environment_client = environment_client
        self._spec: "Mapping[str, Any]" = {}
        self._id = location
        self._lines: "List[str]" = []
        self._state: "Dict[str, Any]" = {"status": _RUNNING, "error": None}
        self.log_url: "Optional[str]" = None

    @classmethod
    def _begin(cls, workspace: "Workspace", spec: "Mapping[str, Any]") -> "ImageBuildDetails":
        build = cls(workspace._client, "")
        build._spec = spec
        build._ask()
        return build

    def _ask(self) -> None:
        answer = self.environment_client.post("/v1/environment-builds", {"spec": self._spec})
        self._id, self._lines = str(answer["id"]), []
        self._take(answer)

    def _look(self, wait_s: float) -> "List[str]":
        """New lines of the log; a build that a restarted server does not know is asked for again."""
        address = "/v1/environment-builds/%s" % quote(self._id)
        try:
            return self._take(self.environment_client.get(address, line=len(self._lines), wait_s=wait_s))
        except UserErrorException:
            if not self._spec:
                raise
        self._ask()
        return list(self._lines)

    def _take(self, answer: "Mapping[str, Any]") -> "List[str]":
        self._state = dict(answer)
        self._lines += answer["lines"]
        return list(answer["lines"])

    @property
    def status(self) -> str:
        """``Running``, ``Succeeded`` or ``Failed``, now."""
        if self._state["status"] == _RUNNING:
            self._look(0.0)
        return str(self._state["status"])

    def get_log(self) -> str:
        """The build log so far."""
        self._look(0.0)
        return "".join(line + "\n" for line in self._lines)

    def wait_for_completion(self, show_output: bool = True) -> "ImageBuildDetails":
        """Return when it is built.

        Args:
            show_output: Print the log as it comes.

        Raises:
            UserErrorException: it cannot be built; the message names the package and holds the resolver's reason.
        """
        lines = list(self._lines)
        while True:
            if show_output and lines:
                sys.stdout.write("".join(line + "\n" for line in lines))
                sys.stdout.flush()
            if self._state["status"] != _RUNNING:
                break
            lines = self._look(_WAIT_S)
        if self._state["status"] != _SUCCEEDED:
            raise UserErrorException(str(self._state["error"]), error_code="environment_failed")
        return self

    def __repr__(self) -> str:
        return "ImageBuildDetails(id=%r, status=%r)" % (self._id, self._state["status"])


def build(environment: "Environment", workspace: "Workspace") -> ImageBuildDetails:
    """Build the environment now, so that its first run need not wait."""
    from windlass.environment import environment_spec
    from windlass.specs._codec import to_wire

    return ImageBuildDetails._begin(workspace, to_wire(environment_spec(environment)))


def _curated(name: str) -> "Environment":
    from windlass.conda_dependencies import CondaDependencies
    from windlass.environment import Environment

    for pattern, packages in _CURATED_PACKAGES:
        match = re.fullmatch(pattern, name)
        if match:
            made = Environment(name)
            wanted = [text % match.groups() if "%s" in text else text for text in packages]
            made.python.conda_dependencies = CondaDependencies.create(pip_packages=wanted)
            return made
    raise UserErrorException(
        "%r is one of Azure's curated environments, which Windlass does not have. Name the packages it stood for: "
        "env = Environment('my-env'); env.python.conda_dependencies = CondaDependencies.create(pip_packages=[...])."
        % name
    )


def _versions(workspace: "Workspace", name: str) -> "List[str]":
    answer = workspace._client.get("/v1/registered-environments", name=name)
    return [str(data["version"]) for data in answer["environments"]]


def _environment(data: "Mapping[str, Any]") -> "Environment":
    from windlass.environment import Environment

    made = Environment._from_dictionary(data["definition"], "the environment %s" % data["name"])
    made.name, made.version = data["name"], str(data["version"])
    return made


def _address(name: Any) -> str:
    if not isinstance(name, str) or not name or "/" in name:
        raise UserErrorException("name=%r must be the name of an environment." % (name,))
    return "/v1/registered-environments/%s" % quote(name)
