"""The published losses against their formulas, and that a benchmark run goes on where it stopped."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from sfusion import load_task, training
from sfusion.records.profiles import ROOT
from sfusion.training import distillation_loss

sys.path.insert(0, str(ROOT / "benchmarks"))

import distillation


@pytest.fixture
def outputs(make_bert, probe):
    """Outputs of a student and a teacher on a padded batch, its mask, and both as numpy arrays."""
    batch = probe.take(range(5)).trim()
    assert 0 < batch.attention_mask.double().mean() < 1
    student, teacher = make_bert(num_layers=3), make_bert(num_layers=6, seed=3)
    with torch.no_grad():
        given = [
            model(batch.input_ids, batch.attention_mask, output_hidden_states=True, output_attentions=True)
            for model in (student, teacher)
        ]
    arrays = [
        {name: [a.double().numpy() for a in output[name]] for name in ("hidden_states", "attentions")}
        for output in given
    ]
    return given, batch.attention_mask, arrays


def real_tokens(mask):
    return [(row, column) for row in range(len(mask)) for column in range(mask.shape[1]) if mask[row, column]]


def hidden(student, teacher, mask):
    return np.mean([((student[at] - teacher[at]) ** 2).mean() for at in real_tokens(mask)])


def cosine(student, teacher, mask):
    pairs = [(student[at], teacher[at]) for at in real_tokens(mask)]
    return np.mean([1 - a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in pairs])


def attention(student, teacher, mask, kind):
    values = []
    for row, query in real_tokens(mask):
        keys = [key for at, key in real_tokens(mask) if at == row]
        for head in range(student.shape[1]):
            own, other = student[row, head, query, keys], teacher[row, head, query, keys]
            if kind == "divergence":
                values.append(sum(other * (np.log(other) - np.log(own))))
            else:
                difference = np.log(own) - np.log(other)
                values.append(np.mean((difference - difference.mean()) ** 2))
    return np.mean(values)


def test_terms_compute_the_published_formulas(outputs):
    given, mask, (student, teacher) = outputs
    states = [(student["hidden_states"][i], teacher["hidden_states"][2 * i]) for i in range(4)]
    maps = [(student["attentions"][i], teacher["attentions"][2 * i + 1]) for i in range(3)]
    unit = [[s[:, 0] / np.linalg.norm(s[:, :1], axis=-1) for s in pair] for pair in states]
    expected = {
        "last_hidden": hidden(*states[3], mask),
        "last_cosine": cosine(*states[3], mask),
        "last_attention": attention(*maps[2], mask, "divergence"),
        "patient": np.mean([((a - b) ** 2).sum(-1).mean() for a, b in unit[1:3]]),
        "layerwise": sum(hidden(*pair, mask) for pair in states[1:])
        + sum(attention(*pair, mask, "scores") for pair in maps),
    }
    for name, value in expected.items():
        assert value > 0.01
        assert float(getattr(distillation, name)(*given, mask)) == pytest.approx(value, rel=1e-4), name


def test_samples_without_a_label_learn_from_the_teacher_alone():
    logits, soft = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    found = distillation.mixed_loss(logits, soft, labels, 4.0, 0.3)
    torch.testing.assert_close(found, distillation_loss(logits, soft, labels, 4.0, 0.3))
    labels[4:] = distillation.NO_LABEL
    parts = [
        distillation_loss(logits[:4], soft[:4], labels[:4], 4.0, 0.3),
        distillation_loss(logits[4:], soft[4:], torch.tensor([0, 0]), 4.0, 0.0),
    ]
    found = distillation.mixed_loss(logits, soft, labels, 4.0, 0.3)
    torch.testing.assert_close(found, (4 * parts[0] + 2 * parts[1]) / 6)


@pytest.mark.parametrize("name", distillation.CONDITIONS)
def test_a_teacher_has_nothing_to_teach_itself(name, make_bert, probe):
    condition = distillation.CONDITIONS[name]
    if condition.recovery is None:
        return  # maps of layers of unequal models
    teacher, indices = make_bert(num_layers=6), torch.tensor([7, 3, 40])
    logits = training.predict_logits(teacher, probe)
    batch = probe.take(indices).trim()
    output = teacher(batch.input_ids, batch.attention_mask, output_hidden_states=True, output_attentions=True)
    loss = distillation.make_objective(condition, teacher, probe, logits)(output, batch.labels, indices)
    weight = condition.hard_weight if condition.temperature else 1.0
    expected = weight * torch.nn.functional.cross_entropy(output.logits, batch.labels)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture
def profile(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "BUILD", tmp_path)
    sizes = {"train": 30, "validation": 12, "test": 24, "probe": 12}
    model = tiny.write_model(tmp_path / "model", layers=6)
    profile = tiny.make_profile(model, sizes=sizes, max_length=6)
    monkeypatch.setattr(distillation, "load_profile", lambda _: profile)
    return profile


def test_every_condition_is_trained_once(profile, tmp_path, monkeypatch):
    trained, original = [], training.fine_tune

    def counted(model, data, recipe, **options):
        trained.append(recipe.samples)
        return original(model, data, recipe, **options)

    monkeypatch.setattr(training, "fine_tune", counted)
    monkeypatch.setattr(distillation, "fine_tune", counted)
    file = tmp_path / "rows.csv"
    arguments = f"script --tasks agnews --seeds 0 --epochs 2 --out {file}".split()
    monkeypatch.setattr(sys, "argv", arguments)
    distillation.main()
    rows = pd.read_csv(file, index_col="condition")
    assert set(rows.index) == {"original", "pruned", "deep", *distillation.CONDITIONS}
    # The original and four recoveries; a run per condition, TinyBERT's two, three recoveries that the teacher joins.
    assert len(trained) == 5 + len(distillation.CONDITIONS) + 1 + 3
    half = rows[(rows["layers_left"] == 3) & (rows.index != "pruned")]
    assert set(half["samples"]) == {2 * 30 + 3 * 16}
    assert rows.loc["KD T=2 + later text", "texts"] > 30
    assert rows.loc["KD T=2", "texts"] == 30
    before, trained[:] = file.read_bytes(), []
    file.unlink()
    distillation.main()
    assert trained == []
    assert file.read_bytes() == before
    # Weights lost and one record too: the models are trained again, once, and the condition.
    for lost in (tmp_path / "distillation" / "store" / "weights").iterdir():
        lost.unlink()
    records = (tmp_path / "distillation" / "store" / "records").rglob("*.json")
    next(record for record in records if "last_cosine" in record.read_text()).unlink()
    distillation.main()
    assert len(trained) == 5 + 1


def test_later_texts_are_what_follows_in_the_training_texts(profile):
    sizes = profile.sizes
    task = load_task(
        "agnews", sizes=(sizes.train, sizes.validation, sizes.test), max_length=6, tokenizer=profile.model
    )
    later = distillation.later_texts(profile, task)
    assert 0 < len(later) <= len(task.train)
    assert (later.labels == distillation.NO_LABEL).all()
    assert (later.attention_mask.sum(1) >= 3).all()
