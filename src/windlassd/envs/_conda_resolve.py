"""What a list asks of conda's channels to the last version: Python and what only they have; the rest is PyPI's."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from windlass import settings
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._compile import Planned
from windlassd.envs._conda_channels import Channels, ChannelSettings, channel_settings, channels
from windlassd.envs._conda_names import PUBLIC
from windlassd.envs._conda_solve import Rattler, Solution
from windlassd.envs._conda_split import CondaEntry, parse
from windlassd.envs._index import index_settings
from windlassd.envs._requirements import Wanted, requirement_name, wanted
from windlassd.envs._resolve import option_lines, resolve
from windlassd.envs._uv_errors import UvFailed, suggestion
from windlassd.envs.base import EnvironmentFailed, Lock, Work
from windlassd.envs.target import Target, manylinux

_PLACE = "conda channels"


@dataclass(frozen=True)
class PrefixLock:
    """What a lock tells of a conda prefix."""

    python: str
    """Its version."""
    lines: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ChannelResolver:
    """Resolves one list.

    Args:
        spec: The list.
        rattler: Asks the channels.
        work: Where lines go, and when to give up.
        glibc: Version of the C library where the prefix will be used, None: this machine's; asked when first needed.
        target: The machines where it will be used, when they are others than this.
    """

    spec: EnvironmentSpec
    rattler: Rattler
    work: Work
    glibc: Callable[[], str | None] = lambda: None
    target: Target | None = None

    def resolve(self, pypi: Callable[[], Lock], locked: Callable[[PrefixLock], Lock]) -> Lock:
        """The lock: of ``pypi`` when nothing of the list is the channels', else ``locked`` of what they have.

        Raises:
            EnvironmentFailed: neither PyPI nor the channels have a package, or they do not fit together.
        """
        own = channel_settings()
        moved = self._of_channels(channels(with_named(self.spec), own), own)
        absent: list[str] = []
        while True:
            want = wanted(self.spec, moved, self.target)
            try:
                return locked(self.prefix(want)) if want.conda.conda else pypi()
            except UvFailed as failure:
                entry = want.conda.asked.get(failure.absent or "")
                if entry is None:
                    raise
                self.work.log(f"{entry.text}: not on the package index, so it is looked for in the channels.")
                moved.add(entry.name)
                absent.append(f"{entry.text!r} is not on the package index.{suggestion(entry.name)}")
            except EnvironmentFailed as failure:
                if not absent:
                    raise
                said = f"{' '.join(absent)} The conda channels: {failure.message}"
                raise EnvironmentFailed(said, transient=failure.transient) from failure

    def prefix(self, want: Wanted) -> PrefixLock:
        """A prefix of Python and what ``want`` leaves to the channels, with what is PyPI's.

        Raises:
            UvFailed: a package is not on PyPI, or does not fit.
            EnvironmentFailed: the channels do not have it.
        """
        own, glibc = channel_settings(), self.glibc()
        searched, work = channels(with_named(self.spec), own), self.work
        asked = [entry.text for entry in want.conda.conda] or ["Python"]
        work.log(f"Solving {', '.join(asked)} with {', '.join(searched.addresses)}.")
        for note in searched.notes:
            work.log(note)
        specs = [*_pythons(want), *want.conda.conda]
        limits = [*want.conda.limits, *_limits(want.requirements)]
        found = self.rattler.solve(
            specs, limits, searched, own, work, others=bool(want.requirements), glibc=glibc, target=self.target
        )
        wheels_for = self.target.uv_platform if self.target else _wheels_for(glibc)
        solution, pins, notes = _with_pins(want, found, wheels_for, work)
        notes = [*notes, *want.notes, f"{len(solution.records)} packages from {', '.join(searched.addresses)}."]
        for note in notes:
            work.log(note)
        lines = (*sorted(record.line for record in solution.records), *pins)
        return PrefixLock(solution.python, lines, (*notes, *searched.notes))

    def _of_channels(self, searched: Channels, own: ChannelSettings) -> set[str]:
        """Names that are the channels' since one that is not public has them: a name on PyPI may be another thing."""
        theirs = [a for a in searched.addresses if a not in {own.address(name) for name in PUBLIC}]
        asked = wanted(self.spec, target=self.target).conda.asked
        if not theirs or not asked:
            return set()
        found = self.rattler.known(
            [e.name for e in asked.values()], replace(searched, addresses=tuple(theirs)), own, self.work, self.target
        )
        for name in sorted(found):
            self.work.log(
                f"{name}: taken from {' or '.join(theirs)}; a package of that name on PyPI may be another one."
            )
        return set(found)


def channels_in_force(spec: EnvironmentSpec) -> dict[str, object]:
    """What of the channels' settings decides which lock ``spec`` gets; no credentials.

    Raises:
        EnvironmentFailed: the settings cannot be read, or a channel cannot be found.
    """
    own = channel_settings()
    return {
        "channels": channels(with_named(spec), own).addresses,
        "priority": own.priority,
        "overrides": own.overrides,
        "from": settings.get("conda_packages_from"),
    }


def with_named(spec: EnvironmentSpec) -> Sequence[str]:
    """The channels of the spec and those that its packages name, which are searched last."""
    named = [parse(text.strip()).channel for text in spec.conda_packages if "::" in text]
    asked = [*spec.channels, *(name for name in named if name and name not in spec.channels)]
    return asked if spec.channels or not named else [*(channel_settings().listed or ("conda-forge",)), *asked]


def _with_pins(
    want: Wanted, found: Sequence[Solution], wheels_for: str | None, work: Work
) -> tuple[Solution, Sequence[str], list[str]]:
    """The first solution in which what is PyPI's fits, its lines for the lock, and what to say of it."""
    if not want.requirements:
        return found[0], (), [f"Python {found[0].python} ({_PLACE})."]
    pythons = [Planned(_PLACE, item.python, "cpython", item.provided, wheels_for) for item in found]
    resolved = resolve(want, pythons, index_settings(), work)
    solution = found[[python.version for python in pythons].index(resolved.python.version)]
    notes = [*resolved.notes, *resolved.satisfied]
    if doubled := [text for text in want.requirements if requirement_name(text) in solution.provided]:
        notes.append(f"{', '.join(doubled)}: the channels bring it along, so it is not installed from PyPI.")
    return solution, (*option_lines(want, resolved.extra), *resolved.pins), notes


def _wheels_for(glibc: str | None) -> str | None:
    """uv's name of the platform with that C library, or with the next older one that it knows; None: this machine."""
    if glibc is None:
        return None
    return manylinux(platform.machine(), glibc)


def _pythons(want: Wanted) -> Sequence[CondaEntry]:
    """Python as the channels are asked for it: the clauses of the list, and nothing that jobs cannot run on."""
    found = [parse("python >=3.7")]
    for clause in (text.strip() for text in (want.python or "").split(",") if text.strip()):
        bare = re.fullmatch(r"=?=?\s*v?(\d+(?:\.\d+)*)(\.\*|\*)?", clause)
        found.append(parse(f"python {bare.group(1)}.*" if bare else f"python {clause}"))
    return found


def _limits(requirements: Sequence[str]) -> Sequence[CondaEntry]:
    """PyPI's requirements as limits on conda packages of those names, where they are plain."""
    plain = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?\s*([=<>!~][^;@ ]*)\Z")
    found = [match for text in requirements if (match := plain.match(text.strip()))]
    starred = re.compile(r"==([^,]*[*])")  # conda writes it without the operator
    return [parse(f"{requirement_name(match[1])} " + starred.sub(r"\1", match[2])) for match in found]
