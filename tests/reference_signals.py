"""The 12 signals written out slowly and plainly: the judge of ``sfusion.signals``.

Everything here follows the declared formulas word for word in float64, with loops over layers,
samples, heads and tokens, a backward pass a sample, and an information estimator that compares
every pair of samples. It shares no code with the package.
"""

import copy
import math

import numpy as np
import pandas as pd
import torch
from scipy.special import digamma

COLUMNS = [
    "inhibition",
    "intensity",
    "energy",
    "task-relevance-mi",
    "information-flow-mi",
    "gradient-norm",
    "gradient-fisher",
    "gradient-taylor",
    "weight-norm",
    "weight-entropy",
    "attention-weight",
    "attention-entropy",
]


def ross_mi(x, y, k=3):
    """Information in nats between a continuous and a discrete variable (Ross 2014).

    Parameters
    ----------
    x : ndarray of shape (n,)
        The continuous variable.
    y : ndarray of shape (n,)
        The discrete variable. A class with one sample has no neighbour and is left out.
    k : int
        Neighbours within the class; fewer where the class is smaller.

    Returns
    -------
    float
        ``psi(n) + mean(psi(k_i) - psi(n_class(i)) - psi(m_i))``, not below 0. Around i lies a
        closed ball that reaches to its k-th neighbour of the same class; k_i counts the others
        of the class in the ball (k unless distances tie), m_i the others of any class.
    """
    kept = [i for i in range(len(x)) if sum(y[j] == y[i] for j in range(len(x))) > 1]
    terms = []
    for i in kept:
        within = sorted(abs(x[j] - x[i]) for j in kept if j != i and y[j] == y[i])
        radius = within[min(k, len(within)) - 1]
        same = sum(distance <= radius for distance in within)
        near = sum(abs(x[j] - x[i]) <= radius for j in kept if j != i)
        terms.append(digamma(same) - digamma(len(within) + 1) - digamma(near))
    if not kept:
        return 0.0
    return max(0.0, float(digamma(len(kept)) + np.mean(terms)))


def principal_components(pooled):
    """Scores on the first min(8, n - 1, H) principal components, by SVD; shape (n, k)."""
    n, hidden = pooled.shape
    centred = pooled - pooled.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[: min(8, n - 1, hidden)].T


def mean_component_mi(pooled, target):
    """Mean over the principal components of the information with `target`, in nats."""
    if len(set(target.tolist())) < 2:
        return 0.0
    scores = principal_components(pooled)
    return float(np.mean([ross_mi(scores[:, i], target) for i in range(scores.shape[1])]))


def _one_pass(model, layers, data, row, strip):
    """Forward and backward of one sample on its own, with or without its padding."""
    ids, mask = data.input_ids[row : row + 1], data.attention_mask[row : row + 1]
    if strip:
        real = mask[0].bool()
        ids, mask = ids[:, real], mask[:, real]
    out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
    loss = torch.nn.functional.cross_entropy(out.logits, data.labels[row : row + 1])
    gradients = [torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True) for layer in layers]
    return {
        "tokens": [t for t in range(mask.shape[1]) if mask[0, t] == 1],
        "hidden": [state[0].detach().numpy() for state in out.hidden_states[1:]],
        "attention": [weights[0].detach().numpy() for weights in out.attentions],
        "gradient": [np.concatenate([g.numpy().ravel() for g in each]) for each in gradients],
        "predicted": int(out.logits[0].argmax()),
    }


def reference_signals(model, data, strip=True):
    """Compute the signals table of a BERT classifier, one sample at a time in float64.

    Parameters
    ----------
    model : BertForSequenceClassification
        Left alone: a float64 copy with eager attention, in eval mode, does the work.
    data : Encoded
        The probe set.
    strip : bool
        Drop the padding before the forward pass, so that no mask is involved.

    Returns
    -------
    DataFrame of shape (L, 12)
        A row a layer, a column a signal.
    """
    model = copy.deepcopy(model).double().eval()
    model.set_attn_implementation("eager")
    model.requires_grad_(True)
    layers = list(model.bert.encoder.layer)
    passes = [_one_pass(model, layers, data, row, strip) for row in range(len(data))]
    rows = [_layer_row(layer, index, passes, data) for index, layer in enumerate(layers)]
    return pd.DataFrame(rows, columns=COLUMNS).rename_axis("layer")


def reference_redundancy(model, data):
    """Compute the two redundancy baselines of a BERT classifier, token by token in float64.

    Parameters
    ----------
    model : BertForSequenceClassification
    data : Encoded

    Returns
    -------
    DataFrame of shape (L, 2)
        Columns ``block-influence`` and ``angular-distance``.
    """
    model = copy.deepcopy(model).double().eval()
    depth = len(model.bert.encoder.layer)
    cosines, angles = [[] for _ in range(depth)], [[] for _ in range(depth)]
    for row in range(len(data)):
        real = data.attention_mask[row].bool()
        with torch.no_grad():
            ids = data.input_ids[row, real][None]
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        states = [state[0].numpy() for state in states]
        for index in range(depth):
            for before, after in zip(states[index], states[index + 1], strict=True):
                norms = math.sqrt((before**2).sum()) * math.sqrt((after**2).sum())
                cosines[index].append((before * after).sum() / norms)
            first = cosines[index][-len(ids[0])]
            angles[index].append(math.acos(first) / math.pi)
    return pd.DataFrame(
        {
            "block-influence": [1 - np.mean(values) for values in cosines],
            "angular-distance": [np.mean(values) for values in angles],
        }
    ).rename_axis("layer")


def _layer_row(layer, index, passes, data):
    samples = len(passes)
    units = passes[0]["hidden"][index].shape[1]

    activation, norm, square, tokens = 0.0, 0.0, 0.0, 0
    pooled = np.zeros((samples, units))
    for b, one in enumerate(passes):
        for t in one["tokens"]:
            vector = one["hidden"][index][t]
            activation += vector.sum()
            norm += math.sqrt((vector**2).sum())
            square += (vector**2).sum()
            pooled[b] += vector / len(one["tokens"])
            tokens += 1

    largest, spread, queries = 0.0, 0.0, 0
    for one in passes:
        for head in one["attention"][index]:
            for query in one["tokens"]:
                weights = [head[query, key] for key in one["tokens"]]
                entropy = -sum(a * math.log(a) for a in weights if a > 0)
                largest += max(weights)
                spread += entropy / math.log(len(weights))
                queries += 1

    gradients = [one["gradient"][index] for one in passes]
    mean_gradient = sum(gradients) / samples
    theta = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])
    matrices = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters() if p.dim() == 2])
    counts, _ = np.histogram(np.clip(matrices, -1, 1), bins=512, range=(-1, 1))
    shares = counts[counts > 0] / matrices.size

    return [
        activation / (units * tokens),
        norm / tokens,
        square / samples,
        mean_component_mi(pooled, data.labels.numpy()),
        mean_component_mi(pooled, np.array([one["predicted"] for one in passes])),
        math.sqrt((mean_gradient**2).sum()),
        sum((g**2).sum() for g in gradients) / samples,
        abs((mean_gradient * theta).sum()),
        math.sqrt((matrices**2).sum() / matrices.size),
        -(shares * np.log(shares)).sum(),
        largest / queries,
        spread / queries,
    ]
