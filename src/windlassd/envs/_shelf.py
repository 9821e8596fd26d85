"""What the cache keeps: telling of it, and taking away what is not needed, never from under a run."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from windlass import settings
from windlass.errors import UserErrorException, did_you_mean
from windlassd.envs import container_engine
from windlassd.envs._conda_cache import drop_unused
from windlassd.envs._flock import held_if_free
from windlassd.envs._layout import Layout, State, settled_bytes
from windlassd.envs._sizes import Sizes, Whole
from windlassd.envs._uses import Use, Uses
from windlassd.envs.base import Builder, EnvironmentFailed, Lock, Outside

_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==([^ ;]+)")
_WHEEL = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])? @ \S*/[^-/\s]+-([^-/\s]+)(?:-[^-/\s]+){3,4}\.whl\b")
_CONDA = re.compile(r"conda\+\S+/([\w.-]+)-([^-/]+)-[^-/]+\.(?:conda|tar\.bz2)\Z")
_PATIENCE_S = 0.25
_logger = logging.getLogger(__name__)


class EnvironmentInUse(UserErrorException):
    """Runs use the environment, so it stays."""

    error_code = "environment_in_use"


@dataclass(frozen=True)
class BuiltEnvironment:
    """A finished environment in the cache."""

    key: str
    builder: str
    python_version: str
    packages: int
    bytes: int
    """What it takes on disk; files shared with uv's cache or other environments count in full."""
    shared_bytes: int
    """How much of that is such files."""
    created: float
    """Unix seconds."""
    used: float
    """Unix seconds of the last time it was found or made for a run."""
    in_use: tuple[Use, ...] = ()
    """Runs of all workspaces that have not ended and need it."""
    fault: str | None = None
    """Why a run that asks for it would not get it as it is; None when it would."""


@dataclass(frozen=True)
class Pruned:
    """What was taken away, or would be."""

    removed: Sequence[BuiltEnvironment]
    freed_bytes: int
    """What that gave back of ``left_bytes`` and them; room that uv's cache shares is not free until that is cleaned."""
    left_bytes: int
    """What the others take together, each file once."""
    in_use: Sequence[str]
    """Keys of those that only stay because runs use them."""


