"""Sorted keys that know their places: quick to add, to remove and to count up to, with 100,000 of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Any)
_BLOCK = 512


class Ranked(Generic[K]):
    """Keys in their order, in blocks of at most twice 512. No key may be in it twice."""

    def __init__(self) -> None:
        self._blocks: list[list[K]] = []
        self._lasts: list[K] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[K]:
        for block in self._blocks:
            yield from block

    @property
    def first(self) -> K:
        """The least key; there must be one."""
        return self._blocks[0][0]

    def add(self, key: K) -> None:
        """Put a key in its place."""
        self._size += 1
        if not self._blocks:
            self._blocks, self._lasts = [[key]], [key]
            return
        at = min(bisect_left(self._lasts, key), len(self._blocks) - 1)
        block = self._blocks[at]
        insort(block, key)
        if len(block) > 2 * _BLOCK:
            self._blocks[at : at + 1] = [block[:_BLOCK], block[_BLOCK:]]
            self._lasts[at : at + 1] = [block[_BLOCK - 1], block[-1]]
        else:
            self._lasts[at] = block[-1]

    def remove(self, key: K) -> None:
        """Take a key out that is in it."""
        at = bisect_left(self._lasts, key)
        block = self._blocks[at]
        del block[bisect_left(block, key)]
        self._size -= 1
        if block:
            self._lasts[at] = block[-1]
        else:
            del self._blocks[at], self._lasts[at]

    def rank(self, key: K) -> int:
        """How many keys come before it."""
        at = bisect_left(self._lasts, key)
        before = sum(map(len, self._blocks[:at]))
        return before + (bisect_left(self._blocks[at], key) if at < len(self._blocks) else 0)
