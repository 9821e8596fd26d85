from __future__ import annotations

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._requirements import is_azureml, requirement_name, wanted
from windlassd.envs.base import EnvironmentFailed


@pytest.mark.parametrize(
    ("conda", "pip"),
    [
        ("scikit-learn", "scikit-learn"),
        ("scikit-learn=0.20", "scikit-learn==0.20.*"),
        ("scikit-learn==1.2", "scikit-learn==1.2"),
        ("scikit-learn 0.20.*", "scikit-learn==0.20.*"),
        ("numpy>=1.16,<1.20", "numpy>=1.16,<1.20"),
        ("numpy=1.16=py37_0", "numpy==1.16.*"),
        ("numpy==1.16.4=py37_0", "numpy==1.16.4"),
        ("numpy 1.16.4 py37_0", "numpy==1.16.4.*"),
        ("numpy=1.16*", "numpy==1.16.*"),
        ("conda-forge::pandas=1.5", "pandas==1.5.*"),
        ("numpy[version='>=1.16,<2']", "numpy>=1.16,<2"),
        ("numpy 1.16.*", "numpy==1.16.*"),
        ("numpy >=1.16, <2", "numpy>=1.16,<2"),
        ("pytorch=1.4", "torch==1.4.*"),
        ("pip", "pip"),
    ],
)
def test_conda_packages_in_pips_words(conda: str, pip: str) -> None:
    assert wanted(EnvironmentSpec(conda_packages=(conda,))).requirements == (pip,)


@pytest.mark.parametrize("entry", ["cudatoolkit=10.0", "openmpi", "r-essentials", "numpy[build='x']", "numpy=1|2"])
def test_what_pypi_cannot_give_is_left_to_the_channels(entry: str) -> None:
    want = wanted(EnvironmentSpec(conda_packages=(entry, "pandas")))
    assert [item.text for item in want.conda.conda] == [entry]
    assert want.requirements == ("pandas",)


@pytest.mark.parametrize("entry", ["=1.0", "[version='1']", "https://me:s3cr3t@example.com/c::x", "/t/s3cr3t/c::x"])
def test_an_entry_without_a_name_or_with_credentials_is_refused(entry: str) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        wanted(EnvironmentSpec(conda_packages=(entry,)))
    assert "s3cr3t" not in caught.value.message


def test_python_among_the_conda_packages_sets_the_version() -> None:
    assert wanted(EnvironmentSpec(conda_packages=("python=3.6.2", "pip"))).python == "==3.6.2.*"
    assert wanted(EnvironmentSpec(python_version="3.9", conda_packages=("python>=3.8",))).python == "3.9,>=3.8"
    assert wanted(EnvironmentSpec(conda_packages=("python",))).python is None


@pytest.mark.parametrize(
    "entry",
    [
        "x @ https://me:s3cr3t@example.com/x.whl",
        "x @ git+https://s3cr3t@example.com/x.git",
        "--extra-index-url https://me:s3cr3t@example.com/simple",
    ],
)
def test_credentials_are_refused_and_not_repeated(entry: str) -> None:
    with pytest.raises(EnvironmentFailed, match="netrc") as caught:
        wanted(EnvironmentSpec(pip_packages=(entry,)))
    assert "s3cr3t" not in caught.value.message


@pytest.mark.parametrize("entry", ["x @ git+https://example.com/me/x.git@v1", "git+ssh://git@example.com/me/x.git"])
def test_addresses_without_credentials_pass(entry: str) -> None:
    assert wanted(EnvironmentSpec(pip_packages=(entry,))).requirements == (entry,)


def test_index_options_among_the_packages_are_kept_apart() -> None:
    want = wanted(EnvironmentSpec(pip_packages=("--extra-index-url http://example.com/s", "-f /wheels", "numpy")))
    assert want.requirements == ("numpy",)
    assert want.options == ("--extra-index-url http://example.com/s", "--find-links /wheels")


@pytest.mark.parametrize("entry", ["-r requirements.txt", "-e .", "--pre", "--index-url", "--no-index x"])
def test_other_options_are_refused_by_name(entry: str) -> None:
    with pytest.raises(EnvironmentFailed, match=f"'{entry}' is not taken"):
        wanted(EnvironmentSpec(pip_packages=(entry,)))


def test_names() -> None:
    assert requirement_name("Scikit_Learn[all]>=1; python_version>'3'") == "scikit-learn"
    assert requirement_name("https://example.com/azureml-core.whl") == ""
    assert requirement_name("/wheels/x.whl") == ""
    assert is_azureml("azureml_core==1.0") and is_azureml("AzureML-SDK[x]") and not is_azureml("azure-storage-blob")
    assert is_azureml("/wheels/azureml_core-1.0-py3-none-any.whl")
    assert is_azureml("https://x.y/azureml-sdk-1.0.tar.gz#a")
    assert not is_azureml("/wheels/tiny-1.0-py3-none-any.whl") and not is_azureml("tiny @ file:///azureml-1/tiny-1.whl")


@pytest.mark.parametrize("entry", ["numpy\n-r /etc/hostname", "numpy\r--index-url http://elsewhere", "a\x0bb"])
def test_an_entry_is_one_line(entry: str) -> None:
    with pytest.raises(EnvironmentFailed, match="has several lines"):
        wanted(EnvironmentSpec(pip_packages=(entry,)))
