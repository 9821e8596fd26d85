"""A list of packages resolved and built, warm and cold, beside bare uv and beside venv with pip.

Windlass resolves, locks, builds, checks and publishes; bare uv is `uv venv` and `uv pip install` of the same list, pip
is `python -m venv` and `pip install`. All take one interpreter and one index, which serves on this machine what was
fetched once. Warm: the cache holds the wheels; cold: it is empty. Once also with the index that this machine is set to.
All run at the priority that Windlass gives to builds, so that a busy machine takes from each alike.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from _measure import Row, interleaved, median_of_pairs, ms, note, percentile, rounds, tell
from _package_index import download, only_index, variables
from _plot import BARE, OURS, PEER, Bar, bars, publish, seconds
from uv import find_uv_bin

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.cache import EnvironmentCache
from windlassd.envs.interpreters import own

LIST = ("numpy", "pandas", "scikit-learn", "matplotlib", "seaborn", "requests", "pyyaml", "tqdm")
SHORT = ("requests", "pyyaml", "tqdm")
_TARGET, _READY_TARGET_S = 1.3, 0.010
_PIP = "`python -m venv` + `pip install`"
_UV = "`uv venv` + `uv pip install`"
_NICE = 10  # as windlassd.envs._process; a program at a lower one stays there
_HOME = Path(os.environ.get("WINDLASS_HOME", "."))


class Ours:
    """Resolves and builds in one cache, again and again, as a server does that has built something before."""

    def __init__(self) -> None:
        self.cache = EnvironmentCache(str(_HOME / "environments"))
        self._asked = 0
        self.spec = self._new(LIST)

    def build(self, packages: Sequence[str] = LIST) -> float:
        """Seconds for resolving and building; then it is gone, with the work that would go on behind it."""
        self.spec = self._new(packages)
        began = time.perf_counter()
        ready = self.cache.prepare(self.spec, _silent)
        spent = time.perf_counter() - began
        assert not ready.cached
        self.cache.remove(ready.key)
        return spent

    def settle(self) -> float:
        """Seconds from a build to the end of what goes on behind it. The environment stays."""
        self.cache.prepare(self.spec, _silent)
        began = time.perf_counter()
        self.cache.join()
        return time.perf_counter() - began

    def drop(self) -> None:
        """Remove what ``settle`` left."""
        self.cache.remove(self.cache.prepare(self.spec, _silent).key)

    def refresh(self) -> None:
        """Resolve anew where nothing has changed: the index is asked whether its pages have."""
        self.cache.refresh(self.spec, _silent)

    def find(self) -> None:
        """Find what is there."""
        assert self.cache.find(self.spec)

    def _new(self, packages: Sequence[str]) -> EnvironmentSpec:
        """The list as nobody has asked for it before; it gets the same environment."""
        self._asked += 1
        listed = [f"{name}>=0.0.{self._asked}" for name in packages]
        return EnvironmentSpec(python_version=own().version, pip_packages=tuple(listed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds(10))
    parser.add_argument("--cold-rounds", type=int, default=rounds(5))
    args = parser.parse_args()
    os.nice(_NICE)
    index = _HOME / "index"
    download(LIST, index)
    ours = Ours()
    with only_index(index):
        with _caches():
            warm = interleaved(args.rounds, {"uv": bare_uv, "ours": ours.build})
            settled_s = ours.settle()
            again = interleaved(args.rounds, {"uv": _resolve, "ours": ours.refresh})
            found = interleaved(rounds(200), {"ours": ours.find})["ours"]
            ours.drop()
            few = interleaved(args.rounds, {"uv": partial(bare_uv, SHORT), "ours": partial(ours.build, SHORT)})
        cold = interleaved(args.cold_rounds, {"uv": _cold(bare_uv), "ours": _cold(ours.build)})
        both = {"uv": _cold(partial(bare_uv, SHORT)), "ours": _cold(partial(ours.build, SHORT))}
        few_cold = interleaved(args.cold_rounds, both)
        with _caches():
            cold["pip"], warm["pip"] = [bare_pip()], [bare_pip()]
    real = {"uv": [_cold(bare_uv)()], "ours": [_cold(ours.build)()]}
    ours.cache.close()
    _tell("resolve + build, warm", warm, _TARGET)
    _tell(f"resolve + build of {len(SHORT)}, warm", few, _TARGET)
    _tell("resolve + build, cold", cold, _TARGET)
    _tell(f"resolve + build of {len(SHORT)}, cold", few_cold, _TARGET)
    _tell("resolve + build, cold, from the index of this machine", real)
    tell(Row("… then, while runs use it: bytecode compiled, all on disk", f"{settled_s:.1f} s"))
    _tell("refresh, nothing new", again, bare="`uv pip compile --refresh`")
    median_s = statistics.median(found)
    tell(Row("ready again, cached", f"{ms(median_s)} (p95 {ms(percentile(found, 95))})", "", "",
             f"≤ {ms(_READY_TARGET_S)}", median_s <= _READY_TARGET_S))  # fmt: skip
    note(
        f"{', '.join(LIST)} (of {len(SHORT)}: {', '.join(SHORT)}) with Python {own().version}; medians of "
        f"{args.rounds} warm and {args.cold_rounds} cold rounds in turns, pip once; the comparison is the median of "
        "each with its neighbour. pip compiles bytecode meanwhile; uv leaves it to the first import; Windlass compiles "
        "at low priority afterwards."
    )
    _chart(warm, cold)


def bare_uv(packages: Sequence[str] = LIST) -> float:
    """Seconds for a virtual environment by uv with the list in it."""
    with _folder("uv") as folder:
        began = time.perf_counter()
        _call(find_uv_bin(), "venv", "--quiet", "--python", own().path, folder)
        _call(find_uv_bin(), "pip", "install", "--quiet", "--python", f"{folder}/bin/python", *packages)
        return time.perf_counter() - began


def bare_pip() -> float:
    """Seconds for a virtual environment of Python's own with the list put into it by pip."""
    with _folder("pip") as folder:
        began = time.perf_counter()
        _call(own().path, "-m", "venv", folder)
        _call(f"{folder}/bin/pip", "install", "--quiet", "--disable-pip-version-check", *LIST)
        return time.perf_counter() - began


