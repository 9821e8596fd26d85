"""Read a requirements file into a list of packages and of options that say where they come from."""

from __future__ import annotations

import os
import re
from typing import List, Tuple

from windlass.errors import UserErrorException

_COMMENT = re.compile(r"(^|\s)#.*$")
_OPTION = re.compile(r"(--?[A-Za-z-]+?)(?:[ =]\s*|(?<=\A-[a-z]))(.*)\Z")
_LONG = {"-i": "--index-url", "--pypi-url": "--index-url", "-f": "--find-links", "-r": "--requirement"}
_INDEX = ("--index-url", "--extra-index-url", "--find-links", "--no-index")
_INSTEAD = {
    "-e": "Put the code into source_directory, or make a wheel of it: Environment.add_private_pip_wheel().",
    "--editable": "Put the code into source_directory, or make a wheel of it: Environment.add_private_pip_wheel().",
    "-c": "Put the pins among the packages.",
    "--constraint": "Put the pins among the packages.",
    "--require-hashes": "Leave it out: what is installed is always checked against hashes, these or the index's.",
    "--trusted-host": "It is set where the server runs (UV_INSECURE_HOST).",
    "--pre": "Name the version that you want, such as numpy>=2.0rc1.",
}
_PATH = re.compile(r"\.{0,2}/|[^\s@:]*\.(?:whl|zip|tar\.gz)\Z")


def read_requirements(path: str) -> "List[str]":
    """The requirements and index options of a file and of those it includes with ``-r``, in order.

    Files that it names are found from its own folder, and stand in the list with their whole paths.

    Raises:
        UserErrorException: a file cannot be read, includes itself, or holds another option of pip.
    """
    return _read(path, ())


def _read(path: str, above: "Tuple[str, ...]") -> "List[str]":
    place = os.path.abspath(os.path.expanduser(path))
    if place in above:
        raise UserErrorException("The requirements file %s includes itself." % place)
    try:
        with open(place, encoding="utf-8-sig") as f:
            text = f.read()
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", e)
        raise UserErrorException("The requirements file %s cannot be read: %s." % (place, reason)) from e
    found: "List[str]" = []
    for line in text.replace("\\\n", " ").splitlines():
        found += read_line(line, place, above)
    return found


def read_line(line: str, place: str, above: "Tuple[str, ...]" = ()) -> "List[str]":
    """What one line of the file ``place`` asks for; raises as ``read_requirements``."""
    wanted = _COMMENT.sub("", line).strip()
    if wanted.startswith("-"):
        return _option(wanted, place, above)
    return [_requirement(wanted, place)] if wanted else []


def _option(line: str, place: str, above: "Tuple[str, ...]") -> "List[str]":
    match = _OPTION.match(line)
    given, value = match.groups() if match else (line, "")
    name = _LONG.get(given, given)
    if name == "--requirement" and value:
        return _read(os.path.join(os.path.dirname(place), value), above + (place,))
    if name in _INDEX and bool(value) != (name == "--no-index"):
        local = name == "--find-links" and "://" not in value
        return ["%s %s" % (name, _found_from(place, value) if local else value)] if value else [name]
    instead = _INSTEAD.get(name, "Leave it out. Taken are -r, %s." % ", ".join(_INDEX))
    raise UserErrorException(
        "The line %r of %s is an option of pip that a job's environment does not take. %s" % (line, place, instead)
    )


def _requirement(line: str, place: str) -> str:
    """A package; the path of a file as a whole path."""
    first, space, rest = line.partition(" ")
    if not _PATH.match(first) or "://" in first or rest.lstrip().startswith("@"):
        return line
    file = _found_from(place, first)
    if os.path.isdir(file):
        raise UserErrorException("The line %r of %s names a folder. %s" % (line, place, _INSTEAD["-e"]))
    if not os.path.isfile(file):
        raise UserErrorException("The line %r of %s names the file %s, which is not there." % (line, place, file))
    return file + space + rest


def _found_from(place: str, path: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(place), os.path.expanduser(path)))
