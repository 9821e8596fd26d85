"""Which interpreter a package list gets: newest first, wheels first, the first in which the whole list resolves.

A list that resolves in the newest interpreter, as most do, is resolved once. Only when it does not are older ones
tried, then those that uv could download; packages that have wheels for none of them are allowed to be built, and in
the last round all are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from windlassd.envs._aged import newest_python
from windlassd.envs._compile import Compiler, Extra, Python
from windlassd.envs._cuda import without_cuda
from windlassd.envs._downloads import Download
from windlassd.envs._era import of_its_time
from windlassd.envs._index import IndexSettings
from windlassd.envs._requirements import Wanted, requirement_name
from windlassd.envs._resolved import Resolved, chosen
from windlassd.envs._uv import run_uv
from windlassd.envs._uv_errors import UvFailed
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.interpreters import Interpreter

_MOST_SOURCE_ROUNDS = 10
_MOST_REASONS = 4


@dataclass(frozen=True)
class Later:
    """The Pythons that are not on this machine."""

    listed: Callable[[], Sequence[Download]] = tuple
    """Those of which the request may get one, newest first."""
    fetch: Callable[[Download, Work], Interpreter] | None = None


def resolve(
    want: Wanted,
    candidates: Sequence[Interpreter],
    index: IndexSettings,
    work: Work,
    later: Later | None = None,
    uv: Callable[..., str] = run_uv,
) -> Resolved:
    """The list in the first interpreter where all of it fits.

    Args:
        want: The list.
        candidates: Installed interpreters of versions that are allowed, best first.
        index: The settings in force.
        work: Where lines go, and when to give up.
        later: What may be downloaded when it fits in none of them.
        uv: Runs uv as ``run_uv`` does, where the interpreters are.

    Raises:
        EnvironmentFailed: it fits in none; says what was tried.
    """
    compiler = Compiler(want, index, work, uv)
    ordered, aged = _by_age(candidates, want.requirements)
    search = _Search(want, ordered, compiler, work, later or Later(), aged)
    found = search.run()
    found = of_its_time(found, search.compiler, fell_back=bool(search.failures or aged))
    return without_cuda(found, search.compiler, search.untried())


@dataclass
class _Search:
    want: Wanted
    candidates: list[Interpreter]
    compiler: Compiler
    work: Work
    later: Later
    aged: str | None
    """Why not the newest comes first."""
    failures: list[tuple[Python, UvFailed]] = field(default_factory=list)
    undownloaded: EnvironmentFailed | None = None

    def run(self) -> Resolved:
        named = not any(map(_nameless_source, self.want.requirements))
        source = set(self.want.source) | {n for n in map(_name_of_source, self.want.requirements) if n}
        found = (self._rounds(source) or self._downloaded(source) or self._brought_built(source)) if named else None
        if found:
            return found
        if not self.candidates:
            self._fetch_newest()
        if not self.failures or any(failure.unbuilt for _, failure in self.failures):
            for python in self.candidates:
                if found := self._try(python, None):
                    return found
        raise self._error()

    def untried(self) -> Sequence[Interpreter]:
        """Candidates of which it is not known that the list does not fit them."""
        failed = {python.version for python, _ in self.failures}
        return [python for python in self.candidates if python.version not in failed]

    def _rounds(self, source: set[str]) -> Resolved | None:
        """The list in an installed interpreter with wheels, built only where a project has wheels for no Python.

        ``source`` grows by those.
        """
        last: dict[str, tuple[Interpreter, UvFailed]] = {}
        for _ in range(_MOST_SOURCE_ROUNDS):
            for python in self.candidates:
                before = last.get(python.version)
                if before and not (before[1].unbuilt and set(before[1].unbuilt) <= source):
                    continue  # what was missing for it still is
                if before and self._lacks_others(python, source):
                    continue
                if found := self._try(python, source):
                    return found
                last[python.version] = (python, self.failures[-1][1])
            nowhere = self._nowhere(list(last.values())) - source
            if not nowhere:
                return None
            source |= nowhere
        return None

    def _lacks_others(self, python: Interpreter, source: set[str]) -> bool:
        """Whether other pins do not fit there either: then nothing needs to be built to know that."""
        others = [text for text in self.want.requirements if "==" in text and requirement_name(text) not in source]
        failure = self.compiler.alone(python, others, set()) if others else None
        if failure:
            self.failures.append((python, failure))
        return failure is not None

    def _nowhere(self, failures: Sequence[tuple[Interpreter, UvFailed]]) -> set[str]:
        """Names of what was missed and has wheels for no Python that can be had."""
        missed: dict[str, set[str]] = {}
        texts: dict[str, str] = {}
        for python, failure in failures:
            for name in failure.unbuilt:
                missed.setdefault(name, set()).add(python.version)
            texts.update({requirement_name(text): text for text in failure.unwheeled})
        return {name for name, at in missed.items() if not self._has_wheels(name, texts.get(name, name), at)}

    def _has_wheels(self, name: str, text: str, but: set[str]) -> bool:
        """Whether ``text`` has wheels for some Python other than those of the versions ``but``."""
        asked = next((item for item in self.want.requirements if requirement_name(item) == name), text)
        pythons: Sequence[Python] = [*self.later.listed()[::-1], *self.candidates[::-1]]  # old pins: oldest first
        return any(self.compiler.alone(item, [asked], set()) is None for item in pythons if item.version not in but)

    def _downloaded(self, source: set[str]) -> Resolved | None:
        """The list in a Python that uv downloads: only when it is known that it fits there."""
        if self.candidates and not any(failure.by_python for _, failure in self.failures):
            return None
        for download in self.later.listed():
            if not self._try(download, source):
                continue
            python = self._fetch(download)
            return self._try(python, source) if python else None
        return None

    def _brought_built(self, source: set[str]) -> Resolved | None:
        """The list in an interpreter that lacks wheels only of what its packages bring along: that is built."""
        own = {requirement_name(text) for text in self.want.requirements}
        for python in self.candidates:
            missing = {name for item, f in self.failures if item.version == python.version for name in f.unbuilt}
            built = set(source)
            while missing - built and not (missing - source) & own:
                built |= missing
                if found := self._try(python, built):
                    return found
                missing = set(self.failures[-1][1].unbuilt)
        return None

    def _fetch_newest(self) -> None:
        for download in self.later.listed()[:1]:
            if python := self._fetch(download):
                self.candidates.append(python)

    def _fetch(self, download: Download) -> Interpreter | None:
        if self.later.fetch is None or self.undownloaded:
            return None
        try:
            return self.later.fetch(download, self.work)
        except EnvironmentFailed as problem:
            self.undownloaded = problem
            self.work.log(problem.message)
            return None

    def _try(self, python: Python, source: set[str] | None) -> Resolved | None:
        """The list in ``python``, built from source only where it is in ``source`` (None: all may be)."""
        try:
            pins, left_out = self.compiler.resolved(python, source)
        except UvFailed as failure:
            if failure.hopeless:
                raise
            self.failures.append((python, failure))
            lacking = f"no wheels of {', '.join(failure.unwheeled)}" if failure.unwheeled else failure.reason
            self.work.log(f"Python {python.version}: {lacking}")
            return None
        if isinstance(python, Download):
            return Resolved(Interpreter("", python.version, "cpython"), pins, left_out, ())
        self.work.log(f"Resolved {len(pins)} package{'s' * (len(pins) != 1)} for Python {python.version}.")
        return Resolved(python, pins, left_out, (chosen(python, self._why(python, pins, source)),), source=source)

    def _why(self, python: Interpreter, pins: Sequence[str], source: set[str] | None) -> str:
        """What made this the choice, where it was not the first try; empty else."""
        failures = [(item.version, failure) for item, failure in self.failures if item.version != python.version]
        others = list(dict.fromkeys(version for version, _ in failures))
        missing = list(dict.fromkeys(text for _, failure in failures for text in failure.unwheeled))
        built = sorted((source or set()) & {requirement_name(pin) for pin in pins})
        lacking = f" ({', '.join(missing[:3])}{', …' if missing[3:] else ''} without wheels there)" if missing else ""
        parts = [self.aged] if self.aged else []
        parts += [f"the list does not fit {', '.join(others)}{lacking}"] if others else []
        parts += [f"built from source: {', '.join(built)}"] if built else []
        parts += ["what has no wheels is built from source"] if source is None and self.failures else []
        return "; ".join(parts) + "." if parts else ""

    def _error(self) -> EnvironmentFailed:
        """The reason of the newest interpreter in the last round, and in one sentence what else was tried."""
        if not self.candidates and self.undownloaded:
            return self.undownloaded
        newest = self.candidates[0]
        failure = [f for python, f in self.failures if python.version == newest.version][-1]
        versions = list(dict.fromkeys(python.version for python, _ in self.failures))
        self.work.log(failure.said)
        said = [failure.message]
        if reasons := _reasons(self.failures):
            said = ["No Python has all of the list:", *reasons, "Loosen one of these versions, or leave it out."]
        elif len(versions) > 1:
            said.append(f"Tried: Python {', '.join(versions)}; wheels first, then builds from source.")
        if self.undownloaded:
            said.append(self.undownloaded.message)
        whole = EnvironmentFailed("\n".join(said)) if said[1:] else failure
        whole.build_failed = any(problem.build_failed for _, problem in self.failures)
        return whole


def _by_age(candidates: Sequence[Interpreter], requirements: Sequence[str]) -> tuple[list[Interpreter], str | None]:
    """The interpreters, those first that known old releases in the list run on, and a sentence if that moved any."""
    limit = newest_python(requirements)
    old = [item for item in candidates if limit and item.numbers[:2] <= limit[0]]
    if limit is None or not old or len(old) == len(candidates):
        return list(candidates), None
    why = f"{limit[1]} runs on Python up to {limit[0][0]}.{limit[0][1]}, whatever its files claim"
    return [*old, *(item for item in candidates if item not in old)], why


def _reasons(failures: Sequence[tuple[Python, UvFailed]]) -> Sequence[str]:
    """For each thing that is wrong, on which Pythons, with what there is to say of it."""
    last = {python.version: failure for python, failure in failures}
    told: list[str] = []
    for brief in list(dict.fromkeys(failure.brief for failure in last.values()))[:_MOST_REASONS]:
        same = [version for version, failure in last.items() if failure.brief == brief]
        told += [f"  Python {', '.join(same)}: {brief}", *(f"  {line}" for line in last[same[0]].details)]
    return told if len({failure.brief for failure in last.values()}) > 1 else ()


def _name_of_source(requirement: str) -> str:
    """The name of a requirement such as ``name @ git+https://…`` that only a build can satisfy."""
    name, at, address = requirement.partition("@")
    return requirement_name(name) if at and "://" in address and not _is_wheel(address) else ""


def _nameless_source(requirement: str) -> bool:
    """True for a bare address or path of something to build, of which uv alone learns the name."""
    return not requirement_name(requirement) and not _is_wheel(requirement)


def _is_wheel(address: str) -> bool:
    return address.strip().split(" ")[0].split("#")[0].endswith(".whl")


def option_lines(want: Wanted, extra: Extra) -> Iterator[str]:
    """What a lock carries beside its pins: the request's index options, build constraints and options for uv."""
    yield from want.options
    yield from (f"{BUILD_CONSTRAINT}{text}" for text in want.build_constraints)
    given = extra.options
    yield from (f"{OPTION}{name} {value}" for name, value in zip(given[::2], given[1::2], strict=True))


BUILD_CONSTRAINT = "--build-constraint "
OPTION = "--uv "
"""Before an option that uv takes on its command line, not in a file."""
