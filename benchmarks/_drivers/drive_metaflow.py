"""Metaflow on this machine, with its local datastore: a flow of one step whose work is to print."""

import sys
from pathlib import Path

from drive_bare import watched
from serving import serve

FLOW = """
from metaflow import FlowSpec, step

class BenchFlow(FlowSpec):
    @step
    def start(self):
        print("first line")
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    BenchFlow()
"""


def submit() -> dict[str, float]:
    Path("flow.py").write_text(FLOW)
    return watched([sys.executable, "flow.py", "--quiet", "--no-pylint", "--datastore", "local", "--metadata", "local",
                    "run"])  # fmt: skip


if __name__ == "__main__":
    serve(submit=submit)
