"""Language models: closed forms, causality, what is drawn from them, exactness, resume."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from arignote.config.settings import Settings
from arignote.data.base import Batch
from arignote.errors import UserError
from arignote.models.gpt import Attention, Decoder, GPTNano
from arignote.models.lstm import CharLSTM, CharLSTMModule
from arignote.trainer.torch_task import TorchTask

K, CONTEXT = 7, 12
TEXT = "To be, or not to be, that is the question: " * 12
SMALL = {"train.epochs": 2, "train.batch_size": 8}


def decoder(dropout: float = 0.0) -> Decoder:
    torch.manual_seed(0)
    return Decoder(K, CONTEXT, layers=2, width=16, heads=4, dropout=dropout).eval()


def char_lstm() -> CharLSTMModule:
    torch.manual_seed(0)
    return CharLSTMModule(K, embedding=8, width=16, dropout=0.2).eval()


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(K, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("layers", 2), ("width", 16), ("heads", 4)):
        monkeypatch.setattr(GPTNano, name, value)


@pytest.fixture
def text(tmp_path: Any) -> dict[str, object]:
    (tmp_path / "text.txt").write_text(TEXT)
    return {"run.data": f"text:{tmp_path / 'text.txt'},length={CONTEXT}"} | SMALL


@pytest.mark.parametrize("make", [decoder, char_lstm])
def test_a_later_token_never_changes_an_earlier_score(make: Any) -> None:
    module, one = make(), tokens(3, CONTEXT)
    for changed in range(CONTEXT):
        other = one.clone()
        other[:, changed] = (other[:, changed] + 1) % K
        before, after = module(one), module(other)
        torch.testing.assert_close(before[:, :changed], after[:, :changed], atol=1e-6, rtol=0)
        assert not torch.allclose(before[:, changed], after[:, changed], atol=1e-4)


@pytest.mark.parametrize("make", [decoder, char_lstm])
def test_an_earlier_token_changes_later_scores(make: Any) -> None:
    module, one = make(), tokens(1, CONTEXT)
    other = one.clone()
    other[:, 0] = (other[:, 0] + 1) % K
    assert not torch.equal(module(one)[:, -1], module(other)[:, -1])


@pytest.mark.parametrize(("kind", "make"), [(GPTNano, decoder), (CharLSTM, char_lstm)])
@torch.no_grad()
def test_the_loss_is_in_nats_a_token(kind: Any, make: Any) -> None:
    model, batch = kind(), Batch(tokens(3, CONTEXT), tokens(3, CONTEXT, seed=2))
    model.module = make()
    shares = torch.log_softmax(model.module(batch.inputs), dim=-1)
    of_targets = [
        float(shares[n, t, batch.targets[n, t]]) for n in range(3) for t in range(CONTEXT)
    ]
    assert float(model.loss(batch)) == pytest.approx(-sum(of_targets) / len(of_targets), abs=1e-5)
    for parameter in model.module.parameters():
        parameter.data.zero_()
    assert float(model.loss(batch)) == pytest.approx(math.log(K), abs=1e-6)


def test_attention_is_its_formula() -> None:
    torch.manual_seed(3)
    attention, x = Attention(12, 3), torch.randn(2, 5, 12)
    q, k, v = attention.queries_keys_values(x).chunk(3, dim=-1)
    parts = []
    for head in range(3):
        columns = slice(4 * head, 4 * head + 4)
        scores = q[..., columns] @ k[..., columns].transpose(1, 2) / 2
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
        parts.append(scores.softmax(dim=-1) @ v[..., columns])
    torch.testing.assert_close(attention(x), attention.out(torch.cat(parts, dim=-1)))


@torch.no_grad()
def test_initial_weights_are_gpt2s() -> None:
    torch.manual_seed(0)
    module = Decoder(50, 64, layers=8, width=64, heads=4, dropout=0.1)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" in name:
            assert (parameter == 1).all()
        else:
            expected = 0.02 / 4 if name.endswith(("out.weight", "mlp.2.weight")) else 0.02
            assert float(parameter.std()) == pytest.approx(expected, rel=0.1), name


def test_gpt2s_smallest_has_its_number_of_parameters() -> None:
    with torch.device("meta"):
        module = Decoder(50_257, 1024, layers=12, width=768, heads=12, dropout=0.1)
    assert sum(parameter.numel() for parameter in module.parameters()) == 124_439_808


@pytest.mark.parametrize(("kind", "make"), [(GPTNano, decoder), (CharLSTM, char_lstm)])
def test_generate(kind: Any, make: Any) -> None:
    model = kind()
    model.module, model.dataset = make(), SimpleNamespace(sample_shape=(CONTEXT,))
    prompt, count = tokens(1, 3), CONTEXT + 5

    def draw(temperature: float, seed: int = 0) -> list[int]:
        random = torch.Generator().manual_seed(seed)
        drawn = model.generate(prompt, count, temperature, random)
        assert drawn.shape == (1, count)
        assert drawn.dtype == torch.int64
        return [int(token) for token in drawn[0]]

    expected = prompt
    for _ in range(count):
        best = model.module(expected[:, -CONTEXT:])[:, -1].argmax(dim=-1, keepdim=True)
        expected = torch.cat([expected, best], dim=1)
    assert draw(0.0) == draw(1e-6, seed=1) == expected[0, 3:].tolist()
    assert draw(1.0) == draw(1.0) != draw(1.0, seed=1)
    assert set(draw(100.0)) <= set(range(K))


def test_tokens_are_drawn_by_their_shares() -> None:
    model = GPTNano()
    scores = torch.tensor([0.0, 1.0, 2.0, -math.inf])
    model.module = torch.nn.Module()
    model.module.forward = lambda tokens: scores.expand(*tokens.shape, 4)  # type: ignore[method-assign]
    model.dataset = SimpleNamespace(sample_shape=(CONTEXT,))  # type: ignore[assignment]
    drawn = model.generate(tokens(1, 1), 4000, 0.5, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn[0], minlength=4) / 4000
    torch.testing.assert_close(counts, torch.softmax(scores / 0.5, dim=0), atol=0.03, rtol=0)


def test_tokens_count_in_the_error() -> None:
    task = object.__new__(TorchTask)
    task.settings = Settings()
    scores = torch.eye(4)[torch.tensor([[0, 1, 2], [3, 3, 3]])]
    task._outputs = scores
    assert task._error(torch.tensor([[0, 1, 1], [3, 0, 0]]), 1) == pytest.approx(0.5)
    assert task._error(torch.tensor([[0, 1, 1], [3, 0, 0]]), 4) == 0
    for targets in (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3)):
        assert math.isnan(task._error(targets, 1))


@pytest.mark.usefixtures("narrow")
def test_two_workers_equal_one(
    train: Any, text: Any, relative_difference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GPTNano, "dropout", 0.0)
    settings = text | {"run.model": "gpt-nano", "train.precision": "fp64"}
    one = train(1, settings, folder="one")
    two = train(2, settings | {"train.batch_size": 4}, folder="two")
    a, b = (run.trainer.task.replica.named_tensors() for run in (one, two))
    assert relative_difference(a, b) < 1e-10
    losses = [[e["loss"] for e in run.events if e["event"] == "validation"] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-10)
    assert losses[0][-1] < losses[0][0] < math.log(len(set(TEXT))) + 0.1


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", ["gpt-nano", "char-lstm"])
def test_stopped_and_resumed_it_is_as_if_it_had_not_been(train: Any, text: Any, name: str) -> None:
    # One worker: those of a test are threads, and would share one stream of dropout.
    settings = text | {"run.model": name}
    straight = train(1, settings, folder="straight")
    train(1, settings, folder="stopped", stop_at=6)
    assert train(1, settings, folder="stopped", resume=True).sha == straight.sha
    (begin,) = [event for event in straight.events if event["event"] == "begin"]
    assert begin["sample_name"] == "sequences"


@pytest.mark.parametrize("name", ["gpt-nano", "char-lstm"])
def test_data_that_is_no_text(train: Any, name: str) -> None:
    message = rf"^{name} predicts the next token of a text, and digits is none: use --data text:FI"
    with pytest.raises(UserError, match=message):
        train(1, {"run.model": name, "run.data": "digits"})
