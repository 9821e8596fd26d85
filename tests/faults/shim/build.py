"""Compiling what stands between a program and the kernel."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

_FOLDER = Path(__file__).parent


def compiled(name: str) -> Path:
    """The library of ``<name>.c``, made once per version of its source and kept among the temporary files."""
    source = _FOLDER / f"{name}.c"
    version = hashlib.sha256(source.read_bytes() + (_FOLDER / "clock.h").read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"windlass-{name}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{name}-{version}.so"
    if not made.exists():
        beside = folder / f"{made.name}.{os.getpid()}"
        command = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", beside, source]
        subprocess.run([*command, "-ldl"], check=True)
        beside.replace(made)
    return made
