"""What each import path of v1 exports, as far as Windlass has the module; a test compares it with the surface."""

from __future__ import annotations

from typing import Dict

MODULES: "Dict[str, str]" = {
    "azureml.core": (
        "ComputeTarget ContainerRegistry Dataset Datastore Environment Experiment Keyvault Model Run "
        "RunConfiguration ScriptRun ScriptRunConfig VERSION Webservice Workspace diagnostic_log get_run"
    ),
    "azureml.core.authentication": (
        "AbstractAuthentication ArmTokenAuthentication AuthenticationException AzureCliAuthentication "
        "AzureMLException AzureMLTokenAuthentication InteractiveLoginAuthentication MsiAuthentication "
        "RunEnvironmentException ServicePrincipalAuthentication TokenAuthentication UserErrorException"
    ),
    "azureml.core.compute": "AmlCompute ComputeInstance ComputeTarget RemoteCompute VERSION",
    "azureml.core.compute.amlcompute": (
        "AmlCompute AmlComputeNodeStateCounts AmlComputeProvisioningConfiguration AmlComputeStatus ComputeTarget "
        "ComputeTargetException ComputeTargetProvisioningConfiguration ScaleSettings"
    ),
    "azureml.core.compute.compute": (
        "ComputeTarget ComputeTargetAttachConfiguration ComputeTargetException "
        "ComputeTargetProvisioningConfiguration ComputeTargetUpdateConfiguration UserErrorException"
    ),
    "azureml.core.compute_target": "AbstractComputeTarget ComputeTargetException LocalTarget UserErrorException",
    "azureml.core.conda_dependencies": "CondaDependencies UserErrorException VERSION",
    "azureml.core.container_registry": "ContainerRegistry",
    "azureml.core.dataset": "Dataset FileEncoding HistogramCompareMethod PromoteHeadersBehavior SkipLinesBehavior",
    "azureml.core.datastore": "Datastore UserErrorException",
    "azureml.core.environment": (
        "AzureMLException CondaDependencies ContainerRegistry DEFAULT_CPU_IMAGE DEFAULT_GPU_IMAGE "
        "DockerBuildContext DockerEnvironment DockerImageDetails DockerImagePlatform DockerSection Environment "
        "EnvironmentReference ImageBuildDetails PythonEnvironment PythonSection RCranPackage RGitHubPackage "
        "RSection SparkEnvironment SparkPackage SparkSection UserErrorException"
    ),
    "azureml.core.experiment": "ComputeInstance DEFAULT_GPU_IMAGE Experiment UserErrorException ViewType",
    "azureml.core.keyvault": "Keyvault",
    "azureml.core.model": (
        "ContainerRegistry Dataset DatasetSnapshot Environment Experiment FileDataset InferenceConfig Model "
        "ModelNotFoundException ModelPackage ModelProfile ResourceConfiguration RunEnvironmentException "
        "TabularDataset UserErrorException WebserviceException get_run"
    ),
    "azureml.core.resource_configuration": "ResourceConfiguration WebserviceException",
    "azureml.core.run": (
        "AbstractDataset ActivityFailedException DataPath Datastore Environment ExperimentExecutionException "
        "InputDatasets Keyvault LinkOutput OutputDatasets Run RunEnvironmentException SnapshotException "
        "UserErrorException _OfflineRun get_run"
    ),
    "azureml.core.runconfig": (
        "AbstractComputeTarget AmlComputeConfiguration ApplicationEndpointConfiguration ComputeTarget "
        "CondaDependencies ContainerRegistry DEFAULT_CPU_IMAGE DEFAULT_GPU_IMAGE Data DataLocation DataPath "
        "DataReferenceConfiguration DatacacheConfiguration Dataset DatasetConsumptionConfig "
        "DatasetRegistrationOptions DockerConfiguration DockerEnvironment DockerSection Environment "
        "EnvironmentDefinition GlobsOptions HistoryConfiguration MountOptions MpiConfiguration OutputData "
        "OutputOptions ParallelTaskConfiguration PyTorchConfiguration PythonEnvironment PythonSection "
        "RegistrationOptions Run RunConfiguration RunConfigurationException SparkConfiguration SparkEnvironment "
        "SparkSection TensorflowConfiguration UploadOptions Uri UserErrorException"
    ),
    "azureml.core.script_run": "AzureMLException Run RunConfiguration ScriptRun UserErrorException",
    "azureml.core.script_run_config": (
        "Data DataPath DataPathComputeBinding DatacacheConfiguration DockerConfiguration EnvironmentDefinition "
        "MpiConfiguration PyTorchConfiguration RunConfiguration RunConfigurationException ScriptRunConfig "
        "TensorflowConfiguration UserErrorException"
    ),
    "azureml.core.workspace": (
        "AmlCompute ComputeTarget Dataset Keyvault Model ProjectSystemException UserErrorException VERSION "
        "Webservice Workspace WorkspaceException"
    ),
    "azureml.data": (
        "DataType FileDataset HDFSOutputDatasetConfig LinkFileOutputDatasetConfig LinkTabularOutputDatasetConfig "
        "OutputFileDatasetConfig TabularDataset VERSION"
    ),
    "azureml.data.abstract_dataset": (
        "AbstractDataset DatasetConsumptionConfig FileDatasetFactory RunEnvironmentException "
        "TabularDatasetFactory UserErrorException"
    ),
    "azureml.data.abstract_datastore": "AbstractDatastore",
    "azureml.data.azure_storage_datastore": (
        "AbstractAzureStorageDatastore AbstractDatastore AsyncTask AzureBlobDatastore AzureFileDatastore "
        "DataReference TaskQueue UserErrorException"
    ),
    "azureml.data.data_reference": "DataReference",
    "azureml.data.datapath": "DataPath DataPathComputeBinding DataReference",
    "azureml.data.dataset_consumption_config": "DatasetConsumptionConfig",
    "azureml.data.dataset_error_handling": (
        "AzureMLException DatasetExecutionError DatasetValidationError UserErrorException"
    ),
    "azureml.data.dataset_factory": (
        "AbstractDatastore DataPath DataReference DataType FileDatasetFactory PromoteHeadersBehavior "
        "TabularDatasetFactory UserErrorException"
    ),
    "azureml.data.dataset_type_definitions": (
        "FileEncoding FileType HistogramCompareMethod PromoteHeadersBehavior SkipLinesBehavior"
    ),
    "azureml.data.file_dataset": "AbstractDataset AzureMLException FileDataset UserErrorException",
    "azureml.data.output_dataset_config": (
        "AbstractDataset HDFSOutputDatasetConfig LinkFileOutputDatasetConfig LinkTabularOutputDatasetConfig "
        "MountOptions OutputDatasetConfig OutputFileDatasetConfig OutputTabularDatasetConfig "
        "PromoteHeadersBehavior RegistrationConfiguration TransformationMixin UploadOptions"
    ),
    "azureml.data.tabular_dataset": (
        "AbstractDataset AzureMLException DatasetTimestampMissingError FileDataset TabularDataset UserErrorException"
    ),
    "azureml.exceptions": (
        "ActivityFailedException AuthenticationException AzureMLAggregatedException AzureMLException "
        "ComputeTargetException DatasetTimestampMissingError DiscoveryUrlNotFoundException "
        "ExperimentExecutionException ModelNotFoundException ModelPathNotFoundException ParallelRunException "
        "ProjectSystemException RunConfigurationException RunEnvironmentException ServiceException "
        "SnapshotException TrainingException UserErrorException VERSION WebserviceException WorkspaceException "
        "WorkspacePrivateEndpointException"
    ),
    "azureml.telemetry": "UserErrorException set_diagnostics_collection",
    "azureml.train.dnn": "Chainer Gloo Mpi Nccl ParameterServer PyTorch TensorFlow",
    "azureml.train.estimator": "Estimator Gloo MMLBaseEstimator MMLBaseEstimatorRunConfig Mpi Nccl ParameterServer",
    "azureml.train.sklearn": "SKLearn",
}
"""Import path to its public names, joined by spaces."""
