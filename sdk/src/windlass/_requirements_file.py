"""Read a requirements file into a list of packages."""

from __future__ import annotations

import os
import re
from typing import List, Tuple

from windlass.errors import UserErrorException

_COMMENT = re.compile(r"(^|\s)#.*$")
_NESTED = re.compile(r"(?:-r|--requirement)[ =]?\s*(\S.*)\Z")


def read_requirements(path: str) -> "List[str]":
    """The requirements of a file and of those it includes with ``-r``, in order.

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
        wanted = _COMMENT.sub("", line).strip()
        nested = _NESTED.match(wanted)
        if nested:
            found += _read(os.path.join(os.path.dirname(place), nested.group(1)), above + (place,))
        elif wanted.startswith("-"):
            raise UserErrorException(
                "The line %r of %s is an option of pip that a job's environment does not take. Leave it out; package "
                "indexes are set where the server runs (UV_INDEX_URL)." % (wanted, place)
            )
        elif wanted:
            found.append(wanted)
    return found
