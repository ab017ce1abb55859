"""What is written on the command line, and what it means."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from stream_rec.errors import SettingsError
from stream_rec.evaluation.baselines.registry import BASELINES
from stream_rec.evaluation.study.plan import (
    ABLATIONS,
    BASELINE_NAMES,
    ENCODERS,
    StreamSpec,
    parse_methods,
    parse_plan,
    parse_stream,
)


def test_a_stream_may_be_a_file_and_no_more():
    assert parse_stream("logs/ml-100k.u.data") == StreamSpec("ml-100k", Path("logs/ml-100k.u.data"))


def test_a_stream_names_its_items_its_columns_and_how_much_of_it_is_read():
    text = "a/log.csv, items=b/items.csv, repeats, limit=500, name=shop, user_id=visitor, items.item_id=sku"
    text += ", learning.event_weights.view=0"
    spec = parse_stream(text)
    assert spec == StreamSpec(
        name="shop",
        log=Path("a/log.csv"),
        items=Path("b/items.csv"),
        allows_repeats=True,
        limit=500,
        columns={"user_id": "visitor"},
        item_columns={"item_id": "sku"},
        overrides={"learning.event_weights.view": "0"},
    )
    assert parse_stream(spec.text()).text() == spec.text()
    assert "a/" not in spec.text(), "where somebody's files lie is nobody else's business"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no file is named"),
        ("log.csv,limit=0", "limit is 0"),
        ("log.csv,limit=many", "limit is many"),
        ("log.csv,repeats=yes", "repeats takes no value"),
        ("log.csv,rerank,off-policy", "do not go together"),
        ("log.csv,repeats,actions=shelf", "actions belong to off-policy"),
        ("log.csv,items", "'items' is none of FILE"),
        ("log.csv,items=", "'items=' is none of FILE"),
        ("log.csv,limit=1,limit=2", "limit is given twice"),
        ("log.csv,name=../up", "name is '../up'"),
        ("log.csv,items.item_id=sku", "no items=FILE"),
    ],
)
def test_a_stream_that_cannot_be_meant_is_refused(text: str, said: str):
    with pytest.raises(SettingsError, match=said):
        parse_stream(text)


def test_methods_are_baselines_the_model_and_variants_of_it():
    baseline, model, variant = parse_methods(["item-knn", "model", "model[ model.encoder = gru ]"])
    assert (baseline.baseline, baseline.title, baseline.family) == ("item-knn", "item-kNN", "counting")
    assert (model.text, dict(model.overrides), model.family) == ("model", {}, "model")
    assert (variant.text, dict(variant.overrides)) == ("model[model.encoder=gru]", {"model.encoder": "gru"})
    assert variant.title == "model[encoder=gru]"


def test_the_same_settings_are_the_same_method_however_written():
    written = ["model[a.x=1,b.y=2]", "model[b.y=2, a.x=1]", "model", "model[]"]
    assert [method.text for method in parse_methods(written)] == ["model[a.x=1,b.y=2]", "model"]


def test_a_value_may_hold_commas():
    (method,) = parse_methods(["model[state.popularity_half_lives_s=[300,600],model.encoder=mf]"])
    assert dict(method.overrides) == {"state.popularity_half_lives_s": "[300,600]", "model.encoder": "mf"}


def test_groups_are_taken_apart():
    assert [method.text for method in parse_methods(["baselines"])] == list(BASELINE_NAMES)
    assert {"popularity", "item-knn"} <= {method.text for method in parse_methods(["counting"])}
    assert len(parse_methods(["counting", "factorising", "neural", "baselines"])) == len(BASELINE_NAMES)
    encoders = [method.overrides["model.encoder"] for method in parse_methods(["encoders"])]
    assert encoders == list(ENCODERS)
    assert {"gru", "mf", "transformer"} <= set(encoders)
    assert [method.text for method in parse_methods(["ablations"])] == list(ABLATIONS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item-knm", "item-knn.*or a group"),
        ("model[gru]", "'gru' is not of the form"),
        ("model[a=1,a=2]", "a is given twice"),
        ("model[a=1", "is not known"),
    ],
)
def test_a_method_that_cannot_be_meant_is_refused(text: str, said: str):
    with pytest.raises(SettingsError, match=said):
        parse_methods([text])


def test_runs_are_every_stream_with_every_method_and_seed_that_makes_a_difference():
    plan = parse_plan(["a.csv", "b.csv,repeats"], ["popularity", "own-repeats", "isgd", "model"], "3,4,3")
    runs = [[(run.method.text, run.seed) for run in plan.runs(stream)] for stream in plan.streams]
    seeded = [("isgd", 3), ("isgd", 4), ("model", 3), ("model", 4)]
    assert runs == [[("popularity", 3), *seeded], [("popularity", 3), ("own-repeats", 3), *seeded]]


def test_what_is_chosen_among_few_has_its_own_baselines_and_none_that_only_lists():
    plan = parse_plan(["a.csv,rerank", "b.csv,off-policy,actions=shelf"], ["baselines", "model"], "1")
    rerank, off_policy = (
        {run.method.text for run in plan.runs(stream)} & {*BASELINE_NAMES, "model"} for stream in plan.streams
    )
    both = {name for name, kind in BASELINES.items() if kind.family != "neural"} | {"model"}
    assert rerank == both | {"position-only", "price-only"}
    assert off_policy == both | {"uniform"}
    assert [(stream.mode, stream.actions) for stream in plan.streams] == [("rerank", ""), ("off-policy", "shelf")]
    assert all(parse_stream(stream.text()) == stream for stream in plan.streams)


def test_the_readme_names_every_baseline():
    text = (Path(__file__).parents[4] / "README.md").read_text(encoding="utf-8")
    assert [name for name in BASELINE_NAMES if f"`{name}`" not in text] == []


@pytest.mark.parametrize("seeds", ["", ",", "one", "-1", "1.5"])
def test_seeds_are_whole_numbers(seeds: str):
    with pytest.raises(SettingsError, match="whole numbers from 0"):
        parse_plan(["a.csv"], ["model"], seeds)


def test_two_streams_of_one_name_are_refused():
    with pytest.raises(SettingsError, match="two streams are called 'log'"):
        parse_plan(["a/log.csv", "b/log.csv"], ["model"], "1")
    assert len(parse_plan(["a/log.csv", "b/log.csv,name=other"], ["model"], "1").streams) == 2


def test_the_command_makes_the_same_plan_again():
    texts = ["model", "model[model.encoder=gru]", *BASELINE_NAMES]
    plan = parse_plan(["a.csv,items=i.csv,limit=9"], texts, "1,2")
    words = shlex.split(plan.command({"state.max_items": "50"}, Path("etc/worker.toml")).replace("\\\n", " "))
    assert words[:2] == ["stream-rec", "evaluate"]
    given = [(option, value) for option, value in zip(words[2::2], words[3::2], strict=True)]
    assert ("--method", "baselines") in given
    assert ("--config", "worker.toml") in given
    assert ("--set", "state.max_items=50") in given
    again = parse_plan(
        [value for option, value in given if option == "--stream"],
        [value for option, value in given if option == "--method"],
        dict(given)["--seeds"],
    )
    assert again == plan
