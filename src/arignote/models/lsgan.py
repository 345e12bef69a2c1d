"""A least-squares GAN that draws digits: Theano-MPI's contract, for the rule `swap`.

A critic D and a generator G, each minimising its own loss over real x and noise z:

    L_D = 1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2
    L_G = 1/2 E (D(G(z)) - 1)^2

Mao et al., arXiv 1611.04076 (a = 0, b = c = 1). `params` are the critic's alone, as in Theano-MPI's
LS-GAN: so under `--rule swap` critics travel between the workers' generators. Every worker has a
generator of its own, noise of its own, and in each epoch a share of the digits of its own.

Adam's moments stay with the worker when its critic leaves, since nobody tells the model of a swap.
They are the scale of each weight's gradient, which critics of the same digits share; beginning
them anew at every swap made no difference beyond that between seeds.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from arignote.data.digits import Digits
from arignote.data.sharding import Indices, epoch_order, never_empty_batches
from arignote.errors import NotANumberError, UserError
from arignote.recorder.phases import Recorder

SIDE = 8
"""Pixels of a digit's side."""
ROWS, COLUMNS, ZOOM, GAP = 8, 16, 6, 6
"""The sheet of samples: how many, pixels of the sheet for one of a digit, and between digits."""
SAMPLES, GENERATOR = "samples.png", "generator.safetensors"
_INITIAL, _TRAIN, _VALIDATION, _SHEET = range(4)
"""What a stream of random numbers is for."""


class Shares:
    """The digits as rows of 64 pixels in -1 (paper) ... 1 (ink), and who has which when."""

    n_batch_val = 1

    def __init__(self, *, rank: int, size: int, seed: int, batch_size: int) -> None:
        """Load them; a UserError where there are fewer than workers, or no scikit-learn."""
        self.rank, self.size, self.seed, self.batch_size = rank, size, seed, batch_size
        digits = Digits(augment="none")
        if digits.train_size < size:
            raise UserError(
                f"{size} workers but only {digits.train_size} digits to train on: use fewer workers"
            )
        train = digits.train_batch(np.arange(digits.train_size), seed=seed, epoch=0).inputs
        held_out = digits.validation_batch(np.arange(digits.validation_size)).inputs
        least, most = train.min(), train.max()
        self.train, self.held_out = (
            ((inputs - least) / (most - least) * 2 - 1).flatten(1) for inputs in (train, held_out)
        )
        self.n_batch_train = len(self.share(0))

    def share(self, epoch: int) -> list[Indices]:
        """This worker's batches of indices: over all workers, every digit once an epoch."""
        order = epoch_order(len(self.train), seed=self.seed, epoch=epoch)
        return never_empty_batches(
            order, batch_size=self.batch_size, rank=self.rank, workers=self.size
        )


