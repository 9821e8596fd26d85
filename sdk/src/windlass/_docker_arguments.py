"""Arguments of ``docker run``, as v1's ``arguments`` lists hold them, in Windlass's own terms."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Optional, Tuple

from windlass.errors import UserErrorException, did_you_mean
from windlass.specs.container import ContainerOptions

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\Z", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_GPUS = re.compile(r"all\Z|(?:device=)?\d+(?:,\d+)*\Z")
_ULIMIT = re.compile(r"[a-z]+=-?\d+(?::-?\d+)?\Z")
_LEAST_MEMORY = 6 << 20
_SHORT = {"-m": "--memory", "-v": "--volume", "-e": "--env"}
_SAME = {"--net": "--network"}
TAKEN = (
    "Taken are --cpus, --env (-e), --gpus, --init, --ipc, --memory (-m), --network (--net), --rm, --shm-size, --ulimit "
    "and --volume (-v)."
)


@dataclass(frozen=True)
class Parsed:
    """What a list of arguments asks for."""

    options: ContainerOptions = field(default_factory=ContainerOptions)
    variables: "Dict[str, str]" = field(default_factory=dict)
    """Environment variables, from ``--env``."""


class UnknownOption(Exception):
    """An option that jobs' containers do not take; its text is the option and, where there is one, a near name."""


def parse(where: str, given: Any, before: "Optional[Parsed]" = None) -> Parsed:
    """What a list of arguments asks for, over what was asked ``before``; ``where`` names it in messages.

    Raises:
        UserErrorException: a value cannot be one.
        UnknownOption: jobs' containers do not take an option.
    """
    found = before or Parsed()
    for name, value in _pairs(where, given):
        found = _OPTIONS[name](found, "%s %s" % (where, name), value)
    return found


def size_bytes(where: str, value: Any) -> int:
    """A size such as ``'2g'`` or ``'512m'`` in bytes.

    Raises:
        UserErrorException: it is none; the message begins with ``where``.
    """
    match = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = int(float(match.group(1)) * 1024 ** _POWER[match.group(2).lower()]) if match else 0
    if found <= 0:
        raise UserErrorException("%s=%r is no size. Write a number with b, k, m or g, such as '2g'." % (where, value))
    return found


def _pairs(where: str, given: Any) -> "List[Tuple[str, str]]":
    """(long name, value) of each option; ``--init`` and ``--rm`` hold anyway and are left out."""
    words = _words(where, given)
    found: "List[Tuple[str, str]]" = []
    while words:
        word = words.pop(0)
        name, equals, value = _split(word)
        if name in ("--init", "--rm") and not equals:
            continue
        if name not in _OPTIONS:
            near = did_you_mean(name, _OPTIONS).strip()
            raise UnknownOption("%r%s" % (word, " (%s)" % near if near else ""))
        if not equals:
            if not words:
                raise UserErrorException("%s: %s lacks its value." % (where, word))
            value = words.pop(0)
        found.append((name, value))
    return found


def _words(where: str, given: Any) -> "List[str]":
    if given is None:
        return []
    if isinstance(given, str):
        return shlex.split(given)
    if not isinstance(given, (list, tuple)) or not all(isinstance(item, str) and item for item in given):
        raise UserErrorException(
            "%s must be a list of text such as ['--shm-size', '4g'] or ['--shm-size=4g'], not %r." % (where, given)
        )
    words: "List[str]" = []
    for item in given:
        head, space, rest = item.strip().partition(" ")
        together = space and head.startswith("-") and "=" not in head  # '--shm-size 4g' as one text
        words += [head, rest.strip()] if together else [item]
    return words


def _split(word: str) -> "Tuple[str, bool, str]":
    """(long name, whether a value came with it, the value)."""
    if word[:2] in _SHORT and not word.startswith("--") and len(word) > 2:
        return _SHORT[word[:2]], True, word[2:].lstrip("=") if word[:2] != "-e" else word[2:]
    name, equals, value = word.partition("=")
    name = _SHORT.get(name, name)
    return _SAME.get(name, name), bool(equals), value


def _shm(found: Parsed, where: str, value: str) -> Parsed:
    return replace(found, options=replace(found.options, shm_bytes=size_bytes(where, value)))


def _memory(found: Parsed, where: str, value: str) -> Parsed:
    size = size_bytes(where, value)
    if size < _LEAST_MEMORY:
        raise UserErrorException("%s=%r is too little: a container needs at least 6m." % (where, value))
    return replace(found, options=replace(found.options, memory_bytes=size))


def _cpus(found: Parsed, where: str, value: str) -> Parsed:
    if not re.match(r"\d+(\.\d+)?\Z", value) or float(value) < 0.01:
        raise UserErrorException("%s=%r is no number of cores, such as 2 or 0.5." % (where, value))
    return replace(found, options=replace(found.options, cpus=float(value)))


def _gpus(found: Parsed, where: str, value: str) -> Parsed:
    bare = value.strip("\"'")
    if not _GPUS.match(bare) or bare.isdigit():  # docker reads a bare number as a count
        raise UserErrorException(
            "%s=%r must be 'all' or name devices, such as 'device=0,1'. Without it a job gets the GPUs it was handed."
            % (where, value)
        )
    indices = bare[len("device=") :] if bare.startswith("device=") else bare
    return replace(found, options=replace(found.options, gpus=indices))


def _volume(found: Parsed, where: str, value: str) -> Parsed:
    host, _, rest = value.partition(":")
    inside, _, mode = rest.partition(":")
    if not (host.startswith("/") and inside.startswith("/") and mode in ("", "ro", "rw")):
        raise UserErrorException("%s=%r must be '/on/host:/in/container' or the same with ':ro'." % (where, value))
    entry = "%s:%s%s" % (host, inside, ":ro" if mode == "ro" else "")
    return replace(found, options=replace(found.options, volumes=(*found.options.volumes, entry)))


def _env(found: Parsed, where: str, value: str) -> Parsed:
    name, equals, text = value.partition("=")
    if not name or not equals:
        raise UserErrorException("%s=%r must be NAME=VALUE: variables of this machine do not reach the job." % (
            where, value))  # fmt: skip
    return replace(found, variables=dict(found.variables, **{name: text}))


def _ulimit(found: Parsed, where: str, value: str) -> Parsed:
    if not _ULIMIT.match(value):
        raise UserErrorException("%s=%r must be name=soft or name=soft:hard, such as memlock=-1." % (where, value))
    return replace(found, options=replace(found.options, ulimits=(*found.options.ulimits, value)))


def _ipc(found: Parsed, where: str, value: str) -> Parsed:
    if value != "host":
        raise UserErrorException("%s=%r must be 'host'; without it the container has its own." % (where, value))
    return replace(found, options=replace(found.options, host_ipc=True))


def _network(found: Parsed, where: str, value: str) -> Parsed:
    if value not in ("host", "bridge", "none"):
        raise UserErrorException("%s=%r must be 'host' (the default), 'bridge' or 'none'." % (where, value))
    return replace(found, options=replace(found.options, network=None if value == "host" else value))


_OPTIONS: "Dict[str, Callable[[Parsed, str, str], Parsed]]" = {
    "--cpus": _cpus,
    "--env": _env,
    "--gpus": _gpus,
    "--ipc": _ipc,
    "--memory": _memory,
    "--network": _network,
    "--shm-size": _shm,
    "--ulimit": _ulimit,
    "--volume": _volume,
}
