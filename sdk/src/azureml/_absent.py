"""Names of v1 that Windlass does not offer, by import path, and the error that says so."""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, Iterable

from windlass.errors import NotOffered


class NotOfferedImport(NotOffered, ImportError):
    """A v1 name that cannot be imported from Windlass; ``except ImportError`` catches it, too.

    No AttributeError, on purpose: ``from x import y`` would replace its message by "cannot import name".
    """


def absent_names(module: str, lazily: "Iterable[str]" = ()) -> "Callable[[str], Any]":
    """A ``__getattr__`` for ``module``: names in ``lazily`` come from ``windlass``, absent ones raise, saying so."""
    absent, lazy = _ABSENT.get(module, frozenset()), frozenset(lazily)

    def find(name: str) -> Any:
        if name in lazy:
            import windlass

            return getattr(windlass, name)
        if name in absent:
            raise NotOfferedImport(
                ("%s.%s is not offered by Windlass yet. %s" % (module, name, _instead(module, name))).rstrip()
            )
        raise AttributeError("module %r has no attribute %r" % (module, name))

    return find


def _instead(module: str, name: str) -> str:
    for part, sentence in _INSTEAD.items():
        if part in name or part in module:
            return sentence
    return ""


_INSTEAD = {
    "Dataset": "Put the data where the script can reach it and pass its path in script_params.",
    "Datastore": "Put the data where the script can reach it and pass its path in script_params.",
    "azureml.data": "Put the data where the script can reach it and pass its path in script_params.",
    "Configuration": "Give compute_target, environment and arguments to ScriptRunConfig.",
    "train.dnn": "Use Estimator with the framework in pip_packages.",
    "train.sklearn": "Use Estimator with pip_packages=['scikit-learn'].",
    "hyperdrive": "Submit one run for each set of parameters.",
    "ebservice": "Download the model and load it: Model.download().",
    "Inference": "Download the model and load it: Model.download().",
    "Keyvault": "Pass secrets in environment_variables.",
    "RunDetails": "Use run.wait_for_completion(show_output=True), or open run.get_portal_url().",
    "ensorboard": "Open run.get_portal_url(): it shows the metrics.",
    "Docker": "Environments are built without Docker.",
    "Image": "Environments are built without Docker.",
    "ContainerRegistry": "Environments are built without Docker.",
    "Spark": "Spark is not planned.",
    "ComputeInstance": "Use AmlCompute or 'local'.",
    "RemoteCompute": "Use AmlCompute or 'local'.",
    "LocalTarget": "Give compute_target='local'.",
    "ScriptRun": "Use Run.",
}

