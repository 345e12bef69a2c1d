"""The worker process: `python -m arignote.worker RUN_FOLDER [--resume]`, started by the launcher.

Reads the resolved settings from the run's folder, joins the world, builds the parts, trains.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from arignote import failure, log
from arignote.checkpoint.store import CheckpointStore
from arignote.comm.base import World
from arignote.comm.crew import Crew
from arignote.comm.location import Location, locate
from arignote.comm.open import open_crew
from arignote.config.exchange_options import AUTO
from arignote.config.load import read_file, resolve
from arignote.config.model_source import find_model
from arignote.config.rule_options import parse_rule
from arignote.config.settings import Settings
from arignote.errors import UserError
from arignote.exchange.exchange import Exchange
from arignote.exchange.open import open_exchange, open_kept_exchange
from arignote.frameworks.seeds import seed_build
from arignote.loading.process import ServerProcess
from arignote.loading.spawn import by_mpi
from arignote.models.base import Model
from arignote.orphan import die_with_parent
from arignote.recorder.events import read_events
from arignote.registry import RULES
from arignote.rules.base import Rule
from arignote.rules.visitor import serve
from arignote.topology.gpus import torch_build, visible_gpus
from arignote.trainer.contract_task import ContractTask, check_contract, model_config
from arignote.trainer.device_defaults import recorder_for
from arignote.trainer.device_memory import explained
from arignote.trainer.feed import loader_count
from arignote.trainer.journal import Journal
from arignote.trainer.loop import Trainer
from arignote.trainer.pretrained import load_pretrained
from arignote.trainer.saving import Saver
from arignote.trainer.stopping import StopFlag
from arignote.trainer.task import Task
from arignote.trainer.torch_task import TorchTask
from arignote.trainer.turns import open_turns


def main(arguments: list[str]) -> None:
    """Train as one worker of a run; leave with a report if anything fails."""
    # What is imported by now, torch above all, lives to the end, and to collect it then takes half
    # a second. Not later: what the user's own code leaves is still finalised, its files written.
    gc.freeze()
    die_with_parent()
    rank = 0
    where: Sequence[Location] = ()
    try:
        stop = StopFlag()
        stop.install()
        run_folder, resume = Path(arguments[0]), "--resume" in arguments[1:]
        settings = read_settings(run_folder)
        loaded, spawned = loader_count(settings) > 0, settings.loading.start == "mpi_spawn"
        # Now: a process that has begun with MPI or CUDA must not be forked.
        server = ServerProcess() if loaded and not spawned else None
        crew = open_crew(settings.launch.start_timeout_seconds)
        rank = crew.whole.rank
        log.set_up(rank, verbose=settings.recorder.verbose)
        if crew.is_server:
            if server is not None:
                server.close()
            serve(crew)
        else:
            for world in (crew.whole, crew.workers):
                world.timeout_seconds = settings.train.timeout_seconds
            children = [] if server is None else [server.pid]
            where = locate(crew.workers, settings.launch, children=children)
            if loaded and spawned:
                # Now that this worker is bound to its cores, for the server takes them over.
                seconds = settings.loading.timeout_seconds
                server = ServerProcess(by_mpi(timeout_seconds=seconds, worker=rank))
            build_trainer(settings, crew, where, run_folder, stop, server, resume=resume).run()
        crew.whole.close()
    except BaseException as error:
        failure.leave(explained(error, where, rank), rank)


def read_settings(run_folder: Path) -> Settings:
    """The settings that the launcher resolved.

    Raises:
        UserError: this host does not see the run's folder.
    """
    config = run_folder / "config.toml"
    if not config.is_file():
        raise UserError(
            f"this host does not see {config}: put the run on a file system that all hosts share "
            "(--out DIR)"
        )
    return resolve([("", read_file(config))])


def build_trainer(
    settings: Settings,
    crew: Crew,
    where: Sequence[Location],
    run_folder: Path,
    stop: StopFlag,
    server: ServerProcess | None = None,
    *,
    resume: bool,
) -> Trainer:
    """All parts of one worker, put together.

    Args:
        where: each worker's place, by rank.
        server: of its loaders.
    """
    world = crew.workers
    device = torch.device(where[world.rank].device)
    _set_threads(settings, where[world.rank])
    recorder = recorder_for(device)
    model_class = find_model(settings.run.model).load()
    exchange = _open_exchange(settings, world, device, run_folder, resume=resume)
    task = build_task(model_class, settings, world, exchange, device, server)
    begun_from = {} if resume else _begin_from(settings, task, world)
    name, options = parse_rule(settings.run.rule)
    rule: Rule = RULES.load(name)(
        options,
        world,
        exchange,
        recorder,
        stop_on_nan=settings.train.on_nan == "stop",
        crew=crew,
        seed=settings.run.seed,
    )
    journal = Journal(
        run_folder if world.rank == 0 else None,
        world,
        recorder,
        every_seconds=settings.recorder.every_seconds,
        learning_rate=lambda: task.learning_rate,
        facts=lambda: _facts(settings, world, rule, task),
    )
    journal.event("start", peers=[asdict(peer) for peer in crew.whole.peers])
    journal.event("placement", workers=[asdict(one) for one in where], idle_gpus=_idle_gpus(where))
    if begun_from:
        journal.event("weights", **begun_from)
    skipped = getattr(getattr(task, "dataset", None), "skipped", ())
    if skipped:
        count = "1 bad file was" if len(skipped) == 1 else f"{len(skipped)} bad files were"
        more = ", ..." if len(skipped) > 5 else ""
        journal.warn(f"{count} skipped: {', '.join(skipped[:5])}{more}")
    store = CheckpointStore(run_folder, world, keep_last=settings.checkpoint.keep_last)
    saver = Saver(store, settings, task, rule, recorder, journal, resume=resume)
    loads = isinstance(task, TorchTask) and task.feed.facts.loaders > 0
    turns = open_turns(rule, world, recorder, foresees=loads)
    return Trainer(settings, task, rule, world, recorder, journal, saver, stop, turns)


def _set_threads(settings: Settings, own: Location) -> None:
    """As many as the launcher says, but no more than the cores near a GPU."""
    if "OMP_NUM_THREADS" not in os.environ:
        return
    threads = int(os.environ["OMP_NUM_THREADS"])
    if own.bound and not settings.launch.threads:
        threads = min(threads, own.cores)
    torch.set_num_threads(threads)


def _idle_gpus(where: Sequence[Location]) -> int:
    """GPUs of this host, where no worker of the run computes on one."""
    build = torch_build()
    if build is None or not build.for_gpus or any(one.name for one in where):
        return 0
    return visible_gpus(build) or 0


def _open_exchange(
    settings: Settings, world: World, device: torch.device, run_folder: Path, *, resume: bool
) -> Exchange:
    """What `run.exchange` names; a resumed run keeps what auto chose before, where it can."""
    text = settings.run.exchange
    if resume and text == AUTO:
        chosen = [e["chosen"] for e in read_events(run_folder) if e["event"] == "exchange"]
        # Rank 0's word counts: another host may not see the newest line yet.
        kept = world.gather(chosen[-1] if chosen else AUTO, "the choice of the exchange")[0]
        return open_kept_exchange(kept, world, device)
    return open_exchange(text, world, device)


def build_task(
    model_class: Any,
    settings: Settings,
    world: World,
    exchange: Exchange,
    device: torch.device,
    server: ServerProcess | None = None,
) -> Task:
    """The model, as a task on this worker's `device`; `server`: of its loaders."""
    if isinstance(model_class, type) and issubclass(model_class, Model):
        return TorchTask(model_class(), settings, world, exchange.route, device, server)
    if server is not None:
        server.close()
        if settings.loading.loaders:
            raise UserError(
                f"--loaders is for PyTorch models: {settings.run.model} loads its own data"
            )
    seed_build(settings.run.seed)
    model = model_class(model_config(settings, world))
    check_contract(model, settings.run.model)
    return ContractTask(model, settings, world, exchange.route)


def _begin_from(settings: Settings, task: Task, world: World) -> dict[str, Any]:
    """On worker 0, whose weights the rule gives to all: load `train.weights`; what was loaded."""
    if not settings.train.weights:
        return {}
    if not isinstance(task, TorchTask):
        raise UserError(
            f"train.weights is for PyTorch models: {settings.run.model} loads its own weights"
        )
    if world.rank:
        return {}
    match = load_pretrained(Path(settings.train.weights), task.replica)
    return {"file": settings.train.weights, **asdict(match)}


def _facts(settings: Settings, world: World, rule: Rule, task: Task) -> dict[str, Any]:
    return {
        "model": settings.run.model,
        "data": settings.run.data,
        "rule": settings.run.rule,
        "exchange": rule.way,
        "library": world.library,
        "parameters": sum(vector.numel() for vector in task.replica.parameters),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
