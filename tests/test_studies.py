"""The studies beside the pruning study: arithmetic, grids, and a run of each."""

import itertools
import math
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from sfusion import STRATEGIES, load_results, load_task, open_results
from sfusion.compression import budgets
from sfusion.compression.budgets import Budget
from sfusion.errors import SfusionError
from sfusion.experiments.profiles import Profile, load_profile
from sfusion.experiments.results import COMMITTED, RowResults
from sfusion.experiments.store import RecordStore
from sfusion.experiments.study import load_study
from sfusion.pruning import tree as pruning_tree
from sfusion.training import distillation as teaching
from sfusion.training.distillation import NO_LABEL
from sfusion.training.evaluation import predict_logits
from sfusion.training.loop import fine_tune
from studies import (
    alternatives,
    candidates,
    choices,
    distillation,
    doses,
    followed,
    losses,
    makers,
)
from studies import recipe as recipes

KINDS = ("recipe", "distillation", "candidates", "alternatives", "doses", "choices")
PARENT = ["task", "seed", "path", "removed"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_committed_study_agrees_with_itself_and_not_with_a_part(kind):
    study = load_study(kind)
    results = open_results(kind)
    assert study.compare(results, results)["passed"].all()
    for name, compared in study.frames.items():
        frame = results[name]
        assert not frame.duplicated(list(compared.keys)).any()
        part = {**results.frames, name: frame.iloc[1:]}
        lacking = RowResults(part, results.manifest)
        assert not study.compare(lacking, results)["passed"].all()


# --- recipe -------------------------------------------------------------------------


def test_the_committed_recipes_are_those_of_the_profile():
    study = load_study("recipe")
    rows = open_results("recipe")["rows"]
    expected = []
    for unit in itertools.chain(*study.rounds()):
        profile = load_profile(unit.profile)
        depth = {"nine": 6, "base": 12}[unit.profile]
        for path, condition in recipes.measured_paths(unit.stage, depth):
            name = path.name if condition is None else f"{path.name}, {condition}"
            key = {"model": profile.model, "stage": unit.stage, "path": name}
            key |= {"task": unit.task, "seed": unit.seed}
            expected.append({**key, **unit.recipe.model_dump(exclude={"removals"})})
    keys = list(study.frames["rows"].keys)
    found = pd.DataFrame(expected).merge(rows, on=keys)
    assert len(found) == len(rows) == len(expected)


@pytest.fixture
def rule():
    return load_study("recipe").profile.rule


def test_the_rule_chooses_on_the_committed_rows(rule):
    rows = open_results("recipe")["rows"]
    assert recipes.choose_recovery(rows, "minilm-l6", rule) == (2000, 1e-4)
    assert recipes.choose_original_samples(rows, load_profile("nine"), rule) == 24000
    # On twelve layers one seed was tried, and each recovery moves the original further.
    assert recipes.choose_recovery(rows, "mpnet-base", rule) is None
    table = recipes.compare_recoveries(rows, "mpnet-base", rule)
    assert (table["null_change"] > rule.null_change).all()
    assert recipes.choose_original_samples(rows, load_profile("base"), rule) == 8000
    # Slowly, of the chosen one and of its rival.
    for rate, change, left in ((1e-4, -0.17, 70.40), (3e-5, 0.15, 69.65)):
        tried = rows[(rows["samples"] == 2000) & (rows["learning_rate"] == rate)]
        tried = tried[(tried["model"] == "minilm-l6") & (tried["stage"] == "recovery")]
        means = 100 * tried.groupby("path")["validation_accuracy"].mean()
        assert means["x-x-x"] - means[""] == pytest.approx(change, abs=0.01)
        assert means["2-3-1"] == pytest.approx(left, abs=0.01)


def recovery_rows(null, pruned, model="m", rate=1e-4):
    """Invent two seeds of one recovery: the original reaches 80.0."""
    rows = []
    for path, accuracy in {"": 80.0, "x-x": null, "2-1": pruned}.items():
        for seed, change in ((0, -1), (1, 1)):
            row = {"model": model, "stage": "recovery", "samples": 100, "seed": seed}
            row |= {"learning_rate": rate, "path": path}
            rows.append({**row, "validation_accuracy": (accuracy + change) / 100})
    return rows


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ((80.2, 70.0), (79.8, 71.0), 2e-4),
        ((80.2, 70.0), (79.6, 75.0), 1e-4),  # it loses what nothing asked for
        ((80.2, 70.0), (80.4, 75.0), 1e-4),  # so does one that trains on
        ((80.4, 70.0), (79.6, 75.0), None),
    ],
)
def test_a_recovery_that_moves_the_unpruned_model_is_not_chosen(first, second, chosen):
    rule = recipes.Rule(removals={"m": 2}, null_change=0.3, gain=0.3)
    rows = recovery_rows(*first) + recovery_rows(*second, rate=2e-4)
    rows += recovery_rows(80.0, 99.0, model="other", rate=3e-4)
    found = recipes.choose_recovery(pd.DataFrame(rows), "m", rule)
    assert found == (None if chosen is None else (100, chosen))


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ((70.0,), 100),
        ((70.0, 70.2, 75.0), 100),
        ((70.0, 70.4, 70.6), 200),
        ((70.0, 70.4, 71.0), 400),
    ],
)
def test_samples_are_raised_until_that_gains_little(accuracies, chosen):
    rule = recipes.Rule(removals={}, null_change=0.3, gain=0.3)
    profile = tiny.make_profile("m")
    rows = []
    for samples, accuracy in zip((100, 200, 400), accuracies, strict=False):
        recipe = profile.original.model_dump() | {"samples": samples}
        row = {"model": "m", "stage": "original", **recipe}
        rows.append({**row, "validation_accuracy": accuracy / 100})
        # Of other recipes, whatever they reach.
        rows.append({**row, "learning_rate": 1.0, "validation_accuracy": 0.0})
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=0)
    assert recipes.choose_original_samples(shuffled, profile, rule) == chosen


