"""One process, or several equal ones, on one node."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from windlass.specs.launch import LaunchSpec
from windlassd.agent.environ import expand, process_of
from windlassd.blobs.run_folder import DRIVER_LOG, RunFolder


def ranks(launch: LaunchSpec, folder: RunFolder, variables: Callable[[int], Mapping[str, str]]) -> list[dict[str, Any]]:
    """The keeper's rank list: argv, environment and log of each process."""
    found = []
    for rank in range(launch.process_count):
        env = dict(variables(rank))
        argv = command(launch, folder, env)
        found.append({"argv": argv, "env": env, "log": folder.log(log_name(launch, rank))})
    return found


def command(launch: LaunchSpec, folder: RunFolder, env: Mapping[str, str]) -> list[str]:
    """The words to execute: the script in its interpreter, or the user's command, without a shell unless asked for."""
    argv = words(launch, env)
    if not launch.command or launch.shell:
        return argv
    # exec takes a path; the environment's own folder is the first of PATH, so that "python" is its interpreter.
    place = os.path.join(folder.work, argv[0]) if "/" in argv[0] else argv[0]
    return [shutil.which(place, path=env.get("PATH")) or argv[0], *argv[1:]]


def words(launch: LaunchSpec, env: Mapping[str, str]) -> list[str]:
    """As ``command``, with a program of the user's by the name it was given."""
    arguments = [expand(a, env) for a in launch.arguments]
    if not launch.command:
        return [launch.python, launch.script, *arguments]
    if launch.shell:
        return ["/bin/sh", "-c", *launch.command]
    return [*(expand(word, env) for word in launch.command), *arguments]


def log_name(launch: LaunchSpec, rank: int) -> str:
    """Name of the log of the node's process ``rank``: v1's, with its number in the whole run when there are several."""
    root, suffix = os.path.splitext(DRIVER_LOG)
    alone = launch.node_count * launch.process_count == 1
    return DRIVER_LOG if alone else f"{root}_{process_of(launch, rank)}{suffix}"
