"""The numbers of `evaluate` are those that training wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from arignote.data.open import open_data
from arignote.errors import CheckpointError, UserError
from arignote.inference.evaluate import evaluate
from arignote.inference.load import load_trained
from arignote.inference.request import Request
from arignote.recorder.events import read_events


def ask(trained: Any, checkpoint: str = "last", data: str | None = None) -> dict[str, Any]:
    return evaluate(Request("evaluate", str(trained.folder), checkpoint, {"data": data}))


def test_the_last_checkpoint_is_the_summary(trained: Any) -> None:
    result = ask(trained)
    assert result["metrics"] == pytest.approx(trained.summary["metrics"], rel=1e-6)
    assert set(result["metrics"]) == {"loss", "accuracy", "error", "error_top5"}
    assert (result["samples"], result["step"]) == (360, trained.summary["steps"])
    assert result["data"] == "digits"
    assert result["loss_per_token"] is False


def test_every_checkpoint_is_its_validation(trained: Any) -> None:
    events = [e for e in read_events(trained.folder) if e["event"] == "validation"]
    assert len(events) == 2
    for event in events:
        result = ask(trained, f"step-{event['step']:08d}")
        assert result["metrics"] == pytest.approx({k: event[k] for k in result["metrics"]})


def test_best(trained: Any) -> None:
    best = json.loads((trained.folder / "checkpoints/best.json").read_text())
    result = ask(trained, "best")
    assert result["checkpoint"] == best["name"]
    assert result["metrics"]["error"] == pytest.approx(best["value"])


def test_other_data_is_normalised_as_in_training(trained: Any) -> None:
    spec = "synthetic:1x8x8,10,train=100,validation=50"
    other = open_data(spec, "none")
    assert other.mean != trained.data.mean
    model = load_trained(trained.folder, "last")
    other.mean, other.deviation = trained.data.mean, trained.data.deviation
    inputs, targets = other.validation_batch(np.arange(50))
    outputs = model.outputs(inputs)
    loss = torch.nn.functional.cross_entropy(outputs, targets)
    result = ask(trained, data=spec)
    assert result["metrics"]["loss"] == pytest.approx(float(loss), rel=1e-6)
    assert (result["data"], result["samples"]) == (spec, 50)


def test_other_data_must_mean_the_same(trained: Any) -> None:
    with pytest.raises(UserError, match=r"has samples of shape \(1, 9, 9\), .* on \(1, 8, 8\)"):
        ask(trained, data="synthetic:1x9x9,10,train=20,validation=5")
    with pytest.raises(UserError, match=r"has 9 classes \(0, 1, 2, \.\.\.\), .* on 10 classes"):
        ask(trained, data="synthetic:1x8x8,9,train=20,validation=5")


def test_other_words(trained: Any, make_run: Any) -> None:
    model = load_trained(trained.folder, "last")
    card = replace(model.card, vocabulary=("a", "b"))
    run = make_run("digits-cnn", model.saved.weights, card)
    with pytest.raises(UserError, match=r"digits has a vocabulary of 0 words, .* another of 2"):
        evaluate(Request("evaluate", str(run)))


def test_a_run_of_an_older_arignote(make_run: Any, trained: Any) -> None:
    weights = load_trained(trained.folder, "last").saved.weights
    run = make_run("digits-cnn", weights, None)
    result = evaluate(Request("evaluate", str(run)))
    assert result["metrics"] == pytest.approx(trained.summary["metrics"], rel=1e-6)


def test_weights_of_another_model(make_run: Any, trained: Any) -> None:
    run = make_run("digits-mlp", load_trained(trained.folder, "last").saved.weights, None)
    with pytest.raises(CheckpointError, match=r"is of another model \(digits-mlp\): 0\.bias"):
        evaluate(Request("evaluate", str(run)))


def test_a_model_of_another_framework(make_run: Any) -> None:
    run = make_run("lsgan-digits", {"0": torch.ones(2)}, None)
    with pytest.raises(UserError, match="lsgan-digits is a model of Theano-MPI's contract"):
        evaluate(Request("evaluate", str(run)))
