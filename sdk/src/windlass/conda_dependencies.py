"""``CondaDependencies``: the packages of an environment; v1's ``azureml.core.conda_dependencies``."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Optional

from windlass._details import conda_dictionary
from windlass._not_offered import AbsentMethod, AbsentProperty, not_offered, refuse_options
from windlass.errors import UserErrorException

PYTHON_DEFAULT_VERSION: "Optional[str]" = None
"""None takes the server's default interpreter."""
_PUBLIC_CHANNELS = ("conda-forge", "anaconda", "defaults", "main")
_VERSION = re.compile(r"\d+(\.\d+){0,2}\Z")
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_INDEX = "Set UV_INDEX_URL or PIP_INDEX_URL where the workspace server runs."
_FILES = "List the packages in pip_packages and conda_packages."


class CondaDependencies:
    """Packages from conda and pip, and the Python version.

    Args:
        conda_dependencies_file_path: Not offered yet.
    """

    DEFAULT_NUMBER_OF_CONDA_PACKAGES = 0
    DEFAULT_NUMBER_OF_PIP_PACKAGES = 0

    def __init__(self, conda_dependencies_file_path: "Optional[str]" = None) -> None:
        refuse_options(
            "CondaDependencies", {"conda_dependencies_file_path": (conda_dependencies_file_path, None, _FILES)}
        )
        self._python_version = PYTHON_DEFAULT_VERSION
        self._conda: "List[str]" = []
        self._pip: "List[str]" = []

    @staticmethod
    def create(
        pip_indexurl: "Optional[str]" = None, pip_packages: "Optional[List[str]]" = None,
        conda_packages: "Optional[List[str]]" = None, python_version: "Optional[str]" = PYTHON_DEFAULT_VERSION,
        pin_sdk_version: bool = True,
    ) -> "CondaDependencies":  # fmt: skip
        """New dependencies of these packages. ``pin_sdk_version`` says nothing here: Windlass comes with the job.

        Raises:
            UserErrorException: a package or the version is not text of the right form.
        """
        refuse_options("CondaDependencies.create", {"pip_indexurl": (pip_indexurl, None, _INDEX)})
        made = CondaDependencies()
        conda, pip = package_list("conda_packages", conda_packages), package_list("pip_packages", pip_packages)
        for package in conda:
            made.add_conda_package(package)
        for package in pip:
            made.add_pip_package(package)
        # A project named twice in one list is the resolver's to judge: taking one of the two would hide a conflict.
        made._conda = [p for p in dict.fromkeys(conda) if package_name(p) != "python"]
        made._pip = list(dict.fromkeys(pip))
        if python_version is not None:
            made.set_python_version(python_version)
        return made

    def add_pip_package(self, pip_package: str) -> None:
        """Add a requirement in pip's syntax; one of the same project is replaced."""
        _checked("pip_package", pip_package)
        if pip_package.lstrip().startswith("-"):
            raise not_offered("The pip option %r among the packages" % pip_package, _INDEX)
        self._pip = [known for known in self._pip if package_name(known) != package_name(pip_package)] + [pip_package]

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda match specification; one of the same package is replaced. ``python=3.9`` sets the version."""
        _checked("conda_package", conda_package)
        if package_name(conda_package) == "python":
            version = conda_package.split("python", 1)[1].lstrip("= ").rstrip(".*")
            if version:
                self.set_python_version(version)
            return
        others = [known for known in self._conda if package_name(known) != package_name(conda_package)]
        self._conda = others + [conda_package]

    def remove_pip_package(self, pip_package: str) -> None:
        """Take out the package of that name, if it is there."""
        self._pip = [known for known in self._pip if package_name(known) != package_name(pip_package)]

    def remove_conda_package(self, conda_package: str) -> None:
        """Take out the package of that name, if it is there."""
        self._conda = [known for known in self._conda if package_name(known) != package_name(conda_package)]

    def set_python_version(self, version: str) -> None:
        """Ask for a Python version such as ``3.9``.

        Raises:
            UserErrorException: it is not a version number.
        """
        if not isinstance(version, str) or not _VERSION.match(version):
            raise UserErrorException("python_version=%r is not a version such as '3.9' or '3.9.18'." % (version,))
        self._python_version = version

    def get_python_version(self) -> "Optional[str]":
        """The Python version asked for; None when any will do."""
        return self._python_version

    def add_channel(self, channel: str) -> None:
        """Accept a public channel: conda packages resolve where the server's builder looks for them.

        Raises:
            NotOffered: the channel is another one.
        """
        if channel not in _PUBLIC_CHANNELS:
            raise not_offered("The conda channel %r" % channel, "Offered are: %s." % ", ".join(_PUBLIC_CHANNELS))

    @property
    def pip_packages(self) -> "Iterable[str]":
        """Requirements, in the order given."""
        return tuple(self._pip)

    @property
    def conda_packages(self) -> "Iterable[str]":
        """Conda match specifications, in the order given."""
        return tuple(self._conda)

    def as_dict(self) -> "Dict[str, Any]":
        """The packages in the shape of a conda environment file."""
        return conda_dictionary(self._python_version, self._conda, self._pip)

    def serialize_to_string(self) -> str:
        """The packages as the text of a conda environment file (YAML)."""
        lines = ["name: project_environment", "dependencies:"]
        for item in self.as_dict()["dependencies"]:
            if isinstance(item, dict):
                lines += ["- pip:"] + ["  - %s" % _yaml(package) for package in item["pip"]]
            else:
                lines.append("- %s" % _yaml(item))
        return "\n".join(lines) + "\n"

    def save(self, path: "Optional[str]" = None) -> str:
        """Write ``serialize_to_string()`` to ``path`` (default ``conda_dependencies.yml``); returns the path."""
        target = path or "conda_dependencies.yml"
        with open(target, "w", encoding="utf-8") as f:
            f.write(self.serialize_to_string())
        return target

    def __repr__(self) -> str:
        return "CondaDependencies(python_version=%r, conda_packages=%r, pip_packages=%r)" % (
            self._python_version, self._conda, self._pip,
        )  # fmt: skip

    add_cntk_package = AbsentMethod("CNTK needs a Python older than 3.7, which jobs cannot run on.")
    add_tensorflow_conda_package = AbsentMethod("Use add_pip_package('tensorflow==...').")
    add_tensorflow_pip_package = AbsentMethod("Use add_pip_package('tensorflow==...').")
    conda_channels = AbsentProperty(_FILES)
    get_default_number_of_packages = AbsentMethod("There are no packages by default.")
    merge_requirements = AbsentMethod("Use add_pip_package for each.")
    pip_options = AbsentProperty(_INDEX)
    remove_channel = AbsentMethod(_FILES)
    remove_pip_option = AbsentMethod(_INDEX)
    save_to_file = AbsentMethod("Use save(path).")
    sdk_origin_url = AbsentMethod(_INDEX)
    set_pip_index_url = AbsentMethod(_INDEX)
    set_pip_option = AbsentMethod(_INDEX)
    set_pip_requirements = AbsentMethod("Use add_pip_package for each.")


def package_list(argument: str, packages: Any) -> "List[str]":
    """``packages`` as a list of text.

    Raises:
        UserErrorException: it is not a list of text; the message names ``argument``.
    """
    if packages is None:
        return []
    if not isinstance(packages, (list, tuple)):
        raise UserErrorException("%s must be a list such as ['numpy'], not %r." % (argument, packages))
    for package in packages:
        _checked(argument, package)
    return list(packages)


def package_name(requirement: str) -> str:
    """The project a requirement or match specification names, normalised."""
    bare = requirement.split("::")[-1]
    match = _NAME.match(bare)
    return re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else bare.strip()


def _checked(argument: str, package: Any) -> None:
    if not isinstance(package, str) or not package.strip() or "\n" in package:
        raise UserErrorException("%s has %r; each must be one package as text, such as 'numpy==1.26'." % (
            argument, package))  # fmt: skip


def _yaml(text: str) -> str:
    return text if re.match(r"[A-Za-z0-9][A-Za-z0-9._=<>!~-]*\Z", text) else "'%s'" % text.replace("'", "''")
