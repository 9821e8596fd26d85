"""Releases that run on old Pythons only, though their files claim any: what a resolver cannot know.

Data of what breaks at import: ``collections.Mapping`` and the like went with Python 3.10, ``fractions.gcd`` with 3.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from windlassd.envs._requirements import requirement_name

_NEWEST_PYTHON = {
    "mxnet": ("2.0", (3, 8)), "mxnet-mkl": ("2.0", (3, 8)), "gluoncv": ("0.11", (3, 8)), "gluonnlp": ("0.11", (3, 8)),
    "keras": ("2.4", (3, 7)), "fastai": ("2.0", (3, 8)), "pytorch-lightning": ("1.2", (3, 8)), "gym": ("0.20", (3, 8)),
    "flask": ("2.0", (3, 9)), "jinja2": ("3.0", (3, 9)), "werkzeug": ("1.0", (3, 9)), "gunicorn": ("20.0", (3, 9)),
    "dash": ("2.0", (3, 9)), "bokeh": ("2.2", (3, 9)), "mlflow": ("1.21", (3, 9)), "dask": ("2021.3", (3, 8)),
    "networkx": ("2.6", (3, 8)), "sympy": ("1.6", (3, 9)), "nltk": ("3.5", (3, 9)), "seaborn": ("0.11", (3, 9)),
    "pandas-profiling": ("3.0", (3, 9)), "pytest": ("6.2.5", (3, 9)), "nose": ("2.0", (3, 9)),
}  # fmt: skip
"""Project → releases before that one run on Pythons up to that one."""
_ALWAYS = ("mxnet", "mxnet-mkl", "nose")
"""No release runs on newer ones."""
_EXACT = re.compile(r"==\s*(\d[\d.]*)")


def newest_python(requirements: Sequence[str]) -> tuple[tuple[int, int], str] | None:
    """(the newest Python that all of these run on, the requirement that says so); None when none is known of."""
    return min(_limits(requirements), default=None)


def _limits(requirements: Sequence[str]) -> Iterator[tuple[tuple[int, int], str]]:
    for text in requirements:
        name = requirement_name(text)
        if name not in _NEWEST_PYTHON:
            continue
        before, python = _NEWEST_PYTHON[name]
        exact = _EXACT.search(text)
        if _numbers(exact.group(1)) < _numbers(before) if exact else name in _ALWAYS:
            yield python, text


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)
