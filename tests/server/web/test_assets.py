from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from windlass.errors import ServiceUnavailable
from windlassd.server.web import assets
from windlassd.server.web.assets import Assets

from .conftest import Browser, Site

STATIC = Path(assets.__file__).parent / "static"


def test_files_may_be_kept_for_ever_under_their_address(site: Site, browser: Browser) -> None:
    found = re.findall(r'(?:src|href)="(/static/[^"]+)"', browser.get(f"/runs/{site.run_id}").text)
    assert {Path(url).name for url in found} >= {"base.css", "run.css", "run.js", "uPlot.iife.js", "uPlot.min.css"}
    for url in found:
        answer = site.stranger().get(url)
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_address_changes_with_the_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = Assets().url("base.css")
    assert Assets().url("base.css") == before
    (tmp_path / "base.css").write_text("body { color: red }")
    monkeypatch.setattr(assets, "_OURS", tmp_path)
    assert Assets().url("base.css") != before


@pytest.mark.parametrize("path", ["/static/0000/base.css", "/static/{}/none.css", "/static/{}/..%2fapp.py"])
def test_nothing_else_is_served(site: Site, path: str) -> None:
    assert site.stranger().get(path.format(Assets().version)).status_code == 404


def test_a_missing_chart_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(ServiceUnavailable, match=r"uplot-python.*Reinstall"):
        Assets()


@pytest.mark.parametrize("path", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_static_files_stay_small_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_scripts_never_make_markup_of_text(path: Path) -> None:
    used = re.findall(
        r"\.innerHTML\s*=[^=]|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text()
    )
    assert used == []
