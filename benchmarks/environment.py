"""How long a cached environment takes to be found, all checks included; prints one JSON object.

python benchmarks/environment.py [requirement …]        (default: scikit-learn)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

from windlass import settings
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.cache import EnvironmentCache

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
    parser.add_argument("--times", type=int, default=200)
    args = parser.parse_args()
    spec = EnvironmentSpec(pip_packages=tuple(args.requirement))
    cache = EnvironmentCache(args.root)
    made = cache.prepare(spec, lambda line: print(line, file=sys.stderr))
    cache.join()
    found_s = sorted(_timed(cache, spec) for _ in range(args.times))
    fresh = [sys.executable, "-c", _FRESH, args.root, *args.requirement]
    first_s = float(subprocess.run(fresh, capture_output=True, text=True, check=True).stdout)
    result = {
        "what": "environment ready, cached",
        "requirements": args.requirement,
        "times": args.times,
        "median_ms": round(statistics.median(found_s) * 1e3, 3),
        "p95_ms": round(found_s[int(args.times * 0.95) - 1] * 1e3, 3),
        "first_of_a_process_ms": round(first_s * 1e3, 3),
        "prepared_before_s": round(made.seconds, 3),
        "was_cached": made.cached,
        "target_ms": 10,
        "python": platform.python_version(),
    }
    print(json.dumps(result))


def _timed(cache: EnvironmentCache, spec: EnvironmentSpec) -> float:
    start = time.perf_counter()
    found = cache.find(spec)
    assert found
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
