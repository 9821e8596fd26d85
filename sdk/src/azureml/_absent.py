"""Names of v1 that Windlass does not offer, or not yet, and the error that says so and what to use."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Callable, Iterable, NamedTuple, Optional

from azureml._names import MODULES
from windlass.errors import NotOffered


class NotOfferedImport(NotOffered, ImportError):
    """A v1 name that cannot be imported from Windlass; ``except ImportError`` catches it, too.

    No AttributeError, on purpose: ``from x import y`` would replace its message by "cannot import name".
    """


class Reason(NamedTuple):
    """Why a name of v1 is absent."""

    pattern: str
    """Import path of the names it is for; ``*`` stands for anything."""
    planned: bool
    """True: a later release brings it. False: SPEC section 15 rules it out."""
    instead: str
    """A sentence: what to use."""


def absent_names(module: str, lazily: "Iterable[str]" = ()) -> "Callable[[str], Any]":
    """A ``__getattr__`` for ``module``: names in ``lazily`` come from ``windlass``, other names of v1 raise, saying so.

    Python asks it only for what the module does not have, so a name is offered as soon as the module imports it.
    """
    lazy = frozenset(lazily)

    def find(name: str) -> Any:
        if name in lazy:
            import windlass

            return getattr(windlass, name)
        path = "%s.%s" % (module, name)
        if name in MODULES.get(module, "").split() or (reason_for(path) is not None and not name.startswith("_")):
            raise absent(path)
        raise AttributeError("module %r has no attribute %r" % (module, name))

    return find


def absent(path: str) -> NotOfferedImport:
    """The error for the module or name at v1's import path."""
    reason = reason_for(path)
    if reason is None:
        return NotOfferedImport("%s is not offered by Windlass yet." % path)
    return NotOfferedImport(
        "%s is not offered by Windlass%s. %s" % (path, " yet" if reason.planned else "", reason.instead)
    )


def reason_for(path: str) -> "Optional[Reason]":
    """Why v1's module or name at this import path is absent; None when nothing is known of it."""
    return next((reason for reason in REASONS if fnmatchcase(path, reason.pattern)), None)