# --- candidates ---------------------------------------------------------------------


def tried_removals(seed):
    """Make the removals of two tasks' parents, with ties and single children."""
    rng = np.random.default_rng(seed)
    parents = {"": (0, 1, 2, 3), "2": (0, 1, 3), "3": (1,)}
    rows = []
    for task in ("t", "u"):
        for path, layers in parents.items():
            for layer in layers:
                row = {"task": task, "seed": 0, "path": path, "layer": layer}
                row |= {"removed": len(path), "a": rng.normal()}
                for name in ("validation_accuracy", "test_accuracy"):
                    row[name] = rng.integers(3) / 2
                row["accuracy_change"] = rng.integers(3) / 2
                row["score"] = rng.integers(3) / 2
                rows.append(row)
    return pd.DataFrame(rows)


def test_regret_is_the_best_child_minus_the_chosen_one():
    for seed in range(20):
        table = tried_removals(seed)
        found = candidates.regrets(table, table["score"])
        chance = candidates.regrets(table, None)
        for key, part in table.groupby(PARENT):
            chosen = part.sort_values(["score", "layer"]).iloc[-1]
            for split in ("validation", "test"):
                scores = part[f"{split}_accuracy"]
                regret = 100 * (scores.max() - chosen[scores.name])
                by_chance = 100 * (scores.max() - scores.mean())
                assert found.loc[key, split] == pytest.approx(regret)
                assert chance.loc[key, split] == pytest.approx(by_chance)


def test_pairs_compare_siblings_that_differ():
    table = tried_removals(1)
    differences, better = candidates._pairs(table, ["a"])
    expected = []
    for _, part in table.groupby(["task", "path"]):
        for one, two in permutations(part.to_dict("records"), 2):
            if one["accuracy_change"] != two["accuracy_change"]:
                ahead = one["accuracy_change"] > two["accuracy_change"]
                expected.append((one["a"] - two["a"], ahead))
    assert sorted(zip(differences[:, 0], better, strict=True)) == sorted(expected)


@pytest.mark.parametrize(
    ("target", "model"),
    [
        ("change", "random-forest"),
        ("siblings", "random-forest"),
        ("scaled", "random-forest"),
        ("depth", "random-forest"),
        ("pairs", "logistic-regression"),
    ],
)
def test_the_best_features_are_found_where_they_are_planted(target, model):
    parts = [tried_removals(seed).assign(seed=seed) for seed in range(80)]
    for part in parts:
        part["accuracy_change"] = part["a"]
        part["validation_accuracy"] = part["a"]
    train = pd.concat(parts[:40], ignore_index=True)
    asked = pd.concat(parts[40:], ignore_index=True)
    candidate = candidates.Candidate(("a",), target, model)
    scores = candidates.fit_candidate(train, candidate)(asked)
    found = candidates.regrets(asked, scores)["validation"].mean()
    chance = candidates.regrets(asked, None)["validation"].mean()
    assert found < 0.1 * chance


