from __future__ import annotations

import pytest

from windlassd.envs._conda_split import Split, clauses, parse, split
from windlassd.envs.base import EnvironmentFailed


def places(
    *packages: str, others: tuple[str, ...] = (), from_conda: bool = False, moved: tuple[str, ...] = ()
) -> Split:
    return split(packages, frozenset(others), from_conda=from_conda, moved=frozenset(moved))


def test_names_that_both_have_go_to_pypi_and_the_note_says_so() -> None:
    found = places("numpy=1.21.*", "pytorch", "pip")
    assert found.pypi == ["numpy==1.21.*", "torch", "pip"]
    assert found.conda == [] and found.asked == {}
    assert "numpy=1.21.*, pytorch" in found.notes[0] and "conda_packages_from=conda" in found.notes[0]


@pytest.mark.parametrize(
    "entry", ["openmpi", "ffmpeg=4.*", "r-base", "libgcc-ng", "graphviz", "bioconda::samtools=1.9"]
)
def test_what_pypi_does_not_have_goes_to_the_channels(entry: str) -> None:
    found = places(entry, "numpy")
    assert [item.text for item in found.conda] == [entry]
    assert any(entry in note for note in found.notes)


def test_a_name_that_nobody_knows_is_to_be_asked_of_pypi() -> None:
    found = places("some_thing=2")
    assert found.pypi == ["some_thing==2.*"]
    assert list(found.asked) == ["some-thing"]
    assert [item.text for item in places("some_thing=2", moved=("some_thing",)).conda] == ["some_thing=2"]


def test_a_public_channel_in_front_decides_nothing_and_another_one_does() -> None:
    assert places("conda-forge::pandas=1.5").pypi == ["pandas==1.5.*"]
    assert [item.channel for item in places("file:///lab/channel::pandas=1.5=py_0").conda] == ["file:///lab/channel"]


def test_cuda_libraries_beside_a_framework_are_left_out_with_a_note() -> None:
    found = places("cudatoolkit=10.0", "cudnn", "pytorch")
    assert found.conda == [] and found.pypi == ["torch"]
    assert sum("left out" in note for note in found.notes) == 2
    assert places("cudatoolkit=10.0", others=("tensorflow",)).conda == []


def test_cuda_libraries_alone_come_from_the_channels() -> None:
    assert [item.text for item in places("cudatoolkit=10.0", "numba").conda] == ["cudatoolkit=10.0"]


def test_what_only_chooses_builds_breaks_nothing() -> None:
    found = places("nomkl", "blas=*=openblas", "numpy", "pip", "setuptools", "wheel")
    assert found.conda == [] and found.pypi == ["numpy", "pip", "setuptools", "wheel"]
    assert [item.text for item in found.limits] == ["blas=*=openblas", "numpy"]


def test_the_setting_turns_it_round() -> None:
    found = places("numpy=1.21.*", "cudatoolkit=10.0", "nomkl", "pytorch", "pip", "python=3.8", from_conda=True)
    assert [item.text for item in found.conda] == ["numpy=1.21.*", "cudatoolkit=10.0", "nomkl", "pytorch"]
    assert found.pypi == ["pip"] and found.pythons == ["==3.8.*"]


def test_azureml_is_satisfied_by_windlass() -> None:
    found = places("azureml-sdk=1.0", from_conda=True)
    assert found.conda == [] and found.pypi == []
    assert found.notes == ["azureml-sdk=1.0: satisfied by Windlass, not installed."]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("numpy", ""), ("numpy=1.16=py37_0", "==1.16.*"), ("numpy[version='>=1,<2']", ">=1,<2"), ("numpy=*=x", ""),
        ("numpy[build='x']", None), ("numpy 1.16|1.17", None), ("numpy >=1, <2", ">=1,<2"), ("python=3.6.*", "==3.6.*"),
    ],
)  # fmt: skip
def test_versions_in_pips_words(entry: str, said: str | None) -> None:
    assert clauses(parse(entry)) == said


@pytest.mark.parametrize("entry", [">=1", "*", "-e .", "ünï", "https://lab/x-1-0.conda", "x" * 200, "a/b"])
def test_an_entry_without_a_name_is_refused(entry: str) -> None:
    with pytest.raises(EnvironmentFailed, match="cannot be read"):
        places(entry)
