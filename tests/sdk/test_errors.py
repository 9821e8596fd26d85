"""The error tree: drawn, complete, and the same on both sides of the wire."""

from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path

import pytest

import windlassd.blobs.base
import windlassd.compute.base
import windlassd.envs.base
import windlassd.store.base  # noqa: F401  the server's own errors are loaded: they must not be taken for ours
from windlass import Workspace, errors
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
    drawn = re.findall(r"[─ ]([A-Z]\w+(?:Exception|Error|Offered|TooLarge|Unavailable))", errors.__doc__ or "")
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
    problem = UserErrorException("It is wrong.", next_step="Mend it.", error_code="mine")
    assert str(problem) == problem.message == "It is wrong. Mend it." and problem.error_code == "mine"
    assert UserErrorException.error_code == "user_error"


def test_v1s_constructors_keep_what_they_are_given() -> None:
    cause = ValueError("low")
    problem = AzureMLException("", cause, "run", ["more"], "{n} is wrong", {"n": 3}, "code.1", error_code="mine")
    assert str(problem) == problem.message == "3 is wrong" and problem.inner_exception is cause
    assert (problem.target, problem.details, problem.reference_code) == ("run", ["more"], "code.1")
    assert errors.WorkspaceException("two of them", found_multiple=True).found_multiple is True
    assert errors.ParallelRunException("again", code=4, delay_seconds=5).delay_seconds == 5
    assert errors.DatasetValidationError("no column", cause).inner_exception is cause
    assert "'history'" in errors.DiscoveryUrlNotFoundException("history").message
    assert errors.AzureMLAggregatedException([cause, KeyError("k")]).exceptions[0] is cause


def test_a_failed_run_gives_its_details_and_a_sentence() -> None:
    problem = errors.ActivityFailedException({"code": 3}, exception_message="It failed.")
    assert problem.error_details == {"code": 3} and str(problem) == "It failed."
    assert "3" in str(errors.ActivityFailedException({"code": 3}))


def test_what_v1s_scripts_catch(home: Path) -> None:
    with pytest.raises(errors.WorkspaceException, match="nowhere"):
        Workspace.get("nowhere")
    with pytest.raises(errors.WebserviceException) as caught:  # what v1's Model(ws, name) raised
        raise errors.ModelNotFoundException("There is no model 'm'.")
    assert caught.value.status_code == 404
    with pytest.raises(errors.ServiceException):
        raise ServiceUnavailable("The disk is full.")
    with pytest.raises(UserErrorException):
        raise errors.NotOffered("x")


def test_a_backends_answer_leaves_its_status() -> None:
    class Response(Exception):
        response = type("Answer", (), {"status_code": 404})

    problem = errors.ServiceException(Response("gone"))
    assert (problem.status_code, problem.message) == (404, "gone")
    assert isinstance(problem.inner_exception, Response)


def test_v1s_logger_is_told(caplog: pytest.LogCaptureFixture) -> None:
    errors.WebserviceException("It does not answer.", status_code=502, logger=logging.getLogger("v1"))
    assert "It does not answer." in caplog.text


@pytest.mark.parametrize("kind", tree(AzureMLException), ids=lambda kind: kind.__name__)
def test_errors_travel_between_processes(kind: type[AzureMLException]) -> None:
    problem = from_code(kind.error_code, "why")
    problem.details = {"rank": 1}
    back = pickle.loads(pickle.dumps(problem))
    assert type(back) is kind and (back.message, str(back), back.details) == ("why", "why", {"rank": 1})


def test_an_unknown_argument_is_an_ordinary_error() -> None:
    with pytest.raises(TypeError, match="unexpected argument 'colour'"):
        UserErrorException("x", colour="red")


def test_print_stacktrace(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise UserErrorException("It is wrong.")
    except UserErrorException as e:
        e.print_stacktrace()
    assert "test_print_stacktrace" in capsys.readouterr().err


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
