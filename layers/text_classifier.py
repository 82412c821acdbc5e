"""A classifier of texts, as for the reviews of IMDB:  embedding, LSTM in both directions, linear layer on the two last hidden states.

(data: Maas et al., 2011, "Learning word vectors for sentiment analysis"; both directions: Schuster & Paliwal, 1997)

The model is written once, over three kinds of part; a variant is a choice of parts.  All keep the names and shapes of stock's parameters.
"""

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, integers
from .embedding import FunctionEmbedding, TritonEmbedding
from .linear import FunctionLinear, TritonLinear
from .lstm import FunctionLSTM, TritonLSTM


class TextClassifier(nn.Module):
    """Stock.  Indices of words (batch, tokens) -> scores (batch, classes)."""

    Embedding, LSTM, Linear = nn.Embedding, nn.LSTM, nn.Linear

    def __init__(self, vocabulary: int, width: int, hidden: int, classes: int = 2) -> None:
        super().__init__()
        self.embedding = self.Embedding(vocabulary, width)
        self.lstm = self.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.scores = self.Linear(2 * hidden, classes)

    def forward(self, words: Tensor) -> Tensor:
        _, (h, _) = self.lstm(self.embedding(words))
        return self.scores(torch.cat((h[0], h[1]), 1))


class FunctionTextClassifier(TextClassifier):
    """TextClassifier with the hand-derived backwards of its parts.

    On a CPU the LSTM's eight calls a step show, as layers/lstm.py says: forward takes three times as long as stock at batch 16 and five
    times at batch 1, backward two and two and a half times (docs/layers.md).
    """

    Embedding, LSTM, Linear = FunctionEmbedding, FunctionLSTM, FunctionLinear


class TritonTextClassifier(TextClassifier):
    """TextClassifier with the Triton kernels of its parts."""

    Embedding, LSTM, Linear = TritonEmbedding, TritonLSTM, TritonLinear


text_classifier = Layer(
    "text_classifier",
    sweep={"batch": (1, 16), "tokens": (64,), "vocabulary": (5000,), "width": (64,), "hidden": (64,)},
    inputs=(integers("batch", "tokens", below="vocabulary"),),
    build=lambda module, size: module(size["vocabulary"], size["width"], size["hidden"]),
    variants={
        "stock": Variant(TextClassifier),
        "function": Variant(FunctionTextClassifier),
        "triton": Variant(TritonTextClassifier, devices=GPU),
    },
    absent={"compile": "torch.compile leaves the whole model to eager: Dynamo does not support the LSTM in the middle of it."},
    verify_at=(
        {"batch": 2, "tokens": 3, "vocabulary": 5, "width": 3, "hidden": 2},
        {"batch": 19, "tokens": 5, "vocabulary": 37, "width": 20, "hidden": 15},  # several programs to a step, the last one part full
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 16, 256), "tokens": (128,), "width": (256,), "hidden": (256,)},
)
