"""Who gets in: tokens that are good, for calls in the tables, with names that are the holder's own."""

from __future__ import annotations

import logging
import re
import ssl
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from windlass.specs.data import DataPlace, DataSpec
from windlass.specs.status import RunStatus
from windlassd.server.agents.allowed import OF_AGENTS, OF_JOBS
from windlassd.server.agents.app import create_agents_app

from .conftest import FACTS, SHA256, SNAPSHOT, Served

Example = tuple[str, Any]
"""A path with its query, and a body."""
SPEC = {"experiment": "exp", "script": "train.py", "snapshot_id": SNAPSHOT}
FILE = {"path": "outputs/x", "from": "/etc/hostname", "device": 1, "inode": 1, "size": 1, "modified_ns": 1}
HELLO = {"pid": 1, "protocol": 4, "version": "0", "runs": []}
PLACE = {"path": "data", "datastore": "workspaceblobstore"}


def dataset(**place: Any) -> dict[str, Any]:
    return {"name": "made", "type": "File", "definition": {"places": [place], "read": {}, "steps": []}}


JOBS: dict[tuple[str, str], tuple[Example, Example | None]] = {
    ("GET", "/v1/runs/{run_id}"): (("/v1/runs/mine", None), ("/v1/runs/others", None)),
    ("PATCH", "/v1/runs/{run_id}"): (
        ("/v1/runs/mine_1", {"tags": {"a": "b"}}), ("/v1/runs/others_1", {"tags": {"a": "b"}})),
    ("POST", "/v1/runs/{run_id}/cancel"): (("/v1/runs/mine_2/cancel", {}), ("/v1/runs/others_1/cancel", {})),
    ("POST", "/v1/runs/{run_id}/flush"): (
        ("/v1/runs/mine/flush", {"spool": "s", "offset": 0}), ("/v1/runs/others/flush", {"spool": "s", "offset": 0})),
    ("POST", "/v1/runs/{run_id}/spool"): (
        ("/v1/runs/mine_1/spool?spool=1-a&offset=0", b""), ("/v1/runs/others_1/spool?spool=1-a&offset=0", b"")),
    ("POST", "/v1/runs/{run_id}/end"): (
        ("/v1/runs/mine_3/end", {"status": "Completed"}), ("/v1/runs/others_1/end", {"status": "Completed"})),
    ("GET", "/v1/runs/{run_id}/metrics"): (("/v1/runs/mine/metrics", None), ("/v1/runs/others/metrics", None)),
    ("GET", "/v1/runs/{run_id}/stream"): (("/v1/runs/mine_4/stream", None), ("/v1/runs/others/stream", None)),
    ("GET", "/v1/runs/{run_id}/files"): (("/v1/runs/mine/files", None), ("/v1/runs/others/files", None)),
    ("GET", "/v1/runs/{run_id}/files/{path:file}"): (
        ("/v1/runs/mine/files/outputs/there", None), ("/v1/runs/others/files/outputs/there", None)),
    ("PUT", "/v1/runs/{run_id}/files/{path:file}"): (
        ("/v1/runs/mine/files/outputs/a", b"1"), ("/v1/runs/others/files/outputs/a", b"1")),
    ("POST", "/v1/runs/{run_id}/copies"): (
        ("/v1/runs/mine/copies", {"files": [FILE]}), ("/v1/runs/others/copies", {"files": [FILE]})),
    ("GET", "/v1/runs"): (("/v1/runs?parent=mine", None), ("/v1/runs?parent=others", None)),
    ("POST", "/v1/runs"): (
        ("/v1/runs", {"spec": {**SPEC, "parent_id": "mine"}, "dry_run": True}),
        ("/v1/runs", {"spec": {**SPEC, "parent_id": "others"}, "request_id": "1"})),
    ("POST", "/v1/interactive"): (
        ("/v1/interactive", {"spec": {**SPEC, "parent_id": "mine"}, "request_id": "i", "line": "l"}),
        ("/v1/interactive", {"spec": {**SPEC, "parent_id": "others"}, "request_id": "i", "line": "l"})),
    ("POST", "/v1/clients/{line}/alive"): (
        ("/v1/clients/none/alive", {"runs": []}), ("/v1/clients/l/alive", {"runs": ["mine_1", "others_1"]})),
    ("POST", "/v1/clients/{line}/runs"): (
        ("/v1/clients/t/runs", {"run_id": "mine_1"}), ("/v1/clients/t/runs", {"run_id": "others_1"})),
    ("GET", "/v1/server"): (("/v1/server", None), None),
    ("GET", "/v1/workspace"): (("/v1/workspace", None), None),
    ("GET", "/v1/experiments"): (("/v1/experiments", None), None),
    ("GET", "/v1/computes"): (("/v1/computes", None), None),
    ("GET", "/v1/computes/{name}"): (("/v1/computes/local", None), None),
    ("GET", "/v1/models"): (("/v1/models", None), None),
    ("POST", "/v1/models"): (
        ("/v1/models", {"name": "m", "run_id": "mine", "path": "outputs/there"}),
        ("/v1/models", {"name": "m", "run_id": "others", "path": "outputs/there"})),
    ("GET", "/v1/models/{name}/versions/{version}"): (("/v1/models/m/versions/1", None), None),
    ("GET", "/v1/models/{name}/versions/{version}/files/{path:file}"): (
        ("/v1/models/m/versions/1/files/there", None), None),
    ("GET", "/v1/datasets"): (("/v1/datasets", None), None),
    ("POST", "/v1/datasets"): (("/v1/datasets", dataset(**PLACE)), ("/v1/datasets", dataset(path="/etc"))),
    ("GET", "/v1/datasets/{dataset_id}"): (("/v1/datasets/none", None), None),
    ("GET", "/v1/dataset-names/{name}/versions/{version}"): (("/v1/dataset-names/made/versions/1", None), None),
    ("GET", "/v1/datastores"): (("/v1/datastores", None), None),
    ("GET", "/v1/datastores/{name}"): (("/v1/datastores/workspaceblobstore", None), None),
    ("PUT", "/v1/datastores/{name}/files/{path:file}"): (("/v1/datastores/workspaceblobstore/files/d", b"1"), None),
    ("GET", "/v1/datastores/{name}/files"): (("/v1/datastores/workspaceblobstore/files", None), None),
    ("GET", "/v1/datastores/{name}/files/{path:file}"): (("/v1/datastores/workspaceblobstore/files/d", None), None),
    ("POST", "/v1/datastores/{name}/copies"): (
        ("/v1/datastores/workspaceblobstore/copies", {"files": [FILE]}), None),
    ("GET", "/v1/environments"): (("/v1/environments", None), None),
    ("GET", "/v1/environments/{key}"): (("/v1/environments/none", None), None),
    ("POST", "/v1/environments/find"): (("/v1/environments/find", {"spec": {"user_managed": True}}), None),
    ("GET", "/v1/registered-environments"): (("/v1/registered-environments", None), None),
    ("GET", "/v1/registered-environments/{name}"): (("/v1/registered-environments/none", None), None),
    ("POST", "/v1/snapshots"): (("/v1/snapshots", {"files": []}), None),
    ("POST", "/v1/blobs"): (("/v1/blobs", b""), None),
    ("POST", "/v1/blob-copies"): (("/v1/blob-copies", {"files": [FILE]}), None),
    ("POST", "/v1/blobs/missing"): (("/v1/blobs/missing", {"hashes": [SHA256]}), None),
    ("PUT", "/v1/blobs/{sha256}"): ((f"/v1/blobs/{SHA256}?offset=0&size=15", b""), None),
}  # fmt: skip
"""Of each row: a call that a job of ``mine`` may make, and one that it may not for the names in it."""

