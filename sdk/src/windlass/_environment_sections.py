"""The parts of an ``Environment``: Python, container, registry."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

from windlass._config_object import ConfigObject
from windlass._docker_arguments import TAKEN, Parsed, UnknownOption, parse
from windlass._not_offered import not_offered, refuse_unknown
from windlass._registry_logins import RegistryLogin
from windlass._warn import warn
from windlass.conda_dependencies import CondaDependencies
from windlass.errors import UserErrorException
from windlass.specs.container import ContainerSpec

if TYPE_CHECKING:
    from windlass.workspace import Workspace

DEFAULT_CPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"
DEFAULT_GPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.1-cudnn8-ubuntu20.04"
AZURE_IMAGES = "mcr.microsoft.com/azureml/"
"""Microsoft's own base images, v1's default: they ask for nothing."""
DEFAULT_SHM_SIZE = "2g"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/)?%s(?:/%s)*(?::\w[\w.-]{0,127})?(?:@[a-z0-9]+:[0-9a-fA-F]{32,})?\Z"
    % (_PART, _PART),
    re.ASCII,
)
"""Registry, path in lower case, tag, digest."""
_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?(/[A-Za-z0-9._/-]+)?\Z")
_DOCKERFILE = re.compile(r"\s*(FROM|ARG|#)", re.IGNORECASE)


class ContainerRegistry(ConfigObject):
    """Where an image is pulled from.

    Attributes:
        address: Such as ``myregistry.azurecr.io`` or ``localhost:5000``.
        username: Who may pull from it.
        password: Goes to the server when the environment is used, and is kept nowhere else.
    """

    def __init__(self) -> None:
        self.address: "Optional[str]" = None
        self.username: "Optional[str]" = None
        self.password: "Optional[str]" = None
        self.registry_identity: Any = None
        self._close()

    def __repr__(self) -> str:
        return "ContainerRegistry(address=%r, username=%r)" % (self.address, self.username)  # never the password

    def _host(self, where: str) -> "Optional[str]":
        """The address as it stands before an image's name; None when none is given.

        Raises:
            UserErrorException: it is none, or user name and password do not fit it.
            NotOffered: an identity of Azure is to pull.
        """
        if self.registry_identity is not None:
            raise not_offered("%s.registry_identity" % where, "Give username and password.")
        if not self.address:
            if self.username or self.password:
                raise UserErrorException("%s has a user name or password and no address; give the address." % where)
            return None
        host = re.sub(r"\Ahttps?://", "", self.address).rstrip("/")
        if "@" in host:
            raise UserErrorException("%s.address holds credentials; give them as username and password." % where)
        if not _REGISTRY.match(host):
            raise UserErrorException("%s.address=%r is none, such as 'localhost:5000'." % (where, self.address))
        if self.password and not self.username:
            raise UserErrorException("%s has a password and no username; give both." % where)
        return host


class DockerImagePlatform(ConfigObject):
    """The platform of an image: only v1's default, which is this machine's."""

    def __init__(self) -> None:
        self.os = "Linux"
        self.architecture = "amd64"
        self._close()


class DockerBuildContext(ConfigObject):
    """The folder that a Dockerfile is built in, kept in the workspace.

    Args:
        location_type: Where it is kept; ``from_local_directory`` sets it.
        location: Its id in the workspace.
        dockerfile_path: The Dockerfile in it.
    """

    class LocationType:
        """v1's kinds of places."""

        Git = "git"
        StorageAccount = "storageAccount"

    def __init__(
        self, location_type: "Optional[str]" = None, location: "Optional[str]" = None,
        dockerfile_path: str = "Dockerfile",
    ) -> None:  # fmt: skip
        self.location_type = location_type
        self.location = location
        self.dockerfile_path = dockerfile_path
        self.dockerfile_text: "Optional[str]" = None
        self._close()

    @staticmethod
    def from_local_directory(
        workspace: "Workspace", path: str, dockerfile_path: str = "Dockerfile"
    ) -> "DockerBuildContext":
        """The folder ``path``, sent to the workspace as it is now.

        A ``.dockerignore`` (or ``<dockerfile_path>.dockerignore``) says what is left out; without one the ignore files
        of a job's source folder count.

        Raises:
            UserErrorException: there is no such folder, or no Dockerfile in it.
        """
        from windlass import _snapshot

        root = os.path.abspath(os.path.expanduser(path))
        if not os.path.isdir(root):
            raise UserErrorException("path=%r is no folder." % path)
        wanted = os.path.normpath(dockerfile_path).replace(os.sep, "/")
        file = os.path.join(root, wanted)
        if wanted.split("/")[0] == ".." or not os.path.isfile(file):
            raise UserErrorException("dockerfile_path=%r is not in the folder %s." % (dockerfile_path, root))
        made = DockerBuildContext(DockerBuildContext.LocationType.StorageAccount, dockerfile_path=wanted)
        made.dockerfile_text = _text_of(file)
        made.location = _snapshot.take(workspace._client, _snapshot.list_files(root, wanted).files, keep=True)
        return made

    def _spec(self, where: str) -> ContainerSpec:
        """Raises NotOffered for a context that lies elsewhere than in the workspace."""
        if not self.location or self.dockerfile_text is None:
            raise not_offered(
                "%s.location=%r" % (where, self.location),
                "Fetch the folder and give it to DockerBuildContext.from_local_directory().",
            )
        return ContainerSpec(dockerfile=self.dockerfile_text, context=self.location)


