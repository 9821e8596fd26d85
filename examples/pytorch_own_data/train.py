"""Fit a curve through points that lie in a datastore, in plain PyTorch."""

import argparse
import csv
import os

import torch
from torch import nn

from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data_dir", help="a datastore that holds curve/points.csv")
parser.add_argument("--num_epochs", type=int, default=300)
given = parser.parse_args()

run = Run.get_context()
torch.manual_seed(0)
with open(os.path.join(given.data_dir, "curve", "points.csv"), newline="") as f:
    points = torch.tensor([[float(row["x"]), float(row["y"])] for row in csv.DictReader(f)])
x, y = points[:, :1], points[:, 1:]
print(f"{len(points)} points")

model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(given.num_epochs):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    run.log("mse", loss, step=epoch)
    if epoch % 50 == 49:
        print(f"epoch {epoch + 1}: mean squared error {loss.item():.5f}")

run.log("final_mse", loss)
torch.save(model.state_dict(), os.path.join("outputs", "curve.pt"))