OWN, QUERY = "/agent/v1/mine.1.0", "run_id=mine&attempt=1&rank=0"
AGENTS: dict[tuple[str, str], tuple[Example, tuple[Example, ...]]] = {
    ("POST", "/agent/v1/{name}/orders"): (
        (f"{OWN}/orders", {**HELLO, "runs": []}),
        (("/agent/v1/others.1.0/orders", HELLO), (f"{OWN}/orders", {**HELLO, "runs": [["others", 1, 0]]}),
         (f"{OWN}/orders", {**HELLO, "runs": [["mine", 1, 1]]}), (f"{OWN}/orders", {**HELLO, "runs": ["mine"]}),
         ("/agent/v1/local/orders", HELLO))),
    ("POST", "/agent/v1/{name}/events"): (
        (f"{OWN}/events", {"events": [{"run_id": "mine", "attempt": 1, "rank": 0, "kind": "heartbeat", "time": 1}]}),
        tuple((f"{OWN}/events", {"events": [
            {"run_id": "mine", "attempt": 1, "rank": 0, "kind": "heartbeat", "time": 1},
            {"attempt": 1, "rank": 0, "kind": "ended", "time": 1, "outcome": {}, **other}]})
          for other in ({"run_id": "others"}, {"run_id": "mine", "rank": 1}, {"run_id": "mine", "attempt": 2}, {}))),
    ("POST", "/agent/v1/{name}/spool"): (
        (f"{OWN}/spool?run_id=mine&spool=1-a&offset=0", b""),
        ((f"{OWN}/spool?run_id=others&spool=1-a&offset=0", b""),
         (f"{OWN}/spool?run_id=mine&run_id=others&spool=1-a&offset=0", b""))),
    ("POST", "/agent/v1/{name}/files"): (
        (f"{OWN}/files?{QUERY}&path=azureml-logs/70_driver_log.txt&offset=0", b"x"),
        tuple((f"{OWN}/files?{query}&path=azureml-logs/70_driver_log.txt&offset=0", b"x") for query in (
            "run_id=others&attempt=1&rank=0", "run_id=mine&attempt=1&rank=1", "run_id=mine&attempt=2&rank=0", ""))),
    ("DELETE", "/agent/v1/{name}/files"): (
        (f"{OWN}/files?{QUERY}&path=outputs/gone", None),
        ((f"{OWN}/files?run_id=others&attempt=1&rank=0&path=outputs/there", None),)),
    ("POST", "/agent/v1/{name}/files/batch"): (
        (f"{OWN}/files/batch?{QUERY}", b""), ((f"{OWN}/files/batch?run_id=others&attempt=1&rank=0", b""),)),
    ("POST", "/agent/v1/{name}/files/settled"): (
        (f"{OWN}/files/settled?{QUERY}", {"files": []}),
        ((f"{OWN}/files/settled?run_id=others&attempt=1&rank=0", {"files": []}),)),
    ("GET", "/agent/v1/{name}/snapshots/{snapshot_id}"): (
        (f"{OWN}/snapshots/{SNAPSHOT}", None), ((f"{OWN}/snapshots/{'5' * 64}", None),)),
    ("POST", "/agent/v1/{name}/blobs"): (
        (f"{OWN}/blobs", {"hashes": [SHA256]}), ((f"{OWN}/blobs", {"hashes": [SHA256, "0" * 64]}),)),
    ("GET", "/agent/v1/{name}/datastores/{store}/files"): (
        (f"{OWN}/datastores/workspaceblobstore/files", None),
        ((f"{OWN}/datastores/workspacefilestore/files", None),)),
    ("PUT", "/agent/v1/{name}/datastores/{store}/files/{path:file}"): (
        (f"{OWN}/datastores/workspaceblobstore/files/up", b"1"),
        ((f"{OWN}/datastores/workspacefilestore/files/up", b"1"),)),
    ("GET", "/agent/v1/{name}/datastores/{store}/files/{path:file}"): (
        (f"{OWN}/datastores/workspaceblobstore/files/up", None),
        ((f"{OWN}/datastores/workspacefilestore/files/up", None),)),
    ("GET", "/agent/v1/{name}/datastores/{store}/checksums/{path:file}"): (
        (f"{OWN}/datastores/workspaceblobstore/checksums/up", None),
        ((f"{OWN}/datastores/workspacefilestore/checksums/up", None),)),
    ("POST", "/agent/v1/{name}/datastores/{store}/contents"): (
        (f"{OWN}/datastores/workspaceblobstore/contents", {"paths": ["up"]}),
        ((f"{OWN}/datastores/workspacefilestore/contents", {"paths": ["up"]}),)),
    ("POST", "/agent/v1/{name}/probes"): (
        (f"{OWN}/probes", {"datastore": "workspaceblobstore"}),
        tuple((f"{OWN}/probes", asked) for asked in (
            {"datastore": "workspacefilestore"}, {"path": "/tmp"}, {}, {"path": ["/tmp"]},
            {"datastore": "workspaceblobstore", "path": "/tmp"}))),
    ("DELETE", "/agent/v1/{name}/probes/{probe}"): (
        (f"{OWN}/probes/0", None), (("/agent/v1/others.1.0/probes/0", None),)),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def runs(served: Served) -> None:
    for number, status in ((2, RunStatus.RUNNING), (3, RunStatus.RUNNING), (4, RunStatus.RUNNING)):
        served.run(f"mine_{number}", status, parent_id="mine", kind="interactive")
    served.do(served.control.interactive.end("mine_4", RunStatus.COMPLETED))  # so that its stream ends
    served.core.folder("mine_1").make()
    for run_id in ("mine", "others"):
        folder = served.core.folder(run_id)
        folder.make()
        with open(folder.log("outputs/there"), "w") as f:
            f.write("there")


def test_every_row_has_its_example() -> None:
    assert set(JOBS) == set(OF_JOBS)
    assert set(AGENTS) == set(OF_AGENTS)


def test_a_job_may_make_the_calls_of_its_table_with_its_own_names(served: Served, job: str) -> None:
    for (method, _), ((path, body), refused) in JOBS.items():
        answer = served.call(job, method, path, body)
        assert answer.status == (404 if path.endswith("/none") else 200), (method, path, answer.body)
        if refused is not None:
            answer = served.call(job, method, *refused)
            assert (answer.status, answer.json["error"]["code"]) == (403, "not_allowed"), refused
    assert served.record("others_1").status is RunStatus.RUNNING
    assert served.record("others_1").tags == {}
    assert [f["path"] for f in served.control.files("others")] == ["outputs/there"]


def test_an_agent_may_speak_of_its_part_only(served: Served, agent: str) -> None:
    for (method, route), ((path, body), refused) in AGENTS.items():
        for other in refused:
            answer = served.call(agent, method, *other)
            assert (answer.status, answer.json["error"]["code"]) == (403, "not_allowed"), other
        if not route.endswith("/orders"):  # its answer goes on and on
            assert served.call(agent, method, path, body).status == 200, (method, path)
    assert served.record("others").status is RunStatus.RUNNING
    assert served.record("mine").status is RunStatus.RUNNING


def test_every_route_that_is_in_no_table_is_closed_to_jobs_and_agents(served: Served, agent: str, job: str) -> None:
    """Also those that somebody adds."""
    app, routes = create_agents_app(served.control, served.tokens, lambda: FACTS)
    every = {(method, route.path) for route in routes for method in route.methods or ()}
    assert set(OF_JOBS) | set(OF_AGENTS) <= every
    assert len(every) > len(OF_JOBS) + len(OF_AGENTS)
    for token, table in ((job, OF_JOBS), (agent, OF_AGENTS)):
        for method, route in sorted(every - set(table)):
            path = re.sub(r"\{[^}]+\}", "mine", route).replace("/agent/v1/mine/", "/agent/v1/mine.1.0/")
            assert served.do(status_of(app, token, method, path)) == 403, (method, path)
    for method, path in (("GET", "/"), ("GET", "/docs"), ("HEAD", "/v1/runs/mine"), ("OPTIONS", "/v1/runs/mine"),
                         ("GET", "/v1/runs/mine/"), ("GET", "//v1/runs/mine"), ("POST", "/v1/server/stop"),
                         ("GET", "/v1/runs/mine/../others"), ("DELETE", "/v1/runs/mine")):  # fmt: skip
        assert served.do(status_of(app, job, method, path)) == 403, path


async def status_of(app: ASGIApp, token: str, method: str, path: str) -> int:
    """The status of the answer to one call, without a connection."""
    found = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        found.append(message.get("status"))

    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers, "root_path": ""}
    await app(scope, receive, send)
    return int(found[0])


