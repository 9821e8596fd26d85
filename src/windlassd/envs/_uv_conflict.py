"""Who wants what, out of uv's proof that a package list has no solution."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from windlassd.envs._requirements import requirement_name

_PREMISES = re.compile(r"[Bb]ecause (.+?), we can conclude")
_DEPENDS = re.compile(r"(.+?) depends? on (.+)\Z")
_REQUIRED = re.compile(r"you require (.+)\Z")
_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*(?:\[[^]]*\])?(?:[<>=!~].*)?\Z")
_LONGEST = 80


@dataclass(frozen=True)
class Conflict:
    """Requirements that exclude each other."""

    over: str
    """The project of which different versions are wanted."""
    asked: Sequence[str]
    """The user's own requirements that lead to it."""
    lines: Sequence[str]
    """For each: how it comes to want what."""


@dataclass(frozen=True)
class _Demand:
    who: str
    """A project; empty for the user."""
    what: str


def conflict(error: str, requirements: Sequence[str]) -> Conflict | None:
    """The conflict that uv's text proves; None when it tells of none, or in words that are not known here."""
    demands = list(dict.fromkeys(_demands(error)))
    wanted: dict[str, list[_Demand]] = {}
    for demand in demands:
        wanted.setdefault(requirement_name(demand.what), []).append(demand)
    fought = [name for name, by in wanted.items() if name and len({demand.what for demand in by}) > 1]
    if not fought:
        return None
    over = fought[0]
    chains = [chain for demand in wanted[over] if (chain := _chain(demand, demands))]
    if len({chain[0] for chain in chains}) < 2:
        return None
    asked = [_as_asked(chain[0], requirements) for chain in chains]
    lines = [_line(own, chain) for own, chain in zip(asked, chains, strict=True)]
    return Conflict(over, tuple(dict.fromkeys(asked)), tuple(dict.fromkeys(lines)))


def wanted_by(error: str, name: str, requirements: Sequence[str]) -> str:
    """``, which 'a' needs,`` for a project that the user did not ask for himself; empty else."""
    demands = list(_demands(error))
    for demand in demands:
        if requirement_name(demand.what) == name and (chain := _chain(demand, demands)) and len(chain) > 1:
            return f", which {_as_asked(chain[0], requirements)!r} needs,"
    return ""


def _demands(error: str) -> Iterator[_Demand]:
    """What uv's premises say, each conclusion left out: it follows from them."""
    text = " ".join(error.partition("\nhint:")[0].split())
    for premises in _PREMISES.findall(text):
        who: str | None = None
        for premise in re.split(r",? and ", premises):
            if depends := _DEPENDS.match(premise):
                who, what = _project(depends.group(1)), depends.group(2)
            elif required := _REQUIRED.match(premise):
                who, what = "", required.group(1)
            elif who is not None and _PLAIN.match(premise):
                what = premise  # a second object of the verb before
            else:
                who = None
                continue
            if who is not None:
                yield _Demand(who, _listed(what))


def _project(subject: str) -> str:
    return requirement_name(re.sub(r"\A(?:all versions of|all of:|one of:) ", "", subject))


def _listed(what: str) -> str:
    """``a<1 or a>2`` for uv's lists."""
    alternatives = what.removeprefix("one of:").split() if what.startswith("one of:") else [what]
    return " or ".join(alternatives)


def _chain(demand: _Demand, demands: Sequence[_Demand]) -> tuple[str, ...]:
    """From what the user asked for to what is wanted at its end; empty when it does not begin with the user."""
    chain = [demand.what]
    who, seen = demand.who, set[str]()
    while who:
        if who in seen:
            return ()
        seen.add(who)
        above = [other for other in demands if requirement_name(other.what) == who]
        if not above:
            return ()
        best = min(above, key=lambda other: other.who != "")
        chain.insert(0, best.what)
        who = best.who
    return tuple(chain)


def _as_asked(what: str, requirements: Sequence[str]) -> str:
    """As it stands in the user's list, when one line of it can be meant."""
    same = [text for text in requirements if requirement_name(text) == requirement_name(what)]
    return same[0] if len(same) == 1 else what


def _line(own: str, chain: Sequence[str]) -> str:
    if len(chain) == 1:
        return f"{_short(own)!r} is asked for"
    return f"{_short(own)!r} needs " + ", which needs ".join(map(_short, chain[1:]))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
