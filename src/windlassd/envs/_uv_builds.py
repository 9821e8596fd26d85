"""Why a package could not be built from its sources, out of what uv passes on from the build."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST_LINE = 300
_MOST_LINES = 6
_OUTPUT = re.compile(r"^ *(?:\[stderr\]|\[stdout\]|--- stderr|--- stdout)$.*?(?=^hint:|^ *cause: |\Z)", re.M | re.S)
_WHEEL = "Ask for a version that has a wheel for this Python, or for another python_version"
_COMPILER = (
    r"\[Errno 2\] No such file or directory: '([\w.+-]*(?:gcc|g\+\+|cc|c\+\+|clang|gfortran|nvcc)[\w.+-]*)'",
    r"command '([^']*(?:gcc|g\+\+|cc|clang|gfortran)[^']*)' failed: No such file or directory",
    r"unable to execute '?([\w.+-]*(?:gcc|g\+\+|cc|clang|gfortran)[\w.+-]*)'?: No such file",
    r"(?:Unknown compiler|No CMAKE_)(\w+?)(?:\(s\)|_COMPILER)",
    r"linker `(\w+)` not found", r"\b([gc]?cc|g\+\+): (?:command )?not found",
)  # fmt: skip


@dataclass(frozen=True)
class BuildError:
    """Why it failed, what to do about it, and the lines that say so."""

    why: str
    step: str
    lines: Sequence[str]


# Pattern → why, and what may help beside another version. Group 1 goes in for {}.
_KINDS: tuple[tuple[str, str, str], ...] = (
    *((pattern, "it needs a compiler ({}), which this machine does not have",
       "; or install a compiler where the server runs (Debian: apt-get install build-essential)")
      for pattern in _COMPILER),
    (r"Killed signal terminated program (\w+)|fatal error: (Killed)|\b(cc1plus|cc1|ld): out of memory",
     "memory ran out while it was compiled ({})", "; or build it where there is more memory"),
    (r"fatal error: (Python\.h): No such file", "the header files of this Python ({}) are missing",
     "; or install them where the server runs (Debian: apt-get install python3-dev)"),
    (r"fatal error: (\S+): No such file", "the header file {} of some library is missing",
     "; or install the library with its development files where the server runs"),
    (r"(use_2to3) is invalid", "it was made for setuptools before 58 ({})",
     "; or set UV_BUILD_CONSTRAINT to a file with the line 'setuptools<58' where the server runs"),
    (r"No module named '?(pkg_resources)", "it was made for setuptools before 82 (it imports {})",
     "; or set UV_BUILD_CONSTRAINT to a file with the line 'setuptools<81' where the server runs"),
    (r"No module named '?(distutils|imp)\b", "it was made for a Python before 3.12 (it imports {})", ""),
    (r"No module named '?([\w.]+)", "its build imports {} without saying that it needs it", ""),
    (r"(Missing parentheses in call to 'print'|invalid syntax)", "it is not written for this Python ({})", ""),
    (r"([\w-]+[_-]config)(?: executable)?:?(?: command)? not found",
     "it needs the program {}, which this machine does not have", "; or install it where the server runs"),
)  # fmt: skip


def without_output(error: str) -> str:
    """uv's own words alone."""
    return _OUTPUT.sub("", error)


def build_error(error: str) -> BuildError:
    """The reason in ``error``, uv's text on a failed build."""
    output = "\n".join(match.group() for match in _OUTPUT.finditer(error))
    for pattern, why, more in _KINDS:
        if found := re.search(pattern, output):
            what = next((group for group in found.groups() if group), "")
            line = output[output.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0]
            return BuildError(why.replace("{}", what), f"{_WHEEL}{more}.", [_cut(line)])
    return BuildError("its build fails", f"{_WHEEL}.", _telling(output or error))


def _telling(output: str) -> Sequence[str]:
    """The last lines that tell of an error, or else the last lines."""
    lines = [line for line in output.splitlines() if line.strip() and line.strip() not in ("[stderr]", "[stdout]")]
    telling = [line for line in lines if re.search(r"error|fatal|denied|failed", line, re.IGNORECASE)]
    return [_cut(line) for line in (telling or lines)[-_MOST_LINES:]]


def _cut(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"