def forged(token: str) -> str:
    return token[:-1] + ("A" if token[-1] != "A" else "B")


def test_forged_replaced_and_foreign_tokens_learn_nothing(
    served: Served, agent: str, job: str, caplog: pytest.LogCaptureFixture
) -> None:
    replaced = served.hub.enlist("others.1.0", "others").token
    current = served.hub.enlist("others.1.0", "others").token
    assert served.call(current, "GET", f"/agent/v1/others.1.0/snapshots/{SNAPSHOT}").status == 200
    swapped = job.replace("wlj_", "wla_")
    answers = set()
    with caplog.at_level(logging.DEBUG):
        for token in (None, "", "junk", forged(agent), forged(job), replaced, swapped, f"{agent} x", "é" * 40):
            header = {} if token is None else {"Authorization": f"Bearer {token}".encode().decode("latin-1")}
            for path in (f"/agent/v1/mine.1.0/snapshots/{SNAPSHOT}", "/v1/runs/mine", "/nothing"):
                answer = served.call(None, "GET", path, headers=header)
                answers.add((answer.status, answer.body))
    assert len(answers) == 1
    status, body = answers.pop()
    assert (status, b"token that is good" in body) == (401, True)
    served.call(job, "POST", "/v1/doctor", {})
    assert not any(secret in caplog.text for secret in (agent, job, replaced, current, agent.split("_", 2)[2]))


