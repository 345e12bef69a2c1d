"""Every setting of a run: its type, its range, its default, and one sentence about it.

Precedence, lowest first: the defaults here, the model's own (`Model.defaults`), a file
(`-c`), the command line. The names are the same in all of them: `optimizer.momentum` is
`--set optimizer.momentum=0.9` and `[optimizer] momentum = 0.9`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from arignote.config.augment_options import check_device_augment, parse_augment
from arignote.config.mix_options import parse_mix
from arignote.errors import UserError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0, le=10**12)]


class Section(BaseModel):
    """Base of all sections: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


class Run(Section):
    """What is trained."""

    model: str = ""
    """A zoo name, `path/to/file.py:Class` or `package.module:Class`."""
    data: str = ""
    """A data spec such as `imagefolder:DIR`; empty: the model's own."""
    rule: str = "bsp"
    """When workers exchange, `name[:key=value,...]`."""
    exchange: str = "auto"
    """How a vector is averaged, `auto` or `route[:codec]`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """All randomness of the run comes from it."""


class Launch(Section):
    """Which processes are started, and where."""

    workers: Annotated[int, Field(ge=1, le=65536)] = 1
    """Number of workers."""
    servers: Annotated[int, Field(ge=0, le=65536)] | None = None
    """Further ranks that hold the centre of easgd or asgd; 0: none, worker 0 or shared memory
    does it; unset: one where several hosts have a slot to spare."""
    devices: list[str] = []
    """A device for each worker (`cuda:0`, `cpu`), or `cuda` alone: the k-th worker of a host has
    its GPU k modulo their number; empty: the CPU."""
    hosts: list[str] = []
    """`name:slots`, one worker a slot; empty: this machine, or what Slurm, LSF or PBS allocated."""
    hostfile: str = ""
    """A file of hosts: `name slots=N`, `name:N` or `name` a line."""
    launcher: Literal["auto", "mpirun", "srun"] = "auto"
    """What starts the processes; auto: srun inside a Slurm allocation whose PMI the MPI speaks,
    else mpirun."""
    mpirun: str = ""
    """The mpirun or mpiexec to use; empty: beside this Python, then on PATH."""
    mpirun_arguments: list[str] = []
    """Further arguments for it."""
    threads: Annotated[int, Field(ge=0, le=4096)] = 0
    """Threads a worker; 0: the host's cores (in an allocation: those of the job) divided by its
    workers."""
    bind: bool = True
    """Bind workers to cores where they fit; those on GPUs to cores near theirs."""
    ethernet_tuning: bool = True
    """Tune Open MPI's TCP transport when a job spans several hosts."""
    environment: list[str] = []
    """Names of further environment variables to forward to other hosts."""
    fork_workers: bool | None = None
    """Fork the workers of a host from one process that has imported torch once (Linux, Open MPI;
    others start as ever); unset: where a host has more than 3 workers a core."""
    check_hosts: bool = True
    """Before a run starts, ask every host that is named whether it answers, and has the same
    Python, packages, code and MPI, and the network interfaces that are named."""
    start_timeout_seconds: Positive = 300.0
    """How long all workers may take to come to the first meeting."""
    grace_seconds: Annotated[float, Field(gt=0, le=3600)] = 6.0
    """How long workers may take to save and leave once they are told to stop."""


