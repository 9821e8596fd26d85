"""Find and read the ``config.json`` that names a workspace (SPEC section 1)."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, NamedTuple, Optional

from windlass._not_offered import not_offered
from windlass.errors import UserErrorException

FILE_NAME = "config.json"
FOLDERS = ("", ".azureml", "aml_config")


class WorkspaceConfig(NamedTuple):
    """What a configuration file says. The Azure names are None where it says nothing of them."""

    path: str
    name: str
    subscription_id: "Optional[str]"
    resource_group: "Optional[str]"


def find(path: "Optional[str]") -> "Optional[WorkspaceConfig]":
    """The first configuration in the places of ``places(path)``, or None.

    A ``config.json`` of some other tool (no key of ours in it) is passed over.

    Raises:
        UserErrorException: ``path`` does not exist, or a file is not readable JSON; the message names it.
    """
    if path is not None:
        path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        if os.path.isfile(path):
            config = _read(path)
            if config is None:
                raise UserErrorException(
                    '%s names no workspace: it needs {"workspace": name}, or an Azure config\'s workspace_name.' % path
                )
            return config
        if not os.path.isdir(path):
            raise UserErrorException("path=%r is neither a file nor a folder." % path)
    for place in places(path):
        if os.path.isfile(place):
            config = _read(place)
            if config is not None:
                return config
    return None


def places(path: "Optional[str]") -> "List[str]":
    """The files that are looked for, in order: in the given path, the current folder, and each parent."""
    here = os.getcwd()
    start = path or here
    folders = [start, here]
    while os.path.dirname(start) != start:
        start = os.path.dirname(start)
        folders.append(start)
    found: "List[str]" = []
    for folder in folders:
        for sub in FOLDERS:
            place = os.path.join(folder, sub, FILE_NAME)
            if place not in found:
                found.append(place)
    return found


def write(path: str, values: "Dict[str, Any]") -> None:
    """Write a configuration to ``path``, making its folder."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = "%s.%d" % (path, os.getpid())
    with open(beside, "w", encoding="utf-8") as f:
        json.dump(values, f, indent=4)
        f.write("\n")
    os.replace(beside, path)


def _read(path: str) -> "Optional[WorkspaceConfig]":
    try:
        with open(path, encoding="utf-8-sig") as f:
            values = json.load(f)
    except OSError as e:
        raise UserErrorException("The workspace configuration %s cannot be read: %s." % (path, e.strerror)) from e
    except ValueError as e:
        raise UserErrorException(
            "The workspace configuration %s is not valid JSON: %s. Mend it, or delete it and run `windlass init`."
            % (path, e)
        ) from e
    if not isinstance(values, dict):
        raise UserErrorException("The workspace configuration %s must hold one JSON object, not %s." % (
            path, type(values).__name__))  # fmt: skip
    if "server" in values:
        raise not_offered(
            "A team server (%r in %s)" % (values["server"], path), "Use a local workspace: `windlass init`."
        )
    key = "workspace" if "workspace" in values else "workspace_name"
    if key not in values:
        return None
    for name in (key, "subscription_id", "resource_group"):
        if values.get(name) is not None and not isinstance(values[name], str):
            raise UserErrorException("In %s, %s must be text, not %r." % (path, name, values[name]))
    if not values[key]:
        raise UserErrorException("In %s, %s is empty; it must name a workspace." % (path, key))
    return WorkspaceConfig(path, values[key], values.get("subscription_id"), values.get("resource_group"))
