"""The error tree: drawn, complete, and the same on both sides of the wire."""

from __future__ import annotations

import re

import pytest

import windlassd.blobs.base
import windlassd.compute.base
import windlassd.envs.base
import windlassd.store.base  # noqa: F401  the server's own errors are loaded: they must not be taken for ours
from windlass import errors
from windlass.errors import AzureMLException, ServiceUnavailable, UserErrorException, did_you_mean, from_code


def tree(root: type[AzureMLException]) -> list[type[AzureMLException]]:
    own = [sub for sub in root.__subclasses__() if sub.__module__ == errors.__name__]
    return [root, *(kind for sub in own for kind in tree(sub))]


@pytest.mark.parametrize("kind", tree(AzureMLException), ids=lambda kind: kind.__name__)
def test_each_class_comes_back_from_its_code(kind: type[AzureMLException]) -> None:
    back = from_code(kind.error_code, "what was wrong")
    assert type(back) is kind and str(back) == back.message == "what was wrong"
    assert back.error_code == kind.error_code


def test_codes_are_unique_and_the_drawing_is_complete() -> None:
    kinds = tree(AzureMLException)
    assert len({kind.error_code for kind in kinds}) == len(kinds)
    drawn = re.findall(r"[─ ]([A-Z]\w+(?:Exception|Offered|TooLarge|Unavailable))", errors.__doc__ or "")
    assert set(drawn) >= {kind.__name__ for kind in kinds}


@pytest.mark.parametrize("code", ["conflict", "no_capacity", "environment_failed", "from_the_future", ""])
def test_what_this_version_does_not_know_is_a_wrong_request(code: str) -> None:
    back = from_code(code, "why")
    assert type(back) is UserErrorException and (back.error_code, back.message) == (code, "why")


def test_a_servers_failure_may_be_tried_again() -> None:
    assert from_code("service_unavailable", "full").transient is True
    assert ServiceUnavailable("x", transient=False).transient is False
    assert from_code("user_error", "x").transient is False


def test_the_next_step_is_part_of_what_is_shown() -> None:
    problem = UserErrorException("It is wrong.", "Mend it.", error_code="mine")
    assert str(problem) == problem.message == "It is wrong. Mend it." and problem.error_code == "mine"
    assert UserErrorException.error_code == "user_error"


def test_v1s_details() -> None:
    problem = errors.ActivityFailedException("failed", error_details={"code": 3})
    assert problem.error_details == {"code": 3} and str(problem) == "failed"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("train.py", ["tran.py"], " Did you mean 'tran.py'?"),
        ("CPUCLUSTER", ["cpucluster", "gpu"], " Did you mean 'cpucluster'?"),
        ("standard_d2_v22", ["STANDARD_D2_V2", "x"], " Did you mean 'STANDARD_D2_V2'?"),
        ("ab1", ["ab2", "ab3"], " Did you mean 'ab3' or 'ab2'?"),
        ("zzz", ["train.py"], ""),
        ("x", [], ""),
        ("", ["a"], ""),
    ],
)
def test_near_matches(name: str, known: list[str], hint: str) -> None:
    assert did_you_mean(name, known) == hint
