"""Write ``tests/data/v1_surface.json``, the names and signatures of SDK v1, from a full listing of them.

``python scripts/_surface.py LISTING`` where LISTING is the JSON with one object per parameter. The copy keeps each
signature as the text that Python would show, so that it can be read, compared and put into a page as it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

COPY = Path(__file__).resolve().parent.parent / "tests" / "data" / "v1_surface.json"
_PREFIX = {"method": "", "staticmethod": "static ", "classmethod": "class ", "property": "property"}


def compact(listing: dict[str, Any]) -> dict[str, Any]:
    """The listing with names joined by spaces and each member as one line of text."""
    return {
        "modules": {name: " ".join(names) for name, names in sorted(listing["modules"].items())},
        "classes": {path: _class(facts) for path, facts in sorted(listing["classes"].items())},
    }


def main() -> int:
    """Write the copy of the listing that the command line names; the exit code."""
    listing = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    COPY.write_text(json.dumps(compact(listing), indent=1) + "\n", encoding="utf-8")
    return 0


def _class(facts: dict[str, Any]) -> dict[str, Any]:
    """One class. Attributes are what an instance has, whether set by hand or declared as a field."""
    attributes = [*facts.get("attributes", ()), *facts.get("config_fields", ())]
    kept = {
        "bases": " ".join(facts["bases"]),
        "attributes": " ".join(dict.fromkeys(attributes)),
        "own": {name: _member(of) for name, of in sorted(facts["methods"].items())},
        "inherited": {name: _member(of) for name, of in sorted(facts.get("inherited_methods", {}).items())},
        "nested": facts.get("nested_classes"),
    }
    return {name: value for name, value in kept.items() if value}


def _member(facts: dict[str, Any]) -> str:
    """``static (workspace, name=None)``, ``(self's arguments)`` or ``property``."""
    if facts["kind"] == "property":
        return "property"
    return f"{_PREFIX[facts['kind']]}({', '.join(_parameters(facts['params']))})"


def _parameters(listed: list[dict[str, Any]]) -> list[str]:
    texts, starred = [], False
    for one in listed:
        mark = {"vararg": "*", "kwarg": "**"}.get(one["kind"], "")
        if one["kind"] == "keyword" and not starred:
            texts.append("*")
        starred = starred or one["kind"] in ("vararg", "keyword")
        texts.append(mark + one["name"] + ("" if one["default"] is None else "=" + one["default"]))
    return texts


if __name__ == "__main__":
    sys.exit(main())