def _resolve() -> None:
    argv = [find_uv_bin(), "pip", "compile", "--refresh", "--quiet", "--generate-hashes", "--python", own().path, "-"]
    subprocess.run(argv, input="\n".join(LIST), text=True, check=True, stdout=subprocess.DEVNULL)


def _cold(build: Callable[[], float]) -> Callable[[], float]:
    def call() -> float:
        with _caches():
            return build()

    return call


@contextmanager
def _caches() -> Iterator[None]:
    """Empty caches of uv and pip, on the file system that the environments are on."""
    with _folder("cache") as folder, variables(UV_CACHE_DIR=f"{folder}/uv", PIP_CACHE_DIR=f"{folder}/pip"):
        yield


@contextmanager
def _folder(what: str) -> Iterator[str]:
    """A name for a folder that is deleted afterwards."""
    path = _HOME / f"{what}-{time.monotonic_ns()}"
    try:
        yield str(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _call(*argv: str) -> None:
    subprocess.run(argv, cwd="/", check=True, stdout=sys.stderr)


def _silent(line: str) -> None:
    """What a build says is for its log."""


def _tell(what: str, found: Mapping[str, Sequence[float]], target: float | None = None, bare: str = _UV) -> None:
    ratio = median_of_pairs(found["ours"], found["uv"], lambda a, b: a / b)
    tell(Row(
        what, seconds(statistics.median(found["ours"])), f"{bare}: {seconds(statistics.median(found['uv']))}",
        f"{ratio:.2f}x", f"≤ {target}x" if target else "", ratio <= target if target else None,
    ))  # fmt: skip
    if "pip" in found:
        pip_s = statistics.median(found["pip"])
        times = pip_s / statistics.median(found["ours"])
        tell(Row("… beside pip", "", f"{_PIP}: {seconds(pip_s)}", f"{times:.0f}x quicker"))


def _chart(warm: Mapping[str, Sequence[float]], cold: Mapping[str, Sequence[float]]) -> None:
    names = {"ours": ("Windlass", OURS), "uv": ("uv venv + uv pip install", BARE), "pip": ("venv + pip install", PEER)}
    given = [
        Bar(f"{label}, {when}", statistics.median(found[name]), kind)
        for when, found in (("cold", cold), ("warm", warm))
        for name, (label, kind) in names.items()
    ]
    title = f"{len(LIST)} packages asked for: until the environment is ready"
    publish("environment_build", bars(title, given, seconds), "time to make an environment, beside uv and pip")


if __name__ == "__main__":
    main()
