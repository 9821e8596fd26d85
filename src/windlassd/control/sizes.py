"""Machine sizes that ``vm_size`` may name: Azure's, and those the workspace defines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.errors import ComputeTargetException
from windlass.specs import vm_sizes
from windlass.specs.vm_sizes import VmSize
from windlassd.control.core import Core
from windlassd.store.base import Writer

_META = "vm_sizes"
_NAME = re.compile(r"[A-Z][A-Z0-9_-]{0,62}\Z")
_AZURE = ("STANDARD_", "BASIC_")


class Sizes:
    """Own sizes are kept with the workspace; their names are upper case."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def own(self) -> Sequence[VmSize]:
        """Those the workspace defines, by name."""
        return _own(self._core.read(lambda tx: tx.get_meta(_META)))

    def all(self) -> Sequence[VmSize]:
        """Own ones first, then Azure's."""
        return (*self.own(), *vm_sizes.SIZES)

    def find(self, name: str) -> VmSize | None:
        """The size of that name, whatever its case, or None."""
        return next((size for size in self.own() if size.name == name.upper()), None) or vm_sizes.find(name)

    def describe(self) -> Sequence[Mapping[str, Any]]:
        """All of them as the wire has them."""
        own = self.own()
        return [{**size._asdict(), "own": size in own} for size in self.all()]

    async def define(self, name: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Define a size, or change the one of that name while no compute target has it."""
        size = _checked(name, asked)

        def work(tx: Writer) -> None:
            known = {own.name: own for own in _own(tx.get_meta(_META))}
            if known.get(size.name, size) != size:
                _refuse_used(tx, size.name, "changed")
            known[size.name] = size
            tx.set_meta(_META, json.dumps([known[key] for key in sorted(known)]))

        await self._core.write(work)
        return {**size._asdict(), "own": True}

    async def forget(self, name: str) -> None:
        """Remove an own size that no compute target has."""

        def work(tx: Writer) -> None:
            known = {own.name: own for own in _own(tx.get_meta(_META))}
            if known.pop(name.upper(), None) is None:
                raise ComputeTargetException(
                    f"There is no own size {name!r}; own sizes: {', '.join(sorted(known)) or 'none'}."
                )
            _refuse_used(tx, name.upper(), "removed")
            tx.set_meta(_META, json.dumps([known[key] for key in sorted(known)]))

        await self._core.write(work)


def _own(text: str | None) -> Sequence[VmSize]:
    return tuple(VmSize(*entry) for entry in json.loads(text or "[]"))


def _refuse_used(tx: Writer, name: str, verb: str) -> None:
    users = [spec.name for spec, _, _ in tx.clusters() if spec.vm_size == name]
    if users:
        raise ComputeTargetException(
            f"The size {name!r} cannot be {verb}: {', '.join(users)} {'has' if len(users) == 1 else 'have'} it. Delete "
            "them first, or define another size.",
            error_code="conflict",
        )


def _checked(name: str, asked: Mapping[str, Any]) -> VmSize:
    if not _NAME.match(name.upper()) or name.upper().startswith(_AZURE):
        raise ComputeTargetException(
            f"{name!r} cannot name an own size: letters, digits, '_' and '-', beginning with a letter, and not with "
            "Azure's 'STANDARD_' or 'BASIC_'."
        )
    vcpus, gpus, memory_gb, gpu_name = asked["vcpus"], asked.get("gpus", 0), asked["memory_gb"], asked.get("gpu_name")
    for what, value, least in (("vcpus", vcpus, 1), ("gpus", gpus, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ComputeTargetException(f"{what}={value!r} must be a whole number of at least {least}.")
    if isinstance(memory_gb, bool) or not isinstance(memory_gb, (int, float)) or not 0 < memory_gb < float("inf"):
        raise ComputeTargetException(f"memory_gb={memory_gb!r} must be a number above 0.")
    if gpu_name is not None and (not isinstance(gpu_name, str) or not gpus):
        raise ComputeTargetException(f"gpu={gpu_name!r} names a kind of GPU: give gpus as well.")
    return VmSize(name.upper(), vcpus, memory_gb, gpus, gpu_name)