_ABSENT: "Dict[str, FrozenSet[str]]" = {
    "azureml.core": frozenset(
        ("ContainerRegistry Dataset Datastore Keyvault RunConfiguration ScriptRun Webservice diagnostic_log").split()
    ),
    "azureml.core.authentication": frozenset("AuthenticationException".split()),
    "azureml.core.compute": frozenset("ComputeInstance RemoteCompute".split()),
    "azureml.core.compute.compute": frozenset(
        ("ComputeTargetAttachConfiguration ComputeTargetUpdateConfiguration").split()
    ),
    "azureml.core.compute.computeinstance": frozenset(
        (
            "AuthenticationException ComputeInstance ComputeInstanceProvisioningConfiguration "
            "ComputeInstanceStatus ComputeTarget ComputeTargetException ComputeTargetProvisioningConfiguration"
        ).split()
    ),
    "azureml.core.compute.remote": frozenset(
        (
            "ComputeTarget ComputeTargetAttachConfiguration ComputeTargetException RemoteCompute "
            "RemoteComputeAttachConfiguration"
        ).split()
    ),
    "azureml.core.compute_target": frozenset("AbstractComputeTarget LocalTarget".split()),
    "azureml.core.container_registry": frozenset("ContainerRegistry".split()),
    "azureml.core.dataset": frozenset(
        ("Dataset FileEncoding HistogramCompareMethod PromoteHeadersBehavior SkipLinesBehavior").split()
    ),
    "azureml.core.datastore": frozenset("Datastore UserErrorException".split()),
    "azureml.core.environment": frozenset(
        (
            "ContainerRegistry DEFAULT_CPU_IMAGE DEFAULT_GPU_IMAGE DockerBuildContext DockerEnvironment "
            "DockerImageDetails DockerImagePlatform EnvironmentReference ImageBuildDetails PythonEnvironment "
            "RCranPackage RGitHubPackage RSection SparkEnvironment SparkPackage SparkSection"
        ).split()
    ),
    "azureml.core.experiment": frozenset("ComputeInstance DEFAULT_GPU_IMAGE".split()),
    "azureml.core.keyvault": frozenset("Keyvault".split()),
    "azureml.core.model": frozenset(
        (
            "ContainerRegistry Dataset DatasetSnapshot FileDataset InferenceConfig ModelPackage ModelProfile "
            "ResourceConfiguration TabularDataset WebserviceException"
        ).split()
    ),
    "azureml.core.resource_configuration": frozenset("ResourceConfiguration WebserviceException".split()),
    "azureml.core.run": frozenset(
        ("AbstractDataset DataPath Datastore InputDatasets Keyvault LinkOutput OutputDatasets").split()
    ),
    "azureml.core.runconfig": frozenset(
        (
            "AbstractComputeTarget AmlComputeConfiguration ApplicationEndpointConfiguration ComputeTarget "
            "CondaDependencies ContainerRegistry DEFAULT_CPU_IMAGE DEFAULT_GPU_IMAGE Data DataLocation DataPath "
            "DataReferenceConfiguration DatacacheConfiguration Dataset DatasetConsumptionConfig "
            "DatasetRegistrationOptions DockerConfiguration DockerEnvironment DockerSection Environment "
            "EnvironmentDefinition GlobsOptions HistoryConfiguration MountOptions MpiConfiguration OutputData "
            "OutputOptions ParallelTaskConfiguration PyTorchConfiguration PythonEnvironment PythonSection "
            "RegistrationOptions Run RunConfiguration RunConfigurationException SparkConfiguration "
            "SparkEnvironment SparkSection TensorflowConfiguration UploadOptions Uri UserErrorException"
        ).split()
    ),
    "azureml.core.script_run": frozenset("AzureMLException Run RunConfiguration ScriptRun UserErrorException".split()),
    "azureml.core.script_run_config": frozenset(
        (
            "Data DataPath DataPathComputeBinding DatacacheConfiguration DockerConfiguration "
            "EnvironmentDefinition MpiConfiguration PyTorchConfiguration RunConfiguration TensorflowConfiguration"
        ).split()
    ),
    "azureml.core.webservice": frozenset("AciWebservice LocalWebservice VERSION Webservice".split()),
    "azureml.core.webservice.aci": frozenset(
        (
            "AciServiceDeploymentConfiguration AciWebservice ContainerResourceRequirements Environment Model "
            "Webservice WebserviceDeploymentConfiguration WebserviceException"
        ).split()
    ),
    "azureml.core.webservice.local": frozenset(
        (
            "InferenceConfig LocalWebservice LocalWebserviceDeploymentConfiguration Model Webservice "
            "WebserviceDeploymentConfiguration WebserviceException"
        ).split()
    ),
    "azureml.core.webservice.webservice": frozenset(
        (
            "ContainerResourceRequirements Model WebServiceAccessToken Webservice "
            "WebserviceDeploymentConfiguration WebserviceException"
        ).split()
    ),
    "azureml.core.workspace": frozenset(
        ("Dataset Keyvault ProjectSystemException Webservice WorkspaceException").split()
    ),
    "azureml.data": frozenset(
        (
            "DataType FileDataset HDFSOutputDatasetConfig LinkFileOutputDatasetConfig "
            "LinkTabularOutputDatasetConfig OutputFileDatasetConfig TabularDataset VERSION"
        ).split()
    ),
    "azureml.data.azure_storage_datastore": frozenset(
        (
            "AbstractAzureStorageDatastore AbstractDatastore AsyncTask AzureBlobDatastore AzureFileDatastore "
            "DataReference TaskQueue UserErrorException"
        ).split()
    ),
    "azureml.data.data_reference": frozenset("DataReference".split()),
    "azureml.data.datapath": frozenset("DataPath DataPathComputeBinding DataReference".split()),
    "azureml.data.dataset_consumption_config": frozenset("DatasetConsumptionConfig".split()),
    "azureml.data.output_dataset_config": frozenset(
        (
            "AbstractDataset HDFSOutputDatasetConfig LinkFileOutputDatasetConfig LinkTabularOutputDatasetConfig "
            "MountOptions OutputDatasetConfig OutputFileDatasetConfig OutputTabularDatasetConfig "
            "PromoteHeadersBehavior RegistrationConfiguration TransformationMixin UploadOptions"
        ).split()
    ),
    "azureml.exceptions": frozenset(
        (
            "AuthenticationException AzureMLAggregatedException DatasetTimestampMissingError "
            "DiscoveryUrlNotFoundException ParallelRunException ProjectSystemException ServiceException "
            "WebserviceException WorkspaceException WorkspacePrivateEndpointException"
        ).split()
    ),
    "azureml.tensorboard": frozenset("Tensorboard".split()),
    "azureml.tensorboard.export": frozenset("export_to_tensorboard".split()),
    "azureml.train.dnn": frozenset("Chainer Gloo Mpi Nccl ParameterServer PyTorch TensorFlow".split()),
    "azureml.train.estimator": frozenset(
        ("Gloo MMLBaseEstimator MMLBaseEstimatorRunConfig Mpi Nccl ParameterServer").split()
    ),
    "azureml.train.hyperdrive": frozenset(
        (
            "BanditPolicy BayesianParameterSampling EarlyTerminationPolicy GridParameterSampling HyperDriveConfig "
            "HyperDriveRun HyperDriveRunConfig HyperParameterSampling MedianStoppingPolicy NoTerminationPolicy "
            "PrimaryMetricGoal RandomParameterSampling TruncationSelectionPolicy choice lognormal loguniform "
            "normal qlognormal qloguniform qnormal quniform randint uniform"
        ).split()
    ),
    "azureml.train.sklearn": frozenset("SKLearn".split()),
    "azureml.widgets": frozenset("RunDetails".split()),
}
