"""Every option and environment variable of Windlass, in one table.

A value is looked up when it is needed, in this order: argument, environment, project file (``windlass.json`` in the
current folder or a parent), user file (``settings.json`` in the home), default. ``docs/settings.md`` is generated from
``TABLE``; a variable that does not stand here does not exist.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional

from windlass.errors import UserErrorException, did_you_mean

PROJECT_FILE = "windlass.json"
USER_FILE = "settings.json"


def _megabytes(text: str) -> int:
    return int(float(text) * 1024 * 1024)


class _NoneOf(ValueError):
    """A text that is none of those allowed; says which are."""


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise _NoneOf(" or ".join(map(repr, allowed)))
        return text

    return parse


def _gigabytes(text: str) -> int:
    return int(float(text) * 1e9)


@dataclass(frozen=True)
class Setting:
    """One option: its name in files, its environment variable, how its text is read, its default."""

    name: str
    variable: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    minimum: Optional[float] = None
    """Smallest value allowed; numbers must be finite in any case."""


TABLE = (
    Setting("snapshot_max_mb", "WINDLASS_SNAPSHOT_MAX_MB", _megabytes, 300 * 1024 * 1024,
            "Largest source folder that `submit` takes, in MB (after the ignore files).", 0),
    Setting("server_idle_s", "WINDLASS_SERVER_IDLE_S", float, 600.0,
            "Seconds without anything to do after which the background server stops.", 0.05),
    Setting("server_start_timeout_s", "WINDLASS_SERVER_START_TIMEOUT_S", float, 60.0,
            "Seconds a client waits for the background server to come up.", 0.1),
    Setting("heartbeat_s", "WINDLASS_HEARTBEAT_S", float, 5.0,
            "Seconds between two heartbeats of an agent.", 0.01),
    Setting("heartbeat_timeout_s", "WINDLASS_HEARTBEAT_TIMEOUT_S", float, 30.0,
            "Seconds without a heartbeat after which a run is shown as NotResponding.", 0.01),
    Setting("stop_grace_s", "WINDLASS_STOP_GRACE_S", float, 10.0,
            "Seconds between SIGTERM and SIGKILL when a run is canceled.", 0),
    Setting("local_slots", "WINDLASS_LOCAL_SLOTS", int, max(1, os.cpu_count() or 1),
            "Runs that the target 'local' runs at once (default: the number of cores).", 1),
    Setting("environment_ttl_s", "WINDLASS_ENVIRONMENT_TTL_S", float, 7 * 86400.0,
            "Seconds for which a package list keeps the versions it was resolved to.", 0),
    Setting("environment_build_timeout_s", "WINDLASS_ENVIRONMENT_BUILD_TIMEOUT_S", float, 3600.0,
            "Seconds after which an environment build is given up.", 1),
    Setting("retention_days", "WINDLASS_RETENTION_DAYS", float, None,
            "Days after its end that a run is deleted with its children and files (default: never). Runs that made a "
            "registered model, or have the tag of `retention_keep_tag`, stay.", 0.01),  # 0 would take all
    Setting("retention_keep_tag", "WINDLASS_RETENTION_KEEP_TAG", str, "keep",
            "A run with a tag of this name is not deleted by age, neither by `retention_days` nor by "
            "`windlass workspace prune`."),
    Setting("framework_defaults", "WINDLASS_FRAMEWORK_DEFAULTS", _one_of("latest", "v1"),
            "latest",
            "Version of a framework estimator without `framework_version`: `latest`, or `v1` for the one of SDK v1."),
    Setting("python_downloads", "WINDLASS_PYTHON_DOWNLOADS", _one_of("automatic", "never"),
            "automatic",
            "Whether uv may download a Python that this machine does not have when a package list needs it."),
    Setting("conda_packages_from", "WINDLASS_CONDA_PACKAGES_FROM", _one_of("pypi", "conda"),
            "pypi",
            "Where conda packages come from that PyPI has as well: `pypi`, or `conda` for the channels."),
    Setting("environments_max_gb", "WINDLASS_ENVIRONMENTS_MAX_GB", _gigabytes, 50_000_000_000,
            "Size of all environments together, in GB, above which those that were not used for longest are removed. "
            "What runs use stays.", 0),
    Setting("environment_builds", "WINDLASS_ENVIRONMENT_BUILDS", int, 2,
            "Environments that are resolved or built at once; further ones wait.", 1),
    Setting("container_engine", "WINDLASS_CONTAINER_ENGINE", str, None,
            "Container engine: `docker`, `podman`, or the address of its API such as `unix:///run/podman/podman.sock` "
            "(default: DOCKER_HOST, then the usual sockets of Docker and Podman)."),
    Setting("container_registry", "WINDLASS_CONTAINER_REGISTRY", str, None,
            "Registry, with a path if need be, such as `registry.lab:5000/windlass`, to which built images are pushed "
            "and from which other machines pull them (default: none)."),
    Setting("agents_listen", "WINDLASS_AGENTS_LISTEN", str, "0.0.0.0:0",
            "Address and port on which the server listens for agents on other machines, once a compute target has "
            "some; port 0 takes a free one, once and for all."),
    Setting("agents_address", "WINDLASS_AGENTS_ADDRESS", str, None,
            "What agents on other machines are told to call: `host`, or `host:port` where that is not the port it "
            "listens on (default: the address of this machine in the network of the nodes)."),
    Setting("agents_certificate", "WINDLASS_AGENTS_CERTIFICATE", str, None,
            "File of a certificate and its chain (PEM) for that listener; agents then ask their machine's authorities "
            "(default: one made for the workspace, which agents pin)."),
    Setting("agents_key", "WINDLASS_AGENTS_KEY", str, None,
            "File of the private key (PEM) of `agents_certificate` (default: none)."),
    Setting("lease_s", "WINDLASS_LEASE_S", float, 60.0,
            "Seconds without a word from the server after which a node of a run with `max_retries` ends its processes; "
            "after as long again without a word from the node the run is begun anew.", 0.5),
    Setting("node_lost_after_s", "WINDLASS_NODE_LOST_AFTER_S", float, 300.0,
            "Seconds without a word from a node of another machine after which its run is given up as lost, when its "
            "engine cannot say that the node is there.", 0.5),
    Setting("default_engine", "WINDLASS_DEFAULT_ENGINE", str, "local",
            "Engine behind an AmlCompute cluster that names none: `local`, or the name of an attached compute target "
            "such as a Ray cluster, whose machines it then uses."),
    Setting("node_cache_max_gb", "WINDLASS_NODE_CACHE_MAX_GB", _gigabytes, 20_000_000_000,
            "Size, in GB, of the snapshots' contents and data that a node of another machine keeps for later runs; "
            "those not used for longest go first.", 0),
)  # fmt: skip
_BY_NAME: Dict[str, Setting] = {setting.name: setting for setting in TABLE}
_STEADY: Dict[str, Any] = {}

# Where Windlass lies and what a job is told; these are no options, so no file can set them.
HOME_VARIABLE = "WINDLASS_HOME"
WORKSPACE_DIR_VARIABLE = "WINDLASS_WORKSPACE_DIR"
SPOOL_DIR_VARIABLE = "WINDLASS_SPOOL_DIR"
ELSEWHERE_VARIABLE = "WINDLASS_ELSEWHERE"
RUN_ID_VARIABLE = "AZUREML_RUN_ID"
REFERENCE_VARIABLE = "AZUREML_DATAREFERENCE_"
INPUTS_VARIABLE = "AZUREML_DATASET_ENVIRONMENT_VARS"
OUTPUTS_VARIABLE = "AZUREML_DATASET_FILE_OUTPUTS"
MODEL_DIR_VARIABLE = "AZUREML_MODEL_DIR"
PLACES = {
    HOME_VARIABLE: "Folder of everything local (default: the platform's user data folder, then `windlass`).",
    WORKSPACE_DIR_VARIABLE: "Set for a job: the workspace folder its run belongs to.",
    SPOOL_DIR_VARIABLE: "Set for a job: where its metric points are written.",
    ELSEWHERE_VARIABLE: "Set for a job on another machine than the server: its agent passes its calls on.",
    RUN_ID_VARIABLE: "Set for a job: the id of its run (v1's name).",
    REFERENCE_VARIABLE + "<name>": "Set for a job: where the data of that name is (v1's name).",
    INPUTS_VARIABLE: "Set for a job: names of its dataset inputs; each is a variable, too (v1's name).",
    OUTPUTS_VARIABLE: "Set for a job: names of its dataset outputs; each is a variable, too (v1's name).",
    MODEL_DIR_VARIABLE: "Set for a scoring service: the folder of its model, or of all its models (v1's name).",
}


def get(name: str) -> Any:
    """The value of a setting now.

    Raises:
        UserErrorException: the environment or a file holds a value that cannot be read.
    """
    setting = _BY_NAME[name]
    text = os.environ.get(setting.variable)
    if text is not None:
        return _parse(setting, text, "environment variable %s" % setting.variable)
    for path in (_project_file(), os.path.join(home(), USER_FILE)):
        values = _read(path) if path else {}
        if name in values:
            return _parse(setting, str(values[name]), path or "")
    return setting.default


def conda_programs() -> "List[str]":
    """The conda that this process was started in, by the variables that it sets."""
    return [os.environ[name] for name in ("CONDA_EXE", "MAMBA_EXE") if os.environ.get(name)]


def conda_folders() -> "List[str]":
    """Folders of conda environments that the variables of conda and mamba name."""
    folders = [folder for folder in os.environ.get("CONDA_ENVS_PATH", "").split(os.pathsep) if folder]
    if os.environ.get("CONDA_PREFIX"):
        folders.append(os.path.dirname(os.environ["CONDA_PREFIX"]))
    if os.environ.get("MAMBA_ROOT_PREFIX"):
        folders.append(os.path.join(os.environ["MAMBA_ROOT_PREFIX"], "envs"))
    return folders


def steady(name: str) -> Any:
    """As ``get``, for work that must go on: while a file cannot be read, the value from before, or the default."""
    try:
        _STEADY[name] = get(name)
    except UserErrorException as problem:
        import logging  # only here: `import windlass` is to cost next to nothing

        logging.getLogger(__name__).warning("%s stays as it was: %s", name, problem)
    return _STEADY.get(name, _BY_NAME[name].default)


def check() -> None:
    """Read every setting once; raises UserErrorException for the first that cannot be."""
    for setting in TABLE:
        _STEADY[setting.name] = get(setting.name)


def home() -> str:
    """Absolute path of the folder of everything local."""
    given = os.environ.get(HOME_VARIABLE)
    if given:
        return os.path.abspath(os.path.expanduser(given))
    if sys.platform == "win32":
        return os.path.join(os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local"), "windlass")
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Application Support/windlass")
    share = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.abspath(os.path.join(share, "windlass"))


def runtime_dir() -> str:
    """A folder with a short path for sockets whose own folder's path is too long for the kernel.

    The same for all of a user's processes: a cron job has no ``XDG_RUNTIME_DIR``, a login session has.
    """
    return "/tmp/windlass-%d" % os.getuid()


@dataclass(frozen=True)
class JobContext:
    """What the agent told this process about the run it is part of."""

    run_id: str
    workspace_dir: str
    spool_dir: str


def job_context() -> Optional[JobContext]:
    """The run this process is part of, or None outside a job."""
    run_id, workspace = os.environ.get(RUN_ID_VARIABLE), os.environ.get(WORKSPACE_DIR_VARIABLE)
    spool = os.environ.get(SPOOL_DIR_VARIABLE)
    return JobContext(run_id, workspace, spool) if run_id and workspace and spool else None


def elsewhere() -> bool:
    """True in a job on another machine than its server: none can be started here, and its folders are not ours."""
    return bool(os.environ.get(ELSEWHERE_VARIABLE))


def model_dir() -> "Optional[str]":
    """Folder of the models of the scoring service that this process is, or None."""
    return os.environ.get(MODEL_DIR_VARIABLE) or None


@dataclass(frozen=True)
class JobInput:
    """A dataset input of this job: the path of its data, or, when it is read directly, the dataset's id."""

    text: str
    direct: bool


