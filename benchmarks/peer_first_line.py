"""From the call that submits a script until its first line is read, and until the script is known to have ended.

The script prints one line. Clients are warm and what they talk to is up; of a command of the shell the whole start
counts, as for Metaflow and `mlflow run`, which have nothing else. Where a tool's waiting call looks once a second, the
client asks every few milliseconds instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from _measure import note, rounds
from _peers import Column, Contestant, Times, Worker, chart, mlflow, once, race, ray, tell, windlass, worker
from _plot import BARE, OURS, bars, publish, seconds

_HISTORY = "snapshot of the folder, environment, log, status and reason"


def main() -> None:
    script = script_of("print('first line', flush=True)\n")
    ours, head, flow = windlass(), once(ray), partial(worker, driver="drive_metaflow", name="metaflow")
    bare, local = partial(worker, driver="drive_bare"), partial(worker, driver="drive_submitit", name="submitit")
    results = race([
        Contestant("python script.py", "nothing", _submit(bare, script=script), BARE),
        Contestant("Windlass", _HISTORY, _submit(ours, script=script, how="client"), OURS),
        Contestant("windlass submit, the command", _HISTORY, _submit(ours, script=script, how="command"), OURS),
        Contestant("submitit, local", "log and result in a folder", _submit(local, script=script)),
        Contestant("Ray jobs, nothing copied", "log and status; gone with the head",
                   _submit(head, script=script, how="client", copied=False)),
        Contestant("Ray jobs, working_dir", "copy of the folder, log, status; gone with the head",
                   _submit(head, script=script, how="client", copied=True)),
        Contestant("ray job submit, the command", "copy of the folder, log, status; gone with the head",
                   _submit(head, script=script, how="command", copied=True)),
        Contestant("Metaflow, flow.py run", "copy of the code, log and values of each step", _submit(flow)),
        Contestant("mlflow run", "run with status; neither log nor files", _submit(mlflow(False), script=script)),
    ], rounds(7))  # fmt: skip
    columns = [Column("line", "until the first line", seconds), Column("end", "until the end is known", seconds)]
    tell(results, "Windlass", columns, "what is kept of it")
    svg = bars("From submit to the first line", chart(results, "line"), seconds)
    publish("peer_first_line", svg, "Time from submitting a script until its first line is read, with each tool")
    note("Windlass and Ray's head with its dashboard are up all the time.")


def script_of(text: str) -> str:
    """A folder of its own with a script of that text; the script's path."""
    folder = os.path.join(os.environ["WINDLASS_HOME"], "source-" + os.urandom(3).hex())
    os.mkdir(folder)
    path = os.path.join(folder, "train.py")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def _submit(begin: Callable[[ExitStack], Worker], **given: object) -> Callable[[ExitStack], Callable[[], Times]]:
    return lambda stack: partial(begin(stack), "submit", **given)


if __name__ == "__main__":
    main()
