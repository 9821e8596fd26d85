"""Put data of one's own into the datastore and train on it on this machine, without making a cluster."""

import csv
import math
import os
import random
import tempfile

from azureml.core import Experiment, Workspace
from azureml.train.dnn import PyTorch

here = os.path.dirname(os.path.abspath(__file__))
workspace = Workspace.from_config(here)

ds = workspace.get_default_datastore()
rng = random.Random(0)
with tempfile.TemporaryDirectory() as folder:
    place = os.path.join(folder, "points.csv")
    with open(place, "w", newline="") as f:
        write = csv.writer(f)
        write.writerow(["x", "y"])
        for x in (rng.uniform(-2, 2) for _ in range(400)):
            write.writerow([x, math.sin(2 * x) + rng.gauss(0, 0.05)])
    ds.upload_files([place], target_path="curve", overwrite=True, show_progress=False)

estimator = PyTorch(
    source_directory=here,
    script_params={"--data_dir": ds},  # the script gets a path
    compute_target="local",
    entry_script="train.py",
    use_gpu=True,  # where there is none, the run goes to the CPU and its record says so
)
run = Experiment(workspace, "curve").submit(estimator)
run.wait_for_completion(show_output=True)

metrics = run.get_metrics()
print(f"mean squared error {metrics['mse'][0]:.3f} at first, {metrics['final_mse']:.4f} in the end")
model = run.register_model("curve", model_path="outputs/curve.pt", tags={"framework": "pytorch"})
print(f"registered model {model.name}, version {model.version}")
