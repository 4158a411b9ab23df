"""What the machine can do, and where a step's and a node's time goes.

Two numbers judge the step: its operations over the machine's matrix rate, and its bytes over the
memory's rate; each as a share of the time that the step takes.

usage: python benchmarks/machine.py    (prints the tables)
"""

import copy
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from joblib import Parallel, delayed
from sfusion.pruning.nodes import Unit, unit_model, unit_task
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sfusion.models.layers import embedding_parameters
from sfusion.pruning import nodes
from sfusion.pruning.searches import compute_node
from sfusion.records.profiles import load_profile
from sfusion.records.store import RecordStore
from sfusion.signals.extraction import extract_signals
from sfusion.training import default_device, fine_tune, fixed_threads, lower, resolve_precision

REPEATS = 5
MATRIX = (1024, 384, 1536)  # 32 sequences of 32 tokens through the model's feed-forward map
STREAM = 2**28  # bytes, far beyond any cache

KINDS = {
    # what a step spends time on: the beginnings of the operators' names
    "matrix products": ("aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm"),
    "optimiser and clipping": ("aten::_fused_adamw_", "aten::_foreach", "aten::linalg_vector"),
    "casts and copies": ("aten::copy_", "aten::cat", "aten::index", "aten::embedding"),
    "softmax, GELU, layer norm": (*("aten::_softmax", "aten::gelu", "aten::native_layer_norm", "aten::_log_softmax"),),
    "additions and other element-wise": ("aten::add", "aten::mul", "aten::div", "aten::sum"),
}


def median_seconds(function, repeats=REPEATS):
    function()  # the first call pays for kernels and memory that later ones reuse
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class Products(TorchDispatchMode):
    """Note every matrix product, with operands of the same shapes and strides."""

    def __init__(self):
        super().__init__()
        self.calls, self.operands = [], {}

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        name = function._schema.name
        if name in KINDS["matrix products"]:
            key = (name, *((a.shape, a.stride()) for a in arguments))
            if key not in self.operands:
                self.operands[key] = [torch.randn_like(a) for a in arguments]
            self.calls.append((function, self.operands[key]))
        return function(*arguments, **(kwargs or {}))

    def run(self):
        for function, operands in self.calls:
            function(*operands)


def matrix_rate(one_step):
    """Measure operations a second of a step's own matrix products, run alone.

    Products of a kind share their operands, so that these are in the cache oftener than in the
    step: the rate is rather too high than too low.
    """
    with Products() as products:
        one_step()
    with FlopCounterMode(display=False) as operations:
        products.run()
    return operations.get_total_flops() / median_seconds(products.run)


def best_product_rate(kind):
    """Measure operations a second of the step's best product, again and again on one pair."""
    rows, inner, columns = MATRIX
    left, right = torch.randn(rows, inner, dtype=kind), torch.randn(inner, columns, dtype=kind)
    count = 20

    def products():
        for _ in range(count):
            left @ right

    return 2 * rows * inner * columns * count / median_seconds(products)