class LSGANDigits:
    """Two small networks of dense layers for 8x8 digits; only the critic's 24,961 weights travel.

    Of `--set`, only `train.batch_size`, `train.epochs` and `run.seed` reach it; a subclass may
    change the constants below. Each worker validates its own generator on all held-out digits:
    `loss` is L_D; `error` says how surely its digits are told from them (`told_apart`), accuracy
    is 1 - error.
    """

    defaults = {
        "run.data": "digits",
        "run.rule": "swap:period=200",
        "train.epochs": 500,
        "train.batch_size": 64,
        "train.validate_every_epochs": 50,
        "checkpoint.every_epochs": 100,
        "checkpoint.keep_best": False,
    }
    noise_size = 32
    width = 128
    learning_rate = 1e-3
    betas = (0.5, 0.99)

    def __init__(self, config: dict[str, Any]) -> None:
        self.rank, self.seed = int(config["rank"]), int(config["seed"])
        self.data = Shares(
            rank=self.rank,
            size=int(config["size"]),
            seed=self.seed,
            batch_size=int(config["batch_size"]),
        )
        self.epoch, self.n_epochs = 0, int(config["n_epochs"])
        self.samples = 0
        self.generator = _generator(self.noise_size, self.width)
        self.critic = _critic(self.width)
        random = self._random(_INITIAL)
        for network in (self.generator, self.critic):
            _initialise(network, random)
        self.params = [parameter.detach() for parameter in self.critic.parameters()]
        self._optimizers = [
            torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=self.betas)
            for network in (self.critic, self.generator)
        ]
        self._share: tuple[int, list[Indices]] = (-1, [])

    def _random(self, *purpose: int) -> torch.Generator:
        """A stream of this worker's own: no state to save, and no other worker's noise."""
        words = np.random.SeedSequence((self.seed, self.rank, *purpose)).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))

    def _noise(self, count: int, *purpose: int) -> torch.Tensor:
        return torch.randn(count, self.noise_size, generator=self._random(*purpose))

    def train_iter(self, count: int, recorder: Recorder) -> None:
        """One step of the critic, one of the generator.

        Raises:
            NotANumberError: a loss is none; a critic of NaN would spoil all generators.
        """
        if self._share[0] != self.epoch:
            self._share = (self.epoch, self.data.share(self.epoch))
        real = self.data.train[self._share[1][count]]
        self.samples = len(real)
        recorder.end("wait")
        self.generator.train()
        # Batch norm cannot do with one.
        fake = self.generator(self._noise(max(2, self.samples), _TRAIN, self.epoch, count))
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        of_real, of_fake = self.critic(real), self.critic(fake.detach())
        critic_loss = _distance(of_real, 1) + _distance(of_fake, 0)
        critic_loss.backward()  # type: ignore[no-untyped-call]
        self._optimizers[0].step()
        generator_loss = _distance(self.critic(fake), 1)
        generator_loss.backward()  # type: ignore[no-untyped-call]
        self._optimizers[1].step()
        losses = float(critic_loss.detach()), float(generator_loss.detach())
        if not all(map(math.isfinite, losses)):
            raise NotANumberError(
                f"the loss of worker {self.rank} is not a number at batch {count + 1} of epoch "
                f"{self.epoch + 1}: lower learning_rate in a subclass of LSGANDigits"
            )
        wrong = (of_real < 0.5).float().mean() + (of_fake >= 0.5).float().mean()
        recorder.note("generator_loss", losses[1])
        recorder.train_error(count, losses[0], float(wrong) / 2, self.samples)
        recorder.end("calc")

    @torch.no_grad()
    def val_iter(self, count: int, recorder: Recorder) -> None:
        """All held-out digits against as many generated ones."""
        real = self.data.held_out
        fake = self.generate(len(real), _VALIDATION)
        loss = float(_distance(self.critic(real), 1) + _distance(self.critic(fake), 0))
        recorder.val_error(count, loss, told_apart(real, fake), math.nan, len(real))

    @torch.no_grad()
    def generate(self, count: int, *purpose: int) -> torch.Tensor:
        """`count` digits of this worker's generator, (count, 64) in -1 ... 1."""
        self.generator.eval()
        digits: torch.Tensor = self.generator(self._noise(count, *purpose))
        return digits

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
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def save(self, path: str) -> None:
        """Write what this worker's generator draws, always from the same noise, and the generator.

        `samples.png` (a sheet of 8 x 16 digits) and `generator.safetensors`.
        """
        sheet(self.generate(ROWS * COLUMNS, _SHEET)).save(Path(path) / SAMPLES)
        save_file(self.generator.state_dict(), Path(path) / GENERATOR)

    def cleanup(self) -> None:
        """There is nothing to let go of."""


def _generator(noise_size: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (noise_size, width):
        layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, SIDE * SIDE), nn.Tanh())


def _critic(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (SIDE * SIDE, width):
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def _initialise(network: nn.Module, random: torch.Generator) -> None:
    # Of a generator of its own: torch's global one is seeded alike on all workers at this point,
    # and all generators would be the same.
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=random)
            nn.init.zeros_(module.bias)


def _distance(judged: torch.Tensor, wanted: float) -> torch.Tensor:
    """1/2 E (judged - wanted)^2."""
    return 0.5 * (judged - wanted).square().mean()


def told_apart(real: torch.Tensor, fake: torch.Tensor) -> float:
    """How surely generated and real samples, N of each, are told apart: 0 (not at all) ... 1.

    max(0, 2 a - 1), where a is the accuracy of guessing each sample's kind from its nearest
    neighbour among all others (the leave-one-out 1-NN test: Lopez-Paz and Oquab, arXiv
    1610.06545). A generator that draws few digits, however well, comes near 1.
    """
    both = torch.cat([real, fake])
    distances = torch.cdist(both, both)
    distances.fill_diagonal_(math.inf)
    is_real = torch.arange(len(both)) < len(real)
    hits = is_real[distances.argmin(dim=1)] == is_real
    return max(0.0, 2 * float(hits.float().mean()) - 1)


def sheet(digits: torch.Tensor) -> Image.Image:
    """(ROWS * COLUMNS, 64) in -1 ... 1 as one picture, ink black on white."""
    cell = SIDE * ZOOM + GAP
    picture = Image.new("L", (COLUMNS * cell + GAP, ROWS * cell + GAP), 255)
    pixels = ((1 - digits.clamp(-1, 1)) * 127.5).round().to(torch.uint8).reshape(-1, SIDE, SIDE)
    for number, digit in enumerate(pixels.numpy()):
        row, column = divmod(number, COLUMNS)
        large = Image.fromarray(digit).resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.BICUBIC)
        picture.paste(large, (GAP + column * cell, GAP + row * cell))
    return picture