def test_a_token_of_an_agent_is_none_of_a_job_and_the_other_way_round(served: Served, agent: str, job: str) -> None:
    assert served.call(agent, "GET", "/v1/runs/mine").status == 403
    assert served.call(job, "GET", f"/agent/v1/mine.1.0/snapshots/{SNAPSHOT}").status == 403


def test_tokens_end_with_their_part(served: Served) -> None:
    served.run("short", RunStatus.RUNNING)
    token = served.hub.enlist("short.1.0", "short").token
    script = served.tokens.job_token("short.1.0")
    assert served.call(script, "GET", "/v1/runs/short").status == 200
    served.tokens.end_jobs("short")
    assert served.call(script, "GET", "/v1/runs/short").status == 401
    assert served.call(token, "GET", f"/agent/v1/short.1.0/snapshots/{SNAPSHOT}").status == 200
    served.hub.dismiss("short.1.0")
    served.now(lambda: None)
    assert served.call(token, "GET", f"/agent/v1/short.1.0/snapshots/{SNAPSHOT}").status == 401


def test_a_huge_body_is_refused_before_it_is_read(served: Served, agent: str) -> None:
    connection = served.connection()
    try:
        connection.putrequest("POST", "/agent/v1/mine.1.0/events")
        connection.putheader("Authorization", f"Bearer {agent}")
        connection.putheader("Content-Length", str(10 << 30))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413
        assert b"more than" in answer.read()
    finally:
        connection.close()


