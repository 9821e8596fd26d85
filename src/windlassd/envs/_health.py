"""Whether an environment's interpreter starts, and is the one that the lock says."""

from __future__ import annotations

import os

from windlassd.envs._index import index_settings
from windlassd.envs._process import run
from windlassd.envs.base import Lock, Work

HEALTH = "import sys; print('%d.%d.%d' % sys.version_info[:3], sys.prefix)"  # nothing that takes time to import


def wrong_with_python(python: str, lock: Lock, prefix: str, work: Work) -> str | None:
    """None when the interpreter of the environment at ``prefix`` is as it should be, else what is wrong with it."""
    done = run([python, "-I", "-B", "-c", HEALTH], index_settings().environment, work)
    return wrong_answer(done.code, done.out, done.err, lock, prefix)


def wrong_answer(code: int, out: str, err: str, lock: Lock, prefix: str) -> str | None:
    """What is wrong with an interpreter that ended like that when it was given ``HEALTH``, or None."""
    if code != 0:
        return f"its interpreter exits with status {code}: {err.strip()[-300:]}"
    version, _, at = out.partition("\n")[0].partition(" ")
    if version != lock.python_version:
        return f"it runs Python {version} where {lock.python_version} was wanted"
    if os.path.realpath(at) != os.path.realpath(prefix):
        return f"its interpreter takes {at} for its home"
    return None
