"""``CondaDependencies``: the packages of an environment; v1's ``azureml.core.conda_dependencies``."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Iterable, List, Optional, Pattern

from windlass._details import conda_dictionary
from windlass._not_offered import AbsentMethod, not_offered
from windlass.errors import UserErrorException

PYTHON_DEFAULT_VERSION: "Optional[str]" = None
"""None: the newest Python in which all packages can be had."""
CPU = "cpu"
GPU = "gpu"
DEFAULT_FILE = "conda_dependencies.yml"
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)*\Z|[a-z][a-z0-9+]*://\S+\Z|/\S+\Z")
_LOGIN = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]*(?=@)|(?<=http://)[^/\s@]+(?=@)|(?<=https://)[^/\s@]+(?=@)")
_CHANNEL_LOGIN = re.compile(r"(?<=://)[^/\s]*(?=@)|(?<=/t/)[^/\s]+")
_VERSION = re.compile(r"\d+(\.\d+){0,2}\Z")
_PYTHON = re.compile(r"(?:\S+::)?python\s*={0,2}\s*(\d+(?:\.\d+){0,2})(?:\.\*)?(?:=\S*)?\Z")
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_ARCHIVES = (".whl", ".tar.gz", ".zip")
_PATH = re.compile(r"\.{0,2}/\S*\Z|\.{1,2}\Z|[^\s@:;]+/\Z|[^\s@:;]*\.(?:whl|zip|tar\.gz)\Z")
_OPTIONS = ("--index-url", "--extra-index-url", "--find-links", "--no-index")


class CondaDependencies:
    """Packages from conda and pip, and the Python version.

    Args:
        conda_dependencies_file_path: A conda environment file to start from.

    Raises:
        UserErrorException: the file cannot be read or holds what no environment can have.
    """

    DEFAULT_NUMBER_OF_CONDA_PACKAGES = 0
    DEFAULT_NUMBER_OF_PIP_PACKAGES = 0

    def __init__(self, conda_dependencies_file_path: "Optional[str]" = None) -> None:
        self._python_version = PYTHON_DEFAULT_VERSION
        self._conda: "List[str]" = []
        self._pip: "List[str]" = []
        self._options: "List[str]" = []
        self._channels: "List[str]" = []
        self._variables: "Dict[str, str]" = {}
        if conda_dependencies_file_path is not None:
            from windlass._conda_file import read_conda_file

            self._fill(*read_conda_file(conda_dependencies_file_path))

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
        made = CondaDependencies()
        made._fill([], package_list("conda_packages", conda_packages), package_list("pip_packages", pip_packages))
        if pip_indexurl is not None:
            made.set_pip_index_url(pip_indexurl)
        if python_version is not None:
            made.set_python_version(python_version)
        return made

    def _fill(
        self, channels: "List[str]", conda: "List[str]", pip: "List[str]",
        variables: "Optional[Dict[str, str]]" = None,
    ) -> None:  # fmt: skip
        for channel in channels:
            self.add_channel(channel)
        self._add(conda, pip)
        self._variables.update(variables or {})

    def _add(self, conda: "List[str]", pip: "List[str]") -> None:
        """Add lists as they are: a project named twice in one list is the resolver's to judge, not ours to mend."""
        conda_before, pip_before = self._conda, self._pip
        for package in conda:
            self.add_conda_package(package)
        for package in pip:
            if package.lstrip().startswith("-"):
                self.set_pip_option(package)
            else:
                self.add_pip_package(package)
        conda_new = [p for p in dict.fromkeys(conda) if not _names_python(p)]
        pip_new = [_located(p) for p in dict.fromkeys(pip) if not p.lstrip().startswith("-")]
        self._conda = _replaced(conda_before, conda_new)
        self._pip = _replaced(pip_before, pip_new)

    @staticmethod
    def _from_dictionary(data: Any, where: str) -> "CondaDependencies":
        """Dependencies of a conda environment file that was read already."""
        from windlass._conda_file import parts

        made = CondaDependencies()
        made._fill(*parts(data, where))
        return made

    def _pip_lines(self) -> "List[str]":
        """Index options and requirements, as they go over the wire."""
        return self._options + self._pip

    def add_pip_package(self, pip_package: str) -> None:
        """Add a requirement in pip's syntax; one of the same project is replaced."""
        _checked("pip_package", pip_package)
        if pip_package.lstrip().startswith("-"):
            raise UserErrorException("%r is an option of pip, no package; use set_pip_option()." % pip_package)
        self._pip = [known for known in self._pip if package_name(known) != package_name(pip_package)]
        self._pip.append(_located(pip_package))

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda match specification; one of the same package is replaced. ``python=3.9`` sets the version."""
        _checked("conda_package", conda_package)
        if _names_python(conda_package):
            match = _PYTHON.match(conda_package.strip())
            if match:
                self.set_python_version(match.group(1))
            return
        if package_name(conda_package) == "python":
            self._python_version = None
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
        self.remove_conda_package("python")  # a range that was asked for before

    def get_python_version(self) -> "Optional[str]":
        """The Python version asked for; None when any will do."""
        return self._python_version

    def add_channel(self, channel: str) -> None:
        """Take conda packages from this channel, too: a name such as ``conda-forge``, an address or a folder.

        Raises:
            UserErrorException: it is none, or holds credentials.
        """
        if isinstance(channel, str) and "://" in channel:
            _refuse_login("channel", channel, _CHANNEL_LOGIN)
        if not isinstance(channel, str) or not _CHANNEL.match(channel.strip()):
            raise UserErrorException(
                "channel=%r is neither a name such as 'conda-forge' nor an address such as 'file:///my/channel'."
                % (channel,)
            )
        if channel.strip() not in self._channels:
            self._channels.append(channel.strip())

    def remove_channel(self, channel: str) -> None:
        """Take out the channel, if it is there."""
        self._channels = [known for known in self._channels if known != channel]

    def set_pip_index_url(self, index_url: str) -> None:
        """Resolve the pip packages on this index instead of the server's. Credentials belong into ~/.netrc."""
        self.set_pip_option("--index-url %s" % index_url)

    def set_pip_option(self, pip_option: str) -> None:
        """Add an option that says where packages come from; one of the same name is replaced.

        Raises:
            NotOffered: it is another option of pip.
        """
        _checked("pip_option", pip_option)
        name = _option_name(pip_option)
        if name not in _OPTIONS:
            offered = "Offered are: %s." % ", ".join(_OPTIONS)
            if name in ("-r", "--requirement"):
                offered = "Use Environment.from_pip_requirements(), or pip_requirements_file of an estimator."
            raise not_offered("The pip option %r" % pip_option, offered)
        if name != "--extra-index-url":
            self.remove_pip_option(pip_option)
        self._options.append(_located_option(pip_option.strip()))

    def remove_pip_option(self, pip_option: str) -> None:
        """Take out the option of that name, if it is there."""
        name = _option_name(pip_option)
        self._options = [known for known in self._options if _option_name(known) != name]

    def set_pip_requirements(self, pip_requirements: "List[str]") -> None:
        """Replace all pip packages."""
        self._pip = list(dict.fromkeys(package_list("pip_requirements", pip_requirements)))

    def add_tensorflow_pip_package(self, core_type: str = CPU, version: "Optional[str]" = None) -> None:
        """Add TensorFlow's package for ``core_type`` (``cpu`` or ``gpu``)."""
        self.add_pip_package(_tensorflow(core_type) + ("==%s" % version if version else ""))

    def add_tensorflow_conda_package(self, core_type: str = CPU, version: "Optional[str]" = None) -> None:
        """Add TensorFlow as a conda package for ``core_type`` (``cpu`` or ``gpu``)."""
        self.add_conda_package(_tensorflow(core_type) + ("=%s" % version if version else ""))

    @staticmethod
    def merge_requirements(requirements: "Iterable[str]") -> "List[str]":
        """``requirements`` with the clauses for one project in one line each."""
        merged: "Dict[str, List[str]]" = {}
        for requirement in requirements:
            match = re.match(r"\s*([A-Za-z0-9._-]+(?:\[[^]]*\])?)\s*(.*?)\s*\Z", requirement)
            head, clauses = (match.group(1), match.group(2)) if match else (requirement.strip(), "")
            found = merged.setdefault(head, [])
            if clauses and clauses not in found:
                found.append(clauses)
        return [head + ",".join(clauses) for head, clauses in merged.items()]

    def get_default_number_of_packages(self) -> int:
        """How many packages are there without being asked for: none."""
        return 0

    @property
    def conda_channels(self) -> "Iterable[str]":
        """Channels, in the order given."""
        return tuple(self._channels)

    @property
    def pip_options(self) -> "Iterable[str]":
        """Options that say where pip's packages come from."""
        return tuple(self._options)

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
        return conda_dictionary(self._python_version, self._conda, self._pip_lines(), self._channels, self._variables)

    def serialize_to_string(self) -> str:
        """The packages as the text of a conda environment file (YAML)."""
        from windlass import _yaml

        return _yaml.dump(self.as_dict())

    def save(self, path: "Optional[str]" = None) -> str:
        """Write ``serialize_to_string()`` to ``path`` (default ``conda_dependencies.yml``); returns the path."""
        target = path or DEFAULT_FILE
        with open(target, "w", encoding="utf-8") as f:
            f.write(self.serialize_to_string())
        return target

    def save_to_file(self, base_directory: str, conda_file_path: "Optional[str]" = None) -> str:
        """Write the file to ``conda_file_path`` below ``base_directory``; returns that relative path."""
        name = conda_file_path or DEFAULT_FILE
        os.makedirs(os.path.dirname(os.path.join(base_directory, name)) or ".", exist_ok=True)
        self.save(os.path.join(base_directory, name))
        return name

    def __repr__(self) -> str:
        return "CondaDependencies(python_version=%r, conda_packages=%r, pip_packages=%r)" % (
            self._python_version, self._conda, self._pip,
        )  # fmt: skip

    add_cntk_package = AbsentMethod("CNTK needs a Python older than 3.7, which jobs cannot run on.")
    sdk_origin_url = AbsentMethod("Windlass comes with the job; no index is needed for it.")


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
    """The project a requirement or match specification names, normalised; for a bare wheel that of its file's name."""
    bare = requirement.split("::")[-1]
    if bare.endswith(".whl") and " @ " not in bare:
        bare = bare.rpartition("/")[2].split("-")[0]
    elif "://" in bare.split("@")[0]:
        return bare.strip()
    match = _NAME.match(bare)
    return re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else bare.strip()


