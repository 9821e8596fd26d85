"""Train on a cluster with the PyTorch estimator, register the model, and fetch a copy of it."""

import os

from azureml.core import Experiment
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.core.workspace import Workspace
from azureml.train.dnn import PyTorch

here = os.path.dirname(os.path.abspath(__file__))
workspace = Workspace.from_config(here)

try:
    target = ComputeTarget(workspace=workspace, name="gpucluster")
except ComputeTargetException:
    size = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=4)
    target = ComputeTarget.create(workspace, "gpucluster", size)
    target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)

estimator = PyTorch(
    source_directory=here,
    script_params={"--num_epochs": 10, "--output_dir": "./outputs"},
    compute_target=target,
    entry_script="train.py",
    use_gpu=True,
    pip_packages=["scikit-learn"],
)
run = Experiment(workspace, name="pytorch-digits").submit(estimator)
run.wait_for_completion(show_output=True)

print(f"best accuracy {run.get_metrics()['best_val_acc']:.3f}")
model = run.register_model(model_name="pt-digits", model_path="outputs/")
print(f"registered model {model.name}, version {model.version}")

os.makedirs("model", exist_ok=True)
for name in run.get_file_names():
    if name.startswith("outputs/model"):
        copy = os.path.join("model", name.split("/")[-1])
        run.download_file(name=name, output_file_path=copy)
        print(f"downloaded {name} to {copy}")
