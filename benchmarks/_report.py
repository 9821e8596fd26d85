"""Run benchmarks, each in a home of its own, and put their tables into ``RESULTS.md``. Started by ``scripts/bench``.

Each module of this folder without a leading underscore is a benchmark: it prints rows and notes as JSON lines
(``_measure.py``). A run of some benchmarks replaces their sections and leaves the others, which carry their own dates.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
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
RESULTS = HERE / "RESULTS.md"
ALL = (
    "import_cost", "log_point", "ingest", "environment", "first_line", "log_lag", "short_jobs", "big_outputs",
)  # fmt: skip
_PACKAGES = ("windlass", "fastapi", "uvicorn", "uvloop", "sqlalchemy", "uv")
_HEAD = """# Measured

Written by `scripts/bench`; run it again on your machine. Each baseline is measured in the same run, in turns with what
it is held against, so that a busy machine hits both: trust the comparisons more than the absolute numbers. Targets are
those of the project's design; rows without one explain the row above.
"""
_DROPPED = ("WINDLASS_", "AZUREML_", "AZ_BATCH", "PYTHON")
"""Variables of whoever starts this; PYTHONDONTWRITEBYTECODE alone would make every import a compilation."""


def main() -> int:
    """Run the named benchmarks, or all; 1 when one failed (its old section stays), whatever the targets."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help=f"which (default all): {', '.join(ALL)}")
    parser.add_argument("--no-write", action="store_true", help="print the tables and leave RESULTS.md alone")
    given = parser.parse_args()
    if unknown := [name for name in given.name if name not in ALL]:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(ALL)}")
    sections = {} if not RESULTS.exists() else _sections(RESULTS.read_text(encoding="utf-8"))
    failed = 0
    for name in given.name or ALL:
        sys.stderr.write(f"{name} …\n")
        try:
            section = _section(name, list(_told(name)))
        except subprocess.CalledProcessError as problem:
            sys.stderr.write(f"{name} failed: exit code {problem.returncode}\n")
            failed = 1
            continue
        print(section, flush=True)
        sections[name] = section
        if not given.no_write:
            text = "\n".join([_HEAD, *(sections[n] for n in ALL if n in sections)])
            RESULTS.write_text(text, encoding="utf-8")
    return failed


def _told(name: str) -> Iterator[Mapping[str, Any]]:
    """What the benchmark prints, run to its end in a fresh home whose processes are ended afterwards."""
    home = tempfile.mkdtemp(prefix="wl-bench-")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(_DROPPED)}
    variables["WINDLASS_HOME"] = home
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


def _section(name: str, told: Sequence[Mapping[str, Any]]) -> str:
    rows = [row for row in told if "what" in row]
    code, purpose = name + ".py", _purpose(name)
    lines = [f"## {name}", "", purpose, "", _circumstances(code), ""]
    lines += ["| what | measured | against | comparison | target | met |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        met = {True: "yes", False: "**no**", None: ""}[row["met"]]
        cells = [row[key] for key in ("what", "measured", "baseline", "compared", "target")]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in [*cells, met]) + " |")
    notes = [entry["note"] for entry in told if "note" in entry]
    return "\n".join([*lines, "", *notes]) + "\n" * bool(notes)


def _purpose(name: str) -> str:
    """The first paragraph of the benchmark's docstring."""
    text = (HERE / f"{name}.py").read_text(encoding="utf-8")
    return " ".join(text.split('"""')[1].split("\n\n")[0].split())


def _circumstances(code: str) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    memory_gib = psutil.virtual_memory().total / 2**30
    machine = f"{os.cpu_count()} cores ({_processor()}), {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"
    load = os.getloadavg()[0]
    return (
        f"*{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())} · `benchmarks/{code}` · {machine}, load {load:.1f} · "
        f"Python {platform.python_version()}, {versions}*"
    )


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
