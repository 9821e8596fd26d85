"""v1's curated names as presets."""

from __future__ import annotations

import pytest

from windlass import _curated
from windlass.errors import UserErrorException


def contents(name: str) -> tuple[str | None, list[str], list[str]]:
    packages = _curated.environment(name).python.conda_dependencies
    return packages.get_python_version(), list(packages.conda_packages), list(packages.pip_packages)


@pytest.mark.parametrize("name", _curated.NAMES)
def test_every_name_in_the_list_can_be_had(name: str) -> None:
    made = _curated.environment(name)
    assert made.name == name and "azureml-defaults" in made.python.conda_dependencies.pip_packages


@pytest.mark.parametrize(
    ("name", "python", "has"),
    [
        ("AzureML-sklearn-0.24-ubuntu18.04-py37-cpu", "3.7", "scikit-learn==0.24.*"),
        ("AzureML-Scikit-learn-0.20.3", "python>=3.7,<3.8", "scikit-learn==0.20.3"),
        ("AzureML-PyTorch-1.4-GPU", "python>=3.7,<3.9", "torch==1.4.*"),
        ("AzureML-pytorch-1.10-ubuntu18.04-py38-cuda11-gpu", "3.8", "torch==1.10.*"),
        ("AzureML-pytorch-2.2-ubuntu22.04-py310-cuda12-gpu", "3.10", "torch==2.2.*"),
        ("AzureML-TensorFlow-1.13-CPU", "python>=3.7,<3.8", "tensorflow==1.13.*"),
        ("AzureML-TensorFlow-1.13-GPU", "python>=3.7,<3.8", "tensorflow-gpu==1.13.*"),
        ("AzureML-xgboost-0.9-ubuntu18.04-py37-cpu", "3.7", "xgboost==0.90"),
        ("AzureML-lightgbm-3.2-ubuntu18.04-py37-cpu", "3.7", "lightgbm==3.2.*"),
    ],
)
def test_versions_of_a_name_are_versions_of_packages(name: str, python: str, has: str) -> None:
    version, conda, pip = contents(name)
    assert python in (version, *conda) and has in pip


def test_a_python_that_jobs_cannot_run_on_gives_way_to_one_that_fits() -> None:
    with pytest.warns(UserWarning, match=r"cannot run on Python 3\.6"):
        assert contents("AzureML-pytorch-1.5-ubuntu16.04-py36-cuda10-gpu")[:2] == (None, ["python>=3.7,<3.9"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("AzureML-TensorFlow-1.10-GPU", r"needs a Python older than 3\.7.*AzureML-TensorFlow-1\.13-CPU"),
        ("AzureML-Hyperdrive-ForecastDNN", "automated machine learning"),
        ("AzureML-PySpark-MmlSpark-0.15", "stood for Spark"),
        ("AzureML-VowpalWabbit-8.8.0", "no package brings"),
        ("AzureML-PyTroch-1.4-CPU", "Did you mean 'AzureML-PyTorch-1.4-CPU'"),
        ("AzureML-Minimul", "Did you mean 'AzureML-Minimal'"),
    ],
)
def test_what_was_no_list_of_packages_says_what_it_was(name: str, says: str) -> None:
    with pytest.raises(UserErrorException, match=says):
        _curated.environment(name)
