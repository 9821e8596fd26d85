"""What a configuration (estimator, ScriptRunConfig) asks for, before it is checked against the workspace."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Tuple

from windlass._not_offered import not_offered
from windlass._registry_logins import RegistryLogin
from windlass.errors import UserErrorException
from windlass.specs.container import ContainerOptions
from windlass.specs.data import DataSpec
from windlass.specs.environment import EnvironmentSpec

MOST_RETRIES = 1000


@dataclass(frozen=True)
class Job:
    """One job as the user described it. ``*_argument`` are the user's names of the arguments, for messages."""

    source_directory: str
    script: str
    script_argument: str = "entry_script"
    arguments: Tuple[str, ...] = ()
    target: str = "local"
    environment: EnvironmentSpec = field(default_factory=EnvironmentSpec)
    environment_variables: Dict[str, str] = field(default_factory=dict)
    node_count: int = 1
    process_count_per_node: int = 1
    max_run_duration_s: Optional[int] = None
    framework: str = "Python"
    communicator: str = "None"
    data: Tuple[DataSpec, ...] = ()
    command: Tuple[str, ...] = ()
    """What to run instead of ``script``."""
    shell: bool = False
    """True: ``command`` is one text for a shell."""
    vm_size: Optional[str] = None
    """Make a cluster of this size instead of taking ``target``."""
    vm_priority: Optional[str] = None
    use_gpu: bool = False
    """Asked for in so many words, not by the target's size."""
    priority: int = 0
    """Among runs that wait for the same cluster, higher ones are first."""
    max_retries: int = 0
    """How often it is begun anew when a node of it is lost."""
    definition: Dict[str, Any] = field(default_factory=dict)
    """More for ``runDefinition``: shown, never read."""
    container: ContainerOptions = field(default_factory=ContainerOptions)
    logins: Tuple[RegistryLogin, ...] = ()
    """What the server has to know to pull the image."""


def folder_path(source_directory: Any) -> str:
    """The source folder as text; UserErrorException when it is no path."""
    if not isinstance(source_directory, (str, os.PathLike)) or not os.fspath(source_directory):
        raise UserErrorException(
            "source_directory=%r is not the path of a folder; give the folder of your script, such as './src'."
            % (source_directory,)
        )
    return str(os.fspath(source_directory))


def script_path(argument: str, script: Any) -> str:
    """The entry script as text; UserErrorException, naming ``argument``, when it is no path."""
    if not isinstance(script, (str, os.PathLike)) or not os.fspath(script):
        raise UserErrorException(
            "%s=%r: give the path of your script relative to source_directory, such as 'train.py'." % (argument, script)
        )
    return str(os.fspath(script))


def target_name(compute_target: Any) -> str:
    """Name of a compute target given as an object or as text; None is this machine, ``local``.

    Raises:
        UserErrorException: it is neither.
    """
    if compute_target is None:
        return "local"
    name = compute_target if isinstance(compute_target, str) else getattr(compute_target, "name", None)
    if not isinstance(name, str) or not name:
        raise UserErrorException(
            "compute_target=%r is neither a ComputeTarget nor the name of one, such as 'local'." % (compute_target,)
        )
    return name


def count(argument: str, value: Any) -> int:
    """``value`` as a positive whole number.

    Raises:
        UserErrorException: it is not one; the message names ``argument``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserErrorException("%s=%r must be a whole number of at least 1." % (argument, value))
    return value


def priority(argument: str, value: Any) -> int:
    """A place in line as a whole number, 0 for None; higher ones are first.

    Raises:
        UserErrorException: it is none; the message names ``argument``.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserErrorException(
            "%s=%r must be a whole number: runs with a higher one are first in line, 0 is usual." % (argument, value)
        )
    return value


def retries(argument: str, value: Any) -> int:
    """How often a run may be begun anew, as a whole number; 0 for None.

    Raises:
        UserErrorException: it is none; the message names ``argument``.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise UserErrorException(
            "%s=%r must be a whole number from 0 to %d: so often a run whose node is lost is begun anew on another."
            % (argument, value, MOST_RETRIES)
        )
    return value


def duration(argument: str, value: Any) -> "Optional[int]":
    """A longest duration in seconds, or None."""
    return None if value is None else count(argument, value)


def data_of(values: "Iterable[Any]") -> "Tuple[DataSpec, ...]":
    """What the data references, datasets and datastores among ``values`` ask for, each once."""
    found: "List[DataSpec]" = []
    for value in values:
        if hasattr(value, "_argument"):
            spec = value._data()
            if spec not in found:
                found.append(spec)
    return tuple(found)


def argument_text(where: str, value: Any) -> str:
    """One argument as text.

    Raises:
        UserErrorException: it is None or holds what an argument cannot.
        NotOffered: it is some other object of v1.
    """
    if hasattr(value, "_argument"):  # a data reference, dataset or datastore; what it asks for: data_of
        return str(value._argument())
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        value = value.item()
    if isinstance(value, (str, int, float)):
        text = str(value)
        if "\0" in text:
            raise UserErrorException("%s holds a zero byte, which no argument can." % where)
        return text
    if value is None:
        raise UserErrorException("%s is None; give text or a number, or '' for a bare flag." % where)
    raise not_offered(
        "%s of type %s" % (where, type(value).__qualname__), "Give text or a number, such as the path of the data."
    )
