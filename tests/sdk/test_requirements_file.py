"""Requirements files."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlass._requirements_file import read_requirements
from windlass.errors import UserErrorException


def test_lines_comments_and_included_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.txt").write_text("scipy\n")
    (tmp_path / "all.txt").write_text(
        "# a comment\n\nnumpy>=1.20 , \\\n  <2   # why\n-r sub/base.txt\nmine @ file:///x#egg=mine\n"
    )
    assert read_requirements(str(tmp_path / "all.txt")) == ["numpy>=1.20 ,    <2", "scipy", "mine @ file:///x#egg=mine"]


@pytest.mark.parametrize("text, message", [
    ("--index-url http://x\n", "'--index-url http://x'"), ("-e .\n", "'-e .'"), ("-r self.txt\n", "includes itself"),
    ("-r none.txt\n", "none.txt cannot be read"),
])  # fmt: skip
def test_what_a_job_cannot_have_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "self.txt").write_text(text)
    with pytest.raises(UserErrorException, match=message):
        read_requirements(str(tmp_path / "self.txt"))
