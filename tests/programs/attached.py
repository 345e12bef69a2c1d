"""A user's own loop; prints the digest of its weights. Arguments: steps, how to fail, rank."""

from __future__ import annotations

import sys

import torch
from torch import nn

import arignote
from arignote.checkpoint.digest import weights_sha256

mode = sys.argv[1] if len(sys.argv) > 1 else "well"
torch.manual_seed(0)
data = torch.randn(101, 8, dtype=torch.float64)
wanted = data.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
replica = arignote.attach(model, optimizer, timeout_seconds=20, clip_norm=1.0)
batches = replica.batches(len(data), batch_size=12 // replica.size)
for epoch in range(3):
    for number, batch in enumerate(batches):
        if mode == "raises" and replica.rank == replica.size - 1 and epoch == 1:
            raise RuntimeError("a fault of the user's own")
        if mode == "leaves" and replica.rank == replica.size - 1 and (epoch, number) == (1, 2):
            sys.exit(0)
        optimizer.zero_grad()
        loss = (model(data[batch]) - wanted[batch]).square().mean()
        if mode == "nan" and replica.rank == replica.size - 1 and epoch == 1:
            loss = loss * float("nan")
        loss.backward()
        replica.step(samples=len(batch), loss=float(loss.detach()))
mean = replica.mean(float(replica.rank))
assert mean == (replica.size - 1) / 2
with replica.consensus():
    digest = weights_sha256(model.state_dict())
if replica.rank == 0:
    total = sum(float(p.detach().abs().sum()) for p in model.parameters())
    print(f"workers {replica.size} steps {replica.recorder.steps} sum {total:.12e} {digest}")
