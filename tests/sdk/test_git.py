"""Commit, branch and dirty flag, as git itself would tell them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from windlass._git import GitState

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "feature/x")
    (folder / "src" / "train.py").write_text("x")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


def test_a_clean_and_a_dirty_tree(tree: Path) -> None:
    commit = git(tree, "rev-parse", "HEAD")
    assert GitState(str(tree / "src")).read() == {"commit": commit, "branch": "feature/x", "dirty": "false"}
    (tree / "src" / "new.py").write_text("y")
    assert GitState(str(tree / "src")).read()["dirty"] == "true"


def test_packed_refs_detached_heads_and_linked_trees(tree: Path, tmp_path: Path) -> None:
    commit = git(tree, "rev-parse", "HEAD")
    git(tree, "pack-refs", "--all")
    assert GitState(str(tree)).read()["commit"] == commit
    git(tree, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    assert GitState(str(tmp_path / "linked")).read() == {"commit": commit, "branch": "other", "dirty": "false"}
    git(tree, "checkout", "-q", "--detach")
    assert GitState(str(tree)).read() == {"commit": commit, "dirty": "false"}


def test_no_git_and_no_program(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert GitState(str(tmp_path)).read() == {}
    monkeypatch.setenv("PATH", "/nowhere")
    state = GitState(str(tree)).read()
    assert state["branch"] == "feature/x" and "dirty" not in state
