from __future__ import annotations

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import _frameworks
from windlassd.envs._frameworks import chosen, framework_notes, refused
from windlassd.envs._requirements import wanted
from windlassd.envs.interpreters import Interpreter

ALL = [Interpreter(f"/py/{v}", v, "cpython") for v in ("3.13.0", "3.11.7", "3.7.16")]
NEW = ALL[:2]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_frameworks, "has_gpu", lambda: False)


def spec(framework: str, version: str | None = None, *pip: str) -> EnvironmentSpec:
    return EnvironmentSpec(framework=framework, framework_version=version, pip_packages=pip)


@pytest.mark.parametrize(
    ("framework", "version", "known", "says"),
    [
        ("TensorFlow", "1.12", ALL, "needs a Python older than 3.7.*can be had: 1.13, 1.14"),
        ("TensorFlow", "1.13", NEW, "runs on Python 3.7, and this machine has none.*can be had: 2.12"),
        ("TensorFlow", "1.13", ALL, None),
        ("PyTorch", "1.14", ALL, "there is no PyTorch 1.14"),
        ("PyTorch", "1.13.1", ALL, None),
        ("PyTorch", "99.0", ALL, None),
        ("PyTorch", "2", ALL, None),
        ("PyTorch", "newest", ALL, "is no version of PyTorch"),
        ("PyTorch", None, NEW, None),
        ("CNTK", None, ALL, "there is no framework 'CNTK'"),
    ],
)
def test_a_version_that_cannot_be_had_is_refused_with_those_that_can(
    framework: str, version: str | None, known: list[Interpreter], says: str | None
) -> None:
    reason = refused(spec(framework, version), lambda: known)
    if says is None:
        assert reason is None
    else:
        import re

        assert reason and re.search(says, reason)


def test_a_framework_joins_the_list_with_what_it_needs() -> None:
    want = wanted(spec("Chainer", None, "numpy", "pytest"))
    assert want.requirements[:3] == ("numpy", "pytest", "chainer")
    assert "numpy<2" in want.requirements and want.build_constraints == ("setuptools<81",)
    assert (want.python, want.source) == ("<3.12", ("chainer",))


def test_a_version_of_the_user_wins_over_what_comes_along() -> None:
    assert "numpy<2" not in wanted(spec("Chainer", None, "numpy==1.23.5")).requirements


def test_tensorflow_comes_in_the_build_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {version: chosen(spec("TensorFlow", version)) for version in (None, "1.13", "2.4.1")}
    assert [c.requirement for c in asked.values() if c] == [
        "tensorflow-cpu",
        "tensorflow==1.13.*",
        "tensorflow-cpu==2.4.1",
    ]
    monkeypatch.setattr(_frameworks, "has_gpu", lambda: True)
    asked = {version: chosen(spec("TensorFlow", version)) for version in (None, "1.13", "2.4.1")}
    assert [c.requirement for c in asked.values() if c] == [
        "tensorflow[and-cuda]", "tensorflow-gpu==1.13.*", "tensorflow==2.4.1"]  # fmt: skip


def test_no_framework_changes_nothing() -> None:
    assert chosen(EnvironmentSpec()) is None and refused(EnvironmentSpec(), lambda: NEW) is None


@pytest.mark.parametrize(
    ("packages", "wants"),
    [
        (("tensorflow-gpu==1.15.0",), ("tensorflow-gpu==1.15.0", "protobuf<3.21", "numpy<1.24", "h5py<3")),
        (("tensorflow==1.15", "numpy==1.17.5"), ("tensorflow==1.15", "numpy==1.17.5", "protobuf<3.21", "h5py<3")),
        (("numpy==1.17.5",), ("numpy==1.17.5", "tensorflow-cpu")),
    ],
)
def test_a_framework_that_the_list_pins_itself_is_not_added_again(
    packages: tuple[str, ...], wants: tuple[str, ...]
) -> None:
    assert wanted(spec("TensorFlow", None, *packages)).requirements == wants


def test_what_was_chosen_is_said_in_sentences() -> None:
    def notes(framework: str, version: str | None, pin: str, *pip: str) -> list[str]:
        asked = spec(framework, version, *pip)
        return list(framework_notes(asked, wanted(asked).requirements, [f"{pin} --hash=sha256:0"]))

    assert notes("TensorFlow", "1.13", "tensorflow==1.13.2") == [
        "TensorFlow 1.13.2 (tensorflow for CPUs: this machine has no GPU): the newest 1.13 that fits; it runs on "
        "Python 3.7.",
        "For TensorFlow the list also has protobuf<3.21, numpy<1.24, h5py<3, gast<0.3; a version of your own wins.",
    ]
    assert notes("PyTorch", "1.13.1", "torch==1.13.1", "numpy==1.21.0") == [
        "PyTorch 1.13.1 (torch): as asked for; it runs on Python 3.7 to 3.11."
    ]
    assert notes("SKLearn", None, "scikit-learn==1.9.0")[0] == (
        "SKLearn 1.9.0 (scikit-learn): the newest that fits, as no framework_version was asked for."
    )


def test_sklearn_is_taken_for_what_it_means() -> None:
    want = wanted(EnvironmentSpec(pip_packages=("sklearn==0.0", "pandas")))
    assert want.requirements == ("scikit-learn", "pandas") and "scikit-learn is installed" in want.notes[0]
