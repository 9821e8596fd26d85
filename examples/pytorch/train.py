"""Train a small convolutional network on images of handwritten digits and keep the best one seen."""

import argparse
import os

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from azureml.core.run import Run

parser = argparse.ArgumentParser()
parser.add_argument("--num_epochs", type=int, default=10)
parser.add_argument("--output_dir", default="./outputs")
given = parser.parse_args()

run = Run.get_context()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)
print(f"PyTorch {torch.__version__} on {device}")

images, digits = load_digits(return_X_y=True)
parts = train_test_split(images.reshape(-1, 1, 8, 8).tolist(), digits.tolist(), test_size=0.25, random_state=0)
train_x, test_x = (torch.tensor(part, device=device) / 16 for part in parts[:2])
train_y, test_y = (torch.tensor(part, device=device) for part in parts[2:])

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
    nn.Linear(32 * 4 * 4, 10),
).to(device)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

best = 0.0
for epoch in range(given.num_epochs):
    for batch in torch.randperm(len(train_x), device=device).split(64):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(train_x[batch]), train_y[batch])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = (model(test_x).argmax(1) == test_y).float().mean().item()
    run.log("loss", loss, step=epoch)
    run.log("val_acc", accuracy, step=epoch)
    print(f"epoch {epoch}: loss {loss.item():.4f}, accuracy {accuracy:.4f}")
    if accuracy > best:
        best = accuracy
        torch.save(model.state_dict(), os.path.join(given.output_dir, "model.pt"))
run.log("best_val_acc", best)