class Train(Section):
    """The loop."""

    batch_size: Annotated[int, Field(ge=1, le=10**9)] = 32
    """Samples a worker a step."""
    balance: bool = False
    """Let each worker's part of a step follow its measured speed (rules whose workers keep step);
    bits then depend on the clock."""
    epochs: Annotated[int, Field(ge=1, le=10**9)] = 10
    """Passes over the data set, all workers together."""
    steps: Count = 0
    """Stop after so many steps; 0: the epochs decide."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    """bf16 and fp16: autocast (fp16 with loss scaling); fp64: the whole model in float64; auto:
    bf16 on GPUs with instructions for it, else fp32."""
    augment: str = "none"
    """What changes training images at random: steps joined by `+`, such as `crop+mirror`; see
    Augmentation below."""
    mix: str = "none"
    """Mix each training image, and its target, with another: `mixup[:alpha=0.2]` or
    `cutmix[:alpha=1.0]`; see Mixing below."""
    channels_last: bool | None = None
    """Give the model images with channels innermost in memory, which most convolutions like;
    unset: if it has some."""
    compile: bool = False
    """Run the model through torch.compile."""
    batch_norm: Literal["local", "synchronised"] = "local"
    """Statistics of each worker's own batch, or of all workers' batches together."""
    weights: str = ""
    """Begin from a .safetensors, .pth or .pt file: what fits the model by name and shape (not on
    resume)."""
    clip_norm: NonNegative = 0.0
    """Clip the averaged gradient to this 2-norm; 0: off."""
    validate_every_epochs: Count = 1
    """Validate so often (and at the end); 0: never."""
    timeout_seconds: Positive = 300.0
    """How long a worker waits for the others before it names who did not come."""
    on_nan: Literal["stop", "continue"] = "stop"
    """What to do when a loss is NaN or infinite."""

    @field_validator("augment", "mix")
    @classmethod
    def _parses(cls, text: str, info: ValidationInfo) -> str:
        try:
            parse_augment(text) if info.field_name == "augment" else parse_mix(text)
        except UserError as error:
            raise ValueError(str(error)) from None
        return text

    @field_validator("weights")
    @classmethod
    def _ends(cls, path: str) -> str:
        if path and not path.endswith((".safetensors", ".pth", ".pt")):
            raise ValueError("expected a file that ends in .safetensors, .pth or .pt")
        return path


class Loading(Section):
    """Processes that load the next batches while a worker trains."""

    loaders: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Processes a worker; 0: it loads its batches itself; unset: as many as the worker has cores,
    at most 4, for data whose samples are read once they are asked for; 0 for data in memory."""
    start: Literal["worker", "mpi_spawn"] = "worker"
    """Who starts the process that a worker's loaders are forked from: the worker, before it joins
    MPI, or MPI_Comm_spawn, for which many clusters' MPI is not set up."""
    ahead_mib: Annotated[int, Field(ge=1, le=2**20)] = 256
    """Memory of each worker for batches that are made ahead, in MiB; two batches always fit."""
    normalise: Literal["loader", "device"] = "loader"
    """device: images are bytes until they are there, a quarter of the memory and of the copying."""
    augment: Literal["loader", "device"] = "loader"
    """device (needs normalise="device"): loaders hand over whole images, which are cropped and
    mirrored there; for `train.augment` of no other steps, and without `train.mix`."""
    timeout_seconds: Annotated[float, Field(gt=0, le=10**6)] = 120.0
    """How long a worker waits for a batch before it names the loader, and the file it is at."""


class Optimizer(Section):
    """The update of a worker."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    """One of torch.optim's."""
    learning_rate: Positive = 0.01
    """Base learning rate, before scaling with the global batch."""
    momentum: Fraction = 0.0
    """SGD's and RMSprop's momentum."""
    nesterov: bool = False
    """Nesterov's form of SGD's momentum."""
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    """Adam's and AdamW's decay of the two moments."""
    weight_decay: NonNegative = 0.0
    """L2 penalty (decoupled in adamw)."""
    decay_all: bool = True
    """False: no weight decay on biases and normalisation parameters."""
    fused: bool | None = None
    """Torch's update in one pass (not of rmsprop); unset: but for bsp on several workers."""
    bias_rate_factor: Positive = 1.0
    """Biases learn at this times the learning rate (Caffe and Theano-MPI: 2)."""

    @model_validator(mode="after")
    def _fits(self) -> Optimizer:
        if self.nesterov and not (self.name == "sgd" and self.momentum > 0):
            raise ValueError(
                "nesterov=true needs optimizer.name='sgd' and optimizer.momentum above 0"
            )
        if self.momentum and self.name in ("adam", "adamw"):
            raise ValueError(f"momentum is not a setting of {self.name}: use sgd or rmsprop")
        if self.fused and self.name == "rmsprop":
            raise ValueError("torch has no fused rmsprop: leave fused out, or use another")
        if self.betas != [0.9, 0.999] and self.name not in ("adam", "adamw"):
            raise ValueError(
                f"betas are not a setting of {self.name}: use adam or adamw, or leave them at "
                "[0.9, 0.999]"
            )
        return self


