"""Recipes: JSON, YAML, identity, prefixes, and the check against the cards."""

import pytest

from paredown.core.candidate import Candidate
from paredown.core.catalog import build, describe, entries
from paredown.core.errors import BadInput
from paredown.core.recipe import Recipe

STEPS = [
    {"part": "train.finetune", "plan": {"epochs": 3}, "loss": {"part": "loss.soften", "temperature": 2.0}},
    {"part": "prune.channels", "ratio": 0.5},
    {"part": "edit.fold_batchnorm"},
    {"part": "quantize.learned_step", "bits": 3, "habits": [{"part": "habit.coded_size", "bytes": 400}]},
]


def test_json_and_yaml_come_back_equal(tmp_path):
    recipe = Recipe.of_json(STEPS)
    assert Recipe.of_json(recipe.to_json()) == recipe
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert Recipe.load(tmp_path / "r.yaml") == recipe
    assert recipe.steps[3].habits[0].bytes == 400 and recipe.steps[0].loss.temperature == 2.0


def test_every_part_describes_and_builds_itself():
    for entry in entries():
        try:
            made = entry.cls()
        except TypeError:
            continue
        assert build(describe(made)) == made
        assert hash(build(describe(made))) == hash(made)


def test_equal_recipes_have_one_id_and_others_another():
    one, two = Recipe.of_json(STEPS), Recipe.of_json(STEPS)
    assert one.id == two.id
    changed = [*STEPS[:3], {**STEPS[3], "bits": 4}]
    assert Recipe.of_json(changed).id != one.id


def test_prefixes_share_ids_up_to_the_first_difference():
    one = Candidate({"model": "dense"}, Recipe.of_json(STEPS), 0, "data")
    two = Candidate({"model": "dense"}, Recipe.of_json([*STEPS[:3], {**STEPS[3], "bits": 4}]), 0, "data")
    assert one.prefix_ids()[:3] == two.prefix_ids()[:3]
    assert one.prefix_ids()[3] != two.prefix_ids()[3]
    for other in (
        Candidate({"model": "mlp"}, one.recipe, 0, "data"),
        Candidate(one.spec, one.recipe, 1, "data"),
        Candidate(one.spec, one.recipe, 0, "d"),
    ):
        assert not set(other.prefix_ids()) & set(one.prefix_ids())
        assert other.id != one.id


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ([{"part": "quantize.uniform"}, {"part": "prune.channels"}], "cannot follow"),
        ([{"part": "quantize.uniform"}, {"part": "train.finetune"}], "cannot follow"),
        ([{"part": "share.kmeans"}, {"part": "quantize.learned_step"}], "cannot follow"),
        ([{"part": "loss.soften"}], "not a step"),
    ],
)
def test_a_forbidden_order_is_refused_before_anything_runs(steps, word):
    with pytest.raises(BadInput, match=word):
        Recipe.of_json(steps).check()


def test_an_allowed_order_says_what_it_leaves():
    assert Recipe.of_json(STEPS).check() >= {"thin", "folded", "quantized"}


@pytest.mark.parametrize(
    "data",
    [3, "quantize.uniform", [3], [{"bits": 4}], [{"part": "x.y"}], [{"part": "quantize.uniform", "plan": {}}],
     [{"part": "train.finetune", "plan": {"epoch": 3}}], [{"part": "train.finetune", "plan": {"epochs": -3}}],
     [{"part": "train.finetune", "loss": 3}] * 0 + [{"part": "quantize.uniform", "bits": True}]],
)  # fmt: skip
def test_malformed_recipes_are_refused(data):
    with pytest.raises(BadInput):
        Recipe.of_json(data)
