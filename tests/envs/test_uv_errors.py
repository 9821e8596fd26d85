from __future__ import annotations

import pytest

from windlassd.envs._uv_errors import failure, killed, suggestion


@pytest.mark.parametrize(
    ("name", "meant"),
    [("sklearn", "scikit-learn"), ("cv2", "opencv-python-headless"), ("PIL", "pillow"), ("nunpy", "numpy"),
     ("pandsa", "pandas"), ("tensorfow", "tensorflow")],
)  # fmt: skip
def test_confused_names_get_the_right_one(name: str, meant: str) -> None:
    assert suggestion(name) == f" Did you mean {meant!r}?"


@pytest.mark.parametrize("name", ["numpy", "my-own-package"])
def test_other_names_get_no_hint(name: str) -> None:
    assert suggestion(name) == ""


@pytest.mark.parametrize(
    ("error", "transient", "said"),
    [
        ("error: Failed to fetch: http://h/s/\n  cause: dns error", True, "index at h could not be reached"),
        ("error: Failed to fetch: http://h/s/\n  cause: operation timed out", True, "could not be reached"),
        (
            "error: HTTP status server error (503 Service Unavailable) for url (http://h/s)",
            True,
            "could not be reached",
        ),
        ("error: HTTP status client error (401 Unauthorized) for url (http://h/s)", False, "at h refuses access"),
        ("error: failed to write\n  cause: No space left on device (os error 28)", True, "disk is full"),
        ("error: No solution found\n  cause: Because a==1 depends on b>=2 and you require b<2", False, "'a', 'b<2'"),
        ("error: something new", False, "uv could not make the environment"),
    ],
)
def test_each_kind_of_failure_has_its_sentence(error: str, transient: bool, said: str) -> None:
    found = failure(error, ["a", "b<2", "c"], "3.11.7")
    assert said in found.message
    assert error.splitlines()[-1].strip() in found.message
    assert found.transient is transient


def test_a_long_reason_is_cut_in_the_middle() -> None:
    found = failure("Failed to build `x==1`\n" + "\n".join(f"line {n}" for n in range(2000)), ["x"], "3.11.7")
    assert len(found.message) < 2000
    assert "line 0" in found.message and "line 1999" in found.message


def test_a_killed_uv_is_called_killed() -> None:
    problem = killed(9)
    assert problem.transient and "SIGKILL" in problem.message and "memory" in problem.message
    assert "memory" not in killed(15).message
