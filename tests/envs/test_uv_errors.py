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
        ("error: HTTP status server error (503 Service Unavailable) for url (http://h/s)", True, "at h has trouble"),
        ("error: HTTP status client error (429 Too Many Requests) for url (http://h/s)", True, "be left alone"),
        ("error: Failed to fetch: http://h/s\n  cause: invalid peer certificate: UnknownIssuer", True, "PIP_CERT"),
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
    found = failure("error: strange\n" + "\n".join(f"line {n}" + " x" * 500 for n in range(2000)), ["x"], "3.11.7")
    assert len(found.message) < 4000 and found.message.count("\n") < 15
    assert "line 0" in found.message and "line 1999" in found.message
    assert "line 20 x" in found.said


REFUSED = "error: HTTP status client error (401 Unauthorized) for url (http://h:8/s)"


def test_a_refusal_says_whether_a_login_is_missing_or_wrong() -> None:
    missing = failure(REFUSED, ["a"], "3.11.7", lambda host: False)
    wrong = failure(REFUSED, ["a"], "3.11.7", lambda host: host == "h:8")
    assert "at h:8 refuses access (401 Unauthorized): it asks for a login, and none is set" in missing.message
    assert "is wrong, has expired" in wrong.message
    for found in (missing, wrong):
        assert "~/.netrc" in found.message and "pip.conf" in found.message
        assert found.hopeless and not found.transient  # trying again, or on another Python, is of no use


BROKEN = """error: No solution found when resolving dependencies
  cause: Because all versions of numpy have an invalid package format and you require numpy, we can conclude that your \
requirements are unsatisfiable.

hint: The structure of `numpy` (v2.1.0) was invalid:
  Failed to read from zip file
"""


def test_a_file_that_came_broken_is_no_conflict() -> None:
    found = failure(BROKEN, ["numpy"], "3.11.7")
    assert "The file of 'numpy==2.1.0' that came from the index is broken: Failed to read" in found.message
    assert found.transient and "uv cache clean numpy" in found.message


CHANGED = """error: Failed to download `c==2.0`
  cause: Hash mismatch for `c==2.0`

         Expected:
           sha256:0000

         Computed:
           sha256:4053
"""


def test_a_changed_file_shows_both_hashes() -> None:
    said = failure(CHANGED, ["c==2.0"], "3.11.7").message
    assert "'c==2.0' is not the one that was locked" in said
    assert "locked: sha256:0000" in said and "came: sha256:4053" in said


GONE = """error: Failed to fetch: http://h/files/a-1.whl
  cause: HTTP status client error (404 Not Found) for url (http://h/files/a-1.whl)
"""


def test_a_file_that_is_not_there_is_named() -> None:
    assert "The file http://h/files/a-1.whl is not there." in failure(GONE, ["a"], "3.11.7").message


PYTHON = """error: No solution found when resolving dependencies
  cause: Because new==1.0 requires Python >=3.13 and only new==1.0 is available, we can conclude that all versions of \
new cannot be used.
         And because all versions of needy depend on new and you require needy, we can conclude that your \
requirements are unsatisfiable.
"""


def test_a_package_for_another_python_says_for_which_and_who_needs_it() -> None:
    said = failure(PYTHON, ["needy"], "3.11.7").message
    assert "'new==1.0', which 'needy' needs, requires Python >=3.13, and this is Python 3.11.7" in said
    assert "python_version" in said


WHEELS = """error: No solution found when resolving dependencies
  cause: Because tf==1.13.1 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require tf==1.13.1, \
we can conclude that your requirements are unsatisfiable.

hint: You require CPython 3.11 (`cp311`), but we only found wheels for `tf` (v1.13.1) with the following Python ABI \
tag: `cp37m`
"""


def test_a_package_without_a_wheel_says_what_it_has_wheels_for() -> None:
    said = failure(WHEELS, ["tf==1.13.1"], "3.11.7").message
    assert "'tf==1.13.1' has no wheel for Python 3.11.7, only for Python 3.7, and no sources" in said