class DockerSection(ConfigObject):
    """The container of an environment. v1's defaults ask for none; another image, a Dockerfile or a registry does.

    Attributes:
        enabled: v1 turns it on by default; it asks for nothing by itself.
        base_image: Name of the image; Microsoft's ``azureml`` images, v1's default, ask for nothing.
        base_dockerfile: Text of a Dockerfile, or the path of one, which is read when it is set.
        base_image_registry: Where the image is pulled from.
        build_context: A DockerBuildContext with the Dockerfile and the files it copies.
        arguments: Arguments of ``docker run``: limits, volumes, variables, the network.
        shm_size: Size of ``/dev/shm``, such as ``4g``; v1's default is ``2g``. Holds in containers only.
    """

    _off = False

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown("DockerSection", kwargs)
        self.enabled = False
        self.base_image: "Optional[str]" = DEFAULT_CPU_IMAGE
        self.base_dockerfile: "Optional[str]" = None
        self.base_image_registry = ContainerRegistry()
        self.build_context: "Optional[DockerBuildContext]" = None
        self.platform = DockerImagePlatform()
        self.shared_volumes = True
        self.gpu_support = False
        self.arguments: "List[str]" = []
        self.shm_size: "Optional[str]" = None
        self._close()

    def __setattr__(self, name: str, value: Any) -> None:
        if self._closed and name == "enabled":
            self._off = not value
        if self._closed and name == "base_dockerfile" and value is not None:
            value = dockerfile_text("base_dockerfile", value)
        if self._closed and name == "base_image" and value not in (DEFAULT_CPU_IMAGE, DEFAULT_GPU_IMAGE):
            if is_azure_image(value):
                warn(
                    "base_image=%r: Microsoft's azureml images are v1's default and ask for no container; the "
                    "packages are installed without one." % value
                )
        super().__setattr__(name, value)

    def _parsed(self, where: str) -> Parsed:
        """What its arguments ask for; raises NotOffered for one that containers here do not take."""
        try:
            return parse("%s.arguments" % where, self.arguments)
        except UnknownOption as problem:
            raise not_offered("%s.arguments: docker's option %s" % (where, problem), TAKEN) from None

    def _spec(self, where: str) -> "Optional[ContainerSpec]":
        """What it asks for; None: no container.

        Raises:
            UserErrorException: two of its parts contradict each other, or a value can be none.
            NotOffered: it asks for what no container here has.
        """
        if (self.platform.os.lower(), self.platform.architecture) != ("linux", "amd64"):
            raise not_offered("%s.platform" % where, "Leave it at Linux and amd64, which images are run as.")
        sources = self._sources(where)
        registry = self.base_image_registry
        host = registry._host("%s.base_image_registry" % where) if registry is not None else None
        if len(sources) > 1:
            raise UserErrorException("%s and %s: give one of them." % (sources[0], sources[1]))
        if not sources:
            if host is None:
                return None
            raise UserErrorException(
                "%s.base_image_registry.address=%r needs an image: set %s.base_image." % (where, host, where)
            )
        if self._off:
            raise UserErrorException("%s.enabled=False and %s contradict each other." % (where, sources[0]))
        if not self.shared_volumes:
            raise not_offered("%s.shared_volumes=False" % where, "A job's folder is mounted; leave it at True.")
        return self._made(where, host)

    def _sources(self, where: str) -> "List[str]":
        """What an image could come from, as a message names it."""
        found = []
        if self.base_image is not None and not is_azure_image(self.base_image):
            found.append("%s.base_image=%r" % (where, self.base_image))
        return found + [
            "%s.%s" % (where, name) for name in ("base_dockerfile", "build_context") if getattr(self, name) is not None
        ]

    def _made(self, where: str, host: "Optional[str]") -> ContainerSpec:
        username = self.base_image_registry.username if host is not None else None
        if self.build_context is not None:
            if not isinstance(self.build_context, DockerBuildContext):
                raise UserErrorException("%s.build_context=%r is no DockerBuildContext." % (where, self.build_context))
            context = self.build_context._spec("%s.build_context" % where)
            return ContainerSpec(
                dockerfile=context.dockerfile, context=context.context, registry=host, username=username
            )
        if self.base_dockerfile is not None:
            return ContainerSpec(dockerfile=self.base_dockerfile, registry=host, username=username)
        image = image_name("%s.base_image" % where, self.base_image)
        if host is not None and image.startswith(host + "/"):
            image = image[len(host) + 1 :]
        return ContainerSpec(image=image, registry=host, username=username)

    def _logins(self) -> "Tuple[RegistryLogin, ...]":
        """What the server has to know to pull."""
        registry = self.base_image_registry
        host = registry._host("docker.base_image_registry") if registry is not None else None
        if host is None or not registry.username or not registry.password:
            return ()
        return (RegistryLogin(host, registry.username, registry.password),)


