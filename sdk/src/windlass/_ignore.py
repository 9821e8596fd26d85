"""Which files of a source folder are left out of its snapshot: ``.amlignore``, else ``.gitignore``, and always some.

The folder of a Dockerfile has a ``.dockerignore`` instead, with rules of its own.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from typing import Iterator, List, NamedTuple, Optional, Pattern, Sequence

AMLIGNORE, GITIGNORE, DOCKERIGNORE = ".amlignore", ".gitignore", ".dockerignore"
_VERSION_CONTROL = {".git", ".hg", ".svn"}
_CACHES = {
    "__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".tox", ".nox", ".eggs",
    ".cache", ".hypothesis",
}  # fmt: skip
_SECRET_FOLDERS = {".aws", ".azure", ".azureml", ".ssh", ".gnupg", ".kube"}
_SECRET_FILES = (
    ".env", ".env.*", "*.pem", "*.pfx", "*.p12", ".netrc", ".pypirc", ".git-credentials", "id_rsa", "id_dsa",
    "id_ecdsa", "id_ed25519",
)  # fmt: skip
_ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")


class Rule(NamedTuple):
    """One line of an ignore file."""

    base: str
    """Folder of the file, relative to the source folder, with a slash at the end unless empty."""
    line: str
    pattern: "Pattern[str]"
    negated: bool
    folders_only: bool
    source: str


def always_left_out(name: str, is_folder: bool) -> "Optional[str]":
    """Why an entry of this name is never taken, or None."""
    if name in _VERSION_CONTROL:
        return "version control"
    if is_folder and name in _CACHES:
        return "a cache"
    if name in _SECRET_FOLDERS or any(fnmatchcase(name, secret) for secret in _SECRET_FILES):
        return "it may hold secrets"
    return None


def is_environment(names: "Sequence[str]") -> bool:
    """True when a folder with these entries is a virtual or conda environment."""
    return any(mark in names for mark in _ENVIRONMENT_MARKS)


def ignore_file_name(root: str) -> str:
    """The kind of ignore file that counts in ``root``: ``.amlignore`` if it has one, else ``.gitignore``."""
    return AMLIGNORE if os.path.isfile(os.path.join(root, AMLIGNORE)) else GITIGNORE


def read_rules(path: str, base: str) -> "List[Rule]":
    """The rules of the ignore file at ``path``, which lies in folder ``base`` of the source folder."""
    with open(path, encoding="utf-8", errors="surrogateescape") as f:
        lines = f.read().splitlines()
    rules = []
    for line in lines:
        rule = _parse(line, base, os.path.basename(path))
        if rule is not None:
            rules.append(rule)
    return rules


def ignored_by(rules: "Sequence[Rule]", path: str, is_folder: bool) -> "Optional[Rule]":
    """The rule that leaves ``path`` out, or None; as in git the last rule that matches decides."""
    for rule in reversed(rules):
        if rule.folders_only and not is_folder:
            continue
        if path.startswith(rule.base) and rule.pattern.match(path[len(rule.base) :]):
            return None if rule.negated else rule
    return None


def docker_rules(root: str, dockerfile: str) -> "Optional[List[Rule]]":
    """The rules of ``<dockerfile>.dockerignore``, else of ``.dockerignore`` in ``root``; None when there is neither.

    Args:
        root: The folder that the Dockerfile is built in.
        dockerfile: Its path in it.
    """
    for name in (dockerfile + DOCKERIGNORE, DOCKERIGNORE):
        path = os.path.join(root, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8-sig", errors="surrogateescape") as f:
                return [rule for line in f.read().splitlines() for rule in _docker_rule(line, name)]
    return None


def left_out_of_context(rules: "Sequence[Rule]", path: str) -> "Optional[Rule]":
    """The rule that keeps ``path`` out of a Dockerfile's folder, or None: the last that names it or a folder above."""
    parts = path.split("/")
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    for rule in reversed(rules):
        if any(rule.pattern.match(place) for place in above):
            return None if rule.negated else rule
    return None


def _docker_rule(line: str, source: str) -> "Iterator[Rule]":
    """Such a line counts from the folder's top, whatever stands before and after it."""
    text = line.strip()
    if not text or text.startswith("#"):
        return
    body = text[1:].strip() if text.startswith("!") else text
    body = os.path.normpath(body).lstrip("/")
    if body not in ("", "."):
        yield Rule("", line, re.compile(_translate(body) + r"\Z", re.DOTALL), text.startswith("!"), False, source)


def _parse(line: str, base: str, source: str) -> "Optional[Rule]":
    text = line.rstrip("\r\n")
    while text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1]
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    body = text[1:] if negated else text
    if body.startswith("\\") and body[1:2] in "#!":
        body = body[1:]
    folders_only = body.endswith("/")
    body = body.rstrip("/") if folders_only else body
    if not body:
        return None
    anchored = "/" in body
    regex = _translate(body.lstrip("/") if body.startswith("/") else body)
    if not anchored:
        regex = "(?:.*/)?" + regex
    return Rule(base, line, re.compile(regex + r"\Z", re.DOTALL), negated, folders_only, source)


def _translate(glob: str) -> str:
    """A git pattern as a regular expression over paths with forward slashes."""
    out, place = [], 0
    while place < len(glob):
        if glob.startswith("**/", place) and (place == 0 or glob[place - 1] == "/"):
            out.append("(?:.*/)?")
            place += 3
        elif glob.startswith("**", place) and place + 2 == len(glob) and glob[place - 1 : place] == "/":
            out.append(".+")
            place += 2
        elif glob[place] == "*":
            while glob.startswith("*", place):
                place += 1
            out.append("[^/]*")
        elif glob[place] == "?":
            out.append("[^/]")
            place += 1
        elif glob[place] == "[":
            piece, place = _bracket(glob, place)
            out.append(piece)
        elif glob[place] == "\\" and place + 1 < len(glob):
            out.append(re.escape(glob[place + 1]))
            place += 2
        else:
            out.append(re.escape(glob[place]))
            place += 1
    return "".join(out)


def _bracket(glob: str, place: int) -> "tuple[str, int]":
    end = glob.find("]", place + 2 if glob[place + 1 : place + 2] not in ("!", "^") else place + 3)
    if end < 0:
        return re.escape("["), place + 1
    inner = glob[place + 1 : end]
    negated = inner[:1] in ("!", "^")
    body = (inner[1:] if negated else inner).replace("\\", "\\\\").replace("[", "\\[")
    try:
        re.compile("[%s]" % body)
    except re.error:  # such as the range [z-a]: git matches nothing with it
        return "(?!)", end + 1
    return ("[^/%s]" if negated else "(?!/)[%s]") % body, end + 1
