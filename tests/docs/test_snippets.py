"""What the pages show is true: their Python runs, their commands and files exist, their links lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CHANGELOG.md", "docs/index.md", "docs/quickstart.md", "docs/keeping.md", "docs/conda.md"]
PAGES += ["docs/clusters.md", "docs/ray.md"]
DEV_PAGES = ["docs/dev/architecture.md", "docs/dev/2026-11-20-decisions.md"]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
_COMMAND = re.compile(r"\bwindlass ((?:[a-z]+ )?[a-z]+)(.*)")
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#]*)(?:#[^)]*)?\)")


def blocks(page: str, language: str) -> list[str]:
    """The page's blocks in a language."""
    return [text for kind, text in _FENCE.findall((ROOT / page).read_text("utf-8")) if kind == language]


def project(page: str, folder: Path) -> list[str]:
    """Write the page's Python blocks to the files their first lines name; those names, in the page's order."""
    names = []
    for text in blocks(page, "python"):
        first = re.match(r"# (\w+\.py)\n", text)
        assert first, f"{page}: a Python block does not begin with the name of its file:\n{text}"
        here = f"{sys.version_info.major}.{sys.version_info.minor}"  # one that this machine surely has
        (folder / first[1]).write_text(text.replace('set_python_version("3.11")', f'set_python_version("{here}")'))
        names.append(first[1])
    return names


def run_in(folder: Path, *command: str) -> str:
    """What a command that succeeds prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def run_page(page: str, folder: Path) -> dict[str, str]:
    """Do what the page says: init, then its scripts in their order. What each printed."""
    names = project(page, folder)
    assert names[0] == "train.py"
    windlass = str(Path(sys.executable).with_name("windlass"))
    run_in(folder, windlass, "init", "line")
    printed = {name: run_in(folder, sys.executable, name) for name in names[1:]}
    run_in(folder, windlass, "server", "stop")
    return printed


def test_the_quick_start_runs(tmp_path: Path) -> None:
    printed = run_page("docs/quickstart.md", tmp_path)
    shown = blocks("docs/quickstart.md", "text")
    epochs = [line for line in printed["submit.py"].splitlines() if line.startswith("epoch ")]
    assert epochs and any("\n".join(epochs) in text for text in shown)
    assert printed["packages.py"] == "Completed\n"
    assert "30 points, the last is 0.0116" in printed["results.py"]
    assert any("30 points, the last is 0.0116" in text for text in shown)
    assert (tmp_path / "line.txt").read_text() == (tmp_path / "models" / "line.txt").read_text()
    assert printed["cancel.py"] == "Canceled\n"
    assert "invalid int value: 'many'" in printed["failing.py"]
    assert "maxNodeCount" in printed["cluster.py"]


@pytest.mark.packages
def test_the_readme_runs(tmp_path: Path) -> None:
    printed = run_page("README.md", tmp_path)["submit.py"]
    *_, accuracy, model = printed.splitlines()
    assert float(accuracy) > 0.9
    assert model == "digits version 1"
    assert "epoch 19: accuracy" in printed


def test_the_script_of_the_quick_start_works_by_hand(tmp_path: Path) -> None:
    project("docs/quickstart.md", tmp_path)
    assert "epoch 10: " in run_in(tmp_path, sys.executable, "train.py", "--epochs", "10")


def test_json_blocks_are_json() -> None:
    found = [json.loads(text) for text in blocks("docs/quickstart.md", "json")]
    assert {"workspace": "line"} in found


def commands(page: str) -> Iterator[tuple[str, str]]:
    """(words, rest of the line) of each ``windlass …`` in the page's bash blocks and inline code."""
    text = (ROOT / page).read_text("utf-8")
    inline = _CODE.findall(_FENCE.sub("", text))
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    for line in [*lines, *inline]:
        for found in _COMMAND.finditer(line.partition("#")[0]):
            yield found[1], found[2]


def test_commands_are_found() -> None:
    found = [words for words, _ in commands("docs/quickstart.md")]
    assert {"init", "submit train", "run show", "server stop", "compute create"} <= set(found)


@pytest.mark.parametrize("page", [*PAGES, *DEV_PAGES])
def test_every_command_exists_with_its_options(page: str) -> None:
    sections = reference()
    for words, rest in commands(page):
        name = words if words in sections else words.split()[0]
        assert name in sections, f"{page} mentions `windlass {words}`, which docs/cli.md does not have"
        for option in re.findall(r" (--[a-z-]+)", rest.partition(" -- ")[0]):
            assert option in sections[name], f"{page}: `windlass {name}` has no {option}"


def reference() -> dict[str, str]:
    """Help text by command, from the generated page (which ``test_generated.py`` compares with the code)."""
    parts = re.split(r"^#+ windlass ?(.*)$", (ROOT / "docs" / "cli.md").read_text("utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("page", [*PAGES, *DEV_PAGES])
def test_links_lead_to_files(page: str) -> None:
    for target in _LINK.findall((ROOT / page).read_text("utf-8")):
        assert not target or target.startswith("https://") or (ROOT / page).parent.joinpath(target).exists(), (
            f"{page} links to {target}"
        )


@pytest.mark.parametrize("page", DEV_PAGES)
def test_paths_of_the_tour_exist(page: str) -> None:
    named = _CODE.findall((ROOT / page).read_text("utf-8"))
    paths = [name for name in named if re.match(r"(src|sdk|tests|docs|scripts|benchmarks)/[\w./-]+$", name)]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