class Shelf:
    """Methods may be called from any thread.

    Args:
        layout: Where everything is.
        uses: Which runs need what.
        builder_named: The builder that made something, by its name; raises EnvironmentFailed for an unknown one.
        let_go: Called with the key of what is about to be removed.
    """

    def __init__(
        self, layout: Layout, uses: Uses, builder_named: Callable[[str], Builder], let_go: Callable[[str], None]
    ) -> None:
        self._layout = layout
        self._uses = uses
        self._builder_named = builder_named
        self._let_go = let_go
        self._sizes = Sizes(layout)
        self._known_outside: dict[str, Outside | None] = {}

    def list(self) -> Sequence[BuiltEnvironment]:
        """The usable environments, last used first."""
        uses, engines = self._uses.by_key(), _Engines()
        found = (self._built(key, state, uses.get(key, []), engines) for key, state in self._states())
        return sorted(filter(None, found), key=lambda item: item.used, reverse=True)

    def total_bytes(self) -> int:
        """What all environments take together on disk, each file once."""
        return self._whole([key for key, _ in self._states()]).bytes

    def bytes_of(self, key: str) -> int:
        """What one environment takes on disk, outside of its folder too; 0 when there is none of that key."""
        state = self._layout.whole(key) if key in self._layout.built_keys() else None
        return self._sizes.of(key).bytes + self._outside_bytes(key, state) if state else 0

    def get(self, key: str) -> BuiltEnvironment:
        """One environment, measured anew.

        Raises:
            UserErrorException: there is none of that key.
        """
        state = self._state(key)
        self._sizes.of(key, anew=True)
        found = self._built(key, state, self._uses.of(key), _Engines())
        if found is None:
            raise UserErrorException(self._absent(key))
        return found

    def details(self, key: str) -> dict[str, Any]:
        """What ``get`` does not tell: where it is, what is in it, why, and which requests lead to it.

        Raises:
            UserErrorException: there is none of that key.
        """
        state, lock = self._state(key), self._layout.lock(key)
        requests = [
            {"key": name, "made": record.made, "spec": record.spec, "notes": list(record.notes)}
            for name, record in self._layout.requests()
            if record.lock == key
        ]
        return {
            "path": self._layout.prefix(key),
            "python": os.path.join(self._layout.prefix(key), state.python),
            "base_python": lock.python if lock and os.path.isabs(lock.python) else None,
            "platform": lock.platform if lock else None,
            "notes": list(lock.notes) if lock else [],
            "contents": package_versions(lock) if lock else [],
            "outside_bytes": self._outside_bytes(key, state),
            "requests": requests,
        }

    def is_there(self, key: str, state: State) -> bool:
        """False when a part of it that lies outside its folder is gone."""
        builder = self._outside(state)
        lock = self._layout.lock(key) if builder else None
        return builder.is_there(lock, self._layout.prefix(key)) if builder and lock else True

    def remove(self, key: str) -> None:
        """Delete an environment.

        Raises:
            UserErrorException: there is none of that key, or it is being built.
            EnvironmentInUse: runs use it.
        """
        self.get(key)
        # Whoever only looks at an environment shares its lock for some microseconds; that is no building.
        with held_if_free(self._layout.lock_file(key), _PATIENCE_S) as mine:
            if not mine:
                raise UserErrorException(
                    f"The environment {key!r} is just being built. Cancel the run it is built for, or wait."
                )
            if uses := self._uses.of(key):
                raise EnvironmentInUse(
                    f"The environment {key} is in use by {_told(uses)}; cancel or wait for {_them(uses)} to end."
                )
            self._take_away(key)

    def prune(
        self,
        *,
        used_before: float | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
        spared: Collection[str] = (),
    ) -> Pruned:
        """Remove what was not used since ``used_before``, then the least recently used until ``max_bytes`` hold.

        What runs need stays, what is just being built, and what is ``spared``.
        """
        known = [item for item in reversed(self.list()) if item.key not in spared]
        whole = self._whole([*(item.key for item in known), *spared])
        removed, in_use, freed = [], [], 0
        for item in known:
            old = used_before is not None and item.used < used_before
            if not old and (max_bytes is None or whole.bytes <= max_bytes):
                continue
            if item.in_use:
                in_use.append(item.key)
            elif dry_run or self._removed(item):
                removed.append(item)
                freed += whole.without(item.key)
        return Pruned(removed, freed, whole.bytes, in_use)

    def tidy(self, new: Collection[str] = ()) -> bool:
        """Keep the size that the settings allow; True when it is kept, False when what stays is above it.

        What is ``new`` stays this time, else it would be gone before anybody could use it. What was used last stays,
        so that one above the size is not built for each of its runs; but the size 0 says that none is to be kept.
        """
        limit: int = settings.steady("environments_max_gb")
        if self._at_most() <= limit:
            return True
        last = {item.key for item in self.list()[:1]} if limit else set()
        done = self.prune(max_bytes=limit, spared=last.union(new))
        for item in done.removed:
            _logger.info(
                "environment %s (%d bytes, Python %s, %d packages) was removed: the least recently used, and all"
                " together took more than environments_max_gb allows",
                item.key, item.bytes, item.python_version, item.packages,
            )  # fmt: skip
        if new and done.left_bytes > limit:
            _logger.warning(
                "the environments take %d bytes, above the %d that environments_max_gb allows: what was just made"
                " stays, and what runs use", done.left_bytes, limit,
            )  # fmt: skip
        return done.left_bytes <= limit

    def _state(self, key: str) -> State:
        state = self._layout.whole(key) if key in self._layout.built_keys() else None
        if state is None:
            raise UserErrorException(self._absent(key))
        return state

    def _removed(self, item: BuiltEnvironment) -> bool:
        with held_if_free(self._layout.lock_file(item.key)) as mine:
            if not mine or self._uses.of(item.key) or self._layout.used(item.key) != item.used:
                return False  # somebody came for it since it was listed, or removed it
            try:
                self._take_away(item.key)
            except EnvironmentFailed as problem:
                _logger.warning("environment %s stays: %s", item.key, problem)
                return False
        return True

    def _take_away(self, key: str) -> None:
        """The lock of ``key`` is held."""
        self._let_go(key)
        state, lock = self._layout.whole(key), self._layout.lock(key)
        builder = self._outside(state) if state else None
        if builder and lock:
            builder.discard(lock, self._layout.prefix(key))
        self._layout.discard(key)
        if state and state.builder == "conda":
            drop_unused(self._layout.root)

    def _built(self, key: str, state: State, uses: Sequence[Use], engines: _Engines) -> BuiltEnvironment | None:
        """None when it was removed since ``state`` was read."""
        size, outside, used = self._sizes.of(key), self._outside_bytes(key, state), self._layout.used(key)
        if used is None:
            return None
        return BuiltEnvironment(
            key=key, builder=state.builder, python_version=state.python_version, packages=state.packages,
            bytes=size.bytes + outside, shared_bytes=size.shared, created=state.created, used=used,
            in_use=tuple(uses), fault=self._layout.fault(key, state) or engines.fault(state),
        )  # fmt: skip

    def _states(self) -> Sequence[tuple[str, State]]:
        return [(key, state) for key in self._layout.built_keys() if (state := self._layout.whole(key))]

    def _whole(self, keys: Sequence[str]) -> Whole:
        states = {key: state for key in keys if (state := self._layout.whole(key))}
        return Whole(self._sizes.all(keys), {key: self._outside_bytes(key, state) for key, state in states.items()})

    def _at_most(self) -> int:
        """No less than what all environments take, from what is known without reading them."""
        total = 0
        for key, state in self._states():
            known = settled_bytes(self._layout.prefix(key))
            total += self._sizes.of(key).bytes if known is None else known
            total += self._outside_bytes(key, state)
        return total

    def _outside(self, state: State) -> Outside | None:
        if state.builder not in self._known_outside:
            try:
                builder = self._builder_named(state.builder)
            except EnvironmentFailed:  # of a newer version: what it has outside only that can tell
                return None
            self._known_outside[state.builder] = builder if isinstance(builder, Outside) else None
        return self._known_outside[state.builder]

    def _outside_bytes(self, key: str, state: State) -> int:
        builder = self._outside(state)
        lock = self._layout.lock(key) if builder else None  # it may be long, and most builders have nothing outside
        return builder.outside_bytes(lock, self._layout.prefix(key)) if builder and lock else 0

    def _absent(self, key: str) -> str:
        keys = [known for known, _ in self._states()]
        near = [known for known in keys if key and known.startswith(key)]
        hint = f" Did you mean {' or '.join(map(repr, near[:3]))}?" if near else did_you_mean(key, keys)
        return f"There is no environment {key!r}.{hint} {len(keys)} are there: see the list of environments."


