"""Releases whose metadata uv cannot read, though pip of their days could: what they need, told to uv beforehand."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from windlassd.envs._index import uv_files
from windlassd.envs._requirements import requirement_name

_PANDAS = ("python-dateutil>=2.5.0", "pytz>=2011", "numpy>=1.9.0")  # its own files say pytz (>=2011k)
_KNOWN = {
    "pandas": (("0.23.2", "0.23.3", "0.23.4", "0.24.0", "0.24.1", "0.24.2"), _PANDAS),
}
_ASKED = {"pandas": re.compile(r"\b0\.2[34]\b")}


def uv_config(requirements: Sequence[str], env: Mapping[str, str]) -> str | None:
    """A settings file for uv, the user's with what such releases in the list need; None where there is none of them.

    Args:
        requirements: The list.
        env: uv's environment, which says where the user's file lies.
    """
    names = [name for name in map(requirement_name, requirements) if name in _KNOWN]
    asked = [name for name in names if any(_ASKED[name].search(t) for t in requirements if requirement_name(t) == name)]
    files = [path for path in uv_files(env) if path.endswith(".toml") and os.path.isfile(path)]
    if not asked or len(files) > 1:
        return None  # uv would read only one of the user's files
    own = ""
    if files:
        with open(files[0], encoding="utf-8") as f:
            own = f.read()
    return None if "dependency-metadata" in own else f"dependency-metadata = [{_entries(asked)}]\n{own}"


def _entries(names: Sequence[str]) -> str:
    return ", ".join(
        f'{{name = "{name}", version = "{version}", requires-dist = {list(_KNOWN[name][1])!r}}}'
        for name in names
        for version in _KNOWN[name][0]
    )
