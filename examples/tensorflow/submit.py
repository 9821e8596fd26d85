"""Upload MNIST-format files to the datastore, train on them with the TensorFlow estimator, register the model."""

import os
import tempfile

from make_data import write_digits

from azureml.core import Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.train.dnn import TensorFlow

here = os.path.dirname(os.path.abspath(__file__))
workspace = Workspace.from_config(here)

datastore = workspace.get_default_datastore()
with tempfile.TemporaryDirectory() as folder:
    write_digits(folder)
    datastore.upload(src_dir=folder, target_path="digits", overwrite=True, show_progress=True)

try:
    target = ComputeTarget(workspace=workspace, name="gpucluster")
except ComputeTargetException:
    size = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=4)
    target = ComputeTarget.create(workspace, "gpucluster", size)
    target.wait_for_completion(show_output=True)

estimator = TensorFlow(
    source_directory=here,
    entry_script="train.py",
    script_params={
        "--data-folder": datastore.as_mount(),
        "--batch-size": 50,
        "--first-layer-neurons": 100,
        "--second-layer-neurons": 50,
        "--learning-rate": 0.05,
    },
    compute_target=target,
    use_gpu=True,
)
run = Experiment(workspace=workspace, name="tf-digits").submit(estimator)
run.wait_for_completion(show_output=True)

print(f"final accuracy {run.get_metrics()['final_acc']:.3f}")
model = run.register_model(model_name="tf-digits", model_path="outputs/model")
print(f"registered model {model.name}, version {model.version}")

for name in run.get_file_names():
    if name.startswith("outputs/model"):
        copy = os.path.join("model", os.path.relpath(name, "outputs/model"))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        run.download_file(name=name, output_file_path=copy)
        print(f"downloaded {name} to {copy}")