class _Engines:
    """What the container engines have, asked once for one list."""

    def __init__(self) -> None:
        self._images: dict[str, Collection[str] | None] = {}

    def fault(self, state: State) -> str | None:
        """Why the image of an environment cannot be used now; None when it can, or when there is none."""
        if not state.image or not state.engine:
            return None
        if state.engine not in self._images:
            self._images[state.engine] = container_engine.images_of(state.engine)
        there = self._images[state.engine]
        if there is None:
            return f"the container engine at {state.engine} does not answer, or is not the one in use"
        return None if state.image in there else "its image is gone from the container engine"


def package_versions(lock: Lock) -> Sequence[dict[str, str | None]]:
    """What a lock installs: ``name`` and ``version``; of a requirement without a plain version its text."""
    lines = (line.split(" --hash=")[0].strip() for line in lock.requirements if not line.startswith("-"))
    found = [dict(zip(("name", "version"), _version(line), strict=True)) for line in lines]
    return sorted(found, key=lambda item: str(item["name"]).lower())


def _version(line: str) -> tuple[str, str | None]:
    match = _CONDA.search(line) if line.startswith("conda+") else _PIN.match(line) or _WHEEL.match(line)
    return (match.group(1), match.group(2)) if match else (line, None)


def changes(before: Lock | None, after: Lock) -> Sequence[dict[str, str | None]]:
    """What differs: ``name``, and its version ``before`` and ``after``, None where it is not; Python is one of them."""
    old, new = (_versions(lock) if lock else {} for lock in (before, after))
    return [
        {"name": name, "before": old.get(name), "after": new.get(name)}
        for name in dict.fromkeys([*sorted(old), *sorted(new)])
        if old.get(name) != new.get(name)
    ]


def _versions(lock: Lock) -> dict[str, str]:
    packages = {str(item["name"]): item["version"] or "" for item in package_versions(lock)}
    return {"python": lock.python_version, **packages}


def _told(uses: Sequence[Use]) -> str:
    shown = ", ".join(f"{use.run_id} ({os.path.basename(use.workspace)})" for use in uses[:5])
    return shown + (f" and {len(uses) - 5} more" if len(uses) > 5 else "")


def _them(uses: Sequence[Use]) -> str:
    return "it" if len(uses) == 1 else "them"
