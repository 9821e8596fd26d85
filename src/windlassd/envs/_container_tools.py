"""Programs of this machine that run in any image's container: uv, a shell and some more, with their own C library.

They are started through their own loader, so it does not matter whether the image has another C library, an older one,
or no shell.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import mmap
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence

from windlassd.envs._uv import program
from windlassd.envs.base import EnvironmentFailed

AT = "/dev/windlass/tools"
"""Where the folder is mounted: ``/dev`` is no part of an image, so a commit has no trace of it."""
_TOOLS = ("sh", "sleep", "mkdir", "chown", "cp", "nice")
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
# What the C library loads by itself where it is older than 2.34, to look up names.
_LOOKED_UP = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
_PRIVATE_BUCKETS = re.compile(rb"(?:sdists|interpreter)-v\d+")


def command(name: str, *arguments: str) -> list[str]:
    """The words that run a tool in a container with the folder mounted."""
    return [f"{AT}/lib/loader", "--library-path", f"{AT}/lib", f"{AT}/{name}", *arguments]


def folder(root: str) -> str:
    """The folder of tools under ``root``, made when missing.

    Raises:
        EnvironmentFailed: this machine lacks one of them.
    """
    sources = {"uv": program(), **{name: _found(name) for name in _TOOLS}}
    states = [(name, path, os.stat(path).st_mtime_ns) for name, path in sources.items()]
    final = os.path.join(root, "tools-" + hashlib.sha256(repr(states).encode()).hexdigest()[:16])
    if os.path.isdir(final):
        os.utime(final)  # in use: see ``forget_unused``
        return final
    beside = f"{final}.{secrets.token_hex(6)}"
    os.makedirs(os.path.join(beside, "lib"), mode=0o755)
    for name, path in sources.items():
        shutil.copy(path, os.path.join(beside, name))
    for path in _libraries(list(sources.values())):
        name = "loader" if os.path.basename(path).startswith("ld-") else os.path.basename(path)
        shutil.copy(path, os.path.join(beside, "lib", name))
    try:
        os.rename(beside, final)
    except OSError:
        shutil.rmtree(beside)  # somebody else was first
    return final


def folders(root: str) -> Sequence[str]:
    """All folders of tools that there are, of other versions as well."""
    return glob.glob(os.path.join(glob.escape(root), "tools-*"))


@functools.lru_cache(maxsize=1)
def private_buckets() -> Sequence[str]:
    """Folders of uv's cache whose contents belong to one machine, or image, alone: what was built there."""
    with open(program(), "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return sorted({match.group().decode() for match in _PRIVATE_BUCKETS.finditer(content)})


def _found(name: str) -> str:
    path = shutil.which(name, path="/usr/bin:/bin:/usr/local/bin")
    if path is None:
        raise EnvironmentFailed(f"This machine has no program {name!r}, which preparing a container needs.",
                                "Install the system's core utilities.")  # fmt: skip
    return os.path.realpath(path)


def _libraries(programs: Sequence[str]) -> list[str]:
    """The shared libraries of ``programs`` and the loader; empty for programs that are linked statically."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    found = dict.fromkeys(_LIBRARY.findall(said))
    beside = next((os.path.dirname(path) for path in found if os.path.basename(path).startswith("libc.so")), "")
    more = [os.path.join(beside, name) for name in _LOOKED_UP]
    return [*found, *(path for path in more if path not in found and os.path.exists(path))]
