"""Conda prefixes in images: linked on this machine with the path that they have inside, then put there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from windlassd.envs import _conda_activation, _container_images
from windlassd.envs._conda_prefix import add_pip, link
from windlassd.envs._conda_solve import Rattler
from windlassd.envs._container_session import Session
from windlassd.envs._index import index_settings
from windlassd.envs._install import pip_lines
from windlassd.envs.base import EnvironmentFailed, Lock

_VERSION = re.compile(r"GNU C Library .*version (\d+\.\d+)")
# The library tells its version when it is started, by itself or, where it may not be, by its loader.
_ASK = (
    "for library in /lib/*-linux-gnu/libc.so.6 /lib64/libc.so.6 /usr/lib64/libc.so.6 /lib/libc.so.6; do "
    'for loader in "" /lib64/ld-linux-*.so.2 /lib/ld-linux-*.so.1; do '
    '[ -r "$library" ] && $loader "$library" 2>/dev/null && exit; done; done'
)


def glibc(session: Session, image: str) -> str:
    """Version of the C library of the session's image, such as ``2.36``; ``image`` is what to call that.

    Raises:
        EnvironmentFailed: it has none that conda's packages run on.
    """
    found = _VERSION.search(session.sh(_ASK).out)
    if found is None:
        raise EnvironmentFailed(
            f"Conda packages cannot be put into the image {image}: they need the GNU C library, and none was found in "
            "it.",
            "Take an image with it, such as one of Debian's or Ubuntu's; Alpine's have another.",
        )
    return found.group(1)


def make(session: Session, rattler: Rattler, lock: Lock, prefix: str) -> Mapping[str, str]:
    """Make the locked prefix at ``prefix`` in the session's container; returns what its activation sets for jobs.

    Raises:
        EnvironmentFailed: a package cannot be had or does not fit the others.
    """
    work, index = session.api.work, index_settings()
    folder = session.room("prefix")
    link(rattler, lock, folder, prefix, work)
    variables = _conda_activation.write(folder, prefix, work)
    session.take_in("prefix", prefix)
    python = f"{prefix}/bin/python"
    if pip_lines(lock):
        add_pip(lock, python, index, work, uv=session.uv)
    # All of it, for uv would compile its own part alone. Sources that this Python cannot read, such as templates, are
    # no reason to fail.
    minor = ".".join(lock.python_version.split(".")[:2])
    session.program(python, "-m", "compileall", "-q", "-j", "0", f"{prefix}/lib/python{minor}/site-packages")
    return variables


def committed(session: Session, instructions: Sequence[str], variables: Mapping[str, str]) -> str:
    """The id of an image of the session's container that has the variables, and what else the instructions give it.

    Docker and versions of Podman read an ENV with quotes, dollars or backslashes in it differently.
    """
    left = {name: value for name, value in variables.items() if "\n" not in value}
    for quoted in (_escaped, _as_it_is):
        image = _commit(session, instructions, left, quoted)
        has = ((_container_images.inspect(session.api, image) or {}).get("Config") or {}).get("Env") or []
        wrong = {name for name, value in left.items() if f"{name}={value}" not in has}
        if not wrong:
            break
        _container_images.remove(session.api, image)
    if wrong:
        left = {name: value for name, value in left.items() if name not in wrong}
        image = _commit(session, instructions, left, _as_it_is)
    if lost := [name for name in variables if name not in left]:
        said = f"{', '.join(lost)}: what the packages set these to cannot be written into an image; it is left out."
        session.api.work.log(said)
    return image


def _commit(
    session: Session, instructions: Sequence[str], variables: Mapping[str, str], quoted: Callable[[str], str]
) -> str:
    return session.commit([*instructions, *(f"ENV {name}={quoted(value)}" for name, value in variables.items())])


def _escaped(value: str) -> str:
    return '"{}"'.format(re.sub(r'(["$\\])', r"\\\1", value))


def _as_it_is(value: str) -> str:
    return f'"{value}"'
