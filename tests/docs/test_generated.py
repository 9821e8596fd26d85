"""Pages of docs/ that are generated are up to date."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from windlass import settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("windlass_docs", ROOT / "scripts" / "_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["cli.md", "doctor.md", "settings.md", "compatibility.md"])
def test_the_page_says_what_the_code_says(generator: ModuleType, page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == generator.PAGES[page](), f"docs/{page} is not up to date: run scripts/docs"


def test_every_command_and_every_setting_has_its_place(generator: ModuleType) -> None:
    text = generator.cli_reference()
    for command in ("init", "submit", "ps", "logs", "stop", "open", "run download", "server stop", "model show"):
        assert f" windlass {command}\n" in text
    assert all(f"`{setting.variable}`" in generator.settings_reference() for setting in settings.TABLE)
