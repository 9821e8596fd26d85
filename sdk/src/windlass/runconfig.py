"""``RunConfiguration``: how a job runs; v1's ``azureml.core.runconfig``."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from windlass import _config_object, _yaml
from windlass._job import target_name
from windlass._not_offered import AbsentProperty, not_offered, refuse_options
from windlass._runconfig_parts import (
    AmlComputeConfiguration,
    DataReferenceConfiguration,
    DockerConfiguration,
    HistoryConfiguration,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from windlass.conda_dependencies import CondaDependencies
from windlass.environment import EnvironmentDefinition, _fill_environment
from windlass.errors import RunConfigurationException, did_you_mean

FRAMEWORKS = ("Python", "PyTorch", "TensorFlow", "Chainer", "SKLearn")
_FOLDER = ".azureml"
_OLD_FOLDER = "aml_config"
_SUFFIX = ".runconfig"


class RunConfiguration(_config_object.ConfigObject):
    """How a job runs: script or command, arguments, target, environment, counts.

    Args:
        script: The script, relative to the source folder.
        arguments: Its arguments.
        framework: ``Python``, ``PyTorch``, ``TensorFlow``, …; shown with the run.
        communicator: ``None``, ``Mpi``, …: how the processes of a distributed job talk.
        conda_dependencies: Packages of the environment.
        command: What to run instead of a script: a list of words, or text for a shell.
    """

    def __init__(
        self, script: "Optional[str]" = None, arguments: "Optional[List[Any]]" = None,
        framework: "Optional[str]" = None, communicator: "Optional[str]" = None,
        conda_dependencies: "Optional[CondaDependencies]" = None, command: Any = None,
    ) -> None:  # fmt: skip
        self.script = script
        self.command: Any = command if command is not None else ""
        self.arguments: "List[Any]" = arguments if arguments is not None else []
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self._target = "local"
        self.max_run_duration_seconds: "Optional[int]" = None
        self.node_count = 1
        self.priority: "Optional[int]" = None
        self.environment: Any = EnvironmentDefinition()
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies
        self._environment_variables: "Dict[str, str]" = {}
        self.history = HistoryConfiguration()
        self.docker = DockerConfiguration()
        self.tensorflow = TensorflowConfiguration()
        self.mpi = MpiConfiguration()
        self.pytorch = PyTorchConfiguration()
        self.paralleltask = ParallelTaskConfiguration()
        self.amlcompute = AmlComputeConfiguration()
        self.data_references: "Dict[str, Any]" = {}
        self.data: "Dict[str, Any]" = {}
        self.output_data: "Dict[str, Any]" = {}
        self.datacaches: "List[Any]" = []
        self.services: "Dict[str, Any]" = {}
        self.source_directory_data_store: "Optional[str]" = None
        self.credential_passthrough = False
        self.auto_cluster_compute_specification: "Dict[str, Any]" = {}
        self._close()

    @property
    def target(self) -> str:
        """Name of the compute target; setting it takes a ComputeTarget, too."""
        return self._target

    @target.setter
    def target(self, compute_target: Any) -> None:
        self._target = target_name(compute_target)

    @property
    def environment_variables(self) -> "Dict[str, str]":
        """Variables of the job; they win over the environment's own."""
        return self._environment_variables

    @environment_variables.setter
    def environment_variables(self, given: "Optional[Dict[str, str]]") -> None:
        self._environment_variables = given if given is not None else {}

    @property
    def auto_prepare_environment(self) -> bool:
        """True: environments are always prepared by themselves."""
        return True

    @auto_prepare_environment.setter
    def auto_prepare_environment(self, value: bool) -> None:
        if not value:
            raise not_offered("auto_prepare_environment=False", "Environments are always prepared by themselves.")

    hdi = AbsentProperty("HDInsight is not planned.")
    kubernetescompute = AbsentProperty("Kubernetes is not planned; use AmlCompute or 'local'.")
    spark = AbsentProperty("Spark is not planned; run the script on 'local' or a cluster.")

    def save(
        self, path: "Optional[str]" = None, name: "Optional[str]" = None, separate_environment_yaml: bool = False
    ) -> None:
        """Write the configuration.

        Args:
            path: With ``name`` the folder of the project, else the file to write; None is the current folder.
            name: Name of the configuration; it is kept as ``.azureml/<name>.runconfig`` in the folder.
            separate_environment_yaml: Not offered; the environment stands in the same file.
        """
        refuse_options("RunConfiguration.save", {
            "separate_environment_yaml": (separate_environment_yaml, False, "The environment is in the same file."),
        })  # fmt: skip
        if name is None and (path is None or os.path.isdir(path)):
            raise RunConfigurationException("Give the name of the configuration, or as path the file to write.")
        place = str(path) if name is None else os.path.join(path or ".", _FOLDER, name + _SUFFIX)
        os.makedirs(os.path.dirname(os.path.abspath(place)), exist_ok=True)
        with open(place, "w", encoding="utf-8") as f:
            f.write(_yaml.dump(self._to_dictionary()))

    @staticmethod
    def load(path: str, name: "Optional[str]" = None) -> "RunConfiguration":
        """Read a configuration that ``save``, or v1, wrote; ``path`` and ``name`` as there.

        Raises:
            RunConfigurationException: there is none; near names are given.
            UserErrorException: it cannot be read.
        """
        place = _find(path, name)
        with open(place, encoding="utf-8") as f:
            data = _yaml.load(f.read(), "The run configuration %s" % place)
        made = RunConfiguration()
        made._fill(data, place)
        return made

    @staticmethod
    def delete(path: str, name: str) -> None:
        """Delete a saved configuration.

        Raises:
            RunConfigurationException: there is none of that name.
        """
        os.remove(_find(path, name))

    def _to_dictionary(self) -> "Dict[str, Any]":
        found = _config_object.to_dictionary(self)
        found["environment"] = self.environment._to_dictionary()
        found.update(target=self.target, environmentVariables=dict(self._environment_variables))
        return found

    def _fill(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise RunConfigurationException("%s holds no run configuration." % where)
        values = {key: value for key, value in data.items() if key not in _HANDLED}
        _config_object.fill(self, values, where)
        self.target = data.get("target") or "local"
        self.environment_variables = data.get("environmentVariables") or {}
        _fill_environment(self.environment, data.get("environment") or {}, where)
        for key, entry in (data.get("dataReferences") or {}).items():
            reference = DataReferenceConfiguration()
            _config_object.fill(reference, entry, where)
            self.data_references[key] = reference


_HANDLED = (
    "target", "environmentVariables", "environment", "dataReferences", "hdi", "spark", "kubernetescompute",
    "containerInstance", "exposedPorts", "jobName", "useAbsolutePath", "batchAi",
)  # fmt: skip
"""Read by hand; from ``hdi`` on, sections of v1 files for what is out of scope, which a target would have to name."""


def _find(path: str, name: "Optional[str]") -> str:
    """The file of a saved configuration."""
    if name is None:
        if not os.path.isfile(path):
            raise RunConfigurationException("There is no run configuration %s." % os.path.abspath(path))
        return str(path)
    folders = [os.path.join(path, folder) for folder in (_FOLDER, _OLD_FOLDER, "")]
    for folder in folders:
        place = os.path.join(folder, name + _SUFFIX)
        if os.path.isfile(place):
            return place
    known = [file[: -len(_SUFFIX)] for folder in folders if os.path.isdir(folder)
             for file in sorted(os.listdir(folder)) if file.endswith(_SUFFIX)]  # fmt: skip
    raise RunConfigurationException(
        "There is no run configuration %r in %s.%s There are: %s."
        % (name, os.path.abspath(path), did_you_mean(name, known), ", ".join(known) or "none")
    )
