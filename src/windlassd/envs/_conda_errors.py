"""What rattler says when it fails, as one message that names the package or the channel and says what to do."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from windlassd.envs._conda_channels import Channels, public
from windlassd.envs._conda_split import parse
from windlassd.envs.base import EnvironmentFailed

_FULL = re.compile(r"No space left on device|Disk quota exceeded|os error (?:28|122)\b", re.IGNORECASE)
_CLOSED = re.compile(r"no eligible writable layers|Read-only file system", re.IGNORECASE)
_CHANGED = re.compile(r"hash mismatch", re.IGNORECASE)
_REFUSED = re.compile(r"\b(?:401|403) (?:Unauthorized|Forbidden)|authentication", re.IGNORECASE)
_GONE = re.compile(r"\b(?:404|410) (?:Not Found|Gone)|could not find subdir|No such file or directory|Not a directory|"
                   r"invalid channel|failed to parse repodata")  # fmt: skip
_PLACE = re.compile(r"(?:url \(|channel '|file `)((?:\w+://|/)[^)'`]+)")
_IN_CHANNEL = re.compile(r"/(?:noarch|(?:linux|osx|win)-\w+)(?:/.*)?\Z")
_TOO_LONG = re.compile(r"target prefix cannot be longer")
_FETCHED = re.compile(r"failed to fetch (\S+)")
_MOST_LINES = 10
_LOOSEN = "Loosen one of the versions, or add a channel that has others."


def died(code: int, error: str) -> EnvironmentFailed:
    """The error when the solver's process ended without an answer."""
    last = (error.strip().splitlines() or ["it said nothing"])[-1]
    if code == -signal.SIGKILL:
        said = "The conda solver was killed. That is also how the kernel ends a process when memory runs out."
        return EnvironmentFailed(said, "Submit again.", transient=True)
    return EnvironmentFailed(f"The conda solver ended with status {code}: {last}.", "Submit again.", transient=code < 0)


def failure(failed: Mapping[str, Any], channels: Channels | None, asked: Sequence[str]) -> EnvironmentFailed:
    """The error for what the worker answers.

    Args:
        failed: Its answer; credentials are masked in it.
        channels: What was searched.
        asked: The entries that were asked for, as the user wrote them.
    """
    kind, text, name = failed["kind"], failed["text"], failed.get("name", "")
    searched = f"the channels {', '.join(channels.addresses)}" if channels else "its channel"
    if _FULL.search(text):
        step = "Free some space (the environments and their package caches take most) and submit again."
        return _quoted("The disk is full while the environment is made.", text, step, transient=True)
    if _CLOSED.search(text):
        step = "Check the owner and the permissions of the folder environments/conda in the home, then submit again."
        return _quoted("The environment or its package cache cannot be written.", text, step, transient=True)
    if kind == "spec":
        step = "Write it like 'scikit-learn=0.24', 'scikit-learn>=1.0,<2' or 'channel::package=1.0=build'."
        return EnvironmentFailed(f"conda_packages: {name!r} cannot be read: {text}.", step)
    if kind == "unknown":
        return _unknown(failed, searched, asked)
    if kind == "version":
        step = f"There are: {', '.join(failed['versions'])}. Ask for one of these."
        return _quoted(f"No version or build of {name!r} in {searched} is the one that is asked for.", text, step)
    if kind == "unsolvable":
        return _unsolvable(text, searched, asked)
    if kind == "hash" or _CHANGED.search(text):
        return _changed(text, name)
    return _unreachable(text, kind)


def _unknown(failed: Mapping[str, Any], searched: str, asked: Sequence[str]) -> EnvironmentFailed:
    name, near, elsewhere = failed["name"], failed["near"], failed["elsewhere"]
    if name == "python":
        step = (
            "Add a channel that has one, such as 'conda-forge'. Or leave out what only conda has: then a Python of the "
            "machine is taken."
        )
        return EnvironmentFailed(f"There is no Python in {searched}.", step)
    if elsewhere:
        said = f"The package {name!r} is in {searched} for {', '.join(elsewhere)} only, not for this machine."
        return EnvironmentFailed(said, "Leave it out, or ask for another build of it.")
    if name not in {parse(entry).name for entry in asked}:
        said = f"The package {name!r}, which the conda packages need, is not in {searched}."
        return _quoted(said, failed["text"], "Add the channel that has it.")
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    step = "Correct the name, or add the channel that has it."
    return EnvironmentFailed(f"The package {name!r} is not in {searched}.{hint}", step)


def _unsolvable(text: str, searched: str, asked: Sequence[str]) -> EnvironmentFailed:
    parts = [(entry, parse(entry).name) for entry in asked]
    named = [entry for entry, name in parts if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text)]
    which = ", ".join(map(repr, dict.fromkeys(named or asked)))
    step = _LOOSEN
    if "__cuda" in text:
        step = (
            "They need a GPU (__cuda), which this machine does not have; ask for builds for the CPU. To build for "
            "another machine set CONDA_OVERRIDE_CUDA where the server runs."
        )
    return _quoted(f"The conda packages {which} do not fit together in {searched}.", text, step)


def _changed(text: str, name: str) -> EnvironmentFailed:
    match = _FETCHED.search(text)
    which = f" {name or (match.group(1) if match else '')}".rstrip()
    return _quoted(
        f"The conda package{which} is not the one that was locked, or its download was damaged.",
        text,
        "Submit again: the list is then resolved anew. If it stays so, tell whoever runs the channel.",
    )


def _unreachable(text: str, kind: str) -> EnvironmentFailed:
    place = _PLACE.search(text)
    which = f" {_IN_CHANNEL.sub('', public(place.group(1))) if kind == 'channel' else place.group(1)}" if place else ""
    if _TOO_LONG.search(text):
        said = "The path of the environments is too long for a conda package."
        return _quoted(said, text, "Set WINDLASS_HOME to a shorter path.")
    if _REFUSED.search(text):
        step = "Check the login in ~/.netrc or ~/.condarc of the user who runs the server."
        return _quoted(f"The conda channel{which} refuses access.", text, step)
    if _GONE.search(text):
        step = (
            "Check the channel's name: it stands below channel_alias of ~/.condarc where the server runs. A channel "
            "has a folder 'noarch'."
        )
        what = "channel" if kind == "channel" else "package"
        return _quoted(f"The conda {what}{which} does not exist.", text, step)
    step = "Check the network, the channel's address and ~/.condarc where the server runs, then submit again."
    return _quoted(f"The conda channel{which} could not be reached.", text, step, transient=True)


def _quoted(said: str, text: str, step: str, *, transient: bool = False) -> EnvironmentFailed:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES // 2], "…", *lines[-_MOST_LINES // 2 :]]
    quote = "\n".join(f"  {line}" for line in lines)
    return EnvironmentFailed(f"{said} rattler says:\n{quote}\n{step}", transient=transient)
