"""Hashes that the user asks for (``--hash``): uv resolves without a look at them, so the lock has to carry them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from windlassd.envs._requirements import requirement_name
from windlassd.envs.base import EnvironmentFailed

_HASH = re.compile(r"--hash[= ](\w+:[0-9a-fA-F]+)")
_MOST_SHOWN = 4


def with_asked_hashes(pins: Sequence[str], requirements: Sequence[str]) -> Sequence[str]:
    """``pins`` with the hashes that ``requirements`` ask for in place of all that the index tells of.

    Raises:
        EnvironmentFailed: the index has no file of such a hash.
    """
    asked: dict[str, Sequence[str]] = {}
    for text in requirements:
        if hashes := _HASH.findall(text):
            asked[requirement_name(text)] = [value.lower() for value in hashes]
    return [_with_hashes(pin, asked[name]) if (name := requirement_name(pin)) in asked else pin for pin in pins]


def _with_hashes(pin: str, asked: Sequence[str]) -> str:
    package, told = pin.split(" --hash=")[0], _HASH.findall(pin)
    comparable = {text.partition(":")[0] for text in told} & {text.partition(":")[0] for text in asked}
    if comparable and not set(told) & set(asked):
        there = ", ".join(told[:_MOST_SHOWN]) + (", …" if told[_MOST_SHOWN:] else "")
        raise EnvironmentFailed(
            f"The package {package!r} is not the one that is asked for: no file of it on the index has the hash "
            f"{' or '.join(asked)}. There are: {there}.",
            "Correct the --hash of the requirement; if it was right, the file was changed: do not install it.",
        )
    return " ".join([package, *(f"--hash={text}" for text in asked)])
