"""Whether what was installed is what its packages say: uv's cache is never synced, so a power loss may empty files."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterator, Sequence


def damaged(prefix: str) -> Sequence[str]:
    """Names of the packages of the environment at ``prefix`` that have a file of another size than they say."""
    found = []
    packages = os.path.join(glob.escape(prefix), "lib", "python*", "site-packages")
    for record in glob.iglob(os.path.join(packages, "*.dist-info", "RECORD")):
        if not _is_whole(record):
            found.append(os.path.basename(os.path.dirname(record)).partition("-")[0].replace("_", "-").lower())
    return sorted(found)


def _is_whole(record: str) -> bool:
    try:
        with open(record, encoding="utf-8", newline="") as f:
            sizes = dict(_sizes(f.read()))
        if not any(path.endswith(".dist-info/METADATA") for path in sizes):
            return False  # cut off
        folder = os.open(os.path.dirname(os.path.dirname(record)), os.O_RDONLY | os.O_DIRECTORY)
        try:
            return all(os.stat(path, dir_fd=folder).st_size == size for path, size in sizes.items())
        finally:
            os.close(folder)
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _sizes(record: str) -> Iterator[tuple[str, int]]:
    """Path and size of each file that the text of a RECORD gives a size of."""
    quoted = '"' in record  # rarely; the reader for that takes longer than looking at the files
    for row in csv.reader(record.splitlines()) if quoted else (line.split(",") for line in record.splitlines()):
        if len(row) == 3 and row[2].isdigit():
            yield row[0], int(row[2])
