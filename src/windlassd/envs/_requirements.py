"""What an environment spec asks for: pip requirements, conda packages by PyPI's names or the channels', the Python."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from windlass import settings
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.frameworks import Chosen
from windlassd.envs._conda_channels import refuse
from windlassd.envs._conda_split import Split, split
from windlassd.envs._credentials import refuse_credentials
from windlassd.envs._frameworks import chosen
from windlassd.envs.base import EnvironmentFailed
from windlassd.envs.target import Target

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_FILE = re.compile(r"(?:^|[/=])([\w.-]+?)-\d[^/]*\.(?:whl|tar\.gz|zip)(?:#.*)?\Z")
_OPTIONS = {"-i": "--index-url", "--index-url": "--index-url", "--extra-index-url": "--extra-index-url",
            "-f": "--find-links", "--find-links": "--find-links", "--no-index": "--no-index"}  # fmt: skip
_RENAMED = {"sklearn": "scikit-learn"}
"""Projects whose files hold nothing but a pointer to another, and refuse to be built by now."""


@dataclass(frozen=True)
class Wanted:
    """A spec in PyPI's terms, and what is left to conda's channels."""

    python: str | None
    """Version clauses, such as ``3.9`` or ``>=3.8,<3.10``."""
    requirements: tuple[str, ...]
    options: tuple[str, ...]
    """Index options among the pip packages, in their long form."""
    notes: tuple[str, ...]
    source: tuple[str, ...] = ()
    """Projects that are known to have no wheels."""
    build_constraints: tuple[str, ...] = ()
    """Requirements on what packages are built with."""
    conda: Split = field(default_factory=Split)
    """Where each of the conda packages goes."""
    target: Target | None = None
    """Where it will run; None: on this machine."""


def wanted(spec: EnvironmentSpec, moved: Collection[str] = (), target: Target | None = None) -> Wanted:
    """What ``spec`` asks for.

    Args:
        spec: The list.
        moved: Names of conda packages that PyPI turned out not to have.
        target: Where it will run; None: on this machine.

    Raises:
        EnvironmentFailed: an entry cannot be read, or carries credentials.
    """
    pythons = [spec.python_version] if spec.python_version else []
    for channel in spec.channels:
        refuse(channel)
    conda = _split(spec, moved, target)
    pythons += conda.pythons
    requirements = list(conda.pypi)
    options: list[str] = []
    notes = list(conda.notes)
    for entry in (text.strip() for text in spec.pip_packages):
        refuse_credentials(entry)
        if len(entry.splitlines()) > 1:  # its second line would go to uv as it is, be it an option
            raise EnvironmentFailed(f"pip_packages: {entry!r} has several lines.", "Give each package by itself.")
        if entry.startswith("-"):
            options.append(_option(entry))
        elif requirement_name(entry) in _RENAMED:
            requirements.append(_RENAMED[requirement_name(entry)])
            notes.append(f"{entry}: {requirements[-1]} is installed, which is meant by it; it holds nothing itself.")
        elif entry and not entry.startswith("#"):
            requirements.append(entry)
    for requirement in [text for text in requirements if is_azureml(text)]:
        requirements.remove(requirement)
        notes.append(f"{requirement}: satisfied by Windlass, not installed.")
    framework = chosen(spec, target)
    if framework:
        pythons += [framework.python] if framework.python else []
        requirements += [framework.requirement, *_along(framework, requirements)]
    return Wanted(
        python=",".join(dict.fromkeys(pythons)) or None,
        requirements=tuple(dict.fromkeys(requirements)),
        options=tuple(options),
        notes=tuple(dict.fromkeys(notes)),
        source=framework.source if framework else (),
        build_constraints=framework.build_constraints if framework else (),
        conda=conda,
        target=target,
    )


def refused_packages(spec: EnvironmentSpec, why: str) -> dict[str, str]:
    """Feature → reason for packages in a list of which nothing is installed; ``azureml-*`` is no fault."""
    pip = [text for text in spec.pip_packages if not is_azureml(text)]
    conda = [text for text in spec.conda_packages if requirement_name(text) not in ("python", "pip")]
    lists = {"pip_packages": pip, "conda_packages": conda}
    return {name: f"{', '.join(packages)}: {why}" for name, packages in lists.items() if packages}


def requirement_name(requirement: str) -> str:
    """The normalized name that a requirement begins with; empty for a bare path or URL."""
    match = _NAME.match(requirement)
    if not match or re.match(r"[\w+.-]*://|[^\s@\[;=<>!~]*/", requirement):
        return ""
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def is_azureml(requirement: str) -> bool:
    """True for what Windlass stands in for, also as a file or an address of one."""
    file = _FILE.search(requirement)
    name = requirement_name(requirement) or (requirement_name(file.group(1)) if file else "")
    return name == "azureml" or name.startswith("azureml-")


def _along(framework: Chosen, requirements: list[str]) -> Iterator[str]:
    """What comes with the framework, but for projects of which the user asked a version himself."""
    own = {requirement_name(text) for text in requirements if re.search(r"[=<>~]|://", text)}
    return (text for text in framework.along if requirement_name(text) not in own)


def _split(spec: EnvironmentSpec, moved: Collection[str], target: Target | None = None) -> Split:
    if not spec.conda_packages:
        return Split()
    framework = chosen(spec, target)
    along = (framework.requirement,) if framework else ()
    others = frozenset(requirement_name(text) for text in (*spec.pip_packages, *along))
    from_conda = settings.get("conda_packages_from") == "conda"
    return split(spec.conda_packages, others, from_conda=from_conda, moved=frozenset(moved))


def needs_channels(spec: EnvironmentSpec) -> bool:
    """Whether conda's channels may have to be asked for ``spec``: False for lists that PyPI surely has all of.

    Raises:
        EnvironmentFailed: an entry cannot be read.
    """
    found = _split(spec, ())
    return bool(found.conda or found.asked)


def _option(entry: str) -> str:
    name, _, value = entry.replace("=", " ", 1).partition(" ")
    if name not in _OPTIONS or (name == "--no-index") == bool(value.strip()):
        raise EnvironmentFailed(
            f"pip_packages: the option {entry!r} is not taken.",
            f"Allowed are {', '.join(sorted(set(_OPTIONS.values())))}; list the packages of a file one by one.",
        )
    return f"{_OPTIONS[name]} {value.strip()}".strip()