def test_intervals_draw_tasks_with_all_of_their_parents():
    index = pd.MultiIndex.from_product([["t", "u"], range(5)], names=["task", "path"])
    values = pd.Series([1.0] * 5 + [3.0] * 5, index)
    found = candidates._with_interval("regret", values)
    assert found == {"regret": 2, "regret_low": 1, "regret_high": 3}


def test_a_strategy_is_followed_as_the_study_took_it():
    results = load_results(COMMITTED / "embedded")
    rows = followed.follow(results, lambda task, seed: STRATEGIES["energy"])
    keys = ["task", "seed", "removed"]
    found = pd.DataFrame(rows).set_index(keys)["path"]
    taken = results.trajectories.query("strategy == 'energy' and removed > 0")
    assert found.to_dict() == taken.set_index(keys)["path"].to_dict()
    assert followed.follow(results, lambda task, seed: None) == []


@pytest.mark.slow
def test_committed_regrets_come_out_again():
    study = load_study("candidates")
    committed = open_results("candidates")["regrets"]
    unit = candidates.CandidateRun("base", "regrets", "removal-loss")
    results = open_results("base")
    table = candidates.removals(results)
    asked = table[table["complete"]]
    found = candidates.regrets(asked, candidates.score_layers(table, unit.name))
    rows = candidates.summarise(unit.name, found, found)
    both = (
        pd.DataFrame(rows)
        .assign(study="base")
        .merge(
            committed,
            on=list(study.frames["regrets"].keys),
            suffixes=("", "_committed"),
        )
    )
    assert len(both) == 4
    for column in study.frames["regrets"].values:
        gap = (both[column] - both[f"{column}_committed"]).abs()
        assert gap.max() < 0.001


# --- distillation: the published losses against their formulas ----------------------


@pytest.fixture
def outputs(make_bert, probe):
    """Outputs of student and teacher on a padded batch, its mask, and numpy copies."""
    batch = probe.take(range(5)).trim()
    assert 0 < batch.attention_mask.double().mean() < 1
    models = make_bert(num_layers=3), make_bert(num_layers=6, seed=3)
    options = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        given = [
            model(batch.input_ids, batch.attention_mask, **options) for model in models
        ]
    arrays = []
    for output in given:
        states = [state.double().numpy() for state in output.hidden_states]
        attention = [weights.double().numpy() for weights in output.attentions]
        arrays.append(SimpleNamespace(states=states, attention=attention))
    return given, batch.attention_mask, arrays


def real_tokens(mask):
    return [tuple(place) for place in mask.nonzero().tolist()]


def slow_hidden(student, teacher, mask):
    errors = [((student[at] - teacher[at]) ** 2).mean() for at in real_tokens(mask)]
    return np.mean(errors)


def slow_cosine(student, teacher, mask):
    distances = []
    for at in real_tokens(mask):
        own, other = student[at], teacher[at]
        distances.append(1 - own @ other / math.sqrt((own @ own) * (other @ other)))
    return np.mean(distances)


def slow_attention(student, teacher, mask, of_scores):
    values = []
    for row, query in real_tokens(mask):
        keys = [key for at, key in real_tokens(mask) if at == row]
        for head in range(student.shape[1]):
            own = student[row, head, query, keys]
            other = teacher[row, head, query, keys]
            if of_scores:
                difference = np.log(own) - np.log(other)
                values.append(np.mean((difference - difference.mean()) ** 2))
            else:
                values.append(sum(other * (np.log(other) - np.log(own))))
    return np.mean(values)


def slow_patient(student, teacher):
    distances = []
    for own, other in ((1, 2), (2, 4)):
        mine, its = student.states[own][:, 0], teacher.states[other][:, 0]
        mine = mine / np.linalg.norm(mine, axis=-1, keepdims=True)
        its = its / np.linalg.norm(its, axis=-1, keepdims=True)
        distances.append(((mine - its) ** 2).sum(-1).mean())
    return np.mean(distances)


