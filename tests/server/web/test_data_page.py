from __future__ import annotations

from typing import Any

from windlassd.store.base import DatasetRecord

from .conftest import Browser, Site
from .test_pages import HOSTILE, both


def dataset(name: str, version: int, *places: dict[str, Any], **values: Any) -> DatasetRecord:
    return DatasetRecord(f"{name}-{version}", "File", {"places": places}, 5.0, name, version, **values)


def test_datastores_and_datasets_are_shown(site: Site, browser: Browser) -> None:
    site.backend.known_datastores = [
        {"name": "workspaceblobstore", "path": "/home/x/blob", "default": True},
        {"name": "mine", "path": "/data/mine", "default": False},
    ]
    site.backend.known_datasets = [
        dataset("mnist", 2, {"path": "mnist/*.gz", "datastore": "mine"}, run_id=site.run_id, tags={"kind": "digits"}),
        dataset("mnist", 1, {"path": "/data/old"}),
    ]
    page, twin = both(browser, "/data")
    assert [(d["version"], d["places"]) for d in twin["datasets"]] == [(2, ["mine: mnist/*.gz"]), (1, ["/data/old"])]
    assert twin["datasets"][0]["run_url"] in page.links
    for text in ("mine: mnist/*.gz", "/data/old", "workspaceblobstore default", "/data/mine", "kinddigits"):
        assert text in page.text


def test_an_empty_workspace_says_how_to_register_a_dataset(browser: Browser) -> None:
    assert "Dataset.File.from_files" in browser.get("/data").text


def test_what_users_wrote_is_text(site: Site, browser: Browser) -> None:
    site.backend.known_datasets = [
        dataset(HOSTILE, 1, {"path": HOSTILE, "datastore": HOSTILE}, tags={HOSTILE: HOSTILE}, description=HOSTILE)
    ]
    page, _ = both(browser, "/data")
    assert not any(tag == "img" and attributes.get("src") == "x" for tag, attributes in page.tags)
    assert page.text.count("alert(1)") >= 4