class Schedule(Section):
    """The learning rate over the run."""

    name: Literal["constant", "step", "poly", "cosine"] = "constant"
    """The curve."""
    milestones: list[NonNegative] = []
    """step: the epochs at which the rate is multiplied by gamma."""
    gamma: Positive = 0.1
    """step: the factor at each milestone."""
    power: Positive = 1.0
    """poly: the exponent of (1 - progress)."""
    horizon_epochs: NonNegative = 0.0
    """poly and cosine: the epoch at which the curve ends, not before train.epochs; 0: there."""
    scaling: Literal["none", "linear", "sqrt"] = "none"
    """How the rate grows with global batch / reference_batch_size."""
    reference_batch_size: Annotated[int, Field(ge=1, le=10**12)] = 32
    """The global batch for which optimizer.learning_rate was chosen."""
    warmup: Literal["none", "linear", "geometric", "from-zero"] = "none"
    """How the rate grows from the base to the scaled one, where that is higher; from-zero: from
    nothing, linearly."""
    warmup_epochs: NonNegative = 5.0
    """How long that takes."""

    @model_validator(mode="after")
    def _fits(self) -> Schedule:
        if self.name == "step" and not self.milestones:
            raise ValueError("schedule.name='step' needs schedule.milestones, such as [20, 40]")
        if self.milestones and self.name != "step":
            raise ValueError(
                f"schedule.milestones is for schedule.name='step', got {self.name!r}: "
                "set schedule.milestones=[]"
            )
        if self.horizon_epochs and self.name not in ("poly", "cosine"):
            raise ValueError(
                "schedule.horizon_epochs is for schedule.name='poly' or 'cosine', "
                f"got {self.name!r}: set schedule.horizon_epochs=0"
            )
        if sorted(self.milestones) != self.milestones:
            raise ValueError(f"schedule.milestones must ascend, got {self.milestones}")
        return self


class Checkpoint(Section):
    """When a run is saved, and what is kept."""

    every_steps: Count = 0
    """Save every so many steps; 0: not by steps."""
    every_epochs: Count = 1
    """Save every so many epochs (and at the end); 0: not by epochs."""
    keep_last: Annotated[int, Field(ge=1)] = 2
    """How many of the newest to keep."""
    keep_best: bool = True
    """Also keep the one with the best validation: least error, or loss for language models."""


class Recorder(Section):
    """What is written down while it runs."""

    every_seconds: Positive = 1.0
    """How often a step record goes to events.jsonl."""
    verbose: bool = False
    """Let ranks other than 0 speak too."""


class Settings(Section):
    """The resolved whole; `config.toml` in a run's folder holds it and feeds `-c`."""

    run: Run = Run()
    launch: Launch = Launch()
    train: Train = Train()
    loading: Loading = Loading()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    checkpoint: Checkpoint = Checkpoint()
    recorder: Recorder = Recorder()

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        horizon, epochs = self.schedule.horizon_epochs, self.train.epochs
        if 0 < horizon < epochs:
            raise ValueError(
                f"schedule.horizon_epochs={horizon:g} comes before the end, train.epochs={epochs}: "
                "the learning rate would be 0 from there on; raise it, or set it to 0"
            )
        if self.loading.augment == "device":
            try:
                check_device_augment(self.loading.normalise, self.train.augment, self.train.mix)
            except UserError as error:
                raise ValueError(str(error)) from None
        return self