TOO_NEW = """error: No solution found when resolving dependencies
  cause: Because the current Python version (3.8.18) does not satisfy Python>=3.11 and numpy>=2.3.0 depends on \
Python>=3.11, we can conclude that numpy>=2.3.0 cannot be used. (1)

         Because the current Python version (3.8.18) does not satisfy Python>=3.9 and numpy>=2.0.0,<=2.0.2 depends on \
Python>=3.9, we can conclude that numpy>=2.0.0,<=2.0.2 cannot be used.
         And because numpy==2.4.0 has no wheels with a matching Python implementation tag (e.g., `cp38`) and you \
require numpy>=2, we can conclude that your requirements are unsatisfiable.

hint: You require CPython 3.8 (`cp38`), but we only found wheels for `numpy` (v2.4.0) with the following Python \
implementation tag: `cp311`
"""


def test_versions_that_all_need_a_newer_python_are_not_told_by_one_of_them() -> None:
    said = failure(TOO_NEW, ["pandas==0.25.3", "numpy>=2"], "3.8.18").message
    assert "No version of 'numpy>=2' runs on Python 3.8.18: the oldest Python for one is 3.9." in said


PRE_RELEASE = """error: No solution found when resolving dependencies
  cause: Because only pre==1.0b1 is available and you require pre>=1, we can conclude that your requirements are \
unsatisfiable.
"""


def test_a_pre_release_that_would_do_is_offered() -> None:
    assert "ask for 'pre==1.0b1'" in failure(PRE_RELEASE, ["pre>=1"], "3.11.7").message


@pytest.mark.parametrize(("asked", "step"), [(">=2", "ask for 'pre==2.0rc1'"), ("==9.9.*", "Loosen the version")])
def test_a_pre_release_among_others_is_offered_when_it_would_do(asked: str, step: str) -> None:
    error = PRE_RELEASE.replace("only pre==1.0b1", "only pre<=2.0rc1").replace("pre>=1", f"pre{asked}")
    said = failure(error, [f"pre{asked}"], "3.11.7").message
    assert f"No version of 'pre{asked}' can be had for Python 3.11.7: there is only pre<=2.0rc1." in said
    assert step in said


@pytest.mark.parametrize(("name", "step"), [("json", "'json' is a part of Python; leave it out."),
                                            ("python", "Say it as python_version")])  # fmt: skip
def test_what_is_no_package_but_python_is_told(name: str, step: str) -> None:
    error = f"error: No solution found\n  cause: Because {name} was not found in the package registry and you require"
    assert step in failure(error, [name], "3.11.7").message


GIT = """error: Failed to download and build `foo @ git+https://h/x.git`
  cause: Git operation failed
  cause: failed to clone into: /c/git-v1/db/8d
  cause: process didn't exit successfully: `/usr/bin/git fetch 'https://h/x.git'` (exit status: 128)
         --- stderr
         fatal: Authentication failed for 'https://h/x.git/'
"""


def test_a_repository_that_refuses_is_named_with_gits_own_way_out() -> None:
    said = failure(GIT, ["foo @ git+https://h/x.git"], "3.11.7").message
    assert "foo @ git+https://h/x.git cannot be fetched with git: Authentication failed" in said
    assert "credential helper" in said


@pytest.mark.parametrize("name", ["certificate-tools==1.503", "pyopenssl==500", "a-401-b"])
def test_names_of_packages_are_not_taken_for_failures(name: str) -> None:
    text = f"error: No solution found\n  cause: Because {name} depends on x<1 and you require x>1, we can conclude"
    found = failure(text, [name, "x>1"], "3.11.7")
    assert not found.transient and not found.refused and "do not fit together" in found.message


def test_words_of_a_build_are_not_taken_for_uvs() -> None:
    build = "error: Failed to build `x==1`\n  cause: The build backend returned an error\n\n         [stderr]\n"
    found = failure(build + "         tests: connection refused, 401 Unauthorized, 503 Service\n", ["x"], "3.11.7")
    assert "'x==1' has no wheel for Python 3.11.7 and cannot be built" in found.message and not found.transient


def test_a_killed_uv_is_called_killed() -> None:
    problem = killed(9)
    assert problem.transient and "SIGKILL" in problem.message and "memory" in problem.message
    assert "memory" not in killed(15).message
