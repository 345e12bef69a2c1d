"""What our GANs share: Theano-MPI's contract for a critic and a generator that train each other.

The critic D and the generator G each minimise a loss of their own (`Objective`) over real x and
noise z. A step is one update of the critic; every `critic_steps`-th updates the generator too, by
what the new critic says of the same fakes. Every worker has noise of its own, and in each epoch a
share of the samples of its own.

Optimizers' moments stay with the worker when weights travel, since nobody tells the model of an
exchange. They are the scale of each weight's gradient, which networks of the same data share.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from arignote.data.sharding import Indices, epoch_order, never_empty_batches
from arignote.errors import NotANumberError, UserError
from arignote.recorder.phases import Recorder

ROWS, COLUMNS, GAP, CELL = 8, 16, 6, 48
"""The sheet of samples: how many, pixels between them, and at least so many for a side of each."""
SAMPLES, GENERATOR = "samples.png", "generator.safetensors"
_INITIAL, _TRAIN, _VALIDATION, _SHEET = range(4)
"""What a stream of random numbers is for."""


class Objective(Protocol):
    """The two losses; what the critic says of N samples is (N, 1)."""

    def critic_loss(self, of_real: torch.Tensor, of_fake: torch.Tensor) -> torch.Tensor:
        """What the critic minimises, a scalar."""

    def generator_loss(self, of_fake: torch.Tensor) -> torch.Tensor:
        """What the generator minimises, a scalar."""

    def critic_error(self, of_real: torch.Tensor, of_fake: torch.Tensor) -> torch.Tensor:
        """The share that the critic gets wrong, a scalar in 0 ... 1."""


class Shares(ABC):
    """The samples, and who has which when.

    Raises:
        UserError: there are fewer than workers.
    """

    n_batch_val = 1

    def __init__(
        self, train_size: int, *, rank: int, size: int, seed: int, batch_size: int
    ) -> None:
        self.rank, self.size, self.seed, self.batch_size = rank, size, seed, batch_size
        self.train_size = train_size
        if train_size < size:
            raise UserError(
                f"{size} workers but only {train_size} samples to train on: use fewer workers"
            )
        self.n_batch_train = len(self.share(0))

    def share(self, epoch: int) -> list[Indices]:
        """This worker's batches of indices: over all workers, every sample once an epoch."""
        order = epoch_order(self.train_size, seed=self.seed, epoch=epoch)
        return never_empty_batches(
            order, batch_size=self.batch_size, rank=self.rank, workers=self.size
        )

    @abstractmethod
    def real(self, indices: Indices) -> torch.Tensor:
        """Training samples `indices` (N,), in -1 ... 1."""

    @abstractmethod
    def unseen(self) -> torch.Tensor:
        """Samples to validate with, in -1 ... 1."""


