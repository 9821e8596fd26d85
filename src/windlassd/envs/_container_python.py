"""The Pythons of an image, found by looking into a container of it, and the choice among them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from windlassd.envs._container_session import Session
from windlassd.envs.base import EnvironmentFailed
from windlassd.envs.interpreters import OLDEST, Interpreter, fits

# Where images keep Pythons that are not on PATH.
_FOLDERS = (
    "/opt/conda/bin", "/opt/conda/envs/*/bin", "/opt/miniconda*/bin", "/opt/anaconda*/bin", "/opt/miniforge*/bin",
    "/root/miniconda*/bin", "/root/anaconda*/bin", "/miniconda*/bin", "/usr/local/bin", "/usr/bin", "/bin",
    "/usr/local/python*/bin", "/opt/python*/bin", "/opt/python/*/bin", "/root/.pyenv/versions/*/bin",
    "/opt/pyenv/versions/*/bin", "/usr/local/pyenv/versions/*/bin", "/home/*/.pyenv/versions/*/bin",
    "/root/.local/share/uv/python/*/bin", "/opt/venv/bin", "/azureml-envs/*/bin",
)  # fmt: skip
_PROBE = (
    "import json, os, platform, sys\n"
    "print(json.dumps([sys.implementation.name, '%d.%d.%d' % sys.version_info[:3], "
    "os.path.realpath(sys.executable or ''), sys.executable, platform.machine(), "
    "[name for name in ('CS_GNU_LIBC_VERSION',) if name in getattr(os, 'confstr_names', ())] "
    "and os.confstr('CS_GNU_LIBC_VERSION') or 'musl']))"
)


class NoPython(EnvironmentFailed):
    """The image has no Python that is wanted; ``said`` is that without what to do."""

    def __init__(self, said: str, step: str) -> None:
        super().__init__(said, step)
        self.said = said


@dataclass(frozen=True)
class Found:
    """A Python of an image."""

    path: str
    """With links resolved."""
    called: str
    """As it was found."""
    version: str
    implementation: str
    platform: str
    """Such as ``linux-x86_64-glibc2.36``."""

    @property
    def usable(self) -> bool:
        """Whether jobs can run on it."""
        return self.interpreter.numbers[:2] >= OLDEST

    @property
    def interpreter(self) -> Interpreter:
        """In the terms of those of this machine."""
        return Interpreter(self.path, self.version, self.implementation)


def pythons(session: Session) -> Sequence[Found]:
    """The CPythons of the session's image, each once, as they come on its PATH, then elsewhere."""
    ask = (
        'ask() { for p in "$1"/python3 "$1"/python "$1"/python3.[0-9] "$1"/python3.[0-9][0-9]; do '
        'if [ -x "$p" ] && [ ! -d "$p" ]; then "$p" -I -c "$PROBE" 2>/dev/null || :; fi; done; }; '
    )
    places = " ".join(_FOLDERS)
    script = f'IFS=:; set -- $PATH; unset IFS; for f in "$@" {places}; do [ -d "$f" ] && ask "$f"; done; :'
    done = session.sh(ask + script, {"PROBE": _PROBE})
    found: dict[str, Found] = {}
    for line in done.out.splitlines():
        if item := _read(line):
            found.setdefault(item.path, item)
    return [item for item in found.values() if item.implementation == "cpython"]


def named(session: Session, name: str) -> Found | None:
    """The Python that is called ``name``, a path or a word on the image's PATH; None when it is none."""
    done = session.sh('p="$(command -v "$NAME")" && "$p" -I -c "$PROBE"', {"PROBE": _PROBE, "NAME": name})
    return next((item for line in done.out.splitlines() if (item := _read(line))), None)


def candidates(known: Sequence[Found], wanted: str | None, image: str) -> Sequence[Found]:
    """One Python of each minor version that fits ``wanted``, newest first.

    Raises:
        NoPython: the image has none that fits; lists those it has.
    """
    fitting = [item for item in known if item.usable]
    fitting = [item for item in fitting if wanted is None or fits(item.interpreter.numbers, wanted)]
    if not fitting:
        raise NoPython(*_none(known, wanted, image))
    by_minor: dict[tuple[int, ...], Found] = {}
    for item in sorted(fitting, key=lambda item: item.interpreter.numbers, reverse=True):
        by_minor.setdefault(item.interpreter.numbers[:2], item)
    return list(by_minor.values())


def _none(known: Sequence[Found], wanted: str | None, image: str) -> tuple[str, str]:
    step = (
        "Take an image that has it, install it in a Dockerfile on top of this one (base_dockerfile), or name a conda "
        "channel, of which Python is taken then."
    )
    if not known:
        return f"No Python was found in the image {image}: on its PATH, under /usr, /opt/conda and the like.", step
    has = ", ".join(f"{item.version} ({item.path})" for item in known)
    if wanted is None:
        return f"The image {image} has only Python {has}, and jobs run on Python 3.7 and newer.", step
    return f"The image {image} has no Python {wanted}; it has {has}.", f"Ask for one that it has. {step}"


def _read(line: str) -> Found | None:
    try:
        implementation, version, real, called, machine, libc = json.loads(line)
    except ValueError:
        return None  # what an interpreter prints on its own account
    platform = f"linux-{machine}-{str(libc).replace(' ', '')}"
    return Found(str(real or called), str(called), str(version), str(implementation), platform)
