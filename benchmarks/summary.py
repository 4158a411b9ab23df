"""What the bench measured, as Markdown: for the terminal and for benchmarks/README.md."""


def table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def budgets(rows):
    lines = [
        (row["what"], row["measured"], row["budget"], "met" if row["met"] else "MISSED")
        for row in rows
    ]
    yield table(["what", "measured", "budget", ""], lines)


def shares(title, found):
    ordered = sorted(found["shares_of_time"].items(), key=lambda item: -item[1])
    yield table([title, "share"], [(kind, f"{share:.0%}") for kind, share in ordered])


def step(found):
    yield (
        f"A step's operations take {found['share_of_matrix_rate']:.0%} of the rate of its own "
        f"matrix products ({found['share_of_best_product_rate']:.0%} of that of the best of them "
        f"on one pair in the cache), its bytes (of every operator's arguments and results) "
        f"{found['share_of_memory_rate']:.0%} of the memory rate, at {found['threads']} thread in "
        f"{found['precision']}. It trains {found['training_samples_per_second']:.0f} samples a "
        "second."
    )
    yield from shares("of a step's time", found)


def node(found):
    yield from shares("of a node's time", found)


def threads(found):
    yield f"Two runs of one thread train {found['ratio']} times the samples of one run of two."


def sweep(found):
    costs, saved = found["stage_costs"], found["savings"]["times_faster_alone"]
    bf16 = costs["one_process"]["plain"][0] / costs["plain_recovery_with_bf16"]
    yield table(["what saves time, alone (worked out)", "times faster"], saved.items())
    yield (
        f"Against a plain script that takes of every path its own signal alone, the sweep is "
        f"{found['times_faster_than_with_own_signals_alone']} times faster. With `bf16=True` the "
        f"plain script trains {bf16:.2f} times as fast as without."
    )
    curves = found["test_accuracy_by_removed_layers"]
    rows = [
        (name, *(f"{100 * value:.1f}" for value in c.values()))
        for name, c in curves.items()
    ]
    yield table(["test accuracy (%) by removed layers", *curves["plain"]], rows)
    yield (
        f"Over all of these the plain script's mean minus the package's is "
        f"{100 * found['accuracy_plain_less_package']:+.1f} pp; one more seed of the package "
        f"would lie within ±{100 * found['accuracy_seed_noise']:.1f} of its mean (95%)."
    )


def growth(found):
    for what, key, title in (
        ("layers", "times_faster", "times faster"),
        ("strategies", "core_seconds", "core-seconds"),
    ):
        rows = [
            (count, r["nodes"], r["distinct_nodes"], r[key])
            for count, r in found[what].items()
        ]
        yield table([what, "nodes on all paths", "distinct nodes", title], rows)


def memory(found):
    yield (
        f"Of the {found['peak_gib']} GiB at most the largest worker held "
        f"{found['largest_worker_gib']}; {found['workers_started']} workers were started."
    )


def summary(found):
    """Write what was measured as Markdown, section by section."""
    sections = (budgets, step, node, threads, sweep, growth, memory)
    parts = (
        part for s in sections if s.__name__ in found for part in s(found[s.__name__])
    )
    return "\n\n".join(parts)
