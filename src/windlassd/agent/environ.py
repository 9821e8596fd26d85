"""The environment variables of a job."""

from __future__ import annotations

import os
from collections.abc import Mapping

from windlass import settings
from windlass.specs.launch import LaunchSpec
from windlassd.blobs.run_folder import RunFolder
from windlassd.envs import activation

_DROPPED = (
    "PYTHON", "VIRTUAL_ENV", "CONDA_", "UV_", "WINDLASS_", "AZUREML_", "AZ_BATCH", "OMPI_", "PMI", "SLURM_",
    "TF_CONFIG", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
"""Variables of the server's own life; a job must not inherit them from whoever happened to start the server."""


_GPUS = "CUDA_VISIBLE_DEVICES"
_THIS_MACHINE = "127.0.0.1"
_TORCH_ALONE = {
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "NODE_RANK": "0",
}  # fmt: skip
"""What ``torch.distributed`` reads, for a job of one process; with port 0 it takes a free one."""


def for_rank(
    launch: LaunchSpec, folder: RunFolder, workspace_dir: str, sdk_dir: str, rank: int, inherited: Mapping[str, str]
) -> dict[str, str]:
    """All variables of one process of ``launch``; the user's win over ours except for the run's own names."""
    # An image's own variables are meant for the job; this process's were those of whoever started the server.
    dropped = () if launch.container else _DROPPED
    variables = {k: v for k, v in inherited.items() if not k.startswith(dropped)}
    variables.update({"PYTHONUNBUFFERED": "1", "AZ_BATCHAI_TASK_INDEX": str(process_of(launch, rank))})
    variables.update(_of_nodes(launch))
    if launch.communicator.lower() in ("gloo", "nccl"):
        variables.update(_TORCH_ALONE)
    if not launch.container:
        variables.update(activation.variables(launch.python))
    variables.update(launch.node_variables)
    variables.update(_own_gpus(launch, rank))
    variables.update(launch.environment_variables)
    programs = (os.path.dirname(launch.python), variables.get("PATH", os.defpath))
    variables["PATH"] = os.pathsep.join(p for p in programs if p)  # in an image the interpreter may be a bare name
    variables["PYTHONPATH"] = os.pathsep.join(p for p in (sdk_dir, variables.get("PYTHONPATH")) if p)
    variables.update(
        {
            settings.HOME_VARIABLE: settings.home(),
            settings.WORKSPACE_DIR_VARIABLE: workspace_dir,
            settings.SPOOL_DIR_VARIABLE: folder.spool,
            settings.RUN_ID_VARIABLE: launch.run_id,
            "AZUREML_ARM_WORKSPACE_NAME": os.path.basename(workspace_dir),
            "AZUREML_ARM_PROJECT_NAME": launch.experiment,
            "AZUREML_OUTPUT_DIRECTORY": os.path.join(folder.work, "outputs"),
            "AZUREML_LOGDIRECTORY_PATH": os.path.join(folder.work, "logs"),
        }
    )
    if settings.elsewhere():
        variables[settings.ELSEWHERE_VARIABLE] = "1"
    return variables


def process_of(launch: LaunchSpec, rank: int) -> int:
    """The number in the whole run, over all nodes, of the node's process ``rank``."""
    return launch.node_rank * launch.process_count + rank


def _of_nodes(launch: LaunchSpec) -> Mapping[str, str]:
    """How nodes of one job find each other, in v1's names; nothing for a job of one node."""
    if launch.node_count == 1:
        return {}
    addresses = launch.addresses or (_THIS_MACHINE,) * launch.node_count
    return {
        "AZ_BATCH_HOST_LIST": ",".join(addresses),
        "AZ_BATCHAI_JOB_MASTER_NODE_IP": addresses[0],
        "AZ_BATCHAI_MPI_MASTER_NODE": addresses[0],
        "AZUREML_CR_NODE_RANK": str(launch.node_rank),
    }


def expand(argument: str, variables: Mapping[str, str]) -> str:
    """``argument`` with ``$NAME`` and ``${NAME}`` replaced; unknown names stay as they are."""
    if "$" not in argument:
        return argument
    out, place = [], 0
    while place < len(argument):
        name, end = _name_at(argument, place)
        if name is not None and name in variables:
            out.append(variables[name])
            place = end
        else:
            out.append(argument[place])
            place += 1
    return "".join(out)


def _name_at(text: str, place: int) -> tuple[str | None, int]:
    """The variable's name when ``$NAME`` or ``${NAME}`` begins at ``place``, and where it ends."""
    if text[place] != "$":
        return None, place
    if text.startswith("${", place):
        end = text.find("}", place)
        return (text[place + 2 : end], end + 1) if end > 0 else (None, place)
    end = place + 1
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    return text[place + 1 : end] or None, end


def own() -> Mapping[str, str]:
    """This agent's environment, which jobs inherit from."""
    return dict(os.environ)


def _own_gpus(launch: LaunchSpec, rank: int) -> Mapping[str, str]:
    """What one process of several gets of its node's GPUs: its own while they suffice, else one that is shared.

    Processes of torch see all of their node's and choose by LOCAL_RANK, as their scripts do everywhere.
    """
    handed = [gpu for gpu in launch.node_variables.get(_GPUS, "").split(",") if gpu]
    if launch.process_count == 1 or not handed or launch.communicator.lower() in ("gloo", "nccl"):
        return {}
    each = len(handed) // launch.process_count
    own = handed[rank * each : (rank + 1) * each] if each else [handed[rank % len(handed)]]
    return {_GPUS: ",".join(own)}
