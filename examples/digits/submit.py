"""Submit ``train.py`` with the API of the Azure ML SDK v1, watch it, and register the model it made."""

import os

from azureml.core import Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.train.estimator import Estimator

here = os.path.dirname(os.path.abspath(__file__))
workspace = Workspace.from_config(here)

try:
    target = ComputeTarget(workspace, "cpucluster")
except ComputeTargetException:
    size = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=2)
    target = ComputeTarget.create(workspace, "cpucluster", size)
    target.wait_for_completion(show_output=True)

estimator = Estimator(
    source_directory=here,
    entry_script="train.py",
    script_params={"--epochs": 20, "--hidden": 64},
    compute_target=target,
    pip_packages=["scikit-learn", "joblib"],
)
run = Experiment(workspace, "digits").submit(estimator)
run.wait_for_completion(show_output=True)

metrics = run.get_metrics()
print(f"\nfinal accuracy {metrics['final_accuracy']:.3f}; loss over {len(metrics['loss'])} epochs")
print("kept files:", *run.get_file_names(), sep="\n  ")
model = run.register_model("digits", model_path="outputs/digits.joblib", tags={"data": "digits"})
print(f"registered model {model.name}, version {model.version}")
print(f"\nlook at the run:  {run.get_portal_url()}")
print(f"sign in there with:  windlass -w {workspace.name} open {run.id}")
