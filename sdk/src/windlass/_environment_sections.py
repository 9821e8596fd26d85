"""The parts of an ``Environment``: Python, container, registry."""

from __future__ import annotations

from typing import Any, List, Optional

from windlass._config_object import ConfigObject
from windlass._not_offered import not_offered, refuse_unknown
from windlass.conda_dependencies import CondaDependencies

DEFAULT_CPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"
DEFAULT_GPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.1-cudnn8-ubuntu20.04"
AZURE_IMAGES = "mcr.microsoft.com/azureml/"
"""Microsoft's own base images, v1's default: they ask for nothing."""
DEFAULT_SHM_SIZE = "2g"
NO_CONTAINERS = "Containers come later; name the packages in pip_packages or conda_packages."


class ContainerRegistry(ConfigObject):
    """Where an image is fetched; with an address it is a request for a container, which is not offered yet."""

    def __init__(self) -> None:
        self.address: "Optional[str]" = None
        self.username: "Optional[str]" = None
        self.password: "Optional[str]" = None
        self.registry_identity: Any = None
        self._close()

    def __repr__(self) -> str:
        return "ContainerRegistry(address=%r, username=%r)" % (self.address, self.username)  # never the password


class DockerImagePlatform(ConfigObject):
    """The platform of an image: only v1's default, which is this machine's."""

    def __init__(self) -> None:
        self.os = "Linux"
        self.architecture = "amd64"
        self._close()


class DockerSection(ConfigObject):
    """The container part of an environment. v1's defaults ask for nothing; anything else is refused by ``submit``.

    Attributes:
        enabled: v1 turns it on by default; it asks for nothing by itself.
        base_image: None or one of Microsoft's ``azureml`` images.
        base_dockerfile: Only None.
        shm_size: Holds in containers only.
    """

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown("DockerSection", kwargs)
        self.enabled = False
        self.base_image: "Optional[str]" = DEFAULT_CPU_IMAGE
        self.base_dockerfile: "Optional[str]" = None
        self.base_image_registry = ContainerRegistry()
        self.build_context: Any = None
        self.platform = DockerImagePlatform()
        self.shared_volumes = True
        self.gpu_support = False
        self.arguments: "List[str]" = []
        self.shm_size: "Optional[str]" = None
        self._close()

    def _check(self, where: str) -> None:
        """Raise NotOffered for a container that somebody asked for."""
        if self.base_image is not None and not is_azure_image(self.base_image):
            raise not_offered("%s.base_image=%r" % (where, self.base_image), NO_CONTAINERS)
        for name in ("base_dockerfile", "build_context"):
            if getattr(self, name) is not None:
                raise not_offered("%s.%s" % (where, name), NO_CONTAINERS)
        if self.base_image_registry is not None and self.base_image_registry.address:
            address = self.base_image_registry.address
            raise not_offered("%s.base_image_registry.address=%r" % (where, address), NO_CONTAINERS)
        if self.arguments:
            raise not_offered("%s.arguments=%r" % (where, self.arguments), NO_CONTAINERS)
        if (self.platform.os, self.platform.architecture) != ("Linux", "amd64"):
            raise not_offered("%s.platform" % where, NO_CONTAINERS)


class PythonSection(ConfigObject):
    """The Python part of an environment: packages, or an interpreter of your own.

    Attributes:
        conda_dependencies: Packages to install.
        conda_dependencies_file: A conda file; setting it reads the packages.
        user_managed_dependencies: True: take ``interpreter_path`` as it is and install nothing.
        interpreter_path: Interpreter of a user-managed environment; ``python`` is the one that submits.
        base_conda_environment: Only None.
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
