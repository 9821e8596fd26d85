"""Conda environments of this machine: found and read without conda itself."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from windlass import settings
from windlass._warn import warn
from windlass.errors import UserErrorException, did_you_mean

if TYPE_CHECKING:
    from windlass.conda_dependencies import CondaDependencies

_PROGRAMS = ("conda", "mamba", "micromamba")
_ROOTS = (
    "~/miniconda3", "~/anaconda3", "~/miniforge3", "~/mambaforge", "~/miniconda", "~/anaconda", "~/micromamba",
    "~/.local/share/mamba", "/opt/conda", "/opt/miniconda3", "/opt/anaconda3", "/opt/miniforge3",
)  # fmt: skip
_RC_FILES = ("~/.condarc", "~/.conda/.condarc", "~/.mambarc")
_BASE = "base"
_DIST_INFO = re.compile(r"lib/python3\.\d+/site-packages/[^/]+\.dist-info(?=/)")
_TOKEN = re.compile(r"/t/[^/]+")


class _Package(NamedTuple):
    name: str
    version: str
    channel: Optional[str]


def export(name: str) -> "Optional[CondaDependencies]":
    """All packages of a conda environment in their versions; None, with a warning, when that cannot be told.

    Args:
        name: Its name, ``base``, or the path of its folder.
    """
    prefix = _find(name)
    if prefix is None:
        return None
    try:
        packages, folders = _conda_packages(prefix)
        pip = list(_pip_packages(prefix, folders))
    except (OSError, ValueError, KeyError, _NotExportable) as problem:
        warn("The conda environment %s cannot be exported: %s." % (prefix, problem))
        return None
    return _dependencies(packages, pip)


class _NotExportable(Exception):
    pass


def _find(name: Any) -> "Optional[str]":
    """The folder of an environment."""
    if not isinstance(name, str) or not name:
        raise UserErrorException("conda_environment_name=%r must be the name of a conda environment." % (name,))
    place = os.path.expanduser(name)
    if os.sep in name and _is_environment(place):
        return os.path.abspath(place)
    known = _known()
    if name in known:
        return known[name]
    warn(
        "There is no conda environment %r.%s Found: %s. The path of its folder is taken as well."
        % (name, did_you_mean(name, known), ", ".join(sorted(known)) or "none")
    )
    return None


def _known() -> "Dict[str, str]":
    """Environments by name; of two of one name the first that conda would look for."""
    found: "Dict[str, str]" = {}
    for folder in _environment_folders():
        for prefix in sorted(glob.glob(os.path.join(glob.escape(folder), "*"))):
            if _is_environment(prefix):
                found.setdefault(os.path.basename(prefix), prefix)
    for prefix in _listed():
        if _is_environment(prefix):
            named = os.path.basename(os.path.dirname(prefix)) == "envs"
            found.setdefault(os.path.basename(prefix) if named else _BASE, prefix)
    for root in _roots():
        if _is_environment(root):
            found.setdefault(_BASE, root)
    return found


def _environment_folders() -> "Iterator[str]":
    for file in _RC_FILES:
        yield from _configured(os.path.expanduser(file))
    yield from settings.conda_folders()
    for root in _roots():
        yield os.path.join(root, "envs")
    yield os.path.expanduser("~/.conda/envs")


def _roots() -> "Iterator[str]":
    """Folders that conda may be installed in."""
    programs = [*settings.conda_programs(), *filter(None, map(shutil.which, _PROGRAMS))]
    for program in programs:
        for place in (program, os.path.realpath(program)):
            yield os.path.dirname(os.path.dirname(place))
    yield from (os.path.expanduser(root) for root in _ROOTS)


def _configured(file: str) -> "List[str]":
    """``envs_dirs`` of one of conda's own files; a file that is none says nothing."""
    from windlass import _yaml

    try:
        with open(file, encoding="utf-8") as f:
            data = _yaml.load(f.read(), file)
    except (OSError, ValueError, UserErrorException):
        return []
    folders = data.get("envs_dirs") if isinstance(data, dict) else None
    return [os.path.expanduser(str(folder)) for folder in folders] if isinstance(folders, list) else []


def _listed() -> "List[str]":
    """Prefixes that conda noted when it made them."""
    try:
        with open(os.path.expanduser("~/.conda/environments.txt"), encoding="utf-8") as f:
            return [line.strip() for line in f if line.strip()]
    except OSError:
        return []


def _is_environment(prefix: str) -> bool:
    return os.path.isdir(os.path.join(prefix, "conda-meta"))


def _conda_packages(prefix: str) -> "Tuple[List[_Package], Set[str]]":
    """What conda installed, and the folders in which its Python packages say who they are."""
    found: "List[_Package]" = []
    folders: "Set[str]" = set()
    for file in sorted(glob.glob(os.path.join(glob.escape(prefix), "conda-meta", "*.json"))):
        with open(file, encoding="utf-8") as f:
            data = json.load(f)
        found.append(_Package(str(data["name"]), str(data["version"]), _channel(data.get("channel"))))
        matches = (_DIST_INFO.match(str(path)) for path in data.get("files") or ())
        folders.update(match.group() for match in matches if match)
    return found, folders


def _channel(address: Any) -> "Optional[str]":
    """A channel's address, without platform, token and credentials."""
    if not isinstance(address, str) or not address or address == "pypi":
        return None
    plain = re.sub(r"://[^/@]*@", "://", _TOKEN.sub("", address.rstrip("/")))
    return re.sub(r"/(noarch|linux-[^/]+|osx-[^/]+|win-[^/]+)\Z", "", plain)


def _pip_packages(prefix: str, conda: "Set[str]") -> "Iterator[str]":
    """Requirements for what pip installed beside conda, whose folders are ``conda``."""
    for place in sorted(
        glob.glob(os.path.join(glob.escape(prefix), "lib", "python3.*", "site-packages", "*.dist-info"))
    ):
        if os.path.relpath(place, prefix).replace(os.sep, "/") not in conda:
            name, _, version = os.path.basename(place)[: -len(".dist-info")].partition("-")
            yield _requirement(place, re.sub(r"[-_.]+", "-", name).lower(), version)


def _requirement(place: str, name: str, version: str) -> str:
    origin = _read(place, "direct_url.json")
    data = json.loads(origin) if origin else {}
    if not data:
        return "%s==%s" % (name, version)
    url, vcs = str(data.get("url", "")), data.get("vcs_info")
    if vcs:
        return "%s @ %s+%s@%s" % (name, vcs["vcs"], url, vcs["commit_id"])
    if "dir_info" in data:
        raise _NotExportable("%s was installed from the folder %s; make a wheel of it" % (name, url))
    return "%s @ %s" % (name, url)


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def _dependencies(packages: "List[_Package]", pip: "List[str]") -> "CondaDependencies":
    from windlass.conda_dependencies import CondaDependencies

    made = CondaDependencies.create(
        pip_packages=pip, conda_packages=["%s=%s" % (p.name, p.version) for p in packages]
    )  # python=… among them sets the version
    for channel in dict.fromkeys(package.channel for package in packages if package.channel):
        made.add_channel(channel)
    return made