def _replaced(before: "List[str]", new: "List[str]") -> "List[str]":
    """``before`` without the projects that ``new`` names, then ``new``."""
    names = {package_name(package) for package in new}
    return [package for package in before if package_name(package) not in names] + new


def _checked(argument: str, package: Any) -> None:
    if not isinstance(package, str) or not package.strip() or "\n" in package:
        raise UserErrorException("%s has %r; each must be one package as text, such as 'numpy==1.26'." % (
            argument, package))  # fmt: skip
    _refuse_login(argument, package)


def _refuse_login(argument: str, text: str, login: "Pattern[str]" = _LOGIN) -> None:
    """Raise UserErrorException for an address with credentials, which it does not repeat."""
    if login.search(text):
        raise UserErrorException(
            "%s %r holds credentials, which would be written down with the environment and its runs. Leave them out "
            "here and put them into ~/.netrc of the user who runs the server." % (argument, login.sub("****", text))
        )


def _located(package: str) -> str:
    """``package``, the path of a file as a whole path: the server that installs it runs elsewhere.

    Raises:
        UserErrorException: it is the path of a folder, or from here one of no file.
    """
    path = os.path.expanduser(package.strip())
    if path.endswith(_ARCHIVES) and os.path.isfile(path):
        return os.path.abspath(path)
    if not _PATH.match(path):
        return package
    if os.path.isdir(path):
        raise UserErrorException(
            "The pip package %r (%s) is a folder. Put the code into source_directory, or make a wheel of it: "
            "Environment.add_private_pip_wheel()." % (package, os.path.abspath(path))
        )
    if not os.path.isabs(path):
        raise UserErrorException(
            "The pip package %r is a path, and there is no file %s. Give the path of a wheel, or a package such as "
            "'numpy==1.26'." % (package, os.path.abspath(path))
        )
    return package


def _located_option(option: str) -> str:
    """``option``, with the whole path of a folder of packages."""
    head, _, value = option.replace("=", " ", 1).partition(" ")
    if _option_name(head) != "--find-links" or "://" in value or not value:
        return option
    return "%s %s" % (head, os.path.abspath(os.path.expanduser(value.strip())))


def _names_python(conda_package: str) -> bool:
    """True for Python itself, unless a range of versions is asked for, which only the resolver can choose from."""
    bare = conda_package.strip()
    return package_name(bare) == "python" and (_PYTHON.match(bare) is not None or bare.split("::")[-1] == "python")


def _option_name(option: str) -> str:
    name = option.strip().replace("=", " ").split(" ")[0]
    return {"-i": "--index-url", "-f": "--find-links"}.get(name, name)


def _tensorflow(core_type: str) -> str:
    if core_type not in (CPU, GPU):
        raise UserErrorException("core_type=%r must be %r or %r." % (core_type, CPU, GPU))
    return "tensorflow" if core_type == CPU else "tensorflow-gpu"
