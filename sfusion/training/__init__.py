"""One training loop for everything: fine-tuning, recovery after a removal, distillation."""

import hashlib
import math

import torch
from torch.nn import functional
from transformers import get_linear_schedule_with_warmup

from sfusion import SfusionError
from sfusion.models.loading import copy_model, embedding_parameters

CLIP_NORM = 1.0
TOKENS_A_BATCH = 4096  # in evaluation


def derive_seed(*parts):
    """Derive a random seed from what it is for.

    Parameters
    ----------
    *parts : object
        Anything whose ``repr`` is stable: names, integers, tuples of them.

    Returns
    -------
    int
        Below 2**31, the same on every machine.
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


def resolve_precision(precision, device="cpu"):
    """Turn ``"auto"`` into the precision that pays on a device.

    Parameters
    ----------
    precision : {"auto", "fp32", "bf16"}
    device : str or torch.device

    Returns
    -------
    {"fp32", "bf16"}
        For ``"auto"``: bfloat16 where matrix products in it run in hardware (AMX or AVX512-BF16
        on a CPU; CUDA from Ampere on), else float32.

    Raises
    ------
    SfusionError
        For any other name.
    """
    if precision in ("fp32", "bf16"):
        return precision
    if precision != "auto":
        raise SfusionError(f"precision {precision!r} is not known: use auto, fp32 or bf16")
    if torch.device(device).type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        fast = able.get("amx_bf16", False) or able.get("avx512_bf16", False)
    return "bf16" if fast else "fp32"


def default_device():
    """Return ``"cuda"`` where there is a card, else ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _sample_order(count, samples, generator):
    """Draw ``samples`` indices: whole shuffled epochs, the last one cut short."""
    epochs = -(-samples // count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])
    return order[:samples]


def distillation_loss(logits, teacher_logits, labels, temperature, hard_weight):
    """Mix the labels' cross-entropy with the teacher's softened distribution.

    ``hard_weight * CE + (1 - hard_weight) * T^2 * KL(teacher / T || student / T)``
    (Hinton et al. 2015, arXiv:1503.02531).

    Parameters
    ----------
    logits, teacher_logits : Tensor of shape (B, classes)
    labels : Tensor of shape (B,)
    temperature, hard_weight : float

    Returns
    -------
    Tensor
        Scalar, mean over the batch.
    """
    soft = functional.kl_div(
        functional.log_softmax(logits / temperature, -1),
        functional.log_softmax(teacher_logits / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )
    hard = functional.cross_entropy(logits, labels)
    return hard_weight * hard + (1 - hard_weight) * temperature**2 * soft


def fine_tune(model, data, recipe, *, seed, precision="fp32", teacher_logits=None, on_batch=None):
    """Train a classifier in place.

    In bfloat16 the passes run on a working copy while AdamW updates float32 master weights
    (Micikevicius et al. 2018, arXiv:1710.03740): bfloat16 alone would round small updates away.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        float32; trained in place, and left in evaluation mode.
    data : Encoded
        Training samples.
    recipe : Recipe
        A ``Distillation`` where ``teacher_logits`` are given.
    seed : int
        Fixes the order of samples and the dropout.
    precision : {"fp32", "bf16"}
    teacher_logits : Tensor of shape (N, classes), optional
        The teacher's logits on ``data``; without them the labels alone teach.
    on_batch : callable, optional
        Told the number of samples after every step.

    Returns
    -------
    float
        Mean loss over the samples seen.
    """
    working = lower(model, precision)
    low = working is not model
    device = next(working.parameters()).device
    frozen = {id(p) for p in embedding_parameters(working)} if recipe.freeze_embeddings else set()
    working.requires_grad_(True)
    for parameter in working.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    pairs = [
        (master, parameter)
        for master, parameter in zip(model.parameters(), working.parameters(), strict=True)
        if parameter.requires_grad
    ]
    masters = [master for master, _ in pairs]
    optimiser = torch.optim.AdamW(
        masters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    steps = -(-recipe.samples // recipe.batch_size)
    schedule = get_linear_schedule_with_warmup(optimiser, int(recipe.warmup * steps), steps)
    order = _sample_order(len(data), recipe.samples, torch.Generator().manual_seed(seed))
    total = 0.0
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        working.train(recipe.dropout)
        for indices in order.split(recipe.batch_size):
            batch = data.take(indices).trim()
            labels = batch.labels.to(device)
            logits = working(
                batch.input_ids.to(device), attention_mask=batch.attention_mask.to(device)
            ).logits
            if teacher_logits is None:
                loss = functional.cross_entropy(logits.float(), labels)
            else:
                soft = teacher_logits[indices].to(device)
                loss = distillation_loss(
                    logits.float(), soft, labels, recipe.temperature, recipe.hard_weight
                )
            loss.backward()
            if low:
                for master, parameter in pairs:
                    if parameter.grad is not None:  # of one that the forward pass uses
                        master.grad, parameter.grad = parameter.grad.float(), None
            torch.nn.utils.clip_grad_norm_(masters, CLIP_NORM)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            if low:
                with torch.no_grad():
                    torch._foreach_copy_([parameter for _, parameter in pairs], masters)
            total += float(loss.detach()) * len(indices)
            if on_batch is not None:
                on_batch(len(indices))
    model.requires_grad_(True).eval()
    if not math.isfinite(total):
        raise SfusionError(
            f"training diverged (loss {total}): lower learning_rate {recipe.learning_rate}"
        )
    return total / recipe.samples


def lower(model, precision):
    """Give a model in the type in which its passes run.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    precision : {"fp32", "bf16"}

    Returns
    -------
    transformers.PreTrainedModel
        A copy in bfloat16, or the model itself.
    """
    return copy_model(model, torch.bfloat16) if precision == "bf16" else model


def predict_logits(model, data, batch_size=None):
    """Run a classifier over data.

    Texts of like length go through together, without the padding that all of them share.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        In any type, see :func:`lower`.
    data : Encoded
    batch_size : int, optional
        By default as many as make 4,096 tokens.

    Returns
    -------
    Tensor of shape (N, classes)
        float32, on the CPU.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    batch_size = batch_size or max(1, TOKENS_A_BATCH // data.input_ids.shape[1])
    order = data.attention_mask.sum(1).argsort(stable=True)
    logits = torch.empty(len(data), model.config.num_labels)
    with torch.inference_mode():
        for indices in order.split(batch_size):
            batch = data.take(indices).trim()
            output = model(
                batch.input_ids.to(device), attention_mask=batch.attention_mask.to(device)
            )
            logits[indices] = output.logits.float().cpu()
    model.train(training)
    return logits


def accuracies(model, task, precision="fp32"):
    """Evaluate a classifier on the splits it was not trained on.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    task : Task
    precision : {"fp32", "bf16"}

    Returns
    -------
    dict
        ``validation_accuracy`` and ``test_accuracy``: shares of samples whose largest logit is
        the label's.
    """
    working = lower(model, precision)
    return {
        f"{split}_accuracy": float(
            (predict_logits(working, data).argmax(-1) == data.labels).double().mean()
        )
        for split, data in (("validation", task.validation), ("test", task.test))
    }
