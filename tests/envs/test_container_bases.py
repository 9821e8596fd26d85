"""When the image of a Dockerfile goes, with an engine that knows nothing but images and their names."""

from __future__ import annotations

import json
import os
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import pytest

from windlassd.envs import _container_bases
from windlassd.envs._layout import Layout
from windlassd.envs.base import Lock

BASE = "sha256:" + "b" * 64


class Engine:
    """Images by id, each with its names."""

    def __init__(self, place: Path) -> None:
        self.address = f"unix://{place}"
        self.images: dict[str, list[str]] = {}
        self.busy = False
        engine = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = unquote(self.path).removeprefix("/images/").removesuffix("/json")
                names = engine.images.get(asked)
                self._answer(404 if names is None else 200, {"Id": asked, "RepoTags": names})

            def do_DELETE(self) -> None:
                asked = unquote(self.path).removeprefix("/images/")
                if engine.busy:
                    self._answer(409, {"message": "a container uses it"})
                    return
                for image, names in list(engine.images.items()):
                    if asked == image or asked in names:
                        left = [name for name in names if name != asked]
                        engine.images = {**engine.images, image: left}
                        if not left:
                            del engine.images[image]
                self._answer(200, [])

            def _answer(self, status: int, value: object) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def address_string(self) -> str:
                return "unix"

        self.server = socketserver.ThreadingUnixStreamServer(str(place), Answers)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "e.sock")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path / "environments"))


def base(layout: Layout, engine: Engine, *more: str, image: str = BASE) -> str:
    """The image of a Dockerfile, made a while ago; its name."""
    containers = os.path.join(os.path.dirname(layout.root), "containers")
    name = _container_bases.name_for(containers, "f" * 64)
    for names in engine.images.values():
        if name in names:
            names.remove(name)
    engine.images[image] = [name, *more]
    _container_bases.note(containers, name, image, engine.address)
    for entry in os.scandir(os.path.join(containers, "bases")):
        os.utime(entry, (1, 1))
    return name


def lock(builder: str, requirement: str) -> Lock:
    return Lock(builder, "/usr/bin/python3", "3.11.2", "linux", (requirement,), (), BASE)


def built(layout: Layout, made: Lock, when: float | None = None) -> Lock:
    layout.write_request("a" * 32, made, time.time() if when is None else when, {})
    if made.builder == "container":
        os.mkdir(layout.prefix(made.key))
    return made


def test_it_stays_while_an_environment_is_built_on_it_and_goes_with_the_last(layout: Layout, engine: Engine) -> None:
    base(layout, engine)
    one, two = built(layout, lock("container", "a==1")), built(layout, lock("container", "b==1"))
    _container_bases.drop_unneeded(layout.root, besides=one.key)
    assert BASE in engine.images
    os.rmdir(layout.prefix(one.key))
    _container_bases.drop_unneeded(layout.root, besides=two.key)
    assert engine.images == {}
    _container_bases.drop_unneeded(layout.root)


def test_one_that_is_taken_as_it_is_stays_as_long_as_its_request_holds(layout: Layout, engine: Engine) -> None:
    base(layout, engine)
    built(layout, lock("image", "-"))
    _container_bases.drop_unneeded(layout.root)
    assert BASE in engine.images
    built(layout, lock("image", "-"), when=1.0)
    _container_bases.drop_unneeded(layout.root)
    assert engine.images == {}


def test_a_name_that_the_user_gave_it_stays(layout: Layout, engine: Engine) -> None:
    base(layout, engine, "mine:1")
    _container_bases.drop_unneeded(layout.root)
    assert engine.images == {BASE: ["mine:1"]}


def test_the_older_image_of_a_dockerfile_that_was_built_anew_goes_too(layout: Layout, engine: Engine) -> None:
    base(layout, engine)
    base(layout, engine, image="sha256:" + "c" * 64)
    assert len(engine.images) == 2
    _container_bases.drop_unneeded(layout.root)
    assert engine.images == {}


def test_one_just_made_or_in_use_stays_and_goes_later(layout: Layout, engine: Engine) -> None:
    base(layout, engine)
    notes = Path(layout.root).parent / "containers" / "bases"
    for path in notes.iterdir():
        os.utime(path)
    _container_bases.drop_unneeded(layout.root)
    for path in notes.iterdir():
        os.utime(path, (1, 1))
    engine.busy = True
    _container_bases.drop_unneeded(layout.root)
    assert BASE in engine.images
    engine.busy = False
    _container_bases.drop_unneeded(layout.root)
    assert engine.images == {} and not list(notes.iterdir())


def test_images_of_other_homes_and_of_the_user_are_left_alone(layout: Layout, engine: Engine, tmp_path: Path) -> None:
    base(layout, engine)
    other = _container_bases.name_for(str(tmp_path / "other" / "containers"), "f" * 64)
    engine.images[BASE].append(other)
    engine.images["sha256:user"] = ["python:3.11-slim"]
    _container_bases.drop_unneeded(layout.root)
    assert engine.images == {BASE: [other], "sha256:user": ["python:3.11-slim"]}
