"""Which GPUs this machine has and which are handed out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")
_DEVICES = Path("/dev")


def installed(driver: Path = _DRIVER, devices: Path = _DEVICES) -> Sequence[int]:
    """Indices of the NVIDIA GPUs of this machine, without starting a process.

    The driver lists them under ``/proc``; inside some containers only their device files are there.
    """
    if driver.is_dir():
        return range(len(list(driver.iterdir())))
    return range(len([d for d in devices.glob("nvidia[0-9]*") if d.name.removeprefix("nvidia").isdigit()]))


class GpuPool:
    """Hands out GPUs to jobs. Not thread-safe: its engine's lock guards it."""

    def __init__(self, gpus: Sequence[int]) -> None:
        self._users: dict[int, set[str]] = {gpu: set() for gpu in gpus}

    def __len__(self) -> int:
        return len(self._users)

    def take(self, owner: str, wanted: int) -> tuple[Sequence[int], str | None]:
        """GPUs for ``owner`` and, when it does not get what it asked for, a sentence that says so.

        Free ones first; when they do not suffice the least shared ones are shared, never more than there are.
        """
        if wanted <= 0:
            return (), None
        if not self._users:
            return (), f"{_count(wanted)} asked for, and this machine has none: it runs on the CPU."
        ranked = sorted(self._users, key=lambda gpu: (len(self._users[gpu]), gpu))
        chosen = sorted(ranked[:wanted])
        shared = [gpu for gpu in chosen if self._users[gpu]]
        for gpu in chosen:
            self._users[gpu].add(owner)
        if len(chosen) < wanted:
            return chosen, f"{_count(wanted)} asked for, and this machine has {len(self._users)}: it got those."
        return chosen, f"It shares GPU {', '.join(map(str, shared))} with other runs." if shared else None

    def hold(self, owner: str, gpus: Sequence[int]) -> None:
        """``owner`` has these from before; those that are not there any more are left out."""
        for gpu in self._users.keys() & set(gpus):
            self._users[gpu].add(owner)

    def of(self, owner: str) -> Sequence[int]:
        """What ``owner`` has."""
        return sorted(gpu for gpu, users in self._users.items() if owner in users)

    def release(self, owner: str) -> None:
        """Take back what ``owner`` has."""
        for users in self._users.values():
            users.discard(owner)


def _count(gpus: int) -> str:
    return "1 GPU was" if gpus == 1 else f"{gpus} GPUs were"
