"""Run benchmarks, each in a home of its own, and put their tables into ``RESULTS.md``. Started by ``scripts/bench``.

Each module of this folder without a leading underscore is a benchmark: it prints rows, notes and charts as JSON lines
(``_measure.py``, ``_plot.py``). A run of some replaces their sections and leaves the others, each with its own date.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
RESULTS, PLOTS = HERE / "RESULTS.md", HERE / "plots"
GROUPS = {
    "targets": (
        "import_cost", "log_point", "ingest", "environment", "environment_build", "environment_rush",
        "environment_load", "first_line", "log_lag", "short_jobs", "big_outputs", "shipping", "queue_simulation",
        "queue_load",
    ),
    "peers": (
        "peer_logging", "peer_first_line", "peer_short_jobs", "peer_artifacts", "peer_reading", "peer_imports",
    ),
    "apart": ("apart_start", "apart_losses", "apart_scale"),
    "growth": tuple(sorted(path.stem for path in HERE.glob("growth_*.py"))),
}  # fmt: skip
"""What a name may also stand for: DESIGN's table; what users would pick instead; nodes that are apart, as root; how
cost grows."""
ALL = tuple(name for names in GROUPS.values() for name in names)
_PACKAGES = ("windlass", "fastapi", "uvicorn", "uvloop", "sqlalchemy", "uv")
_HEAD = """# Measured

Written by `scripts/bench`; run it again on your machine. Each baseline is measured in the same run, in turns with what
it is held against, so that a busy machine hits both: trust the comparisons more than the absolute numbers. Targets are
those of the project's design; rows without one explain the row above.
"""
Told = Mapping[str, Any]
_COLUMNS = {
    "what": "what", "measured": "measured", "baseline": "against", "compared": "comparison", "target": "target",
    "met": "met",
}  # fmt: skip
_ALWAYS = ("what", "measured", "target", "met")
_DROPPED = ("WINDLASS_", "AZUREML_", "AZ_BATCH", "PYTHON")
"""Variables of whoever starts this; PYTHONDONTWRITEBYTECODE alone would make every import a compilation."""


def main() -> int:
    """Run the named benchmarks, or all; 1 when one failed (its old section stays), whatever the targets."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help=f"which (default all): {', '.join([*GROUPS, *ALL])}")
    parser.add_argument("--no-write", action="store_true", help="print the tables and leave RESULTS.md alone")
    parser.add_argument("--quick", action="store_true", help="one small round of each: does it run? Writes nothing")
    given = parser.parse_args()
    if unknown := [name for name in given.name if name not in ALL and name not in GROUPS]:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join([*GROUPS, *ALL])}")
    names = [one for name in given.name or GROUPS for one in GROUPS.get(name, (name,))]
    failed = 0
    for name in names:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name} …\n")
        try:
            told = list(_told(name, given.quick))
        except subprocess.CalledProcessError as problem:
            sys.stderr.write(f"{name} failed: exit code {problem.returncode}\n")
            failed = 1
            continue
        text = section(name, told)
        print(text, flush=True)
        if not (given.no_write or given.quick):
            draw(told, PLOTS)
            _keep(name, text)
    return failed


def _keep(name: str, text: str) -> None:
    """Put the section in its place among those that ``RESULTS.md`` has by now."""
    sections = {} if not RESULTS.exists() else _sections(RESULTS.read_text(encoding="utf-8"))
    sections[name] = text
    RESULTS.write_text("\n".join([_HEAD, *(sections[n] for n in ALL if n in sections)]), encoding="utf-8")


def section(name: str, told: Sequence[Told]) -> str:
    """The part of ``RESULTS.md`` about a benchmark that printed this."""
    lines = [f"## {name}", "", purpose(name), "", _circumstances(name)]
    if rows := [row for row in told if "what" in row]:
        keys = [key for key in _COLUMNS if key in _ALWAYS or any(row[key] not in ("", None) for row in rows)]
        lines += _table([_COLUMNS[key] for key in keys], [[_cell(row[key]) for key in keys] for row in rows])
    for entry in told:
        if "cells" in entry:
            lines += _table(entry["columns"], entry["cells"])
    for chart in told:
        if "plot" in chart:
            lines += ["", f"![{chart['alt']}](plots/{chart['plot']}.svg)"]
    notes = [entry["note"] for entry in told if "note" in entry]
    return "\n".join([*lines, "", " ".join(notes)]) + "\n" * bool(notes)


def draw(told: Sequence[Told], folder: Path) -> None:
    """Write the charts that a benchmark printed."""
    for chart in told:
        if "plot" in chart:
            folder.mkdir(exist_ok=True)
            (folder / f"{chart['plot']}.svg").write_text(chart["svg"], encoding="utf-8")


def purpose(name: str) -> str:
    """The first paragraph of the benchmark's docstring."""
    text = (HERE / f"{name}.py").read_text(encoding="utf-8")
    return " ".join(text.split('"""')[1].split("\n\n")[0].split())


def _told(name: str, quick: bool) -> Iterator[Told]:
    """What the benchmark prints, run to its end in a fresh home whose processes are ended afterwards."""
    home = tempfile.mkdtemp(prefix="wl-bench-")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(_DROPPED)}
    variables["WINDLASS_HOME"] = home
    variables["BENCH_QUICK"] = str(int(quick))
    command = [sys.executable, str(HERE / f"{name}.py")]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=variables, cwd=home, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    finally:
        _end_processes_of(home)
        shutil.rmtree(home)


def _end_processes_of(home: str) -> None:
    """Kill what was started for this home and wait until nothing of it is left."""
    while processes := [process for process in psutil.process_iter() if _belongs(process, home)]:
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(processes, timeout=1)


def _belongs(process: psutil.Process, home: str) -> bool:
    try:
        live = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
        return bool(live and process.environ().get("WINDLASS_HOME") == home)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in [titles, *cells]]
    head, *body = ["| " + " | ".join(row) + " |" for row in escaped]
    return ["", head, "|" + " --- |" * len(titles), *body]


def _cell(value: str | bool | None) -> str:
    return value if isinstance(value, str) else "" if value is None else "yes" if value else "**no**"


def _circumstances(name: str) -> str:
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
    if name in GROUPS["peers"]:
        versions = ", ".join([f"windlass {importlib.metadata.version('windlass')}", *_peers()])
    if name in GROUPS["apart"]:
        versions += f", {next(peer for peer in _peers() if peer.startswith('ray '))}"
    memory_gib = psutil.virtual_memory().total / 2**30
    machine = f"{os.cpu_count()} cores ({_processor()}), {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"
    load = os.getloadavg()[0]
    return (
        f"*{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())} · `benchmarks/{name}.py` · {machine}, "
        f"load {load:.1f} · Python {platform.python_version()}, {versions}*"
    )


def _peers() -> Iterator[str]:
    """Each with the version it is pinned to."""
    for pins in sorted(HERE.parent.glob("constraints/bench-*.txt")):
        name = pins.stem.removeprefix("bench-")
        pinned = re.search(rf"^{name}==(.+)$", pins.read_text(encoding="utf-8"), re.MULTILINE)
        yield f"{name} {pinned[1] if pinned else '?'}"


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())


def _sections(text: str) -> dict[str, str]:
    found = {}
    for part in text.split("\n## ")[1:]:
        found[part.split("\n", 1)[0]] = "## " + part.rstrip("\n") + "\n"
    return found


if __name__ == "__main__":
    sys.exit(main())
