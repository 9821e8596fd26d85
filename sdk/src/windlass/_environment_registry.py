"""Environments that a workspace knows by name and version, and builds of them without a run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, TextIO

from windlass import _registry_logins
from windlass._transport.client import quote
from windlass._warn import warn
from windlass.errors import UserErrorException

if TYPE_CHECKING:
    from windlass.environment import Environment
    from windlass.workspace import Workspace

_WAIT_S = 20.0
_RUNNING, _SUCCEEDED = "Running", "Succeeded"


def register(environment: "Environment", workspace: "Workspace") -> "Environment":
    """Keep ``environment`` under its name; returns it as it is kept, with its version.

    The version counts up when the content differs from the newest version's. One that the user chose, and the name does
    not have yet, is taken as it is.
    """
    definition = environment._to_dictionary()
    definition.pop("version", None)
    if not environment.name:
        raise UserErrorException("The environment has no name. Set env.name, or use Environment(name).")
    _registry_logins.send(workspace._client, environment.docker._logins())
    known = _versions(workspace, environment.name)
    chosen = environment.version if environment.version is not None and environment.version not in known else None
    return _environment(workspace._client.post(
        _address(environment.name), {"definition": definition, "version": None if chosen is None else str(chosen)}
    ))  # fmt: skip


def get(workspace: "Workspace", name: str, version: "Optional[str]", label: "Optional[str]") -> "Environment":
    """A registered environment: of that version, of that label, or the newest.

    v1's curated names (``AzureML-…``) that were not registered give the packages that ``_curated`` has for them.

    Raises:
        UserErrorException: there is none.
    """
    from windlass import _curated

    if version is not None and label is not None:
        raise UserErrorException("Environment.get(version=%r, label=%r): give one of them." % (version, label))
    try:
        query = {"version": None if version is None else str(version), "label": label}
        return _environment(workspace._client.get(_address(name), **query))
    except UserErrorException:
        if not _curated.is_curated(name) or _versions(workspace, name):
            raise
    if version is not None:
        warn("version=%r: there is one %s here, made from what its name says." % (version, name))
    return _curated.environment(name)


def newest(workspace: "Workspace") -> "Dict[str, Environment]":
    """The newest version of each registered environment by name, and v1's curated ones that are not registered."""
    from windlass import _curated

    answer = workspace._client.get("/v1/registered-environments")
    found = {data["name"]: _environment(data) for data in answer["environments"]}
    found.update((name, _curated.environment(name)) for name in _curated.NAMES if name not in found)
    return found


def label(workspace: "Workspace", name: str, version: str, labels: "Iterable[str]") -> None:
    """Put labels on a version; they leave the one they stood on.

    Raises:
        UserErrorException: ``labels`` are no texts, or there is no such version.
    """
    wanted = [labels] if isinstance(labels, str) else list(labels or ())
    if not wanted or not all(isinstance(text, str) and text for text in wanted):
        raise UserErrorException("labels=%r must be a list of texts such as ['prod']." % (labels,))
    address = "%s/versions/%s/labels" % (_address(name), quote(str(version)))
    workspace._client.put(address, {"labels": wanted})


class ImageBuildDetails:
    """A build of an environment; v1's ``azureml.core.environment.ImageBuildDetails``."""

    def __init__(self, environment_client: Any, location: str) -> None:
        self.environment_client = environment_client
        self._spec: "Mapping[str, Any]" = {}
        self._refresh = False
        self._id = location
        self._lines: "List[str]" = []
        self._state: "Dict[str, Any]" = {"status": _RUNNING, "error": None}
        self.log_url: "Optional[str]" = None

    @classmethod
    def _begin(
        cls, workspace: "Workspace", spec: "Mapping[str, Any]", refresh: bool = False
    ) -> "ImageBuildDetails":  # fmt: skip
        build = cls(workspace._client, "")
        build._spec, build._refresh = spec, refresh
        build._ask()
        return build

    def _ask(self) -> None:
        answer = self.environment_client.post(
            "/v1/environment-builds", {"spec": self._spec, "refresh": self._refresh}
        )  # fmt: skip
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
        self._wait(sys.stdout if show_output else None)
        return self

    def _wait(self, out: "Optional[TextIO]") -> "Dict[str, Any]":
        """The last answer about the build, once it is ready; its log goes to ``out`` as it comes."""
        lines = list(self._lines)
        while True:
            if out is not None and lines:
                out.write("".join(line + "\n" for line in lines))
                out.flush()
            if self._state["status"] != _RUNNING:
                break
            lines = self._look(_WAIT_S)
        if self._state["status"] != _SUCCEEDED:
            raise UserErrorException(str(self._state["error"]), error_code="environment_failed")
        return dict(self._state)

    def __repr__(self) -> str:
        return "ImageBuildDetails(id=%r, status=%r)" % (self._id, self._state["status"])


class DockerImageDetails(Dict[str, Any]):
    """What is built for an environment; v1's ``azureml.core.environment.DockerImageDetails``.

    Without a container there is no image, and ``image`` is None; ``environment_path`` and ``interpreter_path`` tell
    where the packages lie.
    """

    @property
    def image_exist(self) -> bool:
        """True when it is built, so that a run need not wait."""
        return bool(self["imageExist"])

    @property
    def image(self) -> "Optional[str]":
        """Id of the image that is built; None without one."""
        return self._text("image")

    @property
    def repository(self) -> "Optional[str]":
        """The image that was asked for."""
        return self._text("repository")

    @property
    def registry(self) -> "Dict[str, Optional[str]]":
        """Address and user name of the registry that has the image that was asked for."""
        return dict(self["registry"])

    @property
    def dockerfile(self) -> "Optional[str]":
        """The Dockerfile that was asked for."""
        return self._text("dockerfile")

    @property
    def environment_path(self) -> "Optional[str]":
        """Folder of the environment."""
        return self._text("environmentPath")

    @property
    def interpreter_path(self) -> "Optional[str]":
        """Its interpreter; with an image the path inside of it."""
        return self._text("interpreterPath")

    def _text(self, key: str) -> "Optional[str]":
        return None if self[key] is None else str(self[key])


def image_details(environment: "Environment", workspace: "Workspace") -> DockerImageDetails:
    """What is built for ``environment``; asking builds nothing."""
    from windlass.environment import environment_spec
    from windlass.specs._codec import to_wire
    from windlass.specs.container import ContainerSpec

    spec = environment_spec(environment)
    ready = workspace._client.post("/v1/environments/find", {"spec": to_wire(spec)})["ready"]
    found, asked = ready or {}, spec.container or ContainerSpec()
    return DockerImageDetails(
        imageExist=ready is not None, image=found.get("image"), repository=asked.image, dockerfile=asked.dockerfile,
        registry={"address": asked.registry, "username": asked.username},
        environmentPath=found.get("prefix"), interpreterPath=found.get("python"),
    )  # fmt: skip


def build(environment: "Environment", workspace: "Workspace", refresh: bool = False) -> ImageBuildDetails:
    """Build the environment now, so that its first run need not wait; ``refresh`` looks its versions up anew."""
    from windlass.environment import environment_spec
    from windlass.specs._codec import to_wire

    _registry_logins.send(workspace._client, environment.docker._logins())
    return ImageBuildDetails._begin(workspace, to_wire(environment_spec(environment)), refresh)


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
