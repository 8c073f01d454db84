"""Recipes are checked before any model opens, and what is wrong is named with its nearest match."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from btoks.errors import BtoksError
from btoks.training.data import Set
from btoks.training.recipe import OVERRIDES, Recipe, check, first, opened, shipped
from training import records

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "from btoks.training.recipe import Lora, Recipe\nfrom btoks.training.data import Set\n"


def written(path: Path, body: str) -> str:
    file = path / "mine.py"
    file.write_text(f"{HEAD}def recipe():\n    return {body}\n", encoding="utf-8")
    return str(file)


def test_every_shipped_recipe_is_whole() -> None:
    assert shipped() == ["mini", "mini_captions", "mini_last", "mmeb_v2_qwen2vl_2b", "mmeb_v2_qwen3vl_2b"]
    for name in shipped():
        assert opened(name).name == name


@pytest.mark.parametrize(("name", "total", "steps"), [("2", 52.0, 2000), ("3", 100.0, None)])
def test_the_published_mixtures(name: str, total: float, steps: int | None) -> None:
    recipe = opened(f"mmeb_v2_qwen{name}vl_2b")
    assert len(recipe.sets) == 25
    assert sum(each.weight for each in recipe.sets) == total
    assert (recipe.steps, recipe.batch, recipe.block, recipe.lr, recipe.warmup) == (5000, 1024, 512, 5e-5, 100)
    assert (recipe.weight, recipe.weight_steps, recipe.temperature, recipe.tokens) == (5.0, steps, 0.02, 4)
    sides = {each.name: each.side for each in recipe.sets}
    assert (sides["WebQA"], sides["CIRR"], sides["VisDial"], sides["DocVQA"]) == ("both", "none", "query", "positive")


def test_the_command_line_changes_a_short_fixed_list() -> None:
    assert OVERRIDES == ("steps", "batch", "chunk", "lr", "seed", "save_every")
    assert opened("mini", lr=1e-2, steps=3, batch=None).lr == 1e-2
    assert opened("mini", batch=None).batch == opened("mini").batch
    with pytest.raises(BtoksError, match="'step': there is none; did you mean 'steps'"):
        opened("mini", step=3)


def test_a_chain_of_starts_begins_with_the_model() -> None:
    assert first(opened("mini")).name == "mini_captions"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("Recipe('mine', sets=(), modell='x')", "Recipe field 'modell': there is none; did you mean 'model'"),
        ("Recipe('mine', sets=(), lora=Lora(rnk=3))", "Lora field 'rnk': there is none; did you mean 'rank'"),
        (
            "Recipe('mine', sets=(Set('a', None, wieght=1),))",
            "Set field 'wieght': there is none; did you mean 'weight'",
        ),
        ("3", "recipe.. returned a int"),
    ],
)
def test_a_wrong_field_names_its_nearest_match(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(BtoksError, match=message):
        opened(written(tmp_path, body))


def test_a_recipe_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BtoksError, match="did you mean 'mini'"):
        opened("minni")
    with pytest.raises(BtoksError, match="there is no such file"):
        opened(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(BtoksError, match="it has no function recipe"):
        opened(tmp_path / "empty.py")


def test_an_error_inside_a_recipe_stays_its_own(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        opened(written(tmp_path, "1 + 'a'"))


def _sets(**changed: Any) -> tuple[Set, ...]:
    return (dataclasses.replace(records.SETS[0], **changed),)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch": 0}, "batch=0: not above 0"),
        ({"lr": -1.0}, "lr=-1.0: not above 0"),
        ({"warmup": -1}, "warmup=-1: below 0"),
        ({"batch": 2.5}, "batch=2.5: not a whole number"),
        ({"steps": 0}, "steps=0: not a number of steps"),
        ({"steps": "many"}, "steps='many': not a number of steps"),
        ({"schedule": "liner"}, "did you mean 'linear'"),
        ({"stop": "al"}, "did you mean 'all'"),
        ({"precision": "bf17"}, "did you mean 'bf16'"),
        ({"model": None}, "give it or start, one of the two"),
        ({"start": "mini"}, "give it or start, one of the two"),
        ({"dev_every": 3}, "dev sets and dev_every go together"),
        ({"sets": ()}, "sets=.*: there is none"),
        ({"sets": _sets() + _sets()}, "its name is taken"),
        ({"sets": _sets(side="positiv")}, "side 'positiv' of classes: there is none; did you mean 'positive'"),
        ({"sets": _sets(weight=0.0)}, "weight and frames must be above 0"),
        ({"sets": _sets(name="a.b")}, "a name is a word without dots"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BtoksError, match=message):
        check(dataclasses.replace(records.recipe(tmp_path), **changed))


def test_sound_recipes_pass(tmp_path: Path) -> None:
    check(records.recipe(tmp_path))
    check(records.recipe(tmp_path, steps=None, weight_steps=0))
    assert isinstance(records.recipe(tmp_path), Recipe)