class GAN(ABC):
    """A critic and a generator in training on one worker.

    Each worker validates its own generator on all unseen samples: `loss` is the critic's; `error`
    says how surely its samples are told from them (`told_apart`), accuracy is 1 - error.
    """

    noise_size: ClassVar[int]
    critic_steps: ClassVar[int] = 1
    learning_rate: ClassVar[float]
    clip: ClassVar[float] = math.inf
    """Bound of the critic's matrices and filters."""
    objective: ClassVar[Objective]

    def __init__(self, config: dict[str, Any], data: Shares) -> None:
        self.rank, self.seed = int(config["rank"]), int(config["seed"])
        self.data = data
        self.epoch, self.n_epochs = 0, int(config["n_epochs"])
        self.samples = 0
        self.generator, self.critic = self.networks()
        # Of a generator of its own: torch's global one is seeded alike on all workers at this
        # point, and all generators would be the same.
        random = self._random(_INITIAL)
        for network in (self.generator, self.critic):
            self.initialise(network, random)
        self.params = [parameter.detach() for parameter in self.critic.parameters()]
        self._optimizers = [self.optimizer(network) for network in (self.critic, self.generator)]
        self._critic_updates = 0
        self._share: tuple[int, list[Indices]] = (-1, [])

    @abstractmethod
    def networks(self) -> tuple[nn.Module, nn.Module]:
        """The generator, of noise (N, noise_size), and the critic."""

    @abstractmethod
    def initialise(self, network: nn.Module, random: torch.Generator) -> None:
        """Draw the weights of a network from `random`."""

    @abstractmethod
    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """What updates a network, with `learning_rate`."""

    def _random(self, *purpose: int) -> torch.Generator:
        """A stream of this worker's own: no state to save, and no other worker's noise."""
        words = np.random.SeedSequence((self.seed, self.rank, *purpose)).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))

    def _noise(self, count: int, *purpose: int) -> torch.Tensor:
        return torch.randn(count, self.noise_size, generator=self._random(*purpose))

    def train_iter(self, count: int, recorder: Recorder) -> None:
        """One step of the critic; and one of the generator, where it is its turn.

        Raises:
            NotANumberError: a loss is none; a critic of NaN would spoil all generators.
        """
        if self._share[0] != self.epoch:
            self._share = (self.epoch, self.data.share(self.epoch))
        indices = self._share[1][count]
        real = self.data.real(indices)
        self.samples = len(indices)
        recorder.end("wait")
        self.generator.train()
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        self._critic_updates += 1
        with torch.set_grad_enabled(self._critic_updates % self.critic_steps == 0):
            # Batch norm cannot do with one.
            fake = self.generator(self._noise(max(2, self.samples), _TRAIN, self.epoch, count))
        of_real, of_fake = self.critic(real), self.critic(fake.detach())
        critic_loss = self.objective.critic_loss(of_real, of_fake)
        critic_loss.backward()  # type: ignore[no-untyped-call]
        self._optimizers[0].step()
        _clip(self.critic, self.clip)
        losses = [float(critic_loss.detach())]
        if fake.requires_grad:
            generator_loss = self.objective.generator_loss(self.critic(fake))
            generator_loss.backward()  # type: ignore[no-untyped-call]
            self._optimizers[1].step()
            losses.append(float(generator_loss.detach()))
            recorder.note("generator_loss", losses[1])
        if not all(map(math.isfinite, losses)):
            raise NotANumberError(
                f"the loss of worker {self.rank} is not a number at batch {count + 1} of epoch "
                f"{self.epoch + 1}: lower learning_rate in a subclass of {type(self).__name__}"
            )
        error = float(self.objective.critic_error(of_real, of_fake))
        recorder.train_error(count, losses[0], error, self.samples)
        recorder.end("calc")

    @torch.no_grad()
    def val_iter(self, count: int, recorder: Recorder) -> None:
        """All unseen samples against as many generated ones."""
        real = self.data.unseen()
        fake = self.generate(len(real), _VALIDATION)
        loss = float(self.objective.critic_loss(self.critic(real), self.critic(fake)))
        recorder.val_error(count, loss, told_apart(real, fake), math.nan, len(real))

    @torch.no_grad()
    def generate(self, count: int, *purpose: int) -> torch.Tensor:
        """`count` samples of this worker's generator, in -1 ... 1."""
        self.generator.eval()
        samples: torch.Tensor = self.generator(self._noise(count, *purpose))
        return samples

    def adjust_hyperp(self, epoch: int) -> None:
        """The learning rate falls linearly to nothing over the second half of the epochs."""
        left = 2 * (self.n_epochs - epoch) / self.n_epochs
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * min(1.0, left)

    def state_dict(self) -> dict[str, Any]:
        """What `params` leave out, for a run that is resumed."""
        return {
            "generator": self.generator.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "critic_updates": self._critic_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._critic_updates = int(state["critic_updates"])

    def picture(self, samples: torch.Tensor) -> torch.Tensor:
        """`samples` as images (N, C, H, W) in -1 (black) ... 1 (white)."""
        return samples

    def save(self, path: str) -> None:
        """Write what this worker's generator draws, always from the same noise, and the generator.

        `samples.png` (a sheet of 8 x 16 samples) and `generator.safetensors`.
        """
        sheet(self.picture(self.generate(ROWS * COLUMNS, _SHEET))).save(Path(path) / SAMPLES)
        save_file(self.generator.state_dict(), Path(path) / GENERATOR)

    def cleanup(self) -> None:  # noqa: B027 (nothing is held)
        """There is nothing to let go of."""


@torch.no_grad()
def _clip(network: nn.Module, bound: float) -> None:
    """Clip all weights of more than one axis to -bound ... bound."""
    if bound < math.inf:
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.clamp_(-bound, bound)


def told_apart(real: torch.Tensor, fake: torch.Tensor) -> float:
    """How surely generated and real samples, N of each, are told apart: 0 (not at all) ... 1.

    (|2 a - 1| + |2 b - 1|) / 2, where a is the share of real and b of generated samples whose kind
    is that of their nearest neighbour among all others (the leave-one-out 1-NN test: Lopez-Paz and
    Oquab, arXiv 1610.06545). A generator that draws few samples, however well, comes near 1. We
    keep the two kinds apart (Xu et al., arXiv 1806.07755): where all fakes lie in the middle of the
    real ones, they are every sample's neighbours, so a = 0 and b = 1, and their mean says nothing.
    """
    both = torch.cat([real, fake]).flatten(1)
    distances = torch.cdist(both, both)
    distances.fill_diagonal_(math.inf)
    is_real = torch.arange(len(both)) < len(real)
    hits = (is_real[distances.argmin(dim=1)] == is_real).float()
    a, b = (float(of_a_kind.mean()) for of_a_kind in (hits[: len(real)], hits[len(real) :]))
    return (abs(2 * a - 1) + abs(2 * b - 1)) / 2


def sheet(images: torch.Tensor) -> Image.Image:
    """(ROWS * COLUMNS, C, H, W) in -1 (black) ... 1 (white) as one picture, in colour for C = 3."""
    channels, height, width = images.shape[1:]
    if channels != 3:
        images = images.mean(dim=1, keepdim=True)
    mode = "RGB" if channels == 3 else "L"
    zoom = max(1, CELL // max(height, width))
    row_step, column_step = height * zoom + GAP, width * zoom + GAP
    size = (COLUMNS * column_step + GAP, ROWS * row_step + GAP)
    picture = Image.new(mode, size, "white")
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    for number, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
        row, column = divmod(number, COLUMNS)
        small = Image.fromarray(image if channels == 3 else image[..., 0])
        large = small.resize((width * zoom, height * zoom), Image.Resampling.BICUBIC)
        picture.paste(large, (GAP + column * column_step, GAP + row * row_step))
    return picture
