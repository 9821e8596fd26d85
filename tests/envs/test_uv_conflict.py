from __future__ import annotations

import pytest

from windlassd.envs._uv_conflict import conflict, wanted_by
from windlassd.envs._uv_errors import failure

END = "we can conclude that your requirements are unsatisfiable."


@pytest.mark.parametrize(
    ("premises", "asked", "lines"),
    [
        (
            f"Because you require numpy<2 and numpy>=2, {END}",
            ["numpy<2", "numpy>=2"],
            ["'numpy<2' is asked for", "'numpy>=2' is asked for"],
        ),
        (
            "Because all versions of b depend on c>=2 and all versions of a depend on c<2, we can conclude that all "
            f"versions of a and all versions of b are incompatible.\n         And because you require a and b, {END}",
            ["b==1", "a"],
            ["'b==1' needs c>=2", "'a' needs c<2"],
        ),
        (
            "Because all versions of b depend on c>=2 and all versions of a depend on c<2, we can conclude that all "
            "versions of a and all versions of b are incompatible.\n     And because all versions of mid2 depend on "
            "b and all versions of mid depend on a, we can conclude that all versions of mid and all versions of mid2 "
            f"are incompatible.\n         And because you require mid and mid2, {END}",
            ["mid2", "mid"],
            ["'mid2' needs b, which needs c>=2", "'mid' needs a, which needs c<2"],
        ),
        (
            "Because all versions of a depend on c<2 and you require a, we can conclude that you require c<2.\n    "
            f"And because you require c==2.0, {END}",
            ["a", "c==2.0"],
            ["'a' needs c<2", "'c==2.0' is asked for"],
        ),
        (
            "Because a==1.0 depends on one of:\n             c==1.0\n             c==1.1\n and you require a==1.0, we "
            f"can conclude that you require c<2.\n And because you require c==2.0, {END}",
            ["a==1.0", "c==2.0"],
            ["'a==1.0' needs c==1.0 or c==1.1", "'c==2.0' is asked for"],
        ),
    ],
    ids=["both asked for", "one level down", "two levels down", "against a pin", "alternatives"],
)
def test_both_sides_are_named_with_what_they_want(premises: str, asked: list[str], lines: list[str]) -> None:
    error = f"error: No solution found when resolving dependencies\n  cause: {premises}\n"
    found = conflict(error, [*asked, "other"])
    assert found and list(found.asked) == asked and list(found.lines) == lines
    said = failure(error, [*asked, "other"], "3.11.7").message
    assert all(line in said for line in lines) and "'other'" not in said and said.count("\n") < 15


def test_no_conflict_is_made_up() -> None:
    assert (
        conflict(f"cause: Because nunpy was not found in the package registry and you require nunpy, {END}", ["nunpy"])
        is None
    )
    assert conflict("cause: something new", ["a"]) is None


def test_a_circle_of_dependencies_ends() -> None:
    circle = "Because a depends on b and b depends on a, we can conclude that something holds."
    text = f"{circle} And because b depends on c<1 and a depends on c>1, {END}"
    assert conflict(text, ["z"]) is None


def test_who_needs_what_nobody_asked_for() -> None:
    text = (
        "Because gone was not found in the package registry and all versions of needy depend on gone, we can conclude "
        f"that all versions of needy cannot be used. And because you require needy>=1, {END}"
    )
    assert wanted_by(text, "gone", ["needy>=1"]) == ", which 'needy>=1' needs,"
    assert wanted_by(text, "needy", ["needy>=1"]) == ""
