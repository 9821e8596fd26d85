"""Examine a workspace: by its server where one runs, else by the doctor itself, which needs no server."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from typing import Any, Dict, Iterator, Optional

import windlass
from windlass._transport import autostart
from windlass._transport.client import Client, answers
from windlass._transport.places import interpreter_file
from windlass.errors import ServiceUnavailable, UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.findings import OPEN, REPAIRED, Finding, finding

_ANSWER_S, _SILENCE_S = 10.0, 30.0
_ARGUMENTS = ("repair", "deep")


def examine(workspace: str, repair: bool = False, deep: bool = False) -> "Iterator[Dict[str, Any]]":
    """Yield what the doctor tells as it goes: ``{"checking": theme}`` and ``{"finding": …}``; see ``dev/wire.md``.

    Raises:
        UserErrorException: there is no such workspace, or no Python with Windlass's server.
        ServiceUnavailable: the doctor ended without a result.
    """
    if not os.path.isdir(workspace):
        raise UserErrorException("There is no workspace in %s. `windlass init` makes one." % workspace)
    python, missing = _interpreter(repair)
    if missing is not None:
        yield _told(missing)
    # A server that takes connections and does not answer is for the doctor itself to tell of.
    lines = _by_server(workspace, repair, deep) if answers(workspace, _ANSWER_S) else None
    for line in lines or _alone(python, workspace, repair, deep):
        if line.get("version", windlass.__version__) != windlass.__version__:
            detail = "The server is Windlass %s, this command line %s." % (line["version"], windlass.__version__)
            yield _told(finding("server_version", python or workspace, detail))
        elif "done" not in line:
            yield line


def _interpreter(repair: bool) -> "tuple[Optional[str], Optional[Finding]]":
    """The interpreter of the home's servers, or this one in its place; and what is wrong with the home's."""
    recorded = autostart.recorded_interpreter()
    if recorded:
        return recorded, None
    import importlib.util

    path = interpreter_file()
    own = sys.executable if importlib.util.find_spec("windlassd") is not None else None
    if own and not os.path.exists(path):
        return own, None  # the first start of a server records it
    state = OPEN
    if own and repair:
        state = REPAIRED if autostart.record_interpreter() else OPEN
    detail = "%s names no Python that can be started." % path
    return own, finding("interpreter_missing", path, detail, mendable=own is not None, state=state)


def _by_server(workspace: str, repair: bool, deep: bool) -> "Iterator[Dict[str, Any]]":
    body = json.dumps({"repair": repair, "deep": deep}).encode()
    answer = Client(workspace, start=False).open(
        "POST", "/v1/doctor", body=body, content_type="application/json", timeout_s=_SILENCE_S, own_connection=True
    )
    try:
        with answer:
            for line in answer:
                told = json.loads(line.decode())
                yield told
                if "done" in told:
                    return
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise ServiceUnavailable("The server broke off in the middle of the examination (%r). Run it again." % e) from e
    raise ServiceUnavailable("The server ended in the middle of the examination. Run it again.")


def _alone(python: "Optional[str]", workspace: str, repair: bool, deep: bool) -> "Iterator[Dict[str, Any]]":
    if python is None:
        raise UserErrorException(
            "No Python with Windlass's server is known to this home (%s). Run `windlass doctor` with the Python that "
            "has it." % interpreter_file()
        )
    command = [python, "-m", "windlassd.doctor", "--workspace-dir", workspace]
    command += ["--" + name for name, wanted in zip(_ARGUMENTS, (repair, deep)) if wanted]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=autostart.server_environment(),
    )  # fmt: skip
    assert child.stdout is not None and child.stderr is not None
    done, said = False, b""
    try:
        for line in child.stdout:
            told = json.loads(line.decode())
            done = done or "done" in told
            yield told
        said = child.stderr.read()
    finally:
        for stream in (child.stdout, child.stderr):
            stream.close()
        child.wait()
    if done:
        return
    words = said.decode("utf-8", "replace").strip().splitlines()
    if child.returncode == 2 and words and words[-1].startswith("windlassd.doctor: "):
        raise UserErrorException(words[-1][len("windlassd.doctor: ") :])
    detail = "%s cannot run Windlass's server (exit code %d): %s" % (python, child.returncode, " ".join(words[-1:]))
    yield _told(finding("server_cannot_start", python, detail))


def _told(found: Finding) -> "Dict[str, Any]":
    return {"finding": to_wire(found)}
