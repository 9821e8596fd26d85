"""How long a cached environment takes to be found, all checks included, as each run does before it starts.

Arguments are the requirements, scikit-learn by default; they are resolved and built first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from _measure import Row, ms, note, percentile, rounds, tell

from windlass import settings
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.cache import EnvironmentCache

_TARGET_S = 0.010
_FRESH = (
    "import sys, time; from windlass.specs.environment import EnvironmentSpec; "
    "from windlassd.envs.cache import EnvironmentCache; start = time.perf_counter(); "
    "found = EnvironmentCache(sys.argv[1]).find(EnvironmentSpec(pip_packages=tuple(sys.argv[2:]))); "
    "assert found; print(time.perf_counter() - start)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirement", nargs="*", default=["scikit-learn"])
    parser.add_argument("--root", default=os.path.join(settings.home(), "environments"))
    parser.add_argument("--times", type=int, default=rounds(200))
    args = parser.parse_args()
    spec = EnvironmentSpec(pip_packages=tuple(args.requirement))
    cache = EnvironmentCache(args.root)
    made = cache.prepare(spec, lambda line: print(line, file=sys.stderr))
    cache.join()
    found_s = sorted(_timed(cache, spec) for _ in range(args.times))
    fresh = [sys.executable, "-c", _FRESH, args.root, *args.requirement]
    first_s = float(subprocess.run(fresh, capture_output=True, text=True, check=True).stdout)
    median_s = statistics.median(found_s)
    tell(Row(
        "environment ready, cached", f"{ms(median_s)} (p95 {ms(percentile(found_s, 95))})", "", "",
        f"≤ {ms(_TARGET_S)}", median_s <= _TARGET_S,
    ))  # fmt: skip
    tell(Row("… the first of a process", ms(first_s)))
    tell(Row("… resolved, built and published before", f"{made.seconds:.1f} s"))
    note(f"{args.times} times; {', '.join(args.requirement)}{' was in the cache already' * made.cached}.")


def _timed(cache: EnvironmentCache, spec: EnvironmentSpec) -> float:
    start = time.perf_counter()
    found = cache.find(spec)
    assert found
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
