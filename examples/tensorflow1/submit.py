"""A script of 2019 on the TensorFlow of 2019: version 1.13, on the Python that has it."""

import os

from azureml.core import Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.train.dnn import TensorFlow

here = os.path.dirname(os.path.abspath(__file__))
ws = Workspace.from_config(here)

try:
    compute_target = ComputeTarget(workspace=ws, name="gpucluster")
except ComputeTargetException:
    size = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=4)
    compute_target = ComputeTarget.create(ws, "gpucluster", size)
    compute_target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)

est = TensorFlow(
    source_directory=here,
    script_params={"--batch-size": 64, "--learning-rate": 0.2},
    compute_target=compute_target,
    entry_script="train.py",
    framework_version="1.13",
    use_gpu=True,
)
run = Experiment(workspace=ws, name="tf1-bars").submit(est)
run.wait_for_completion(show_output=True)

print(f"accuracy {run.get_metrics()['final_acc']:.3f}")
model = run.register_model(model_name="tf1-bars", model_path="outputs/model")
print(f"registered model {model.name}, version {model.version}")
