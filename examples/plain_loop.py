"""A plain PyTorch loop that n workers share: the four lines marked (arignote) are all it takes.

python examples/plain_loop.py                       one worker, no MPI
arignote run -n 2 examples/plain_loop.py            two workers
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import arignote  # (arignote)

torch.manual_seed(0)
digits = load_digits()
inputs = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
targets = torch.tensor(digits.target)

model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
replica = arignote.attach(model, optimizer)  # (arignote)
batches = replica.batches(len(inputs), batch_size=64 // replica.size)  # (arignote)

for _ in range(10):
    for batch in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
        loss.backward()
        replica.step(samples=len(batch))  # (arignote) instead of optimizer.step()

if replica.rank == 0:
    accuracy = (model(inputs).argmax(1) == targets).float().mean()
    print(f"n = {replica.size}: accuracy {accuracy:.4f}, loss of the last batch {loss:.4f}")
