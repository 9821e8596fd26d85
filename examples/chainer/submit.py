"""Train on a cluster with the Chainer estimator, register the model, and fetch a copy of it."""

import os

import azureml.core
from azureml.core import Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.train.dnn import Chainer

print("SDK version:", azureml.core.VERSION)
here = os.path.dirname(os.path.abspath(__file__))
workspace = Workspace.from_config(here)

try:
    target = ComputeTarget(workspace=workspace, name="gpu-cluster")
except ComputeTargetException:
    size = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=4)
    target = ComputeTarget.create(workspace, "gpu-cluster", size)
    target.wait_for_completion(show_output=True)
print(target.get_status().serialize())

estimator = Chainer(
    source_directory=here,
    script_params={"--epochs": 10, "--batchsize": 128, "--output_dir": "./outputs"},
    compute_target=target,
    pip_packages=["numpy", "scikit-learn"],
    entry_script="train.py",
    use_gpu=True,
)
run = Experiment(workspace, name="chainer-digits").submit(estimator)
run.wait_for_completion(show_output=True)

print(f"accuracy {run.get_metrics()['Accuracy'][-1]:.3f}")
model = run.register_model(model_name="chainer-digits", model_path="outputs/model.npz")
print(f"registered model {model.name}, version {model.version}")
run.download_file("outputs/model.npz", os.path.join("model", "model.npz"))
