"""``python -m windlassd.doctor``: examine a workspace whose server does not run, or cannot; JSON lines on stdout."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

import windlassd
from windlass.errors import AzureMLException
from windlassd.doctor.alone import examine_alone


def main() -> int:
    """Examine; 2 with one line on stderr when that cannot be."""
    parser = argparse.ArgumentParser(prog="windlassd.doctor")
    parser.add_argument("--workspace-dir", required=True)
    parser.add_argument("--repair", action="store_true")
    parser.add_argument("--deep", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    _write({"version": windlassd.__version__})
    try:
        found = examine_alone(given.workspace_dir, repair=given.repair, deep=given.deep, tell=_write)
    except (AzureMLException, OSError) as problem:
        sys.stderr.write(f"windlassd.doctor: {problem}\n")
        return 2
    return 1 if any(finding.is_problem for finding in found) else 0


def _write(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
