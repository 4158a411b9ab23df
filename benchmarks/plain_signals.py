"""The twelve signals as a user would write them: one pass over the probe set each, in float32.

The formulas are those of ``sfusion.signals``; how they are computed is not. Every function takes
a BERT classifier and a probe set and returns one number a layer.
"""

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.feature_selection import mutual_info_classif

BATCH = 32


def batches(data, size=BATCH):
    for start in range(0, len(data), size):
        yield data.take(range(start, min(start + size, len(data))))


def hidden_states(model, data):
    """Yield each batch's outputs of all layers, (layers, B, T, H), and the mask of real tokens."""
    with torch.no_grad():
        for batch in batches(data):
            output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True)
            yield torch.stack(output.hidden_states[1:]), batch.attention_mask.bool()


def inhibition(model, data):
    real = [hidden[:, mask] for hidden, mask in hidden_states(model, data)]
    return torch.cat(real, 1).mean((1, 2)).tolist()


def intensity(model, data):
    real = [hidden[:, mask] for hidden, mask in hidden_states(model, data)]
    return torch.cat(real, 1).norm(dim=-1).mean(1).tolist()


def energy(model, data):
    real = [hidden[:, mask] for hidden, mask in hidden_states(model, data)]
    return (torch.cat(real, 1).square().sum((1, 2)) / len(data)).tolist()


def pooled(model, data):
    means = [
        (hidden * mask.unsqueeze(-1)).sum(2) / mask.sum(1, keepdim=True) for hidden, mask in hidden_states(model, data)
    ]
    return torch.cat(means, 1).numpy()


def information(model, data, target):
    values = []
    for layer in pooled(model, data):
        count = min(8, len(layer) - 1, layer.shape[1])
        components = PCA(count, svd_solver="full").fit_transform(layer.astype(float))
        values.append(mutual_info_classif(components, target, random_state=0).mean())
    return values


def task_relevance_mi(model, data):
    return information(model, data, data.labels.numpy())


def information_flow_mi(model, data):
    with torch.no_grad():
        logits = [
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits for batch in batches(data)
        ]
    return information(model, data, torch.cat(logits).argmax(-1).numpy())


def mean_gradients(model, data):
    """Leave the gradient of the mean loss over the probe set in the parameters."""
    model.zero_grad()
    for batch in batches(data):
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        (loss * len(batch) / len(data)).backward()


def gradient_norm(model, data):
    mean_gradients(model, data)
    return [float(sum(p.grad.square().sum() for p in layer.parameters()) ** 0.5) for layer in model.bert.encoder.layer]


def gradient_fisher(model, data):
    """One sample at a time: autograd keeps no gradients of single samples."""
    totals = np.zeros(len(model.bert.encoder.layer))
    for batch in batches(data, 1):
        model.zero_grad()
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss.backward()
        totals += [float(sum(p.grad.square().sum() for p in layer.parameters())) for layer in model.bert.encoder.layer]
    return (totals / len(data)).tolist()


def gradient_taylor(model, data):
    mean_gradients(model, data)
    return [
        abs(float(sum((p.grad * p.detach()).sum() for p in layer.parameters()))) for layer in model.bert.encoder.layer
    ]


def matrices(layer):
    return [p.detach() for p in layer.parameters() if p.dim() == 2]


def weight_norm(model, data):
    flat = [torch.cat([w.flatten() for w in matrices(layer)]) for layer in model.bert.encoder.layer]
    return [float(weights.norm() / len(weights) ** 0.5) for weights in flat]


def weight_entropy(model, data):
    values = []
    for layer in model.bert.encoder.layer:
        weights = torch.cat([w.flatten() for w in matrices(layer)]).clamp(-1, 1).numpy()
        counts, _ = np.histogram(weights, bins=512, range=(-1, 1))
        shares = counts[counts > 0] / counts.sum()
        values.append(float(-(shares * np.log(shares)).sum()))
    return values


def attentions(model, data):
    """Yield each batch's attention of all layers, (layers, B, heads, T, T), and the mask."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the default kernels return no weights
    with torch.no_grad():
        for batch in batches(data):
            output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_attentions=True)
            yield torch.stack(output.attentions), batch.attention_mask
    model.set_attn_implementation(before)


def over_queries(values, mask):
    """Sum (layers, B, heads, T) over real queries; give their number too."""
    return (values * mask[:, None]).sum((1, 2, 3)), int(mask.sum()) * values.shape[2]


def attention_weight(model, data):
    sums = [over_queries(a.amax(-1), mask) for a, mask in attentions(model, data)]
    return (sum(total for total, _ in sums) / sum(count for _, count in sums)).tolist()


def attention_entropy(model, data):
    sums = []
    for attention, mask in attentions(model, data):
        entropy = torch.special.entr(attention).sum(-1)
        most = mask.sum(1).clamp(min=2).log()[:, None, None]
        sums.append(over_queries(entropy / most, mask))
    return (sum(total for total, _ in sums) / sum(count for _, count in sums)).tolist()


PASSES = {
    "inhibition": inhibition,
    "intensity": intensity,
    "energy": energy,
    "task-relevance-mi": task_relevance_mi,
    "information-flow-mi": information_flow_mi,
    "gradient-norm": gradient_norm,
    "gradient-fisher": gradient_fisher,
    "gradient-taylor": gradient_taylor,
    "weight-norm": weight_norm,
    "weight-entropy": weight_entropy,
    "attention-weight": attention_weight,
    "attention-entropy": attention_entropy,
}
