"""Which of a list's conda packages go to PyPI, which to the channels: by name alone, so that it costs nothing."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from windlassd.envs import _conda_names as names
from windlassd.envs._conda_channels import refuse
from windlassd.envs.base import EnvironmentFailed

_ENTRY = re.compile(
    r"(?:(?P<channel>[^\s\[\]]+?)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})(?P<rest>(?:\s*[=<>!~\[]|\s).*|)\Z"
)
_VERSION = re.compile(r"(==|>=|<=|!=|~=|=|>|<)?\s*v?(\d[\w.!+-]*)(\*|\.\*)?\Z")
_BRACKET = re.compile(r"\[\s*version\s*=\s*(['\"]?)(?P<version>[^'\"\]]*)\1\s*\]\Z")
_ALWAYS_PYPI = ("pip", "setuptools", "wheel")
"""They come with any Python, and a channel may lack them."""


@dataclass(frozen=True)
class CondaEntry:
    """One line of ``conda_packages``."""

    text: str
    channel: str | None
    """The channel that the line names, with ``::``."""
    name: str
    """In lower case."""
    rest: str
    """Version and build, as conda writes them."""

    @property
    def match(self) -> str:
        """Without the channel."""
        return self.name + (self.rest if self.rest[:1] in "[=<>!~" else f" {self.rest}")


@dataclass
class Split:
    """Where each entry goes."""

    pythons: list[str] = field(default_factory=list)
    """Version clauses for Python."""
    pypi: list[str] = field(default_factory=list)
    """Requirements in pip's syntax."""
    asked: dict[str, CondaEntry] = field(default_factory=dict)
    """PyPI's name → entry for those of ``pypi`` that PyPI may not know; such a one is the channels'."""
    conda: list[CondaEntry] = field(default_factory=list)
    """For the channels."""
    limits: list[CondaEntry] = field(default_factory=list)
    """What holds for a conda package of that name if another one brings it."""
    notes: list[str] = field(default_factory=list)


@functools.lru_cache(maxsize=256)
def split(
    packages: tuple[str, ...], others: frozenset[str], *, from_conda: bool, moved: frozenset[str] = frozenset()
) -> Split:
    """Where each of ``packages`` goes. Remembered: it is asked several times at each submit, so change nothing in it.

    Args:
        packages: Conda match specifications.
        others: PyPI's names of what else is asked for: they decide what CUDA libraries are left to.
        from_conda: All to the channels.
        moved: Names that turned out to be the channels'.

    Raises:
        EnvironmentFailed: an entry cannot be read.
    """
    entries = [parse(text.strip()) for text in packages if text.strip()]
    known = {*others, *(pypi_name(entry.name) for entry in entries)}
    with_framework = not names.FRAMEWORKS.isdisjoint(known)
    found = Split()
    for entry in entries:
        _place(entry, found, with_framework, from_conda, moved)
    if taken := [entry.text for entry in found.limits if entry.name not in names.BUILD_CHOICES]:
        found.notes.append(
            f"From PyPI, which has them as well: {', '.join(taken)}. With conda_packages_from=conda they come from the "
            "channels."
        )
    if found.conda:
        why = " (conda_packages_from=conda)" if from_conda else ""
        found.notes.append(f"From the conda channels{why}: {', '.join(entry.text for entry in found.conda)}.")
    return found


def parse(entry: str) -> CondaEntry:
    """An entry in its parts; what stands behind the name is not looked at.

    Raises:
        EnvironmentFailed: it does not begin with a name, or its channel holds credentials.
    """
    match = _ENTRY.match(entry)
    if not match:
        raise EnvironmentFailed(f"conda_packages: {entry!r} cannot be read.", _HOW)
    if match["channel"]:
        refuse(match["channel"])
    return CondaEntry(entry, match["channel"], match["name"].lower(), match["rest"].strip())


def pypi_name(name: str) -> str:
    """What PyPI calls the conda package, if it has it."""
    return names.PYPI_NAMES.get(name, name)


def clauses(entry: CondaEntry) -> str | None:
    """The entry's version in pip's words, the build left out; None when pip has no words for it."""
    bracket = _BRACKET.match(entry.rest)
    if entry.rest.startswith("[") and not bracket:
        return None
    version = bracket["version"] if bracket else entry.rest
    try:
        return ",".join(_clauses(entry.text, version))
    except EnvironmentFailed:
        return None


def _place(entry: CondaEntry, found: Split, with_framework: bool, from_conda: bool, moved: Collection[str]) -> None:
    said = clauses(entry)
    if entry.name == "python":
        if said is None:
            raise EnvironmentFailed(f"conda_packages: the version of {entry.text!r} cannot be read.", _HOW)
        found.pythons += [said] if said else []
    elif entry.name.startswith("azureml-"):
        found.notes.append(f"{entry.text}: satisfied by Windlass, not installed.")
    elif entry.name in _ALWAYS_PYPI:
        found.pypi.append(entry.name + (said or ""))
    elif from_conda or entry.name in moved or (entry.channel and entry.channel.lower() not in names.PUBLIC):
        found.conda.append(entry)
    elif entry.name in names.BUILD_CHOICES:
        found.limits += [entry] if entry.rest else []
        found.notes.append(f"{entry.text}: left out, since it only chooses how conda's own packages are built.")
    elif names.is_cuda(entry.name) and with_framework:
        found.notes.append(
            f"{entry.text}: left out; PyPI's framework wheels bring the CUDA libraries that they need, or take the "
            "machine's. With conda_packages_from=conda it is installed."
        )
    elif names.is_cuda(entry.name) or names.is_native(entry.name) or said is None:
        found.conda.append(entry)
    else:
        found.pypi.append(pypi_name(entry.name) + said)
        found.limits.append(entry)
        if not names.is_shared(entry.name):
            found.asked[_normal(pypi_name(entry.name))] = entry


def _clauses(entry: str, version: str) -> Iterator[str]:
    version = version.split()[0] if version.count(" ") and not re.match(r"[<>=!~]+\s|.*,\s", version) else version
    version = (
        re.sub(r"\A(=?=?[^=<>!~]+)=[^=]*\Z", r"\1", version) if version.count("=") > 1 else version
    )  # build string
    for clause in (part.strip() for part in version.split(",") if part.strip() not in ("", "*", "=*", "==*")):
        match = _VERSION.match(clause)
        if not match:
            raise EnvironmentFailed(f"conda_packages: the version {version!r} of {entry!r} cannot be read.", _HOW)
        operator, number, star = match.groups()
        if operator in (None, "=") or star:
            # Conda's single '=' means "begins with"; so does a bare number.
            yield f"{'!=' if operator == '!=' else '=='}{number.rstrip('.')}.*"
        else:
            yield operator + number


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


_HOW = "Write it like 'scikit-learn', 'scikit-learn=0.24', 'scikit-learn>=1.0,<2' or 'channel::package=1.0=build'."
