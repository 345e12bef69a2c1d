"""A PyTorch `Model` as a task: builds it, feeds it, runs forward and backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from arignote import accelerator
from arignote.comm.base import World
from arignote.config.settings import Settings
from arignote.data.base import Batch, Dataset
from arignote.data.card import DataCard
from arignote.data.sharding import worker_slice
from arignote.errors import UserError
from arignote.exchange.base import Route
from arignote.frameworks.seeds import seed_build, seed_worker
from arignote.frameworks.torch_replica import TorchReplica
from arignote.loading.pool import Want
from arignote.loading.process import ServerProcess
from arignote.models.base import Model
from arignote.recorder.phases import Recorder
from arignote.rules.base import Bring
from arignote.trainer.batch_norm import synchronise_batch_norm
from arignote.trainer.device_defaults import with_device_defaults
from arignote.trainer.device_memory import bytes_to_train, require_room
from arignote.trainer.mixed_targets import check_loss, right_class
from arignote.trainer.open_feed import open_feed
from arignote.trainer.parts import Parts
from arignote.trainer.placing import open_placing
from arignote.trainer.schedule import learning_rate_factor
from arignote.trainer.task import Task

VALIDATION_BATCH_SIZE = 256


class TorchTask(Task):
    """A `Model` in training on one worker.

    Raises:
        UserError: the data set cannot be opened, has fewer samples than there are workers, or
            cannot be mixed as `train.mix` says.
    """

    can_change_workers = True

    def __init__(
        self,
        model: Model,
        settings: Settings,
        world: World,
        route: Route,
        device: torch.device,
        server: ServerProcess | None = None,
    ) -> None:
        self.model = model
        self.settings = settings = with_device_defaults(settings, device, world.size)
        self.world = world
        self.device = device
        self.n_epochs, self.best_by = settings.train.epochs, model.best_by
        check_loss(model, settings.train.mix)
        model.settings = settings
        model.dataset = self.dataset = self._open_data()
        self.sample_name = self.dataset.sample_name
        self.train_size = self.dataset.train_size
        if self.train_size < world.size:
            raise UserError(
                f"{world.size} workers but only {self.train_size} training samples: "
                f"use at most -n {self.train_size}"
            )
        self._parts = Parts(settings, world, self.train_size)
        self._fp64 = settings.train.precision == "fp64"
        self._amp, scaler = self._precision()
        module = self._build()
        if accelerator.is_one(device):
            require_room(world, device, bytes_to_train(model, module, settings, world.size))
        module = self._on_device(module)
        self._placing = open_placing(settings, self.dataset, module, device)
        optimizer = model.optimizer(p for p in module.parameters() if p.requires_grad)
        self.replica: TorchReplica = TorchReplica(
            module,
            optimizer,
            allocate=route.allocate,
            clip_norm=settings.train.clip_norm,
            scaler=scaler,
        )
        self._base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._outputs: Any = None
        module.register_forward_hook(self._keep_outputs)
        if settings.train.compile:
            module.compile()
        # Before the seed: a sample that is looked at may draw, and saving must change nothing.
        self._card = DataCard.of(self.dataset).as_dict()
        self.feed = open_feed(
            settings,
            self.dataset,
            server,
            own_data=type(model).data is not Model.data,
            samples=max(self._parts.most_samples, VALIDATION_BATCH_SIZE),
            device=device,
            worker=world.rank,
        )
        seed_worker(settings.run.seed, world.rank)

    def _open_data(self) -> Dataset:
        # Data that draws at random (a split, say) must draw the same on every worker.
        seed_build(self.settings.run.seed)
        return self.model.data()

    def _build(self) -> nn.Module:
        seed_build(self.settings.run.seed)
        module = self.model.build()
        if self.settings.train.batch_norm == "synchronised":
            module = synchronise_batch_norm(module, self.world)
        return module

    def _on_device(self, module: nn.Module) -> nn.Module:
        module = module.to(self.device)
        if self._fp64:
            module = module.double()
        self.model.module = module
        return module

    def _precision(self) -> tuple[torch.dtype | None, torch.amp.GradScaler | None]:
        """The dtype to autocast to, and the loss scaler that fp16 needs."""
        precision = self.settings.train.precision
        if precision == "bf16":
            return torch.bfloat16, None
        if precision == "fp16":
            return torch.float16, torch.amp.GradScaler(self.device.type)
        return None, None

    def _autocast(self) -> AbstractContextManager[object]:
        if self._amp is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._amp)

    def _keep_outputs(self, module: nn.Module, inputs: object, outputs: object) -> None:
        self._outputs = outputs

    @property
    def learning_rate(self) -> float:
        """Of the first parameter group."""
        return self.replica.learning_rate

    def start_epoch(self, epoch: int, consumed: int) -> int:
        """See `Task.start_epoch`."""
        return self._parts.start_epoch(epoch, consumed)

    def train(self, epoch: int, consumed: int, part: int, recorder: Recorder) -> Bring:
        """One batch; see `Task.train`. An empty one brings a gradient of zero, weight zero."""
        before = recorder.seconds["wait"] + recorder.seconds["calc"]
        indices = self._parts.indices(epoch, consumed, part)
        # A data set is never asked for nothing: an empty batch is cut off one of one sample.
        asked = indices if len(indices) else self._parts.order(epoch)[:1]
        batch = self.feed.train(epoch, asked)
        recorder.end("wait")
        self.feed.order(self._parts.upcoming(epoch, consumed, part))
        batch = self._placing.place(batch, Want("train", epoch, asked))
        epochs_done = epoch + consumed / self.train_size
        self._set_rate(epochs_done)
        if not self.replica.module.training:
            self.replica.module.train()
        self.replica.zero_grad()
        samples = len(indices)
        loss = self._forward_backward(batch) if samples else self._nothing(batch)
        recorder.train_error(recorder.steps, loss, self._error(batch.targets, 1), samples)
        if self._parts.balance is not None:
            recorder.end("calc")
            spent = recorder.seconds["wait"] + recorder.seconds["calc"] - before
            self._parts.balance.note(samples, spent)
            recorder.end("sync")
        return Bring(samples=samples, loss=loss, epochs_done=epochs_done)

    def foresee(self, epoch: int, consumed: int, part: int) -> None:
        """See `Task.foresee`."""
        self._parts.foresee(epoch, consumed, part)

    def _forward_backward(self, batch: Batch) -> float:
        with self._autocast():
            loss = self.model.loss(batch)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            what = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise UserError(
                f"{type(self.model).__name__}.loss returned {what}: expected a tensor of one "
                "element that depends on the parameters"
            )
        scaler = self.replica.scaler
        self.replica.begin(float(len(batch.inputs)))
        (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _nothing(self, batch: Batch) -> float:
        """Go through the motions of an empty batch where other workers wait for us in them."""
        if self.settings.train.batch_norm == "synchronised" and self.world.size > 1:
            self._forward_backward(Batch(batch.inputs[:0], batch.targets[:0]))
            self.replica.zero_grad()
        self._outputs = None
        return 0.0

    def _set_rate(self, epochs_done: float) -> None:
        factor = learning_rate_factor(
            self.settings.schedule,
            epochs_done=epochs_done,
            epochs=self.n_epochs,
            global_batch_size=self.settings.train.batch_size * self.world.size,
        )
        groups = self.replica.optimizer.param_groups
        for group, base in zip(groups, self._base_rates, strict=True):
            group["lr"] = base * factor

    def _error(self, targets: torch.Tensor, k: int) -> float:
        """Top-k error of the module's last outputs; NaN where they are no class scores.

        Scores are (N, K) with targets (N,), or (N, T, K) with (N, T): then each token counts. Of a
        mixed sample the class with the larger share is the right one.
        """
        if self.settings.train.mix != "none":
            targets = right_class(targets)
        outputs = self._outputs
        if not isinstance(outputs, torch.Tensor) or outputs.ndim not in (2, 3):
            return math.nan
        scores = outputs.shape[:-1] == targets.shape and outputs.shape[-1] > 1
        if not scores or targets.is_floating_point():
            return math.nan
        best = outputs.detach().topk(min(k, outputs.shape[-1]), dim=-1).indices
        hit = (best == targets[..., None]).any(dim=-1)
        return 1 - float(hit.float().mean()) if len(targets) else 0.0

    def after(self, consumed: int, steps: int) -> int:
        """See `Task.after`, in samples."""
        return self._parts.after(consumed, steps)

    @torch.no_grad()
    def validate(self, recorder: Recorder, stopping: Callable[[], bool], *, alone: bool) -> None:
        """This worker's contiguous part of the validation set, each sample once over all."""
        self.replica.module.eval()
        rank, workers = (0, 1) if alone else (self.world.rank, self.world.size)
        own = worker_slice(self.dataset.validation_size, rank=rank, workers=workers)
        batches = [
            np.arange(start, min(start + VALIDATION_BATCH_SIZE, own.stop), dtype=np.int64)
            for start in range(own.start, own.stop, VALIDATION_BATCH_SIZE)
        ]
        for indices, raw in zip(batches, self.feed.validation(batches), strict=False):
            if stopping():
                return
            batch = self._placing.place(raw, Want("validation", 0, indices))
            with self._autocast():
                loss = float(self.model.loss(batch))
            top1, top5 = self._error(batch.targets, 1), self._error(batch.targets, 5)
            recorder.val_error(int(indices[0]), loss, top1, top5, samples=len(batch.targets))

    def loading(self) -> dict[str, Any]:
        """See `Task.loading`."""
        return asdict(self.feed.facts)

    def data_card(self) -> dict[str, Any]:
        """Of the data set that is trained on."""
        return self._card

    def saved(self, checkpoint: Path) -> None:
        """All is in the checkpoint already."""

    def close(self) -> None:
        """Let the loaders go."""
        self.feed.close()
