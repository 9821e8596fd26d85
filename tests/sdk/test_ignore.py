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
