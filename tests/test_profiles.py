"""Profiles: those that ship load, and every mistake in a file is one line that names it."""

import pytest
import tiny
import yaml
from pydantic import ValidationError

from sfusion import SfusionError, load_profile
from sfusion.records.profiles import PROFILES, Profile, Recipe

SHIPPED = sorted(file.stem for file in PROFILES.glob("*.yaml"))
NINE = ["newsgroup", "dbpedia", "arxiv", "patent", "yahoo", "yelp", "agnews", "imdb", "amazon"]


@pytest.fixture
def content():
    return yaml.safe_load((PROFILES / "smoke.yaml").read_text())


@pytest.fixture
def load(tmp_path):
    def load(content):
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        file = tmp_path / "mine.yaml"
        file.write_text(text, encoding="utf-8")
        return load_profile(file)

    return load


def _refused(load, content):
    with pytest.raises(SfusionError) as error:
        load(content)
    message = tiny.one_line(error)
    assert "mine.yaml" in message
    return message


def test_the_profiles_ship():
    assert SHIPPED == ["embedded", "nine", "nine-deep", "nine-long", "paper", "smoke"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile == load_profile(PROFILES / f"{name}.yaml")
    hash(profile)  # samples and models are cached by it


@pytest.mark.parametrize("name", ["nine", "paper"])
def test_the_papers_datasets_are_all_nine(name):
    assert sorted(load_profile(name).tasks) == sorted(NINE)


@pytest.mark.parametrize("name", ["nine-deep", "nine-long"])
def test_a_side_study_differs_from_the_nine_in_one_thing(name):
    nine, side = load_profile("nine").model_dump(), load_profile(name).model_dump()
    assert set(side["tasks"]) < set(nine["tasks"])
    differing = {key for key in nine if nine[key] != side[key]} - {"seeds"}
    expected = {"nine-deep": "model", "nine-long": "max_length"}[name]
    # What is searched and distilled is chosen to what it costs.
    assert differing == {expected, "name", "description", "tasks", "subsets", "distillation"}


def test_the_papers_setting():
    profile = load_profile("paper")
    assert profile.model == "google-bert/bert-base-uncased"
    assert profile.max_length == 32
    # Twelve layers: every depth at which one is left is distilled.
    assert profile.distillation.removals == tuple(range(1, 12))


@pytest.mark.parametrize("name", ["smoke", "embedded"])
def test_profiles_for_a_fresh_machine_need_no_network(name):
    profile = load_profile(name)
    assert (profile.model, profile.source) == ("minilm-l6", "embedded")


def test_every_shipped_task_is_known():
    from sfusion.data.tasks import TASKS

    assert {task for name in SHIPPED for task in load_profile(name).tasks} <= set(TASKS)


def test_a_file_of_ones_own_is_named_after_itself(load, content):
    profile = load({**content, "seeds": [3, 4], "sizes": {**content["sizes"], "train": None}})
    assert (profile.name, profile.seeds, profile.sizes.train) == ("mine", (3, 4), None)


def test_defaults_are_those_of_the_declaration(load, content):
    content["recovery"] = {"samples": 7}
    assert load(content).recovery == Recipe(samples=7)


def test_a_profile_cannot_be_changed(load, content):
    with pytest.raises(ValidationError, match="frozen"):
        load(content).threads = 4


@pytest.mark.parametrize("name", ["nope", "", "smoke.yml", "../smoke", "no/such/file.yaml"])
def test_an_unknown_name_is_one_line_with_the_known_ones(name):
    with pytest.raises(SfusionError) as error:
        load_profile(name)
    message = tiny.one_line(error)
    assert repr(name) in message
    assert all(known in message for known in SHIPPED)


@pytest.mark.parametrize(
    "key, value",
    [
        ("threads", "two"),
        ("threads", 1.5),
        ("threads", True),
        ("threads", 0),
        ("max_length", -1),
        ("seeds", []),
        ("seeds", 3),
        ("seeds", ["one"]),
        ("tasks", []),
        ("tasks", "agnews"),
        ("model", 5),
        ("precision", "fp16"),
        ("source", "web"),
        ("random_orders", -1),
        ("original", 5),
        ("subsets", ["agnew"]),
    ],
)
def test_a_wrong_value_is_named(key, value, load, content):
    message = _refused(load, {**content, key: value})
    assert key in message
    assert repr(value[0] if value == ["one"] else value) in message


@pytest.mark.parametrize(
    "room, key, value",
    [
        ("original", "samples", 0),
        ("original", "learning_rate", "2e-5"),  # YAML 1.1 reads 2e-5 as text
        ("recovery", "warmup", 1.2),
        ("recovery", "dropout", "yes"),
        ("recovery", "weight_decay", -0.1),
        ("distillation", "temperature", 0),
        ("distillation", "hard_weight", 1.5),
        ("distillation", "removals", [0]),
        ("sizes", "probe", None),
        ("sizes", "train", 0),
    ],
)
def test_a_wrong_value_inside_is_named_with_its_room(room, key, value, load, content):
    message = _refused(load, {**content, room: {**content[room], key: value}})
    assert f"{room}.{key}" in message


@pytest.mark.parametrize("room", [None, "original", "sizes", "distillation"])
def test_an_unknown_key_is_named(room, load, content):
    (content if room is None else content[room])["tempo"] = 3
    assert "tempo" in _refused(load, content)


def test_a_missing_key_is_named_without_the_rest_of_the_file(load, content):
    del content["recovery"]
    message = _refused(load, content)
    assert "recovery" in message
    assert len(message) < 200


@pytest.mark.parametrize("key, value", [("seeds", [0, 1, 0]), ("tasks", ["imdb", "imdb"])])
def test_what_is_listed_twice_is_refused(key, value, load, content):
    assert key in _refused(load, {**content, key: value})


def test_a_name_inside_the_file_is_refused(load, content):
    assert "name" in _refused(load, {**content, "name": "other"})


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "a: [1\nb: 2", "\tkey: 1", "5: 6"])
def test_what_is_no_yaml_of_keys_and_values_is_one_line(text, load):
    _refused(load, text)


def test_a_binary_file_is_one_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SfusionError) as error:
        load_profile(file)
    assert "mine.yaml" in tiny.one_line(error)


def test_yaml_cannot_run_code(load):
    _refused(load, "!!python/object/apply:os.system ['true']")


def test_two_profiles_with_the_same_values_are_one_key(load, content):
    one, same, other = load(content), load(content), load({**content, "seeds": [1]})
    assert isinstance(one, Profile)
    assert len({one, same, other}) == 2
