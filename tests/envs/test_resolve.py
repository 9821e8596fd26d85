"""Which interpreter a package list gets, with a resolver that is told what fits where."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import _cuda
from windlassd.envs._downloads import Download
from windlassd.envs._index import IndexSettings
from windlassd.envs._requirements import Wanted
from windlassd.envs._resolve import Later, resolve
from windlassd.envs._resolved import Resolved
from windlassd.envs._uv_errors import failure
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.interpreters import Interpreter
from windlassd.envs.venv import create
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
    """Answers ``uv pip compile`` by a function of (interpreter's version, names built from source; None: all).

    Questions about packages without what they depend on, and options beside those, go to functions of their own.
    """

    def __init__(self, answer: Callable[[str, set[str] | None], str]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, set[str] | None]] = []
        self.alone: Callable[[str, Sequence[str], str], str] = lambda version, packages, until: "error: none"
        self.extra: Callable[[str, Sequence[str]], str] = lambda version, options: "error: none"

    def __call__(self, argv: Sequence[str], index: object, work: Work, **named: object) -> str:
        at = argv.index("--python-version" if "--python-version" in argv else "--python")
        version = os.path.basename(argv[at + 1])
        until = argv[argv.index("--exclude-newer") + 1] if "--exclude-newer" in argv else ""
        names = {argv[i + 1] for i, word in enumerate(argv) if word == "--no-binary"}
        source = names if "--only-binary" in argv else None
        if "--no-deps" in argv:
            said = self.alone(version, named["asked"], until)  # type: ignore[arg-type]
        elif until or "--torch-backend" in argv:
            said = self.extra(version, argv[argv.index("--no-annotate") + 1 :])
        else:
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
        later: Later | None = None,
        asked: str = "asked",
        environment: Mapping[str, str] | None = None,
        alone: Callable[[str, Sequence[str], str], str] | None = None,
        extra: Callable[[str, Sequence[str]], str] | None = None,
    ) -> tuple[Resolved, FakeUv]:
        fake = FakeUv(answer)
        fake.alone, fake.extra = alone or fake.alone, extra or fake.extra
        monkeypatch.setattr(_cuda, "has_gpu", lambda: gpu)
        index = IndexSettings({**({"UV_FIND_LINKS": links} if links else {}), **(environment or {})}, (), {}, ())
        try:
            want = Wanted(None, tuple(asked.split()), (), (), source)
            return resolve(want, NEWEST_FIRST, index, quiet(), later, uv=fake), fake
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
    assert found.notes == (
        "Python 3.7.16 (/py/3.7.16): the list does not fit 3.13.0, 3.11.7 (asked==5.4.1 without wheels there).",
    )


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
    there = {"3.13.0": "error: none", "3.11.7": "torch==2.13.0+cpu\n", "3.7.16": "error: none"}
    found, _ = search(lambda version, source: answer[version], gpu=False, links=str(tmp_path),
                      alone=lambda version, packages, until: there[version])  # fmt: skip
    assert found.python.version == "3.11.7" and "without CUDA" in found.notes[0]
    found, uv = search(lambda version, source: answer[version], gpu=True, links=str(tmp_path))
    assert found.python.version == "3.13.0" and len(uv.asked) == 1


def test_another_version_is_no_substitute_and_the_gigabytes_are_named(search: Search, tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    answer = {"3.13.0": CUDA, "3.11.7": "torch==2.12.0+cpu\n", "3.7.16": NO_WHEELS.format("torch", "torch")}
    found, _ = search(lambda version, source: answer[version], gpu=False, links=str(tmp_path),
                      alone=lambda version, packages, until: "torch\n")  # fmt: skip
    assert found.python.version == "3.13.0" and "3 packages are CUDA libraries" in found.notes[-1]
    _, uv = search(lambda version, source: CUDA, gpu=False)
    assert len(uv.asked) == 1


@pytest.mark.interpreters
def test_tags_of_real_wheels_choose_a_real_interpreter(wheels: Wheelhouse, tmp_path: Path) -> None:
    wheels.add("tiny")
    (wheels.folder / "tiny-1.0-py3-none-any.whl").rename(wheels.folder / "tiny-1.0-cp37-none-any.whl")
    lock = create(str(tmp_path / "i.json")).resolve(EnvironmentSpec(pip_packages=("tiny",)), quiet())
    assert lock.python_version.startswith("3.7.")


def test_what_has_wheels_for_other_pythons_is_not_built(search: Search) -> None:
    """``ranked==3.4.5`` never had wheels; ``spacy==2.2.3`` has them up to 3.8."""

    def answer(version: str, source: set[str] | None) -> str:
        if version != "3.7.16":
            return NO_WHEELS.format("spacy==2.2.3", "spacy")
        return "ranked==3.4.5\nspacy==2.2.3\n" if source == {"ranked"} else NO_WHEELS.format("ranked==3.4.5", "ranked")

    def alone(version: str, packages: Sequence[str], until: str) -> str:
        return "spacy==2.2.3\n" if packages == ["spacy==2.2.3"] and version == "3.7.16" else NO_WHEELS.format("x", "x")

    found, uv = search(answer, alone=alone, asked="spacy==2.2.3 ranked==3.4.5")
    assert found.python.version == "3.7.16" and found.source == {"ranked"}
    assert [version for version, _ in uv.asked] == ["3.13.0", "3.11.7", "3.7.16", "3.7.16"]
    assert found.notes[0].endswith(
        "the list does not fit 3.13.0, 3.11.7 (spacy==2.2.3 without wheels there); built from source: ranked."
    )


ONLY_38 = Later(
    lambda: [Download("3.12.9", "cpython-3.12.9"), Download("3.8.20", "cpython-3.8.20")],
    lambda download, work: Interpreter(f"/managed/{download.version}", download.version, "cpython"),
)


def fits_38(version: str, source: set[str] | None) -> str:
    return "asked==5.4.1\n" if version == "3.8.20" else NO_WHEELS.format("asked==5.4.1", "asked")


def wheels_for_38(version: str, packages: Sequence[str], until: str) -> str:
    return fits_38(version, None)


def test_a_list_that_fits_none_here_gets_the_newest_download_that_it_fits(search: Search) -> None:
    found, uv = search(fits_38, later=ONLY_38, alone=wheels_for_38)
    assert found.python.path == "/managed/3.8.20"
    assert [version for version, _ in uv.asked] == ["3.13.0", "3.11.7", "3.7.16", "3.12.9", "3.8.20", "3.8.20"]


def test_a_download_that_fails_is_told_with_the_reason_of_the_list(search: Search) -> None:
    def fetch(download: Download, work: Work) -> Interpreter:
        raise EnvironmentFailed(f"Python {download.version} could not be downloaded.")

    with pytest.raises(EnvironmentFailed, match=r"(?s)'asked==5\.4\.1'.*Python 3\.8\.20 could not be downloaded\."):
        search(fits_38, later=Later(ONLY_38.listed, fetch), alone=wheels_for_38)


def test_a_list_that_fits_a_python_here_asks_for_no_downloads(search: Search) -> None:
    never = Later(lambda: pytest.fail("asked uv for its list"))
    found, _ = search(lambda version, source: "asked==1.0\n", later=never)
    assert found.python.version == "3.13.0"


PUBLISHED = "error: No solution\nhint: The requested version, v1.0, was published at {}T10:00:00Z. Consider"


def dated(day: str) -> Callable[[str, Sequence[str], str], str]:
    """What uv says of pins of which the newest was uploaded on that day."""
    return lambda version, packages, until: "\n".join(packages) if until >= day else PUBLISHED.format(day)


def old_list(version: str, source: set[str] | None) -> str:
    if version != "3.7.16":
        return NO_WHEELS.format("tf==1.15", "tf")
    return "protobuf==4.24\ntf==1.15\n"


def test_what_an_old_list_leaves_open_is_taken_as_of_its_time(search: Search) -> None:
    def extra(version: str, options: Sequence[str]) -> str:
        return "protobuf==3.11\ntf==1.15\n" if version == "3.7.16" else "error: none"

    found, _ = search(old_list, asked="tf==1.15", alone=dated("2019-10-16"), extra=extra)
    assert found.pins == ["protobuf==3.11", "tf==1.15"]
    assert found.extra.options == ["--exclude-newer", "2019-12-15"]
    assert "is of 2019-10-16, so what it leaves open is taken as of 2019-12-15" in found.notes[1]


def test_what_had_no_wheels_then_is_newer_as_little_as_can_be(search: Search) -> None:
    def extra(version: str, options: Sequence[str]) -> str:
        if "markupsafe=2022-01-15" not in options:
            return NO_WHEELS.format("markupsafe==1.0", "markupsafe")
        return "protobuf==3.11\ntf==1.15\n" if "gym=false" in options else NO_WHEELS.format("gym==0.1", "gym")

    found, _ = search(old_list, asked="tf==1.15", alone=dated("2019-10-16"), extra=extra)
    assert found.extra.options == ["--exclude-newer", "2019-12-15", "--exclude-newer-package", "gym=false",
                                   "--exclude-newer-package", "markupsafe=2022-01-15"]  # fmt: skip


def test_a_list_that_does_not_fit_as_of_its_time_stays_as_it_is(search: Search) -> None:
    found, _ = search(old_list, asked="tf==1.15", alone=dated("2019-10-16"))
    assert found.pins == ["protobuf==4.24", "tf==1.15"] and found.extra.options == []


@pytest.mark.parametrize(
    ("asked", "day", "environment"),
    [
        ("tf", "2019-10-16", {}),
        ("tf==1.15", "2024-10-16", {}),
        ("tf==1.15", "2019-10-16", {"UV_EXCLUDE_NEWER": "2026"}),
    ],
)
def test_only_old_pins_make_an_old_list(search: Search, asked: str, day: str, environment: Mapping[str, str]) -> None:
    found, _ = search(old_list, asked=asked, alone=dated(day), environment=environment,
                      extra=lambda version, options: "protobuf==3.11\ntf==1.15\n")  # fmt: skip
    assert found.pins == ["protobuf==4.24", "tf==1.15"]


def test_old_pins_that_fit_the_newest_python_change_nothing(search: Search) -> None:
    found, _ = search(lambda version, source: "six==1.12\n", asked="six==1.12", alone=dated("2018-12-10"),
                      extra=lambda version, options: pytest.fail("resolved anew"))  # fmt: skip
    assert found.python.version == "3.13.0"


def test_without_a_gpu_pytorchs_own_index_is_asked_for_its_build(search: Search) -> None:
    found, _ = search(lambda version, source: CUDA, gpu=False, extra=lambda version, options: "torch==2.13.0+cpu\n")
    assert found.pins == ["torch==2.13.0+cpu"] and found.extra.options == ["--torch-backend", "cpu"]
    assert "build for CPUs" in found.notes[-1]


def test_an_index_that_the_user_named_is_the_only_one(search: Search) -> None:
    found, _ = search(lambda version, source: CUDA, gpu=False, environment={"UV_DEFAULT_INDEX": "http://mine/simple"},
                      extra=lambda version, options: pytest.fail("asked PyTorch's index"))  # fmt: skip
    assert "3 packages are CUDA libraries" in found.notes[-1]


def test_what_packages_bring_along_is_built_where_the_lists_own_have_wheels(search: Search) -> None:
    def answer(version: str, source: set[str] | None) -> str:
        if version != "3.7.16" or source is None:
            return NO_WHEELS.format("asked==1.0", "asked") if source is not None else "asked==1.0\n"
        missing = {"brought", "deeper"} - source
        return NO_WHEELS.format("x==1", min(missing)) if missing else "asked==1.0\nbrought==1.0\ndeeper==1.0\n"

    def alone(version: str, packages: Sequence[str], until: str) -> str:
        return NO_WHEELS.format("asked", "asked") if packages == ["asked"] and version != "3.7.16" else "some==1\n"

    found, _ = search(answer, alone=alone)
    assert found.python.version == "3.7.16" and found.source == {"brought", "deeper"}
