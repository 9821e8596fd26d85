from __future__ import annotations

import os
from pathlib import Path

import pytest

from windlass.errors import UserErrorException
from windlassd.server.backend import LocatedFile
from windlassd.server.web import files

from .conftest import Browser, Site

PNG = b"\x89PNG\r\n\x1a\nrest"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"


def fetch(site: Site, browser: Browser, name: str, content: bytes, query: str = "?view=1") -> dict[str, str]:
    site.backend.write(site.run_id, f"outputs/{name}", content)
    answer = browser.get(f"/runs/{site.run_id}/files/outputs/{name}{query}")
    assert answer.status_code == 200 and answer.content == content
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-length"] == str(len(content))
    place, _, _ = answer.headers["content-disposition"].partition(";")
    return {"type": answer.headers["content-type"], "place": place}


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.png", "a.txt", "a.js"])
def test_a_file_is_sent_as_an_attachment(site: Site, browser: Browser, name: str) -> None:
    for content in (SVG, PNG, b"text"):
        assert fetch(site, browser, name, content, "") == {"type": "application/octet-stream", "place": "attachment"}


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.png", PNG, "image/png"),
        ("a.jpg", b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        ("a.txt", "Grüße".encode(), "text/plain; charset=utf-8"),
        ("empty.txt", b"", "text/plain; charset=utf-8"),
        ("a.svg", SVG, "text/plain; charset=utf-8"),  # its source, not the picture
        ("a.html", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("a.png", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
    ],
)
def test_what_is_shown_is_what_it_really_is(site: Site, browser: Browser, name: str, content: bytes, kind: str) -> None:
    assert fetch(site, browser, name, content) == {"type": kind, "place": "inline"}


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfeh\0i\0", b"\x80\x04pickle", b"GIF89a\xff\xff"])
def test_what_is_neither_text_nor_picture_is_not_shown(site: Site, browser: Browser, content: bytes) -> None:
    assert fetch(site, browser, "a.txt", content)["place"] == "attachment"


def test_a_character_cut_at_the_end_of_the_sample_is_text(site: Site, browser: Browser) -> None:
    assert fetch(site, browser, "a.txt", b"x" + "ü".encode() * 40_000)["place"] == "inline"


def test_a_huge_text_is_not_shown(site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_TEXT", 10)
    assert fetch(site, browser, "a.txt", b"x" * 10)["place"] == "inline"
    assert fetch(site, browser, "a.txt", b"x" * 11)["place"] == "attachment"


def test_a_log_that_grows_while_it_is_sent_is_cut_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    with path.open("ab") as grows, path.open("rb") as file:
        blocks = files._blocks(file, 6)
        grows.write(b"second\n")
        grows.flush()
        assert b"".join(blocks) == b"first\n"
        assert file.closed


def test_a_hostile_name_stays_inside_its_header(site: Site, browser: Browser) -> None:
    name = 'a";\r\nSet-Cookie: x=1;ü.txt'
    site.backend.write(site.run_id, f"outputs/{name}", b"x")
    answer = browser.get(f"/runs/{site.run_id}/files/outputs/a%22%3B%0D%0ASet-Cookie%3A%20x%3D1%3B%C3%BC.txt")
    assert answer.status_code == 200 and "set-cookie" not in answer.headers
    assert answer.headers["content-disposition"].endswith("a%22%3B%0D%0ASet-Cookie%3A%20x%3D1%3B%C3%BC.txt")


@pytest.mark.parametrize(
    "path", ["outputs/none.json", "../other/file", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "outputs"]
)
def test_nothing_outside_the_run_is_sent(site: Site, browser: Browser, path: str) -> None:
    answer = browser.get(f"/runs/{site.run_id}/files/{path}")
    assert answer.status_code == 404 and "root:" not in answer.text


def test_a_file_that_went_away_is_an_error_to_act_on(tmp_path: Path) -> None:
    with pytest.raises(UserErrorException, match="Reload the page"):
        files.send_file(LocatedFile(os.fspath(tmp_path / "gone"), 1, None), "gone", view=False)


@pytest.mark.parametrize(
    ("path", "may"), [("outputs/a.PNG", True), ("b.tar.gz", False), ("txt", False), ("a.joblib", False)]
)
def test_names_that_promise_something_to_see(path: str, may: bool) -> None:
    assert files.may_show(path) is may
