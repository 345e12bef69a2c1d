"""Recurrent networks: a language model of characters, and Theano-MPI's classifier of texts.

Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 9(8), 1997.
"""

from __future__ import annotations

import torch
from torch import nn

from arignote.data.base import Dataset
from arignote.data.words import PADDING
from arignote.errors import UserError
from arignote.models.base import Model
from arignote.models.language import LanguageModel


class CharLSTMModule(nn.Module):
    """Tokens (N, T) int64 to scores of the next ones (N, T, vocabulary)."""

    def __init__(self, vocabulary: int, *, embedding: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, width, num_layers=2, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From a state of zero at the first token."""
        states, _ = self.lstm(self.embedding(tokens))
        scores: torch.Tensor = self.out(self.dropout(states))
        return scores


class CharLSTM(LanguageModel):
    """embedding 128 - LSTM 256 - LSTM 256 - dense; 946,625 parameters for 65 characters.

    The shape of Karpathy, Johnson, Fei-Fei, arXiv 1506.02078 (two layers, clipped gradients); the
    hyper-parameters are ours. Every window begins with an empty memory.
    """

    defaults = {
        "train.epochs": 20,
        "train.batch_size": 32,
        "train.clip_norm": 1.0,
        "optimizer.name": "adam",
        "optimizer.learning_rate": 2e-3,
        "schedule.name": "cosine",
        "schedule.scaling": "sqrt",
        "schedule.reference_batch_size": 32,
    }

    dropout = 0.2
    """After each of the two LSTM layers."""

    def build(self) -> nn.Module:
        """torch's initialisation: uniform in +-1/sqrt(width)."""
        return CharLSTMModule(
            len(self.dataset.vocabulary), embedding=128, width=256, dropout=self.dropout
        )


class LSTMModule(nn.Module):
    """Words (N, T) int64, `PADDING` behind each text, to scores (N, classes)."""

    def __init__(self, vocabulary: int, classes: int, *, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(width, classes)
        nn.init.uniform_(self.embedding.weight, 0.0, 0.01)
        for name, parameter in self.lstm.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            else:
                for gate in parameter.chunk(4):
                    nn.init.orthogonal_(gate)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """The mean state over the words that are there; padding comes after all of them."""
        states, _ = self.lstm(self.embedding(words))
        is_word = (words != PADDING).unsqueeze(-1)
        # A text without a word has the mean 0.
        mean = (states * is_word).sum(dim=1) / is_word.sum(dim=1).clamp(min=1)
        scores: torch.Tensor = self.out(self.dropout(mean))
        return scores


class LSTM(Model):
    """embedding 128 - LSTM 128 - mean over the words - dropout 0.5 - dense.

    1,412,354 parameters for 10,000 words and two classes. Theano-MPI's, from the deep learning
    tutorial (LSTM Networks for Sentiment Analysis): sizes, initialisation and batch are theirs. We
    differ: Adam in place of Adadelta, longer texts are cut and not left out, and two bias vectors,
    as torch has them.
    """

    defaults = {
        "train.epochs": 10,
        "train.batch_size": 16,
        "optimizer.name": "adam",
        "optimizer.learning_rate": 1e-3,
        "schedule.name": "cosine",
        "schedule.scaling": "sqrt",
        "schedule.reference_batch_size": 16,
    }

    def data(self) -> Dataset:
        """As `Model.data`.

        Raises:
            UserError: the data does not hold texts with one label each.
        """
        dataset = super().data()
        if not dataset.vocabulary or dataset.vocabulary == dataset.classes:
            raise UserError(
                f"{self.settings.run.model} classifies texts, and {self.settings.run.data} holds "
                "none with labels: use --data textfolder:DIR"
            )
        return dataset

    def build(self) -> nn.Module:
        """Embedding and LSTM of one width, 128."""
        return LSTMModule(len(self.dataset.vocabulary), len(self.dataset.classes), width=128)
