"""Data of runs on machines that do not see the server's folders, and on such that do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nodes.test_runs import nothing_left, until
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace, kill
from windlassd.testing.netns import Machine, Network

pytestmark = pytest.mark.nodes
STORE = "workspaceblobstore"
SHOWS = """
    import os, sys
    place = sys.argv[1]
    for folder, _, names in sorted(os.walk(place, followlinks=True)):
        for name in sorted(names):
            print(os.path.relpath(os.path.join(folder, name), place), os.path.getsize(os.path.join(folder, name)))
    print("at", place)
"""


def ref(name: str, kind: str = "input", path: str = "", store: str | None = STORE, **values: Any) -> dict[str, Any]:
    dataset = {"id": "i", "type": "File", "definition": {"places": [{"path": path, "datastore": store}]}}
    made = {"name": name, "kind": kind, "mode": "mount", "places": [{"path": path, "datastore": store}], **values}
    return {**made, "dataset": dataset} if kind == "input" else made


def put(workspace: Workspace, path: str, content: bytes) -> None:
    address = f"/v1/datastores/{STORE}/files/{path}"
    workspace.client.call("PUT", address, body=content, content_type="application/octet-stream")


def get(workspace: Workspace, path: str) -> bytes:
    return workspace.client.open("GET", f"/v1/datastores/{STORE}/files/{path}").read()


def reason(run: RunRecord) -> str:
    return run.reason.message if run.reason else ""


def test_inputs_come_and_outputs_go(workspace: Workspace, cluster: str, machines: Sequence[Machine]) -> None:
    big = os.urandom(3 << 20)
    put(workspace, "train/big", big)
    put(workspace, "train/deep/small", b"1")
    run_id = workspace.submit(
        """
        import os, sys
        train, out, up = sys.argv[1:]
        for place in (out, up):
            os.makedirs(place, exist_ok=True)
            open(os.path.join(place, "sizes.txt"), "w").write(
                "%d %s" % (os.path.getsize(train + "/big"), open(train + "/deep/small").read()))
        print("at", train)
        """,
        "DatasetConsumptionConfig:train", "DatasetOutputConfig:made", "up", target=cluster, data=[
            ref("train", path="train"), ref("made", "output", "made/{run-id}"),
            ref("up", "reference", "uploaded", mode="upload", path_on_compute="up"),
        ],
    )  # fmt: skip
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, reason(run) + workspace.log(run_id)
    assert f"at {machines[0].home}" in workspace.log(run_id)
    expected = f"{len(big)} 1".encode()
    assert get(workspace, f"made/{run_id}/sizes.txt") == get(workspace, "uploaded/sizes.txt") == expected
    held = machines[0].run("sh", "-c", f"find {machines[0].home}/nodes/*/data -size +1M")
    assert len(held.split()) == 1
    again = workspace.submit(
        SHOWS, "DatasetConsumptionConfig:train", target=cluster, data=[ref("train", path="train/*")]
    )
    assert workspace.wait(again).status is RunStatus.COMPLETED
    assert f"big {len(big)}" in workspace.log(again) and "small" not in workspace.log(again)


def test_a_path_of_the_servers_machine_is_refused_with_a_way_out(
    workspace: Workspace, cluster: str, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("1")
    run_id = workspace.submit(
        SHOWS, "DatasetConsumptionConfig:d", target=cluster, data=[ref("d", path=str(tmp_path), store=None)]
    )
    run = workspace.wait(run_id)
    assert run.status is RunStatus.FAILED
    assert "does not see" in reason(run) and "Upload it to a datastore" in reason(run) and "one" in reason(run)


def test_a_shared_file_system_is_used(workspace: Workspace, network: Network, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("123")
    store = tmp_path / "store"
    store.mkdir()
    (store / "theirs").write_text("4567")
    (machine,) = network.start("one", shared=[tmp_path])
    options = {"machines": str(network.control)}
    workspace.client.put("/v1/computes/shared", {"name": "shared", "engine": "netns", "options": options})
    workspace.client.put("/v1/datastores/mine", {"path": str(store)})
    run_id = workspace.submit(
        SHOWS + "    open(sys.argv[2] + '/made', 'w').write('made')\n", "DatasetConsumptionConfig:d",
        "DatasetOutputConfig:out", target="shared", data=[
            ref("d", path=str(tmp_path), store=None), ref("out", "output", "out", store="mine"),
        ],
    )  # fmt: skip
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, reason(run)
    log = workspace.log(run_id)
    assert "mine 3" in log and "store/theirs 4" in log and f"at {tmp_path}" in log
    assert (store / "out" / "made").read_text() == "made"
    assert machine.run("sh", "-c", f"find {machine.home}/nodes/*/data -type f -size +0") == ""
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["made", "mine", "out", "store", "theirs"]


def test_a_script_reads_a_table_by_itself(workspace: Workspace, cluster: str, machines: Sequence[Machine]) -> None:
    put(workspace, "table/a.csv", b"x,y\n1,2\n3,4\n")
    run_id = workspace.submit(
        """
        import os
        from azureml.core import Dataset, Run
        ws = Run.get_context().experiment.workspace
        files = Dataset.File.from_files((ws.datastores["workspaceblobstore"], "table"))
        with files.mount() as mounted:
            print(open(os.path.join(mounted.mount_point, "a.csv")).read())
        print(files.download("here"), files.data_changed_time.year > 2000)
        table = Dataset.Tabular.from_delimited_files((ws.datastores["workspaceblobstore"], "table/a.csv"))
        try:
            import pandas
        except ImportError:
            print("no pandas")
        else:
            print("sum", table.to_pandas_dataframe().y.sum())
        ws.get_default_datastore().upload_files(["train.py"], target_path="sent")
        """,
        target=cluster,
    )
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, reason(run)
    assert "3,4" in workspace.log(run_id) and "True" in workspace.log(run_id)
    assert "sum 6" in workspace.log(run_id) or "no pandas" in workspace.log(run_id)
    assert get(workspace, "sent/train.py").startswith(b"\nimport os")


def test_a_machine_without_disk_is_named(workspace: Workspace, network: Network) -> None:
    network.start("small", disk_bytes=24 << 20)
    options = {"machines": str(network.control)}
    workspace.client.put("/v1/computes/small", {"name": "small", "engine": "netns", "options": options})
    put(workspace, "big", bytes(40 << 20))
    run_id = workspace.submit(SHOWS, "DatasetConsumptionConfig:d", target="small", data=[ref("d", path="big")])
    run = workspace.wait(run_id)
    assert run.status is RunStatus.FAILED
    assert "small" in reason(run) and "no room for the run's data" in reason(run), reason(run)


def test_the_server_is_killed_while_data_comes_and_goes(
    workspace: Workspace, cluster: str, machines: Sequence[Machine]
) -> None:
    big = os.urandom(24 << 20)
    put(workspace, "train/big", big)
    for machine in machines:
        machine.slow(100_000_000)
    run_id = workspace.submit(
        """
        import os, shutil, sys
        train, out = sys.argv[1:]
        os.makedirs(out, exist_ok=True)
        shutil.copy(train + "/big", out + "/copy-" + os.environ["AZ_BATCHAI_TASK_INDEX"])
        """,
        "DatasetConsumptionConfig:train", "DatasetOutputConfig:made", target=cluster, node_count=2,
        data=[ref("train", path="train"), ref("made", "output", "made")],
    )  # fmt: skip
    part = f"find {machines[0].home}/nodes/*/data -name '*.part' -size +2M 2> /dev/null || true"
    until(lambda: machines[0].run("sh", "-c", part) != "")
    kill(workspace.server_pid())
    workspace.wait_for(run_id, lambda run: run.status is RunStatus.FINALIZING or run.status.final)
    kill(workspace.server_pid())
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, reason(run)
    assert get(workspace, "made/copy-0") == get(workspace, "made/copy-1") == big
    nothing_left(machines)
