"""The keeper's own file, run with a fuse (see ``sitecustomize``). Its path ends as that one's: agents go by it."""

import json
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))
from sitecustomize import Fuse

KEEPER = os.environ["FUSE_KEEPER"]


def victims(role):
    return {"keeper": [os.getpid()], "nursery": [os.getppid()]}[role]


fuse = Fuse(victims)
keeping = []


def local(frame, event, arg):
    if os.getpid() in keeping:
        fuse.trace(frame, event, arg)
        if event == "return" and frame.f_code.co_name == "keep":
            fuse.report()
    return local


def trace(frame, event, arg):
    if frame.f_code.co_filename != KEEPER:
        return None
    if frame.f_code.co_name == "keep":
        keeping[:] = [os.getpid()]
        with open(frame.f_locals["launch_file"]) as f:
            fuse.arm(json.load(f)["ranks"][0]["env"].get("FUSE"), "keeper")
    return local(frame, event, arg)


with open(KEEPER) as f:
    code = compile(f.read(), KEEPER, "exec")
sys.settrace(trace)
exec(code, {"__name__": "__main__", "__file__": KEEPER})
