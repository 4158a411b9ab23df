"""The twelve signals as a user would write them: a pass over the probe set each.

The formulas are those of ``sfusion.signals``; how they are computed is not. Every
function takes a BERT classifier and a probe set and returns one number per layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.feature_selection import mutual_info_classif

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded

BATCH = 32

Masked = tuple[torch.Tensor, torch.Tensor]  # values of a batch, and its mask


def batches(data: Encoded, size: int = BATCH) -> Iterator[Encoded]:
    for start in range(0, len(data), size):
        yield data.take(range(start, min(start + size, len(data))))


def hidden_states(model: PreTrainedModel, data: Encoded) -> Iterator[Masked]:
    """Yield each batch's outputs of all layers, (layers, B, T, H), and its mask."""
    with torch.no_grad():
        for batch in batches(data):
            output = model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                output_hidden_states=True,
            )
            yield torch.stack(output.hidden_states[1:]), batch.attention_mask.bool()


def real_tokens(model: PreTrainedModel, data: Encoded) -> torch.Tensor:
    """Return the outputs of all layers at all real tokens, (layers, tokens, H)."""
    return torch.cat(
        [hidden[:, mask] for hidden, mask in hidden_states(model, data)], 1
    )


def inhibition(model: PreTrainedModel, data: Encoded) -> list[float]:
    return real_tokens(model, data).mean((1, 2)).tolist()


def intensity(model: PreTrainedModel, data: Encoded) -> list[float]:
    return real_tokens(model, data).norm(dim=-1).mean(1).tolist()


def energy(model: PreTrainedModel, data: Encoded) -> list[float]:
    return (real_tokens(model, data).square().sum((1, 2)) / len(data)).tolist()


def pooled(model: PreTrainedModel, data: Encoded) -> np.ndarray:
    means = [
        (hidden * mask.unsqueeze(-1)).sum(2) / mask.sum(1, keepdim=True)
        for hidden, mask in hidden_states(model, data)
    ]
    return torch.cat(means, 1).numpy()


def information(
    model: PreTrainedModel, data: Encoded, target: np.ndarray
) -> list[float]:
    values = []
    for layer in pooled(model, data):
        count = min(8, len(layer) - 1, layer.shape[1])
        components = PCA(count, svd_solver="full").fit_transform(layer.astype(float))
        values.append(mutual_info_classif(components, target, random_state=0).mean())
    return values


def task_relevance_mi(model: PreTrainedModel, data: Encoded) -> list[float]:
    return information(model, data, data.labels.numpy())


def information_flow_mi(model: PreTrainedModel, data: Encoded) -> list[float]:
    with torch.no_grad():
        logits = [
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            for batch in batches(data)
        ]
    return information(model, data, torch.cat(logits).argmax(-1).numpy())


def mean_gradients(model: PreTrainedModel, data: Encoded) -> None:
    """Leave the gradient of the mean loss over the probe set in the parameters."""
    model.zero_grad()
    for batch in batches(data):
        loss = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            labels=batch.labels,
        ).loss
        (loss * len(batch) / len(data)).backward()


def squared_gradients(model: PreTrainedModel) -> np.ndarray:
    return np.array(
        [
            float(sum(p.grad.square().sum() for p in layer.parameters()))
            for layer in model.bert.encoder.layer
        ]
    )


def gradient_norm(model: PreTrainedModel, data: Encoded) -> list[float]:
    mean_gradients(model, data)
    return (squared_gradients(model) ** 0.5).tolist()


def gradient_fisher(model: PreTrainedModel, data: Encoded) -> list[float]:
    """One sample at a time: autograd keeps no gradients of single samples."""
    total = np.zeros(len(model.bert.encoder.layer))
    for batch in batches(data, 1):
        mean_gradients(model, batch)
        total += squared_gradients(model)
    return (total / len(data)).tolist()


def gradient_taylor(model: PreTrainedModel, data: Encoded) -> list[float]:
    mean_gradients(model, data)
    return [
        abs(float(sum((p.grad * p.detach()).sum() for p in layer.parameters())))
        for layer in model.bert.encoder.layer
    ]


def matrices(layer: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach() for p in layer.parameters() if p.dim() == 2]


def weight_norm(model: PreTrainedModel, data: Encoded) -> list[float]:
    flat = [
        torch.cat([w.flatten() for w in matrices(layer)])
        for layer in model.bert.encoder.layer
    ]
    return [float(weights.norm() / len(weights) ** 0.5) for weights in flat]


def weight_entropy(model: PreTrainedModel, data: Encoded) -> list[float]:
    values = []
    for layer in model.bert.encoder.layer:
        weights = torch.cat([w.flatten() for w in matrices(layer)]).clamp(-1, 1).numpy()
        counts, _ = np.histogram(weights, bins=512, range=(-1, 1))
        shares = counts[counts > 0] / counts.sum()
        values.append(float(-(shares * np.log(shares)).sum()))
    return values


def attentions(model: PreTrainedModel, data: Encoded) -> Iterator[Masked]:
    """Yield each batch's attention, (layers, B, heads, T, T), and its mask."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the default kernels return no weights
    with torch.no_grad():
        for batch in batches(data):
            output = model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                output_attentions=True,
            )
            yield torch.stack(output.attentions), batch.attention_mask
    model.set_attn_implementation(before)


def mean_over_queries(pairs: Iterable[Masked]) -> list[float]:
    """Average (layers, B, heads, T) over real queries, from batches and masks."""
    sums = [
        ((values * mask[:, None]).sum((1, 2, 3)), int(mask.sum()) * values.shape[2])
        for values, mask in pairs
    ]
    return (sum(total for total, _ in sums) / sum(count for _, count in sums)).tolist()


def attention_weight(model: PreTrainedModel, data: Encoded) -> list[float]:
    return mean_over_queries(
        (attention.amax(-1), mask) for attention, mask in attentions(model, data)
    )


def attention_entropy(model: PreTrainedModel, data: Encoded) -> list[float]:
    return mean_over_queries(
        (
            torch.special.entr(attention).sum(-1)
            / mask.sum(1).clamp(min=2).log()[:, None, None],
            mask,
        )
        for attention, mask in attentions(model, data)
    )


PASSES = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(inhibition, intensity, energy, task_relevance_mi, information_flow_mi),
        *(gradient_norm, gradient_fisher, gradient_taylor),
        *(weight_norm, weight_entropy, attention_weight, attention_entropy),
    )
}
