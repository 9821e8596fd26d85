"""Speaks for a Ray cluster of three machines as the engine's driver does, without Ray: a script for tests.

It stands for the interpreter (``python``); the test tells it by files in the folder of this script's link what to do:
``say`` (lines to say, once), ``refuse`` (a refusal); and reads what it was told in ``orders``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

_FOLDER = os.path.dirname(os.path.abspath(sys.argv[0]))
_lock = threading.Lock()


def main() -> None:
    connect = note(json.loads(sys.stdin.readline()))
    refusal = taken("refuse")
    if refusal:
        say({"refused": "token", "message": refusal})
        return
    say({"hello": {"ray": "2.60.0", "python": "3.11.7", "joined": False}})
    say({"nodes": machines(), "autoscaler": os.path.exists(os.path.join(_FOLDER, "elastic")), "coming": 0})
    threading.Thread(target=say_what_is_asked, daemon=True).start()
    for line in sys.stdin:
        carry_out(note(json.loads(line)), connect)


def carry_out(order: dict[str, Any], connect: dict[str, Any]) -> None:
    if order["do"] == "facts":
        facts = {"platform": "linux-x86_64-glibc2.36", "pythons": {"3.11.7": "/usr/bin/python3"}, "gpus": False}
        say({"facts": order["node"], "told": facts})
    elif order["do"] == "place" and not os.path.exists(os.path.join(_FOLDER, "slow")):
        say({"placed": order["job"], "bundles": bundles(order["count"])})
    elif order["do"] == "claim":
        held = os.path.exists(os.path.join(_FOLDER, "held"))
        say({"placed": order["job"], "bundles": bundles(order["count"], True)} if held else {"absent": order["job"]})
    elif order["do"] == "start":
        say({"part": order["job"], "bundle": order["bundle"], "state": "running", "message": ""})
    elif order["do"] == "free":
        say({"freed": order["job"]})


def machines() -> list[dict[str, Any]]:
    total = {"CPU": 4.0, "GPU": 2.0}
    return [
        {"id": f"{n}" * 8, "name": f"ray{n}", "address": f"10.0.0.{n}", "total": total, "others": {}, "leaving": False}
        for n in (1, 2, 3)
    ]


def bundles(count: int, started: bool = False) -> list[dict[str, Any]]:
    """The last machines first: Ray's order means nothing."""
    found = [
        {"node": m["id"], "address": m["address"], "host": m["name"], "gpus": ["1"], "started": started}
        for m in machines()[:count]
    ]
    return found[::-1]


def say_what_is_asked() -> None:
    while True:
        text = taken("say")
        for line in (text or "").splitlines():
            if line == "die":
                os._exit(7)
            say(json.loads(line))
        time.sleep(0.01)


def taken(name: str) -> str | None:
    path = os.path.join(_FOLDER, name)
    try:
        os.rename(path, path + ".taken")
    except FileNotFoundError:
        return None
    with open(path + ".taken", encoding="utf-8") as f:
        return f.read()


def note(order: dict[str, Any]) -> dict[str, Any]:
    with open(os.path.join(_FOLDER, "orders"), "a", encoding="utf-8") as f:
        f.write(json.dumps(order) + "\n")
    return order


def say(what: dict[str, Any]) -> None:
    with _lock:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
