"""digits-cnn over every exchange: the same bits where nothing is lost, as good where it is."""

from __future__ import annotations

from typing import Any

import pytest

SHORT = {"run.model": "digits-cnn", "train.epochs": 1}


def shas(train: Any, workers: int, cases: list[tuple[str, str]], **more: Any) -> dict[Any, str]:
    """Of the weights, by (exchange, rule)."""
    settings = SHORT | {name.replace("__", "."): value for name, value in more.items()}
    found = {}
    for number, (exchange, rule) in enumerate(cases):
        result = train(
            workers,
            settings | {"run.exchange": exchange, "run.rule": rule},
            folder=f"{workers}-{number}",
        )
        found[exchange, rule] = result.sha
    return found


def test_lossless_exchanges_of_two_workers_give_the_same_bits(train: Any) -> None:
    found = shas(
        train,
        2,
        [
            ("shm", "bsp:sharded=on"),
            ("shm", "bsp:sharded=off"),
            ("shm", "bsp:overlap=on"),
            ("asa", "bsp:sharded=on"),
            ("asa", "bsp:sharded=off"),
            ("asa", "bsp:overlap=on"),
            ("allreduce", "bsp"),
            ("allreduce", "bsp:overlap=on"),
            ("hier", "bsp"),
            ("auto", "bsp"),
            ("auto", "bsp:overlap=on"),
        ],
    )
    assert len(set(found.values())) == 1, found


def test_lossless_exchanges_of_four_workers_give_the_same_bits(train: Any) -> None:
    # 1437 samples: the last steps of an epoch have batches of unequal sizes.
    found = shas(
        train,
        4,
        [
            ("shm", "bsp"),
            ("asa", "bsp"),
            ("auto", "bsp:sharded=off"),
            ("asa", "bsp:overlap=on"),
        ],
        train__batch_size=48,
    )
    assert len(set(found.values())) == 1, found


def test_clipping_does_not_depend_on_what_auto_happens_to_choose(train: Any) -> None:
    found = shas(
        train,
        2,
        [(name, "bsp") for name in ("shm", "asa")],
        train__clip_norm=0.5,
    )
    assert len(set(found.values())) == 1, found


LOSSY = [
    "asa:fp16",
    "asa:bf16",
    "asa:int8",
    "asa:onebit",
    "asa:topk,k=0.05",
    "asa:powersgd,rank=2",
]


@pytest.mark.parametrize("exchange", LOSSY)
def test_lossy_codecs_reach_the_accuracy_of_the_main_job(train: Any, exchange: str) -> None:
    summary = train(2, {"run.model": "digits-cnn", "run.exchange": exchange}).summary
    assert summary["exchange"] == exchange
    assert summary["metrics"]["accuracy"] >= 0.97
