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


def test_where_packages_come_from_is_kept_with_whole_paths(tmp_path: Path) -> None:
    (tmp_path / "mine-1.0-py3-none-any.whl").write_text("")
    (tmp_path / "all.txt").write_text(
        "-i https://one.example/simple\n--extra-index-url=https://two.example/simple\n-f wheels\n--no-index\n"
        "./mine-1.0-py3-none-any.whl\nnumpy==1.26.4 ; python_version < '3.13' \\\n  --hash=sha256:aa\n"
    )
    assert read_requirements(str(tmp_path / "all.txt")) == [
        "--index-url https://one.example/simple", "--extra-index-url https://two.example/simple",
        f"--find-links {tmp_path}/wheels", "--no-index", f"{tmp_path}/mine-1.0-py3-none-any.whl",
        "numpy==1.26.4 ; python_version < '3.13'    --hash=sha256:aa",
    ]  # fmt: skip


@pytest.mark.parametrize("text, message", [
    ("-e .\n", "'-e .'.*add_private_pip_wheel"), ("-r self.txt\n", "includes itself"),
    ("-r none.txt\n", "none.txt cannot be read"), ("-c pins.txt\n", "'-c pins.txt'.*among the packages"),
    ("--require-hashes\n", "always checked"), ("--index-url\n", "'--index-url'"), ("./\n", "names a folder"),
    ("./none-1.0-py3-none-any.whl\n", "which is not there"), ("--no-deps\n", "'--no-deps'.*Taken are -r, --index-url"),
])  # fmt: skip
def test_what_a_job_cannot_have_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "self.txt").write_text(text)
    with pytest.raises(UserErrorException, match=message):
        read_requirements(str(tmp_path / "self.txt"))
