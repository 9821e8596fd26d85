"""Train scikit-learn code with the general Estimator on data of a datastore, and use the model that was registered."""

import os
import sys
import tempfile

import joblib
from sklearn.datasets import load_wine

from azureml.core import Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.core.model import Model
from azureml.train.estimator import Estimator

here = os.path.dirname(os.path.abspath(__file__))
workspace = Workspace.from_config(here)

wine = load_wine(as_frame=True).frame
ds = workspace.get_default_datastore()
with tempfile.TemporaryDirectory() as folder:
    wine.to_csv(os.path.join(folder, "wine.csv"), index=False)
    ds.upload(src_dir=folder, target_path="wine", overwrite=True)

try:
    target = ComputeTarget(workspace, "cpucluster")
except ComputeTargetException:
    size = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=2)
    target = ComputeTarget.create(workspace, "cpucluster", size)
    target.wait_for_completion(show_output=True)

estimator = Estimator(
    source_directory=here,
    entry_script="train.py",
    script_params={"--data-folder": ds, "--regularization": 0.2},
    compute_target=target,
    conda_packages=["scikit-learn"],
)
run = Experiment(workspace, "wine").submit(estimator)
print("status:", run.get_details()["status"])
run.wait_for_completion(show_output=True)

accuracy = run.get_metrics()["accuracy"]
run.register_model("wine", model_path="outputs/wine", tags={"data": "wine"}, properties={"accuracy": f"{accuracy:.3f}"})

model = Model(workspace, name="wine")
place = model.download(target_dir=tempfile.mkdtemp(), exist_ok=True)
sys.path.insert(0, place)
wines = wine.iloc[:3, :-1].to_numpy()
found = joblib.load(os.path.join(place, "model.joblib")).predict(wines)
print(f"{model.name}, version {model.version}, accuracy {model.properties['accuracy']}")
print("the first three wines are of the classes", found.tolist())
