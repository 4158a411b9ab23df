"""Profiles: those that ship load, and a mistake in a file is one line."""

import pytest
import tiny
import yaml

from sfusion import load_profile
from sfusion.data.tasks import TASKS
from sfusion.experiments.profiles import PROFILES
from sfusion.training.recipes import Recipe

SHIPPED = sorted(file.stem for file in PROFILES.glob("*.yaml"))


@pytest.fixture
def content():
    return yaml.safe_load((PROFILES / "smoke.yaml").read_text())


def _load(folder, content):
    (folder / "mine.yaml").write_bytes(
        content if isinstance(content, bytes) else yaml.safe_dump(content).encode()
    )
    return load_profile(folder / "mine.yaml")


def _refused(folder, content):
    message = tiny.refusal(_load, folder, content)
    assert "mine.yaml" in message
    return message


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads_and_its_tasks_are_known(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile == load_profile(PROFILES / f"{name}.yaml")
    assert set(getattr(profile, "tasks", ())) <= set(TASKS)


def test_the_papers_setting():
    profile = load_profile("paper")
    assert profile.model == "google-bert/bert-base-uncased"
    assert profile.max_length == 32
    assert (
        sorted(profile.tasks) == sorted(load_profile("nine").tasks) == sorted(tiny.NINE)
    )
    # Twelve layers: every depth at which one is left is distilled.
    assert profile.distillation.removals == tuple(range(1, 12))


def test_profiles_for_a_fresh_machine_need_no_network():
    for profile in map(load_profile, ("smoke", "embedded")):
        assert (profile.model, profile.source) == ("minilm-l6", "embedded")


def test_a_file_of_ones_own_is_named_after_itself_and_has_the_declared_defaults(
    tmp_path, content
):
    content |= {
        "seeds": [3, 4],
        "sizes": {**content["sizes"], "train": None},
        "recovery": {"samples": 7},
    }
    profile = _load(tmp_path, content)
    assert (profile.name, profile.seeds, profile.sizes.train) == ("mine", (3, 4), None)
    assert profile.recovery == Recipe(samples=7)


@pytest.mark.parametrize(
    "name", ["nope", "", "smoke.yml", "../smoke", "no/such/file.yaml"]
)
def test_an_unknown_name_is_one_line_with_the_known_ones(name):
    with tiny.refused(repr(name), *SHIPPED):
        load_profile(name)


WRONG = {
    "threads": ["two", 1.5, True, 0],
    "max_length": [-1],
    "seeds": [[], 3, ["one"], [0, 1, 0]],
    "tasks": [[], "agnews", ["imdb", "imdb"]],
    "model": [5],
    "precision": ["fp16"],
    "source": ["web"],
    "random_orders": [-1],
    "original": [5],
    "subsets": [["agnew"]],
    "original.samples": [0],
    "original.learning_rate": ["2e-5"],  # YAML 1.1 reads 2e-5 as text
    "recovery.warmup": [1.2],
    "recovery.dropout": ["yes"],
    "recovery.weight_decay": [-0.1],
    "distillation.temperature": [0],
    "distillation.hard_weight": [1.5],
    "distillation.removals": [[0]],
    "sizes.probe": [None],
    "sizes.train": [0],
    **dict.fromkeys(
        ["tempo", "original.tempo", "sizes.tempo", "distillation.tempo"], [3]
    ),  # no such keys
}


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in WRONG.items() for value in values],
)
def test_a_wrong_value_is_named_with_its_key(key, value, tmp_path, content):
    room, _, inner = key.rpartition(".")
    (content[room] if room else content)[inner] = value
    message = _refused(tmp_path, content)
    assert key in message
    # Of a list, the item that is wrong.
    assert repr(value[0] if value in (["one"], [0]) else value) in message


def test_a_missing_key_is_named_without_the_rest_of_the_file(tmp_path, content):
    del content["recovery"]
    message = _refused(tmp_path, content)
    assert "recovery" in message
    assert len(message) < 200


def test_a_name_inside_the_file_is_refused(tmp_path, content):
    assert "name" in _refused(tmp_path, {**content, "name": "other"})


def test_what_is_no_yaml_of_keys_and_values_is_one_line(tmp_path):
    wrong = (
        b"",
        b"- a\n- b\n",
        b"just words",
        b"a: [1\nb: 2",
        b"\tkey: 1",
        b"5: 6",
        b"\xff\xfe\x00\x80",
    )
    for text in (
        *wrong,
        b"!!python/object/apply:os.system ['true']",
    ):  # no file may run code
        _refused(tmp_path, text)
