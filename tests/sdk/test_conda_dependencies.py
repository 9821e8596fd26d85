from __future__ import annotations

from pathlib import Path

import pytest

from windlass.conda_dependencies import CondaDependencies
from windlass.errors import NotOffered, UserErrorException

FILE = """\
name: project_environment
channels:
- conda-forge
dependencies:
- python=3.8
- scikit-learn=0.24
- pip:
  - numpy>=1.20  # comment
  - --extra-index-url https://example.org/simple
"""


def test_a_conda_file_is_read_and_written_back(tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text(FILE)
    read = CondaDependencies(str(tmp_path / "env.yml"))
    assert read.get_python_version() == "3.8" and list(read.conda_channels) == ["conda-forge"]
    assert list(read.conda_packages) == ["scikit-learn=0.24"] and list(read.pip_packages) == ["numpy>=1.20"]
    assert list(read.pip_options) == ["--extra-index-url https://example.org/simple"]
    assert read.save_to_file(str(tmp_path / "out"), "sub/copy.yml") == "sub/copy.yml"
    again = CondaDependencies(str(tmp_path / "out" / "sub" / "copy.yml"))
    assert again.serialize_to_string() == read.serialize_to_string()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dependencies: numpy\n", "must be one package as text|must be a list"),
        ("- numpy\n", "no mapping with 'dependencies'"),
        ("dependencys:\n- numpy\n", "'dependencys'; known are"),
        ("dependencies:\n- pip:\n  - 3\n", "'pip' must be a list of text"),
        ("dependencies:\n- numpy\nvariables:\n  A: 1\n", "environment_variables"),
    ],
)
def test_a_file_that_is_none_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "env.yml").write_text(text)
    with pytest.raises(UserErrorException, match=says):
        CondaDependencies(str(tmp_path / "env.yml"))


def test_pip_options_are_kept_once_and_others_refused() -> None:
    packages = CondaDependencies.create(pip_packages=["a"], pip_indexurl="https://one.example/simple")
    packages.set_pip_index_url("https://two.example/simple")
    assert packages._pip_lines() == ["--index-url https://two.example/simple", "a"]
    packages.remove_pip_option("--index-url")
    assert packages._pip_lines() == ["a"]
    with pytest.raises(NotOffered, match="--no-deps"):
        packages.set_pip_option("--no-deps")


def test_tensorflow_by_core_type_and_merged_requirements() -> None:
    packages = CondaDependencies()
    packages.add_tensorflow_pip_package("gpu", version="1.13.2")
    packages.add_tensorflow_conda_package(version="2.4")
    assert list(packages.pip_packages) == ["tensorflow-gpu==1.13.2"]
    assert list(packages.conda_packages) == ["tensorflow=2.4"]
    assert CondaDependencies.merge_requirements(["a>1", "b", "a<2", "a>1"]) == ["a>1,<2", "b"]
    with pytest.raises(NotOffered, match=r"older than 3\.7"):
        packages.add_cntk_package()


def test_a_channel_nobody_knows_is_refused() -> None:
    packages = CondaDependencies()
    packages.add_channel("pytorch")
    packages.remove_channel("pytorch")
    assert list(packages.conda_channels) == []
    with pytest.raises(NotOffered, match=r"'conda-forgee'.*conda-forge"):
        packages.add_channel("conda-forgee")
