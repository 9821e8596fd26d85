"""What conda's activation sets for a job: read from its prefix, nothing is activated when a job starts."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping

FILE = "windlass.activation.json"


def variables(python: str) -> Mapping[str, str]:
    """The variables for jobs whose interpreter is ``python``; empty when that lies in no conda prefix.

    Args:
        python: Absolute path, ``bin/python`` of the prefix. In a prefix of the user's own CONDA_PREFIX is all there is.
    """
    prefix = os.path.dirname(os.path.dirname(python))
    return _kept(prefix) if os.path.isdir(os.path.join(prefix, "conda-meta")) else {}


@functools.lru_cache(maxsize=64)
def _kept(prefix: str) -> Mapping[str, str]:
    try:
        with open(os.path.join(prefix, FILE), encoding="utf-8") as f:
            kept = json.load(f)
    except (OSError, ValueError):
        kept = {"CONDA_PREFIX": prefix, "CONDA_SHLVL": "1"}
    return {name: value for name, value in kept.items() if isinstance(value, str)} if isinstance(kept, dict) else {}