def test_terms_compute_the_published_formulas(outputs):
    given, mask, (student, teacher) = outputs
    last = student.states[3], teacher.states[6]
    maps = student.attention[2], teacher.attention[5]
    layerwise = 0.0
    for own, other in ((1, 2), (2, 4), (3, 6)):
        layerwise += slow_hidden(student.states[own], teacher.states[other], mask)
        weights = student.attention[own - 1], teacher.attention[other - 1]
        layerwise += slow_attention(*weights, mask, of_scores=True)
    expected = {
        losses.last_hidden: slow_hidden(*last, mask),
        losses.last_cosine: slow_cosine(*last, mask),
        losses.last_attention: slow_attention(*maps, mask, of_scores=False),
        losses.patient: slow_patient(student, teacher),
        losses.layerwise: layerwise,
    }
    for term, value in expected.items():
        assert value > 0.01
        assert float(term(*given, mask)) == pytest.approx(value, rel=1e-4)


OF_EQUALS = [
    name
    for name, condition in distillation.CONDITIONS.items()
    if condition.recovery is not None  # the others map layers of unequal models
]


@pytest.mark.parametrize("name", OF_EQUALS)
def test_a_teacher_has_nothing_to_teach_itself(name, make_bert, probe):
    condition = distillation.CONDITIONS[name]
    teacher = make_bert(num_layers=6)
    indices = torch.tensor([7, 3, 40])
    logits = predict_logits(teacher, probe)
    batch = probe.take(indices).trim()
    output = teacher(
        batch.input_ids,
        batch.attention_mask,
        output_hidden_states=True,
        output_attentions=True,
    )
    objective = distillation.make_objective(condition, teacher, probe, logits)
    loss = objective(output, batch.labels, indices)
    weight = condition.hard_weight if condition.temperature else 1.0
    expected = weight * torch.nn.functional.cross_entropy(output.logits, batch.labels)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_every_condition_is_committed():
    names = sorted([*distillation.STARTS, *distillation.CONDITIONS])
    units = open_results("distillation")["rows"].groupby(["task", "seed"])
    assert len(units) == 2
    for _, part in units:
        assert sorted(part["condition"]) == names


# --- whole runs, of a tiny model ----------------------------------------------------


@pytest.fixture
def profile(tiny_data, tmp_path, monkeypatch):
    """Let studies read a tiny pruning profile, and compress with tiny budgets."""
    sizes = {"train": 30, "validation": 12, "test": 24, "probe": 12}
    model = tiny.write_model(tmp_path / "model", layers=6)
    profile = tiny.make_profile(model, sizes=sizes, max_length=6)
    for module in (distillation, alternatives, choices, doses, recipes):
        monkeypatch.setattr(module, "load_profile", lambda name: profile)
    monkeypatch.setattr(makers, "BUILD", tmp_path)
    short = {
        stage: Budget(budget.kind, passes=1, least=10, most=40)
        for stage, budget in budgets.BUDGETS.items()
    }
    monkeypatch.setattr(budgets, "BUDGETS", short)
    return profile


@pytest.fixture
def trained(monkeypatch):
    """Count the trainings, by the samples that each has seen."""
    seen = []

    def counted(model, data, recipe, **options):
        seen.append(recipe.samples)
        return fine_tune(model, data, recipe, **options)

    for module in (pruning_tree, distillation, teaching):
        monkeypatch.setattr(module, "fine_tune", counted)
    return seen


def tiny_study(kind, profile_class, study_class, **content):
    """Make a study of the tiny task and seed that the content asks for."""
    asked = profile_class(
        name=kind, description="tiny", study=kind, precision="fp32", **content
    )
    return study_class(asked)


ONE_UNIT = {"profile": "tiny", "tasks": ["agnews"], "seeds": [0]}


def assert_nothing_is_trained_again(study, folder, rows, trained):
    trained.clear()
    again = study.run(folder, quiet=True)["rows"]
    assert trained == []
    pd.testing.assert_frame_equal(again, rows)


def test_every_recipe_is_tried_once(profile, tmp_path, trained):
    trials = [
        {"profile": "tiny", "stage": "recovery", "seeds": [0], "changes": [{}]},
        {"profile": "tiny", "stage": "original", "seeds": [0], "changes": [{}]},
    ]
    study = tiny_study(
        "recipe",
        recipes.RecipeProfile,
        recipes.RecipeStudy,
        tasks=["agnews"],
        trials=trials,
    )
    rows = study.run(tmp_path / "run", quiet=True)["rows"]
    assert list(rows["path"])[:2] == ["", "x"]
    assert len(rows) == 11 + 1
    assert len(trained) == 11  # the original serves both
    assert_nothing_is_trained_again(study, tmp_path / "run", rows, trained)


