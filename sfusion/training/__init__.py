"""One training loop for fine-tuning, recovery after a removal and distillation; evaluation."""

import contextlib
import hashlib
import math

import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional
from transformers import get_linear_schedule_with_warmup

from sfusion import SfusionError
from sfusion.models.layers import copy_model, embedding_parameters, head_parameters, remove_layers

CLIP_NORM = 1.0
TOKENS_A_BATCH = {"cpu": 4096, "cuda": 65536}  # in evaluation
NO_LABEL = -100  # of a sample that a teacher alone explains; torch's own number for that


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
        For ``"auto"``: bfloat16 where the processor multiplies in it (CUDA from Ampere on; on a CPU
        AMX or AVX512-BF16, where a step takes about half as long as in float32), else float32.

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
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])[:samples]


def distillation_loss(logits, teacher_logits, labels, temperature, hard_weight):
    """Mix the labels' cross-entropy with the teacher's softened distribution.

    ``hard_weight * CE + (1 - hard_weight) * T^2 * KL(teacher / T || student / T)``
    (Hinton et al. 2015, arXiv:1503.02531); without the first term and its weight for a sample
    that has no label.

    Parameters
    ----------
    logits, teacher_logits : Tensor of shape (B, classes)
    labels : Tensor of shape (B,)
        Class numbers, or ``NO_LABEL``.
    temperature, hard_weight : float

    Returns
    -------
    Tensor
        Scalar, mean over the batch.
    """
    student, teacher = (functional.log_softmax(x / temperature, -1) for x in (logits, teacher_logits))
    soft = temperature**2 * functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    hard = functional.cross_entropy(logits, labels, reduction="none", ignore_index=NO_LABEL)
    weight = hard_weight * (labels != NO_LABEL).to(logits.dtype)
    return (weight * hard + (1 - weight) * soft).mean()