def test_one_of_unknown_length_is_refused_once_it_is_too_long(served: Served, agent: str) -> None:
    pieces = (b"x" * (1 << 20) for _ in range(70))
    connection = served.connection()
    try:
        connection.request("POST", "/agent/v1/mine.1.0/spool?run_id=mine&spool=1-b&offset=0", pieces,
                           {"Authorization": f"Bearer {agent}"}, encode_chunked=True)  # fmt: skip
        assert connection.getresponse().status == 413
    except (ConnectionError, ssl.SSLError):  # it hung up while this was still sending
        pass
    finally:
        connection.close()
    assert served.core.read(lambda tx: tx.acked("mine", "1-b")) == 0


def test_junk_is_refused(served: Served, agent: str) -> None:
    for body in (
        b"junk",
        b"[]",
        b'{"events": 1}',
        b'{"events": [1]}',
        b'{"events": [{}]}',
        b'{"events": [{"run_id": []}]}',
    ):
        assert served.call(agent, "POST", "/agent/v1/mine.1.0/events", body).status in (400, 403), body


def test_an_attempt_that_was_given_up_writes_to_no_datastore_any_more(served: Served) -> None:
    data = (DataSpec("out", "output", "mount", (DataPlace("", "workspaceblobstore"),)),)
    served.run("again", RunStatus.RUNNING, data=data, max_retries=1)
    token = served.hub.enlist("again.1.0", "again").token
    path = "/agent/v1/again.1.0/datastores/workspaceblobstore/files/model"
    assert served.call(token, "PUT", path, b"first").status == 200
    served.do(served.core.write(lambda tx: tx.update_run("again", attempt=2)))
    answer = served.call(token, "PUT", path, b"late")
    assert (answer.status, "attempt 2 writes" in answer.json["error"]["message"]) == (403, True)
    assert served.call(token, "GET", path).body == b"first"


def test_numbers_that_cannot_be_are_an_agents_own_trouble(served: Served) -> None:
    served.run("odd", RunStatus.RUNNING)
    token = served.hub.enlist("odd.1.0", "odd").token
    told = {"run_id": "odd", "attempt": 1, "rank": 0, "kind": "ended"}
    odd: list[dict[str, Any]] = [{"time": float(time), "outcome": {}} for time in ("-inf", "nan")]
    odd += [
        {"time": 1.0, "outcome": outcome}
        for outcome in ({"exit_code": 2**70, "reason_code": "x"}, {"message": ["x"]}, {"files": 1}, 7)
    ]
    for event in odd:
        answer = served.call(token, "POST", "/agent/v1/odd.1.0/events", {"events": [{**told, **event}]})
        assert answer.status in (200, 400), (event, answer.body)
        assert served.core.trouble is None
    assert served.call(None, "GET", "/nothing").status == 401