def job_inputs() -> Dict[str, JobInput]:
    """The dataset inputs of this job by name; empty outside a job."""
    found: Dict[str, JobInput] = {}
    for name in filter(None, os.environ.get(INPUTS_VARIABLE, "").split(",")):
        path = os.environ.get(REFERENCE_VARIABLE + name)
        found[name] = JobInput(path or os.environ.get(name, ""), direct=path is None)
    return found


def job_outputs() -> Dict[str, str]:
    """The paths of this job's dataset outputs by name; empty outside a job."""
    names = filter(None, os.environ.get(OUTPUTS_VARIABLE, "").split(","))
    return {name: os.environ.get(REFERENCE_VARIABLE + name, "") for name in names}


def child_environment(drop_prefixes: "tuple[str, ...]" = ()) -> Dict[str, str]:
    """A copy of this process's environment for a child, without the variables that begin with a prefix."""
    return {name: value for name, value in os.environ.items() if not name.startswith(drop_prefixes)}


def _parse(setting: Setting, text: str, where: str) -> Any:
    try:
        value = setting.parse(text)
    except (ValueError, OverflowError) as e:
        number = "a whole number" if setting.parse is int else "a number"
        allowed = str(e) if isinstance(e, _NoneOf) else number
        raise UserErrorException(
            "%s in %s is %r; it must be %s. %s" % (setting.name, where, text, allowed, setting.help)
        ) from e
    if setting.minimum is not None and not setting.minimum <= value < float("inf"):
        raise UserErrorException(
            "%s in %s is %r; it must be a number of at least %g. %s"
            % (setting.name, where, text, setting.minimum, setting.help)
        )
    return value


def _project_file() -> Optional[str]:
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        return None
    while True:
        path = os.path.join(folder, PROJECT_FILE)
        if os.path.isfile(path):
            return path
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _read(path: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as f:
            values = json.load(f)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        raise UserErrorException("The settings file %s cannot be read: %s. Mend or delete it." % (path, e)) from e
    if not isinstance(values, dict):
        raise UserErrorException("The settings file %s must hold one JSON object of names and values." % path)
    for name in values:
        if name not in _BY_NAME:
            raise UserErrorException(
                "The settings file %s sets %r, which is no setting.%s Correct or remove it; docs/settings.md lists all."
                % (path, name, did_you_mean(name, _BY_NAME))
            )
    return values