class PythonSection(ConfigObject):
    """The Python part of an environment: packages, or an interpreter of your own.

    Attributes:
        conda_dependencies: Packages to install.
        conda_dependencies_file: A conda file; setting it reads the packages.
        user_managed_dependencies: True: take ``interpreter_path`` as it is and install nothing.
        interpreter_path: Interpreter of a user-managed environment; ``python`` is the one that submits, or with a
            container the image's.
        base_conda_environment: Only None or ``base``.
    """

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown("PythonSection", kwargs)
        self.conda_dependencies: "Optional[CondaDependencies]" = CondaDependencies()
        self.user_managed_dependencies = False
        self.interpreter_path = "python"
        self.base_conda_environment: "Optional[str]" = None
        self._file: "Optional[str]" = None
        self._close()

    @property
    def conda_dependencies_file(self) -> "Optional[str]":
        """The conda file that was read last; setting it reads another."""
        return self._file

    @conda_dependencies_file.setter
    def conda_dependencies_file(self, path: "Optional[str]") -> None:
        if path is not None:
            self.conda_dependencies = CondaDependencies(path)
        self._file = path


class DockerEnvironment(DockerSection):
    """v1's older name of ``DockerSection``."""

    def __init__(self) -> None:
        super().__init__()


class PythonEnvironment(PythonSection):
    """v1's older name of ``PythonSection``."""

    def __init__(self) -> None:
        super().__init__()


def is_azure_image(name: Any) -> bool:
    """True for Microsoft's ``azureml`` base images, which are v1's default and no request."""
    return isinstance(name, str) and name.startswith(AZURE_IMAGES)


def image_name(where: str, name: Any) -> str:
    """``name`` of an image; UserErrorException when it can be none."""
    if not isinstance(name, str) or not _IMAGE.match(name):
        raise UserErrorException("%s=%r is no name of an image, such as 'python:3.9-slim'." % (where, name))
    return name


def dockerfile_text(where: str, given: Any) -> str:
    """The text of a Dockerfile, given as text or as the path of one.

    Raises:
        UserErrorException: it is neither.
    """
    if isinstance(given, os.PathLike):
        return _text_of(os.path.abspath(os.path.expanduser(os.fspath(given))))
    if not isinstance(given, str) or not given.strip():
        raise UserErrorException("%s=%r is neither the text nor the path of a Dockerfile." % (where, given))
    if "\n" not in given and os.path.isfile(os.path.expanduser(given)):
        return _text_of(os.path.abspath(os.path.expanduser(given)))
    if "\n" not in given and not _DOCKERFILE.match(given):
        raise UserErrorException(
            "%s=%r is neither a file nor the text of a Dockerfile, which begins with FROM." % (where, given)
        )
    return given


def _text_of(place: str) -> str:
    try:
        with open(place, encoding="utf-8-sig") as f:
            return f.read()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", problem)
        raise UserErrorException("The Dockerfile %s cannot be read: %s." % (place, reason)) from problem