def test_every_condition_is_trained_once(profile, tmp_path, trained):
    study = tiny_study(
        "distillation",
        distillation.DistillationProfile,
        distillation.DistillationStudy,
        **ONE_UNIT,
        epochs=2,
        learning_rate=0.003,
        low_rate=0.0003,
    )
    found = study.run(tmp_path / "run", quiet=True)["rows"]
    rows = found.set_index("condition")
    assert set(rows.index) == {*distillation.STARTS, *distillation.CONDITIONS}
    # The original and four recoveries; a run per condition, TinyBERT's two, three
    # recoveries that the teacher joins.
    assert len(trained) == 5 + len(distillation.CONDITIONS) + 1 + 3
    half = rows[(rows["layers_left"] == 3) & (rows.index != "pruned")]
    assert set(half["samples"]) == {2 * 30 + 3 * 16}
    assert rows.loc["KD T=2 + later text", "texts"] > 30 == rows.loc["KD T=2", "texts"]
    assert_nothing_is_trained_again(study, tmp_path / "run", found, trained)


def test_every_way_of_spending_a_total_sees_as_many_samples(profile, tmp_path, trained):
    study = tiny_study(
        "doses",
        doses.DosesProfile,
        doses.DosesStudy,
        **ONE_UNIT,
        original=profile.original,
        recovery=profile.recovery,
        removals=3,
        totals=[39],
    )
    rows = study.run(tmp_path / "run", quiet=True)["rows"]
    assert list(rows["way"]) == [doses.ORIGINAL_MODEL, *doses.WAYS]
    assert list(rows["total"]) == [0, 39, 39, 39, 39, 39]
    original, *spent = trained
    assert original == profile.original.samples
    # Three recoveries; one; the control; the distillation alone; a recovery and one.
    assert spent == [13, 13, 13, 39, 39, 39, 9, 30]
    assert_nothing_is_trained_again(study, tmp_path / "run", rows, trained)


def test_strategies_that_chose_the_same_layers_share_their_model(
    profile, tmp_path, trained, monkeypatch
):
    chosen = {"top-first": "5-4-3", "alternate": "3-4-5", "removal-loss": "1-2-3"}
    rows = [
        {"task": "agnews", "seed": 0, "strategy": name, "removed": 3, "path": path}
        for name, path in chosen.items()
    ]
    results = SimpleNamespace(trajectories=pd.DataFrame(rows))
    monkeypatch.setattr(choices, "open_results", lambda name: results)
    study = tiny_study(
        "choices",
        choices.ChoicesProfile,
        choices.ChoicesStudy,
        **ONE_UNIT,
        original=profile.original,
        recovery=profile.recovery,
        removals=3,
        strategies=list(chosen),
    )
    found = study.run(tmp_path / "run", quiet=True)["rows"]
    # The original; a recovery and a distillation of each of two sets.
    assert len(trained) == 1 + 2 * 2
    kept = found.set_index(["strategy", "stage"])["kept"]
    assert kept["top-first", "distilled"] == kept["alternate", "recovered"] == "0-1-2"
    assert kept["removal-loss", "distilled"] == "0-4-5"
    accuracies = found.set_index(["strategy", "stage"])["test_accuracy"]
    assert accuracies["top-first"].equals(accuracies["alternate"])


def test_a_lookup_table_chooses_by_the_other_tasks_of_the_same_seed(monkeypatch):
    best = {("agnews", 0): "3-2", ("imdb", 0): "3-1", ("yelp", 0): "3-1"}
    best |= {(task, 1): "2-1" for task in ("agnews", "imdb", "yelp")}
    rows = []
    for (task, seed), favourite in best.items():
        for size, gone in itertools.product((1, 2, 3), range(2**4)):
            layers = [layer for layer in (3, 2, 1, 0) if gone >> layer & 1]
            if len(layers) == size:
                path = "-".join(map(str, layers))
                accuracy = 0.9 if path == favourite else 0.5
                rows.append((task, seed, path, accuracy))
    columns = ["task", "seed", "path", "validation_accuracy"]
    results = SimpleNamespace(nodes=pd.DataFrame(rows, columns=columns), depth=4)
    monkeypatch.setattr(choices, "open_results", lambda name: results)
    changes = {"strategies": ("one-shot-lookup",), "tasks": ("agnews",), "removals": 2}
    asked = load_study("choices").profile.model_copy(update=changes)
    for seed, removed in ((0, (1, 3)), (1, (1, 2))):
        study = choices.ChoicesStudy(asked.model_copy(update={"seeds": (seed,)}))
        _, [choice] = study.rounds()
        assert choice.removed == removed


