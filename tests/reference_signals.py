"""The measures written out slowly and plainly: the judge of ``sfusion.signals``.

Everything here follows the declared formulas word for word in float64, with loops over
layers, samples, heads and tokens, a backward pass a sample, and an information
estimator that goes from sample to sample. It shares no code with the package.
"""

import copy
import math

import numpy as np
import pandas as pd
import torch
from scipy.special import digamma

GROUPS = {
    "activation": ["inhibition", "intensity", "energy"],
    "mutual information": ["task-relevance-mi", "information-flow-mi"],
    "gradient": ["gradient-norm", "gradient-fisher", "gradient-taylor"],
    "weight": ["weight-norm", "weight-entropy"],
    "attention": ["attention-weight", "attention-entropy"],
    "redundancy": ["block-influence", "angular-distance", "removal-loss"],
}


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
        ``psi(n) + mean(psi(k_i) - psi(n_class(i)) - psi(m_i))``, not below 0. Around i
        lies a closed ball that reaches to its k-th neighbour of the same class; k_i
        counts the others of the class in the ball (k unless distances tie), m_i the
        others of any class.
    """
    kept = np.array([(y == label).sum() > 1 for label in y])
    x, y = x[kept], y[kept]
    terms = []
    for value, label in zip(x, y, strict=True):
        distances = abs(x - value)
        within = np.sort(distances[y == label])  # the first of them is the sample's own
        radius = within[min(k, len(within) - 1)]
        same, near = (within <= radius).sum() - 1, (distances <= radius).sum() - 1
        terms.append(digamma(same) - digamma(len(within)) - digamma(near))
    return max(0.0, digamma(len(x)) + np.mean(terms)) if terms else 0.0


def mean_component_mi(pooled, target):
    """Average over principal components the information with `target`, in nats."""
    n, hidden = pooled.shape
    centred = pooled - pooled.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][: min(8, n - 1, hidden)]
    return np.mean([ross_mi(centred @ direction, target) for direction in directions])


def _one_pass(model, layers, data, row):
    """Forward and backward of one sample on its own, without the padding at its end."""
    mask = data.attention_mask[row]
    tokens = mask.nonzero().flatten().tolist()
    ids, mask = (
        data.input_ids[row][None, : tokens[-1] + 1],
        mask[None, : tokens[-1] + 1],
    )
    out = model(
        input_ids=ids,
        attention_mask=mask,
        output_hidden_states=True,
        output_attentions=True,
    )
    loss = torch.nn.functional.cross_entropy(out.logits, data.labels[row : row + 1])
    gradients = [
        torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
        for layer in layers
    ]
    return {
        "tokens": tokens,
        "hidden": [state[0].detach().numpy() for state in out.hidden_states],
        "attention": [weights[0].detach().numpy() for weights in out.attentions],
        "gradient": [
            np.concatenate([g.numpy().ravel() for g in each]) for each in gradients
        ],
        "predicted": int(out.logits[0].argmax()),
    }


def reference_signals(model, data):
    """Compute all measures of a BERT classifier, one sample at a time in float64.

    Parameters
    ----------
    model : BertForSequenceClassification
        Left alone: a float64 copy with eager attention, in eval mode, does the work.
    data : Encoded
        The probe set.

    Returns
    -------
    DataFrame
        A row per layer, a column per measure of ``GROUPS``.
    """
    model = copy.deepcopy(model).double().eval()
    model.set_attn_implementation("eager")
    model.requires_grad_(True)
    layers = list(model.bert.encoder.layer)
    passes = [_one_pass(model, layers, data, row) for row in range(len(data))]
    rows = [_layer_row(model, index, passes, data) for index in range(len(layers))]
    return pd.DataFrame(rows).rename_axis("layer")


def _loss_without(model, index, data):
    """Rebuild the model without a layer; read the labels' probabilities one by one."""
    model = copy.deepcopy(model)
    del model.bert.encoder.layer[index]
    model.config.num_hidden_layers -= 1
    total = 0.0
    for ids, mask, label in zip(
        data.input_ids, data.attention_mask, data.labels.tolist(), strict=True
    ):
        last = int(mask.nonzero().max()) + 1
        with torch.no_grad():
            logits = (
                model(input_ids=ids[None, :last], attention_mask=mask[None, :last])
                .logits[0]
                .numpy()
            )
        total -= logits[label] - math.log(np.exp(logits).sum())
    return total / len(data)


def _layer_row(model, index, passes, data):
    layer = model.bert.encoder.layer[index]
    vectors, pooled, cosines, angles, largest, spread = [], [], [], [], [], []
    for one in passes:
        before, after = (
            one["hidden"][depth][one["tokens"]] for depth in (index, index + 1)
        )
        vectors += list(after)
        pooled.append(after.mean(axis=0))
        cosines += [
            a @ b / math.sqrt((a @ a) * (b @ b))
            for a, b in zip(before, after, strict=True)
        ]
        angles.append(math.acos(cosines[-len(after)]) / math.pi)
        for head in one["attention"][index]:
            for query in one["tokens"]:
                weights = head[query, one["tokens"]]
                largest.append(weights.max())
                spread.append(
                    -sum(a * math.log(a) for a in weights if a > 0)
                    / math.log(len(weights))
                )

    norms = np.array([math.sqrt(vector @ vector) for vector in vectors])
    gradients = [one["gradient"][index] for one in passes]
    mean_gradient = sum(gradients) / len(passes)
    theta = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])
    matrices = np.concatenate(
        [p.detach().numpy().ravel() for p in layer.parameters() if p.dim() == 2]
    )
    counts, _ = np.histogram(np.clip(matrices, -1, 1), bins=512, range=(-1, 1))
    shares = counts[counts > 0] / matrices.size
    predicted = np.array([one["predicted"] for one in passes])
    return {
        "inhibition": np.mean(vectors),
        "intensity": np.mean(norms),
        "energy": (norms**2).sum() / len(passes),
        "task-relevance-mi": mean_component_mi(np.array(pooled), data.labels.numpy()),
        "information-flow-mi": mean_component_mi(np.array(pooled), predicted),
        "gradient-norm": math.sqrt(mean_gradient @ mean_gradient),
        "gradient-fisher": np.mean([g @ g for g in gradients]),
        "gradient-taylor": abs(mean_gradient @ theta),
        "weight-norm": math.sqrt(np.mean(matrices**2)),
        "weight-entropy": -(shares * np.log(shares)).sum(),
        "attention-weight": np.mean(largest),
        "attention-entropy": np.mean(spread),
        "block-influence": 1 - np.mean(cosines),
        "angular-distance": np.mean(angles),
        "removal-loss": _loss_without(model, index, data),
    }
