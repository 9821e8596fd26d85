"""Sorted keys that know their places."""

from __future__ import annotations

import random
from bisect import bisect_left

from windlassd.control._ranked import Ranked


def test_order_and_places_whatever_comes_and_goes() -> None:
    pick, ranked = random.Random(1), Ranked[int]()
    there: list[int] = []
    for key in pick.sample(range(100_000), 6_000):
        ranked.add(key)
        there.append(key)
        if pick.random() < 0.4:
            gone = there.pop(pick.randrange(len(there)))
            ranked.remove(gone)
    there.sort()
    assert list(ranked) == there and len(ranked) == len(there) and ranked.first == there[0]
    for key in pick.sample(there, 50):
        assert ranked.rank(key) == bisect_left(there, key)
    for key in pick.sample(there, len(there)):
        ranked.remove(key)
    assert len(ranked) == 0 and list(ranked) == []
    ranked.add(1)
    assert ranked.rank(1) == 0