def memory_rate():
    """Measure bytes a second of a copy: as many are read as are written."""
    source = torch.zeros(STREAM, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * STREAM / median_seconds(lambda: target.copy_(source))


class Traffic(TorchDispatchMode):
    """Count the bytes of all operators' arguments and results: what would move without caches."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        result = function(*arguments, **(kwargs or {}))
        if not function.is_view:
            moved = tree_leaves((arguments, kwargs, result))
            self.bytes += sum(t.nbytes for t in moved if isinstance(t, torch.Tensor))
        return result


def setting(quick=False, task="subject", **changes):
    """Give the embedded profile on one unit; few samples where it must be quick."""
    own = load_profile("embedded")
    if quick:
        changes = {"sizes": own.sizes.model_copy(update={"train": 160, "probe": 32}), **changes}
        changes |= {"recovery": own.recovery.model_copy(update={"samples": 64})}
    own = own.model_copy(update={"tasks": (task,), "seeds": (0,), **changes})
    return Unit(own, task, 0), resolve_precision(own.precision, default_device())


def step(quick=False):
    """Hold a fine-tuning step against the machine; the budgets' two ratios among the results."""
    unit, precision = setting(quick)
    task, recipe = unit_task(unit), unit.profile.recovery
    model = unit_model(unit)
    probe = task.train.take(range(unit.profile.sizes.probe))
    low = torch.bfloat16 if precision == "bf16" else torch.float32

    def steps(recipe=recipe):
        fine_tune(copy.deepcopy(model), task.train, recipe, seed=0, precision=precision)

    def one_step():
        steps(recipe.model_copy(update={"samples": recipe.batch_size}))

    with fixed_threads(unit.profile.threads):
        passes = lower(copy.deepcopy(model), precision)
        for parameter in embedding_parameters(passes):
            parameter.requires_grad_(False)

        def forward_backward():
            for start in range(0, len(probe), recipe.batch_size):
                batch = probe.take(range(start, min(start + recipe.batch_size, len(probe))))
                logits = passes(batch.input_ids, batch.attention_mask).logits.float()
                torch.nn.functional.cross_entropy(logits, batch.labels).backward()
                passes.zero_grad()

        base = median_seconds(forward_backward)
        signals = median_seconds(lambda: extract_signals(model, probe, precision=precision))
        seconds = median_seconds(steps, 3)
        with FlopCounterMode(display=False) as operations:
            steps()
        with Traffic() as traffic:
            steps()
        rate, best, stream = matrix_rate(one_step), best_product_rate(low), memory_rate()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            steps()
    spent = {kind: 0.0 for kind in KINDS}
    total = 0.0
    for event in profiler.key_averages():
        own = event.self_cpu_time_total
        total += own
        for kind, names in KINDS.items():
            if event.key.startswith(names):
                spent[kind] += own
                break
    spent["Python, dispatch and the rest"] = total - sum(spent.values())
    return {
        "precision": precision,
        "threads": unit.profile.threads,
        "matrix_gflops_per_second": round(rate / 1e9, 1),
        "best_product_gflops_per_second": round(best / 1e9, 1),
        "memory_gb_per_second": round(stream / 1e9, 1),
        "training_samples_per_second": round(recipe.samples / seconds, 1),
        "share_of_matrix_rate": round(operations.get_total_flops() / seconds / rate, 3),
        "share_of_best_product_rate": round(operations.get_total_flops() / seconds / best, 3),
        "share_of_memory_rate": round(traffic.bytes / seconds / stream, 3),
        "signals_over_forward_backward": round(signals / base, 2),
        "shares_of_time": {kind: round(time / total, 3) for kind, time in spent.items()},
    }


PARTS = {
    # of a node: (object, name of the function)
    "fine-tuning": (nodes, "fine_tune"),
    "evaluation": (nodes, "accuracies"),
    "signals": (nodes, "extract_signals"),
    "reading the parent's weights": (nodes, "_load_weights"),
    "checking the parent's weights": (RecordStore, "get_weights"),
    "writing weights": (RecordStore, "put_weights"),
    "writing the record": (RecordStore, "put"),
}


def node(quick=False):
    """Share the time of a node among its parts: layer 2 removed, the parent's weights cached."""
    unit, _ = setting(quick)
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(part, function):
        def call(*arguments, **kwargs):
            start = time.perf_counter()
            try:
                return function(*arguments, **kwargs)
            finally:
                spent[part] += time.perf_counter() - start

        return call

    with tempfile.TemporaryDirectory() as folder, fixed_threads(unit.profile.threads):
        store = RecordStore(Path(folder))
        short = unit.profile.original.model_copy(update={"samples": 64})
        unit = Unit(unit.profile.model_copy(update={"original": short}), unit.task, unit.seed)
        compute_node(unit, (), store)
        patches = [
            mock.patch.object(owner, name, timed(part, getattr(owner, name))) for part, (owner, name) in PARTS.items()
        ]
        for patch in patches:
            patch.start()
        try:
            start = time.perf_counter()
            compute_node(unit, (2,), store)
            seconds = time.perf_counter() - start
        finally:
            mock.patch.stopall()
    shares = {part: round(value / seconds, 3) for part, value in spent.items()}
    shares["the rest"] = round(1 - sum(shares.values()), 3)
    return {"seconds": round(seconds, 2), "shares_of_time": shares}


def _samples_per_second(quick, threads):
    unit, precision = setting(quick)
    task, recipe = unit_task(unit), unit.profile.recovery
    with fixed_threads(threads):
        seconds = median_seconds(
            lambda: fine_tune(copy.deepcopy(unit_model(unit)), task.train, recipe, seed=0, precision=precision), 3
        )
    return recipe.samples / seconds


def threads(quick=False):
    """Compare two runs of one thread side by side with one run of two threads."""
    apart = Parallel(n_jobs=2)(delayed(_samples_per_second)(quick, 1) for _ in range(2))
    together = _samples_per_second(quick, 2)
    return {
        "two_runs_of_one_thread": round(sum(apart), 1),
        "one_run_of_two_threads": round(together, 1),
        "ratio": round(sum(apart) / together, 2),
    }


def main():
    for title, measured in (("step", step()), ("node", node()), ("threads", threads())):
        shares = measured.pop("shares_of_time", {})
        print(f"\n{title}\n{pd.Series(measured).to_string()}")
        for name, share in sorted(shares.items(), key=lambda item: -item[1]):
            print(f"  {share:6.1%}  {name}")


if __name__ == "__main__":
    main()
