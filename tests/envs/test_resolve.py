"""Which interpreter a package list gets, with a resolver that is told what fits where."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import _resolve
from windlassd.envs._index import IndexSettings
from windlassd.envs._requirements import Wanted
from windlassd.envs._resolve import Resolved, resolve
from windlassd.envs._uv_errors import failure
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.interpreters import Interpreter, Interpreters
from windlassd.envs.venv import VenvBuilder
from windlassd.testing.builder_suite import quiet

if TYPE_CHECKING:
    from envs.conftest import Wheelhouse

NEWEST_FIRST = tuple(Interpreter(f"/py/{v}", v, "cpython") for v in ("3.13.0", "3.11.7", "3.7.16"))
NO_WHEELS = (
    "error: No solution found when resolving dependencies\n  cause: Because {0} has no usable wheels and you require "
    "{0}, we can conclude that your requirements are unsatisfiable.\n"
    "hint: Wheels are required for `{1}` because building from source is disabled for all packages"
)


class FakeUv:
    """Answers ``uv pip compile`` by a function of (interpreter's version, names built from source; None: all)."""

    def __init__(self, answer: Callable[[str, set[str] | None], str]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, set[str] | None]] = []

    def __call__(self, argv: Sequence[str], index: object, work: Work, **named: object) -> str:
        version = os.path.basename(argv[argv.index("--python") + 1])
        names = {argv[i + 1] for i, word in enumerate(argv) if word == "--no-binary"}
        source = names if "--only-binary" in argv else None
        self.asked.append((version, source))
        said = self._answer(version, source)
        if said.startswith("error"):
            raise failure(said, ["asked"], version)
        return said


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Resolved, FakeUv]]:
    """Resolve with a fake uv; returns what was found and the fake."""

    def run(
        answer: Callable[[str, set[str] | None], str],
        *,
        gpu: bool = True,
        links: str = "",
        source: tuple[str, ...] = (),
    ) -> tuple[Resolved, FakeUv]:
        fake = FakeUv(answer)
        monkeypatch.setattr(_resolve, "run_uv", fake)
        monkeypatch.setattr(_resolve, "has_gpu", lambda: gpu)
        index = IndexSettings({"UV_FIND_LINKS": links} if links else {}, (), {}, ())
        try:
            return resolve(Wanted(None, ("asked",), (), (), source), NEWEST_FIRST, index, quiet()), fake
        except EnvironmentFailed as problem:
            problem.args += (fake,)
            raise

    return run


Search = Callable[..., tuple[Resolved, FakeUv]]


def test_a_plain_list_is_resolved_once_in_the_newest(search: Search) -> None:
    found, uv = search(lambda version, source: "asked==1.0 --hash=sha256:0\n")
    assert found.python.version == "3.13.0"
    assert uv.asked == [("3.13.0", set())]
    assert found.notes == ("Python 3.13.0 (/py/3.13.0).",)


def test_wheels_of_an_old_python_choose_it_and_the_note_says_why(search: Search) -> None:
    found, uv = search(
        lambda version, source: "asked==5.4.1\n" if version == "3.7.16" else NO_WHEELS.format("asked==5.4.1", "asked")
    )
    assert found.python.version == "3.7.16"
    assert [version for version, _ in uv.asked] == ["3.13.0", "3.11.7", "3.7.16"]
    assert found.notes == ("Python 3.7.16 (/py/3.7.16): the list does not fit 3.13.0, 3.11.7.",)


def test_what_has_wheels_nowhere_is_built_and_the_rest_is_not(search: Search) -> None:
    def answer(version: str, source: set[str] | None) -> str:
        return "asked==1.0\n" if source == {"asked"} else NO_WHEELS.format("asked==1.0", "asked")

    found, uv = search(answer)
    assert found.python.version == "3.13.0"
    assert uv.asked[-1] == ("3.13.0", {"asked"})
    assert found.notes[0].endswith("built from source: asked.")


def test_known_source_packages_cost_no_extra_round(search: Search) -> None:
    _, uv = search(lambda version, source: "asked==1.0\n", source=("asked",))
    assert uv.asked == [("3.13.0", {"asked"})]


def test_what_does_not_exist_is_not_looked_for_again(search: Search) -> None:
    with pytest.raises(EnvironmentFailed, match="'nosuch' cannot be found") as caught:
        search(lambda version, source: "error: Because nosuch was not found in the package registry and you require it")
    assert len(caught.value.args[-1].asked) == 1
    absent = "error: Because there is no version of asked==9.9 and you require asked==9.9, we can conclude"
    with pytest.raises(EnvironmentFailed, match=r"'asked==9\.9'") as caught:
        search(lambda version, source: absent)
    assert len(caught.value.args[-1].asked) == 1


def test_a_failure_says_in_one_line_what_was_tried(search: Search) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        search(lambda version, source: NO_WHEELS.format("asked==1.0", "asked" if source else f"asked{version[-1]}"))
    assert caught.value.message.splitlines()[-1] == (
        "Tried: Python 3.13.0, 3.11.7, 3.7.16; wheels first, then builds from source."
    )
    assert len(caught.value.message.splitlines()) < 8


CUDA = "torch==2.13.0\nnvidia-cublas==1\nnvidia-cudnn==1\nnvidia-nccl==1\n"


def test_without_a_gpu_a_local_build_without_cuda_wins(search: Search, tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    answer = {"3.13.0": CUDA, "3.11.7": "torch==2.13.0+cpu\n"}
    found, _ = search(lambda version, source: answer[version], gpu=False, links=str(tmp_path))
    assert found.python.version == "3.11.7" and "without CUDA" in found.notes[0]
    found, uv = search(lambda version, source: answer[version], gpu=True, links=str(tmp_path))
    assert found.python.version == "3.13.0" and len(uv.asked) == 1


def test_another_version_is_no_substitute_and_the_gigabytes_are_named(search: Search, tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    answer = {"3.13.0": CUDA, "3.11.7": "torch==2.12.0+cpu\n", "3.7.16": NO_WHEELS.format("torch", "torch")}
    found, _ = search(lambda version, source: answer[version], gpu=False, links=str(tmp_path))
    assert found.python.version == "3.13.0" and "3 packages are CUDA libraries" in found.notes[-1]
    _, uv = search(lambda version, source: CUDA, gpu=False)
    assert len(uv.asked) == 1  # no place where other builds could be


@pytest.mark.interpreters
def test_tags_of_real_wheels_choose_a_real_interpreter(wheels: Wheelhouse, tmp_path: Path) -> None:
    wheels.add("tiny")
    (wheels.folder / "tiny-1.0-py3-none-any.whl").rename(wheels.folder / "tiny-1.0-cp37-none-any.whl")
    lock = VenvBuilder(Interpreters(str(tmp_path / "i.json"))).resolve(EnvironmentSpec(pip_packages=("tiny",)), quiet())
    assert lock.python_version.startswith("3.7.")
