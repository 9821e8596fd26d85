"""Ignore files, read as git reads them; git itself is the judge where it is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from windlass._ignore import ignored_by, read_rules
from windlass._snapshot import list_files

_PATTERNS = """
# a comment
*.log
!keep.log
/top.txt
build/
docs/**/secret.txt
a/**
!a/
data/*.csv
**/deep/x
[ab].txt
[!c]x.md
\\#hash
sp\\ ace
trailing\x20\x20
foo/bar
q?.dat
"""
_FILES = [
    "x.log", "keep.log", "sub/x.log", "sub/keep.log", "top.txt", "sub/top.txt", "build/out", "sub/build/out",
    "builder/x", "docs/secret.txt", "docs/a/b/secret.txt",
    "docs/a/public.txt", "a/one", "a/two/three", "data/t.csv", "data/n/t.csv",
    "deep/x", "p/q/deep/x", "p/deep/y", "a.txt", "b.txt", "c.txt", "cx.md", "dx.md", "#hash", "sp ace", "trailing",
    "foo/bar", "z/foo/bar", "q1.dat", "q12.dat", "plain.py",
]  # fmt: skip


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_same_files_as_git_are_left_out(tmp_path: Path) -> None:
    for name in _FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text(_PATTERNS)
    (tmp_path / "sub" / ".gitignore").write_text("*.txt\n!x.log\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    said = subprocess.run(["git", "ls-files", "-o", "--exclude-standard", "-z"], cwd=tmp_path, check=True,
                          capture_output=True, text=True).stdout  # fmt: skip
    ours = [file.path for file in list_files(str(tmp_path)).files]
    assert sorted(ours) == sorted(said.rstrip("\0").split("\0"))


def test_the_rule_is_named(tmp_path: Path) -> None:
    (tmp_path / ".amlignore").write_text("*.pyc\ndata/\n")
    rules = read_rules(str(tmp_path / ".amlignore"), "")
    rule = ignored_by(rules, "data", True)
    assert rule is not None and rule.line == "data/" and rule.source == ".amlignore"
    assert ignored_by(rules, "data", False) is None


_DOCKER_PATTERNS = """
# a comment
  *.log
/top.txt
build/
!build/keep/this.txt
*/temp*
**/secret.txt
docs/**
!docs/README.md
dat?
./here.txt
! keep.log
"""
_DOCKER_FILES = [
    "x.log", "keep.log", "sub/x.log", "top.txt", "sub/top.txt", "build/out", "build/keep/this.txt", "build/keep/that",
    "sub/build/out", "sub/temporary", "sub/sub/temp", "secret.txt", "a/b/secret.txt", "docs/a/b", "docs/README.md",
    "data", "dataset", "here.txt", "sub/here.txt", "plain.py", ".gitignore", "by-git.txt",
]  # fmt: skip


def _context(folder: Path, ignore: str) -> Path:
    for name in _DOCKER_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("by-git.txt\n")
    (folder / "Dockerfile").write_text("FROM x\n")
    (folder / ".dockerignore").write_text(ignore)
    return folder


@pytest.mark.parametrize("ignore", [_DOCKER_PATTERNS, "**\n!plain.py\n!a/b", "*\n!sub\nsub/build", "", "build/keep\n"])
def test_a_dockerignore_is_read_as_docker_reads_it(tmp_path: Path, ignore: str) -> None:
    from docker.utils.build import exclude_paths

    folder = _context(tmp_path, ignore)
    lines = [line.strip() for line in ignore.splitlines() if line.strip() and not line.startswith("#")]
    theirs = {path for path in exclude_paths(str(folder), lines, dockerfile="Dockerfile") if (folder / path).is_file()}
    ours = {file.path for file in list_files(str(folder), "Dockerfile").files}
    always = {"Dockerfile", ".dockerignore"}  # docker's own client sends them in any case
    assert ours - always == theirs - always


def test_the_dockerignore_of_a_dockerfile_wins_and_without_one_a_jobs_ignore_files_count(tmp_path: Path) -> None:
    folder = _context(tmp_path, "*\n")
    (folder / "Dockerfile.dockerignore").write_text("*\n!data\n")
    assert [file.path for file in list_files(str(folder), "Dockerfile").files] == ["data"]
    (folder / "Dockerfile.dockerignore").unlink()
    (folder / ".dockerignore").unlink()
    listed = list_files(str(folder), "Dockerfile")
    assert "by-git.txt" in listed.left_out and "data" in {file.path for file in listed.files}


def test_what_may_hold_secrets_is_never_sent_with_a_dockerfile(tmp_path: Path) -> None:
    folder = _context(tmp_path, "!.env\n")
    (folder / ".env").write_text("KEY=1")
    assert list_files(str(folder), "Dockerfile").left_out == {".env": "it may hold secrets"}
