"""Fixtures shared by the tests: a tiny random BERT and a probe set with padding."""

from dataclasses import replace

import pytest
import tiny
import torch
from transformers import BertConfig, BertForSequenceClassification

from sfusion import cli
from sfusion.compression import budgets
from sfusion.data.encoding import Encoded


def _tiny_bert(num_layers=4, num_labels=3, seed=24, attention="eager"):
    sizes = {
        "num_hidden_layers": num_layers,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }
    labels = {"num_labels": num_labels, "attn_implementation": attention}
    config = BertConfig(**tiny.COMMON | sizes, vocab_size=50, **labels)
    model = BertForSequenceClassification(config).eval()
    # A fresh BERT has unit LayerNorm gains and zero biases, which makes some signals
    # the same in every layer (mean activation 0, norm sqrt(H)), so every parameter is
    # drawn anew. The generator is private: neither the global seed nor the library's
    # own scheme matters.
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.copy_(
                    0.35 * torch.randn(parameter.shape, generator=generator)
                )
    return model


def _tiny_probe(n=45, width=12, classes=3, seed=0, lengths=(3, 10)):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    input_ids = torch.zeros(n, width, dtype=torch.long)
    mask = torch.zeros(n, width, dtype=torch.long)
    for row in range(n):
        length = int(
            torch.randint(lengths[0], lengths[1] + 1, (1,), generator=generator)
        )
        # Each class has its own range of words, so that labels and activations are
        # related.
        start = 5 + 10 * (int(labels[row]) % 3)
        words = torch.randint(start, start + 25, (length - 2,), generator=generator)
        input_ids[row, :length] = torch.cat(
            [torch.tensor([2]), words, torch.tensor([3])]
        )
        mask[row, :length] = 1
    return Encoded(input_ids=input_ids, attention_mask=mask, labels=labels)


@pytest.fixture(scope="session", autouse=True)
def _short_compressions():
    """Let compressions train a twentieth of what a user's do."""
    with pytest.MonkeyPatch.context() as patch:
        short = {
            stage: replace(
                budget,
                passes=budget.passes / 20,
                least=budget.least // 20,
                most=budget.most // 20,
            )
            for stage, budget in budgets.BUDGETS.items()
        }
        patch.setattr(budgets, "BUDGETS", short)
        yield


@pytest.fixture(scope="module")
def tiny_data():
    """Let studies read the tiny tasks and work in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUSION_DATA", str(tiny.data_folder()))
        patch.setenv("SFUSION_JOBS", "1")
        patch.delenv("SFUSION_BACKEND", raising=False)
        yield


@pytest.fixture
def refused(capsys):
    """Run a command that must fail: exit code 2, and one line on stderr."""

    def refused(*arguments):
        assert cli.main([str(argument) for argument in arguments]) == 2
        line = capsys.readouterr().err
        assert (
            line.startswith("error: ")
            and line.endswith("\n")
            and line.count("\n") == 1
            and "\r" not in line
        ), line
        return line

    return refused


@pytest.fixture(scope="session")
def make_bert():
    """Return the maker of tiny random BERTs (hidden 16, 2 heads, vocabulary 50)."""
    return _tiny_bert


@pytest.fixture(scope="session")
def make_probe():
    """Return the maker of padded probe sets: ``[CLS] words [SEP] padding``."""
    return _tiny_probe


@pytest.fixture
def tiny_bert():
    """Return a fresh 4-layer model in fp32 with eager attention, in eval mode."""
    return _tiny_bert()


@pytest.fixture(scope="session")
def probe():
    """Return 45 samples of 3 classes, 3 to 10 real tokens padded to 12 columns."""
    return _tiny_probe()
