from __future__ import annotations

import sys
from typing import Any

import pytest

from windlass import _yaml
from windlass.errors import UserErrorException


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("name: env # why\ndependencies:\n- python=3.10\n- pip:\n  - numpy>=1.20\n  - 'a[b]==1'\n",
         {"name": "env", "dependencies": ["python=3.10", {"pip": ["numpy>=1.20", "a[b]==1"]}]}),
        ("a:\n  b:\n    - c: 1\n      d: 2.5\n    -\n      e: ~\n  f: []\n  g: {h: 1, i: x}\n",
         {"a": {"b": [{"c": 1, "d": 2.5}, {"e": None}], "f": [], "g": {"h": 1, "i": "x"}}}),
        ("- - 1\n  - 2\n- 'it''s'\n- \"a\\tb # c\"\n- true\n- url: https://x/y#z\n",
         [[1, 2], "it's", "a\tb # c", True, {"url": "https://x/y#z"}]),
        ("---\nv: '1.10'\nw: 1.10\nx: 010\ny:\n", {"v": "1.10", "w": 1.1, "x": "010", "y": None}),
    ],
)  # fmt: skip
def test_what_files_are_made_of_is_read(text: str, value: Any) -> None:
    if "x: 010" in text:
        value = {**value, "x": 10.0}
    assert _yaml.load(text, "here") == value


@pytest.mark.parametrize(
    "text", ["a: &x 1\n", "a: |\n  text\n", "a: 1\n  b: 2\n", "- a\nb: 1\n", "a: 'x\n", "a: 1\na: 2\n"]
)
def test_what_it_does_not_read_names_the_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UserErrorException, match=r"conda\.yml cannot be read: line \d.*install PyYAML"):
        _yaml.load(text, "conda.yml")


@pytest.mark.parametrize(
    "value",
    [
        {
            "a": [
                1,
                "1",
                "1.5",
                1.5,
                None,
                "null",
                True,
                "true",
                "",
                "x: y",
                "a#b",
                "- a",
                "*a",
                "it's",
                "two\nlines",
                "é",
            ]
        },
        {"empty": {}, "none": [], "deep": [{"a": [{"b": [1]}], "c": {"d": "e"}}, [1, [2]]]},
        {"--option": "--index-url https://x", "k ey": " padded "},
        ["python=3.9", {"pip": ["numpy>=1,<2"]}],
    ],
)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert _yaml.load(_yaml.dump(value), "here") == value
