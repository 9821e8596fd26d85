"""Files a run leaves behind: one of 1 GiB, and 1,000 of 10 KiB, until the tool has its own copy of them.

The files lie in a folder on the same disk. Windlass is measured twice: as scripts use it, writing into `outputs/`, from
the last byte until the run is final; and handing over a folder from outside as the others do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from _measure import note, quick, rounds
from _peers import Column, Contestant, Times, Worker, chart, mlflow, race, tell, windlass, worker
from _plot import BARE, OURS, bars, publish, seconds


def main() -> None:
    folders = _folders(16 if quick() else 1024, 20 if quick() else 1000)
    keep = partial(_keep, folders)
    ours, bare = windlass(), partial(worker, driver="drive_bare")
    aim, wandb = (partial(worker, driver=f"drive_{name}", name=name) for name in ("aim", "wandb"))
    results = race([
        Contestant("cp -r", "a copy, not synced", keep(bare), BARE),
        Contestant("Windlass, outputs/", "kept where written; checksums follow", keep(ours, how="outputs"), OURS),
        Contestant("Windlass, upload_folder", "a copy with checksums", keep(ours, how="upload"), OURS),
        Contestant("Aim, file://", "a copy", keep(aim)),
        Contestant("W&B offline", "copies with checksums, to be synced", keep(wandb)),
        Contestant("MLflow SQLite", "a copy", keep(mlflow(served=False))),
        Contestant("MLflow server", "a copy, through its server", keep(mlflow(served=True))),
    ], rounds(3))  # fmt: skip
    columns = [Column("large", "1 GiB in one file", seconds), Column("small", "1,000 files of 10 KiB", seconds)]
    tell(results, "cp -r", columns)
    for column in columns:
        svg = bars(f"Keeping outputs: {column.title}", chart(results, column.key), seconds)
        publish(f"peer_artifacts_{column.key}", svg, f"Time until {column.title} of outputs are kept, with each tool")
    note("All on the same disk; what was kept is removed after each round.")


def _folders(mib: int, files: int) -> dict[str, str]:
    home = Path(os.environ["WINDLASS_HOME"])
    large, small = home / "large", home / "small"
    large.mkdir()
    small.mkdir()
    with (large / "model.bin").open("wb") as f:
        for _ in range(mib):
            f.write(os.urandom(1 << 20))
    for number in range(files):
        (small / f"part-{number:04}.bin").write_bytes(os.urandom(10 << 10))
    return {"large": str(large), "small": str(small)}


def _keep(
    folders: dict[str, str], begin: Callable[[ExitStack], Worker], **given: str
) -> Callable[[ExitStack], Callable[[], Times]]:
    def measure(tool: Worker) -> Times:
        return {name: tool("keep", path=path, **given)["seconds"] for name, path in folders.items()}

    return lambda stack: partial(measure, begin(stack))


if __name__ == "__main__":
    main()