def _optimiser(model, parameters, recipe):
    """Make AdamW over parameters of a model, and the schedule of its rates."""
    on_gpu, head = parameters[0].is_cuda, {id(p) for p in head_parameters(model)}
    groups = []
    for above, times in ((False, 1.0), (True, recipe.head_rate)):
        rate = recipe.learning_rate * times
        # A step that a GPU replays reads its rate from the GPU's memory.
        rate = torch.tensor(rate, device=parameters[0].device) if on_gpu else rate
        groups.append({"params": [p for p in parameters if (id(p) in head) == above], "lr": rate})
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=True, capturable=on_gpu)
    steps = -(-recipe.samples // recipe.batch_size)
    return optimiser, get_linear_schedule_with_warmup(optimiser, int(recipe.warmup * steps), steps)


def _replayed(step, batch_size, device, first=3):
    """Let a GPU record a step and replay it: to launch the kernels of a small model takes longer than they do.

    The first steps, which allocate what stays, and one of fewer samples run as they are.
    """
    stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
    held, taken = torch.zeros(batch_size, dtype=torch.long, device=device), 0

    def take(indices):
        nonlocal taken
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            if taken < first or len(indices) < batch_size:
                step(indices)
            else:
                held.copy_(indices)
                if taken == first:
                    graph.capture_begin(capture_error_mode="thread_local")
                    step(held)
                    graph.capture_end()
                graph.replay()
        torch.cuda.current_stream(device).wait_stream(stream)
        taken += 1

    return take


def fine_tune(model, data, recipe, *, seed, precision="fp32", objective=None, on_batch=None):
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
    seed : int
        Fixes the order of samples and the dropout.
    precision : {"fp32", "bf16"}
    objective : callable, optional
        ``(output, labels, indices) -> Tensor``: the loss of a batch from the model's output, the
        batch's labels and the numbers of its samples; by default the labels' cross-entropy.
    on_batch : callable, optional
        Called with the number of samples after every step.

    Returns
    -------
    float
        Mean loss over the samples seen.
    """
    working = cast(model, precision)
    low, device = working is not model, next(working.parameters()).device
    on_gpu = device.type == "cuda"
    objective = objective or (lambda output, labels, _: functional.cross_entropy(output.logits.float(), labels))
    frozen = {id(p) for p in embedding_parameters(working)} if recipe.freeze_embeddings else set()
    for parameter in working.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    pairs = [(m, p) for m, p in zip(model.parameters(), working.parameters(), strict=True) if p.requires_grad]
    masters = [master for master, _ in pairs]
    optimiser, schedule = _optimiser(model, masters, recipe)
    total = torch.zeros((), dtype=torch.float64, device=device)
    order = _sample_order(len(data), recipe.samples, torch.Generator().manual_seed(seed)).to(device)
    data = data.to(device)

    def step(indices):
        """Take one step, in which nothing waits for the device."""
        batch = data.take(indices) if on_gpu else data.take(indices).trim()
        loss = objective(working(batch.input_ids, attention_mask=batch.attention_mask), batch.labels, indices)
        loss.backward()
        if low:  # all in one call, not one per parameter
            used = [(master, p.grad) for master, p in pairs if p.grad is not None]  # by the forward pass
            for master, gradient in used:
                master.grad = torch.empty_like(gradient, dtype=master.dtype)
            torch._foreach_copy_([master.grad for master, _ in used], [gradient for _, gradient in used])
            working.zero_grad()
        torch.nn.utils.clip_grad_norm_(masters, CLIP_NORM)
        optimiser.step()
        optimiser.zero_grad()
        if low:
            with torch.no_grad():
                torch._foreach_copy_([parameter for _, parameter in pairs], masters)
        total.add_(loss.detach().double(), alpha=len(indices))  # read once, at the end

    take = _replayed(step, recipe.batch_size, device) if on_gpu else step
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.manual_seed(seed)
        working.train(recipe.dropout)
        for indices in order.split(recipe.batch_size):
            take(indices)
            schedule.step()
            if on_batch is not None:
                on_batch(len(indices))
    if on_gpu:
        del take
        torch.cuda.empty_cache()  # what a recorded step has held serves no other
    model.requires_grad_(True).eval()
    total = float(total)
    if not math.isfinite(total):
        raise SfusionError(f"training diverged (loss {total}): lower learning_rate {recipe.learning_rate}")
    return total / recipe.samples


def distill(student, teacher, data, recipe, *, seed=0, precision="fp32", on_batch=None):
    """Teach a student with a teacher's softened predictions and the labels.

    Parameters
    ----------
    student : transformers.PreTrainedModel
        Left as it is.
    teacher : transformers.PreTrainedModel, Tensor of shape (N, classes) or None
        A classifier of the same classes, left as it is; or its logits on ``data``, which serve
        many students; or nothing: the control, where the labels alone teach.
    data : Encoded
        N training samples.
    recipe : Distillation
        Steps, temperature and the labels' weight.
    seed, precision, on_batch
        See :func:`fine_tune`.

    Returns
    -------
    transformers.PreTrainedModel
        The taught copy of the student.

    Raises
    ------
    SfusionError
        When the two have different numbers of classes.
    """
    if not (teacher is None or isinstance(teacher, torch.Tensor)):
        own, its = student.config.num_labels, teacher.config.num_labels
        if own != its:
            raise SfusionError(f"student and teacher have {own} and {its} classes: give two models of the same task")
        teacher = predict_logits(cast(teacher, precision), data)

    def objective(output, labels, indices):
        logits = output.logits.float()
        return distillation_loss(logits, teacher[indices], labels, recipe.temperature, recipe.hard_weight)

    taught = remove_layers(student, ())
    teacher = None if teacher is None else teacher.to(next(taught.parameters()).device)
    options = {"seed": seed, "precision": precision, "on_batch": on_batch}
    fine_tune(taught, data, recipe, objective=None if teacher is None else objective, **options)
    return taught


def cast(model, precision):
    """Return a model in the type in which its passes run: a bfloat16 copy, or the model itself."""
    return copy_model(model, torch.bfloat16) if precision == "bf16" else model


def predict_logits(model, data, batch_size=None):
    """Run a classifier over data.

    Texts of like length go through together, without the padding that all of them share.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        In any type, see :func:`cast`.
    data : Encoded
    batch_size : int, optional
        By default as many as make ``TOKENS_A_BATCH``.

    Returns
    -------
    Tensor of shape (N, classes)
        float32, on the CPU.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    batch_size = batch_size or max(1, TOKENS_A_BATCH[device.type] // data.input_ids.shape[1])
    order = data.attention_mask.sum(1).argsort(stable=True)
    logits = torch.empty(len(data), model.config.num_labels)
    with torch.inference_mode():
        for indices in order.split(batch_size):
            batch = data.take(indices).trim()
            output = model(batch.input_ids.to(device), attention_mask=batch.attention_mask.to(device))
            logits[indices] = output.logits.float().cpu()
    model.train(training)
    return logits


def classified(model, data, precision="fp32"):
    """Find the samples whose largest logit is the label's; their share is the accuracy.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    data : Encoded
    precision : {"fp32", "bf16"}

    Returns
    -------
    ndarray of shape (N,)
        Booleans.
    """
    predicted = predict_logits(cast(model, precision), data).argmax(-1)
    return (predicted == data.labels).numpy()


@contextlib.contextmanager
def fixed_threads(count):
    """Fix the threads of torch and of the linear algebra under numpy, and restore them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
