"""What conda's activation would set for a job, found when a prefix is built: nothing is activated when a job starts.

Honoured: ``CONDA_PREFIX``, ``etc/conda/env_vars.d/*.json``, and the variables that ``etc/conda/activate.d/*.sh`` set
when a shell reads them. Functions, aliases and anything else a script does is lost, as is a change of PATH beyond the
prefix's own ``bin``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from windlassd.envs._layout import write_json
from windlassd.envs._process import run
from windlassd.envs.activation import FILE
from windlassd.envs.base import EnvironmentFailed, Work

_SHELLS = ("/bin/bash", "/bin/sh")
_SCRIPT = 'for script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do . "$script" >&2; done; exec env -0'
_SHELLS_OWN = frozenset(("_", "PWD", "OLDPWD", "SHLVL", "PATH", "HOME", "CONDA_SHLVL", "CONDA_PREFIX", "PS1"))
_TIMEOUT_S = 60.0


def write(folder: str, final: str, work: Work) -> Mapping[str, str]:
    """Find out the variables of the prefix in ``folder``, to be used at ``final``, keep them in it, return them."""
    found = {**_of_files(folder, work), **_of_scripts(folder, work)}
    moved = {name: value.replace(folder, final) for name, value in sorted(found.items())}
    if moved:
        work.log(f"Jobs of this environment get what its packages set: {', '.join(moved)}.")
    values = {**moved, "CONDA_PREFIX": final, "CONDA_DEFAULT_ENV": os.path.basename(final), "CONDA_SHLVL": "1"}
    write_json(os.path.join(folder, FILE), values, folder)
    return values


def _of_files(folder: str, work: Work) -> Mapping[str, str]:
    place = os.path.join(folder, "etc", "conda", "env_vars.d")
    found: dict[str, str] = {}
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        try:
            with open(os.path.join(place, name), encoding="utf-8") as f:
                found.update({key: str(value) for key, value in json.load(f).items()})
        except (OSError, ValueError, AttributeError):
            work.log(f"etc/conda/env_vars.d/{name} cannot be read and is left out.")
    return found


def _of_scripts(folder: str, work: Work) -> Mapping[str, str]:
    place = os.path.join(folder, "etc", "conda", "activate.d")
    if not os.path.isdir(place) or not any(name.endswith(".sh") for name in os.listdir(place)):
        return {}
    shell = next((path for path in _SHELLS if os.access(path, os.X_OK)), None)
    if shell is None:
        return {}
    path = os.path.join(folder, "bin") + os.pathsep + os.defpath
    before = {"PATH": path, "HOME": os.path.expanduser("~"), "CONDA_PREFIX": folder, "CONDA_SHLVL": "1"}
    try:
        done = run([shell, "-c", _SCRIPT], before, Work(work.log, work.stop, _TIMEOUT_S))
    except EnvironmentFailed:
        work.log("Scripts in etc/conda/activate.d took too long; what they set is left out.")
        return {}
    if done.code != 0:
        work.log(f"Scripts in etc/conda/activate.d failed, what they set is left out: {done.err.strip()[-300:]}")
        return {}
    pairs = (text.partition("=") for text in done.out.split("\0") if "=" in text)
    return {name: value for name, _, value in pairs if name not in _SHELLS_OWN and before.get(name) != value}