def test_a_choice_that_the_records_lack_is_refused(monkeypatch):
    asked = load_study("choices").profile.model_copy(update={"strategies": ("ours",)})
    with pytest.raises(SfusionError, match="which layers ours removes on newsgroup"):
        choices.ChoicesStudy(asked).rounds()


def test_later_texts_are_what_follows_in_the_training_texts(profile):
    task = load_task(
        "agnews", sizes=(30, 12, 24), max_length=6, tokenizer=profile.model
    )
    later = distillation.later_texts(profile.model, task.texts["train"], 6)
    assert 0 < len(later) <= len(task.train)
    assert (later.labels == NO_LABEL).all()
    assert (later.attention_mask.sum(1) >= 3).all()


def text_lengths(texts):
    return [[len(text), text.count(" ")] for text in texts]


@pytest.fixture
def alternatives_study(profile, monkeypatch):
    asked = {"model": profile.model, "tasks": ["agnews"], "seeds": [0]}
    monkeypatch.setattr(
        makers,
        "static_embeddings",
        lambda name: SimpleNamespace(encode=text_lengths),
    )
    monkeypatch.setattr(makers, "exported", lambda tree, made: {})
    return tiny_study(
        "alternatives",
        alternatives.AlternativesProfile,
        alternatives.AlternativesStudy,
        profile="tiny",
        accuracy=[{**asked, "depths": [4, 3]}],
        defaults=[{**asked, "depths": [3]}],
        unlabelled=[{**asked, "labelled": 10}],
        speed_task="agnews",
    )


def measure_frame(study, name, store):
    judged, timed = study.rounds()
    assert timed == [alternatives.SPEED]
    (unit,) = [unit for unit in judged if unit.frame == name]
    return pd.DataFrame(study.measure(unit, store)[name])


def test_alternatives_are_made_once_and_judged_on_the_same_texts(
    alternatives_study, tmp_path, monkeypatch
):
    store = RecordStore(tmp_path / "store")
    rows = measure_frame(alternatives_study, "accuracy", store)
    table = rows.set_index(["alternative", "layers"])
    assert table.index.is_unique
    assert len(table) == 2 + 2 + len(alternatives.RANKINGS) + 4
    assert table["path"]["compress", 3].count("+") == 2
    assert table["path"]["compress, random-forest", 3].count("-") == 2
    assert table["path"]["student of every second layer", 3] == "0+2+4"
    monkeypatch.delattr(torch.Tensor, "backward")
    again = measure_frame(alternatives_study, "accuracy", store)
    pd.testing.assert_frame_equal(again, rows)


def test_defaults_and_texts_without_labels_are_compared(alternatives_study, tmp_path):
    store = RecordStore(tmp_path / "store")
    defaults = measure_frame(alternatives_study, "defaults", store)
    assert len(defaults) == 3
    rows = measure_frame(alternatives_study, "unlabelled", store)
    assert rows["test_accuracy"].between(0, 1).all()
    counts = rows[["texts", "samples"]].to_numpy().tolist()
    assert counts == [[0, 0], [0, 10], [0, 30], [20, 30]]


def test_every_alternative_was_judged_on_every_task_and_timed():
    results = open_results("alternatives")
    study = load_study("alternatives")
    for asked in study.profile.accuracy:
        rows = results["accuracy"].query("model == @asked.model")
        cells = rows.groupby(["alternative", "layers", "format"])["task"]
        for _, tasks in cells:
            assert sorted(tasks) == sorted(asked.tasks)
        assert not set(asked.without) & set(rows["alternative"])
    kinds = results["speed"][["model", "layers", "format"]].drop_duplicates()
    assert len(results["accuracy"].merge(kinds)) == len(results["accuracy"])


def test_profiles_of_pruning_studies_are_no_row_studies():
    assert isinstance(load_profile("nine"), Profile)