class AbsentModules:
    """Finds no module: at the end of ``sys.meta_path`` it turns the import of an absent module of v1 into our error."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> None:
        """None for what is not v1's.

        Raises:
            NotOfferedImport: v1 has the module, and Windlass does not.
        """
        if fullname.startswith("azureml.") and (fullname in MODULES or reason_for(fullname) is not None):
            raise absent(fullname)


_AZURE_COMPUTE = "Use AmlCompute or 'local'."
_FILES = "Export the data to files and upload them to a datastore."
_STEPS = "Submit the steps in turn from one script."
_SERVE = "Download the model and load it: Model.download()."
_SWEEP = "Submit one run for each set of parameters."
_PAGE = "Open run.get_portal_url(): it shows the metrics."
_NEW_VERSION = "Register the data again: that makes a new version of the dataset."

REASONS = (
    Reason("azureml.pipeline*", False, _STEPS),
    Reason("*.train.automl*", False, "Train with an Estimator or a ScriptRunConfig."),
    Reason("azureml.automl*", False, "Train with an Estimator or a ScriptRunConfig."),
    Reason("*[Ss]park*", False, "Run the script with a ScriptRunConfig."),
    Reason("*.R[CGS]*", False, "Packages of R are not installed; run Python scripts."),
    Reason("azureml.core.compute.*[Ii]nstance*", False, _AZURE_COMPUTE),
    Reason("*.ComputeInstance*", False, _AZURE_COMPUTE),
    Reason("azureml.core.compute.*Remote*", False, _AZURE_COMPUTE),
    Reason("azureml.core.compute.remote", False, _AZURE_COMPUTE),
    *(
        Reason("azureml.core.compute.%s" % name, False, _AZURE_COMPUTE)
        for name in (
            "adla* Adla* aks* Aks* batch* Batch* databricks* Databricks* datafactory* DataFactory* dsvm* Dsvm* "
            "hdinsight* HDInsight* kubernetes* Kubernetes* kusto* Kusto* synapse* Synapse*"
        ).split()
    ),
    Reason("azureml.core.databricks*", False, _AZURE_COMPUTE),
    Reason("azureml.core.*LinkedService*", False, _AZURE_COMPUTE),
    Reason("azureml.core.linked_service*", False, _AZURE_COMPUTE),
    Reason("azureml.core.private_endpoint*", False, "A workspace lies on your own machine."),
    Reason("azureml.core.PrivateEndPoint*", False, "A workspace lies on your own machine."),
    Reason("azureml.core.image*", False, _SERVE),
    Reason("azureml.core.*[Aa]ks*", False, _SERVE),
    Reason("azureml.core.profile*", False, _SERVE),
    Reason("*.ModelProfile", False, _SERVE),
    Reason("azureml.core.webservice*", True, _SERVE),
    Reason("*.InferenceConfig", True, _SERVE),
    Reason("*.ModelPackage", True, _SERVE),
    Reason("azureml.core.Image", False, _SERVE),
    Reason("azureml.core.Webservice", True, _SERVE),
    Reason("azureml.core.workspace.Webservice", True, _SERVE),
    Reason("*.ResourceConfiguration", True, _SERVE),
    Reason("*.Keyvault", True, "Pass secrets in environment_variables."),
    Reason("azureml.core.keyvault*", True, "Pass secrets in environment_variables."),
    Reason("*HDFS*", False, _FILES),
    Reason("azureml.data.hdfs*", False, _FILES),
    Reason("azureml.data.*_sql_*", False, _FILES),
    Reason("azureml.data.sql_*", False, _FILES),
    Reason("azureml.data.azure_data_lake*", False, _FILES),
    Reason("azureml.data.dbfs*", False, _FILES),
    Reason("azureml.data.datacache*", False, "Datasets are kept on the node by themselves."),
    Reason("*.Datacache*", False, "Datasets are kept on the node by themselves."),
    Reason("*.DatasetDefinition", False, _NEW_VERSION),
    Reason("azureml.data.dataset_definition*", False, _NEW_VERSION),
    Reason("*.DatasetSnapshot", False, _NEW_VERSION),
    Reason("azureml.data.dataset_snapshot*", False, _NEW_VERSION),
    Reason("*.DatasetProfile", False, "Use to_pandas_dataframe().describe()."),
    Reason("azureml.data.dataset_profile*", False, "Use to_pandas_dataframe().describe()."),
    Reason("azureml.data.datastore_client*", False, "Use Datastore."),
    Reason("*.AsyncTask", False, "upload() and download() return when all is done."),
    Reason("*.TaskQueue", False, "upload() and download() return when all is done."),
    Reason("azureml.train.hyperdrive*", True, _SWEEP),
    Reason("azureml.widgets*", True, "Use run.wait_for_completion(show_output=True), or open run.get_portal_url()."),
    Reason("azureml.tensorboard*", True, _PAGE),
    Reason("azureml.mlflow*", True, "Log with Run.get_context().log()."),
    Reason("azureml.telemetry.*", False, "Windlass collects nothing."),
    Reason("azureml.data.context_managers*", False, "Use as_mount() or as_download(): the job gets a path."),
    Reason("azureml.dataprep*", False, "Use pandas in the script."),
    Reason("azureml.opendatasets*", False, _FILES),
    Reason("azureml.datadrift*", False, "Compare the data in a script of your own."),
    Reason("azureml.interpret*", False, "Install interpret-community and log what it finds."),
    Reason("azureml.explain*", False, "Install interpret-community and log what it finds."),
    Reason("azureml.contrib*", False, "Previews of v1 are left out."),
    Reason("azureml.accel*", False, _SERVE),
    Reason("azureml.monitoring*", False, _SERVE),
    Reason("*.LocalTarget", False, "Give compute_target='local'."),
    Reason("*.AbstractComputeTarget", False, "Use ComputeTarget."),
    Reason("*.ComputeTargetAttachConfiguration", True, "Make a cluster with ComputeTarget.create()."),
    Reason("*.ComputeTargetUpdateConfiguration", False, "Use AmlCompute.update()."),
    Reason("*.ApplicationEndpointConfiguration", False, "Start the application in the script."),
    *(
        Reason("azureml.core.runconfig.%s" % name, True, "Give data references and datasets among the arguments.")
        for name in (
            "Data DataLocation DataPath Dataset DatasetRegistrationOptions GlobsOptions MountOptions OutputData "
            "OutputOptions RegistrationOptions UploadOptions Uri"
        ).split()
    ),
    Reason("azureml.core.script_run_config.Data", True, "Give data references and datasets among the arguments."),
    Reason("*._SubmittedRun", False, "Use Run: that is what submit returns."),
    Reason("*.ScriptRun", False, "Use Run: that is what submit returns."),
    Reason("*.OutputTabularDatasetConfig", True, "Register the output and read it with Dataset.Tabular."),
    Reason("*.OutputDatasetConfig", False, "Use OutputFileDatasetConfig."),
    Reason("*.TransformationMixin", False, "Use OutputFileDatasetConfig."),
    Reason("azureml.data.output_dataset_config.MountOptions", False, "Use as_mount()."),
    Reason("*.Link*", False, "Use OutputFileDatasetConfig."),
    Reason("azureml.studio*", False, _STEPS),
    Reason("azureml.designer*", False, _STEPS),
)
"""The first that matches counts."""
