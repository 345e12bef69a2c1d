"""A user's own loop over batches that are shared out as workers are free. Arguments: rule, tiny."""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import arignote

torch.manual_seed(0)
data = torch.randn(202, 8)
wanted = data.sum(1, keepdim=True)
model: nn.Module = nn.Linear(8, 1)
if "tiny" in sys.argv:
    data, model = data[:, :1], nn.Linear(1, 1, bias=False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
replica = arignote.attach(model, optimizer, rule=sys.argv[1], timeout_seconds=30)
batches = replica.batches(len(data), batch_size=8)
samples = 0
for _ in range(3):
    for inputs, targets in DataLoader(TensorDataset(data, wanted), batch_sampler=batches):
        optimizer.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        replica.step(samples=len(targets))
        samples += len(targets)
total = round(replica.mean(samples) * replica.size)
with replica.consensus(), torch.no_grad():
    loss = float((model(data) - wanted).square().mean())
if replica.rank == 0:
    print(f"samples {total} loss {loss:.4f}")
