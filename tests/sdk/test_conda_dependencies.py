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
        ("dependencies:\n- numpy\nvariables:\n- A\n", "'variables' must be names with values"),
        ("dependencies:\n- pip:\n  - -r none.txt\n", "none.txt cannot be read"),
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


def test_packages_are_taken_out_and_replaced() -> None:
    packages = CondaDependencies.create(pip_packages=["Scikit_Learn==0.24", "numpy"], conda_packages=["openmpi=4"])
    packages.remove_pip_package("scikit-learn")
    packages.remove_pip_package("never-there")
    packages.remove_conda_package("openmpi")
    assert list(packages.pip_packages) == ["numpy"] and list(packages.conda_packages) == []
    packages.set_pip_requirements(["pandas<3", "pandas<3", "six"])
    assert list(packages.pip_packages) == ["pandas<3", "six"]


def test_channels_are_names_addresses_or_folders() -> None:
    packages = CondaDependencies()
    for channel in ("pytorch", "file:///my/channel", "/my/channel", "my-org/label/dev", "pytorch"):
        packages.add_channel(channel)
    packages.remove_channel("pytorch")
    assert list(packages.conda_channels) == ["file:///my/channel", "/my/channel", "my-org/label/dev"]
    for wrong, says in (
        ("two words", "neither a name"), (None, "neither a name"), ("", "neither a name"),
        ("https://me:secret@host.example/c", r"https://\*\*\*\*@host.*~/\.netrc"),
        ("https://host.example/t/to-ken/c", "credentials"),
    ):  # fmt: skip
        with pytest.raises(UserErrorException, match=says) as caught:
            packages.add_channel(wrong)  # type: ignore[arg-type]
        assert "secret" not in str(caught.value) and "to-ken" not in str(caught.value)


def test_what_a_conda_file_includes_and_sets_comes_along(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("six\n--no-index\n")
    (tmp_path / "env.yml").write_text(
        "dependencies:\n- python>=3.8,<3.10\n- pip:\n  - -r more.txt\n  - numpy\nvariables:\n  A: 1\n  B: two words\n"
    )
    read = CondaDependencies(str(tmp_path / "env.yml"))
    assert list(read.pip_packages) == ["six", "numpy"] and list(read.pip_options) == ["--no-index"]
    assert read.get_python_version() is None and list(read.conda_packages) == ["python>=3.8,<3.10"]
    read.save(str(tmp_path / "copy.yml"))
    again = CondaDependencies(str(tmp_path / "copy.yml"))
    assert again.as_dict() == read.as_dict() and again.as_dict()["variables"] == {"A": "1", "B": "two words"}
    read.set_python_version("3.9")
    assert read.as_dict()["dependencies"][0] == "python=3.9" and list(read.conda_packages) == []


@pytest.mark.parametrize(
    ("given", "version"),
    [("python=3.9", "3.9"), ("python==3.9.18", "3.9.18"), ("python 3.9", "3.9"), ("conda-forge::python=3.9.*", "3.9"),
     ("python=3.9.18=h95_0_cpython", "3.9.18"), ("python", None)],
)  # fmt: skip
def test_python_among_the_conda_packages_sets_the_version(given: str, version: str | None) -> None:
    packages = CondaDependencies.create(conda_packages=[given])
    assert packages.get_python_version() == version and list(packages.conda_packages) == []


@pytest.mark.parametrize("entry", [
    "--extra-index-url https://me:s3cret@h.example/simple", "a @ git+https://s3cret@h.example/a.git",
    "--index-url=https://s3cret@h.example/simple",
])  # fmt: skip
def test_credentials_in_an_address_get_into_no_environment(entry: str, tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text(f"dependencies:\n- pip:\n  - {entry}\n")
    for make in (
        lambda: CondaDependencies.create(pip_packages=[entry]), lambda: CondaDependencies(str(tmp_path / "env.yml")),
        lambda: CondaDependencies().set_pip_option(entry), lambda: CondaDependencies().add_pip_package(entry),
    ):  # fmt: skip
        with pytest.raises(UserErrorException, match=r"://\*\*\*\*@h\.example.*~/\.netrc") as caught:
            make()
        assert "s3cret" not in str(caught.value)
    CondaDependencies.create(pip_packages=["a @ git+ssh://git@h.example/a.git"])


def test_paths_are_whole_paths_since_the_server_runs_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    wheel = tmp_path / "sub" / "mine-1.0-py3-none-any.whl"
    wheel.write_text("")
    (tmp_path / "sub" / "env.yml").write_text("dependencies:\n- pip:\n  - ./mine-1.0-py3-none-any.whl\n  - -f wheels\n")
    monkeypatch.chdir(tmp_path)
    made = CondaDependencies.create(pip_packages=[f"sub/{wheel.name}", "--find-links=sub/wheels"])
    for packages in (made, CondaDependencies("sub/env.yml")):
        assert packages._pip_lines() == [f"--find-links {tmp_path}/sub/wheels", str(wheel)]
    with pytest.raises(NotOffered, match=r"Use Environment\.from_pip_requirements"):
        made.set_pip_option("-r r.txt")


@pytest.mark.parametrize("given", [".", "./code", "code/", "../here/code"])
def test_a_folder_among_the_packages_is_refused(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "code").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserErrorException, match=rf"{tmp_path}/here.* is a folder.*add_private_pip_wheel"):
        CondaDependencies.create(pip_packages=[given])


@pytest.mark.parametrize("given", ["./gone-1.0-py3-none-any.whl", "gone-1.0.tar.gz", "../gone"])
def test_a_file_that_is_not_there_is_told_with_its_whole_path(given: str) -> None:
    with pytest.raises(UserErrorException, match=rf"{given!r} .*there is no file /.*gone"):
        CondaDependencies.create(pip_packages=[given])
    at_the_server = "/elsewhere/gone-1.0-py3-none-any.whl"
    assert list(CondaDependencies.create(pip_packages=[at_the_server]).pip_packages) == [at_the_server]


def test_wheels_by_their_addresses_do_not_replace_each_other() -> None:
    packages = CondaDependencies()
    for wheel in (
        "file:///w/one-1.0-py3-none-any.whl",
        "file:///w/two-1.0-py3-none-any.whl",
        "git+https://h.example/x",
    ):
        packages.add_pip_package(wheel)
    packages.add_pip_package("one==2.0")
    assert [p.rpartition("/")[2] for p in packages.pip_packages] == ["two-1.0-py3-none-any.whl", "x", "one==2.0"]
