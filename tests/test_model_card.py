"""What a run tells of itself, of records written by hand."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from causerec_tf.errors import InputError
from causerec_tf.model_card import model_card
from causerec_tf.runs import TrainedRun
from causerec_tf.settings import Settings

DATASET = SimpleNamespace(
    name="shop",
    fingerprint="f" * 64,
    num_items=7,
    protocol={"name": "users"},
    info={"split_seed": 3, "counts": {"users": {"train": 9}}},
)


HEAD = {"seed": 5, "dataset": {"name": "shop", "fingerprint": "f" * 64}}
RECORD = HEAD | {
    "protocol": {
        "exclude_seen": False,
        "test_users": 11,
        "test_without_seen_users": 8,
        "validation_users": 12,
    },
    "epochs": 4,
    "best_epoch": 2,
    "validation": {"recall@50": 0.3},
    "test": {"recall@50": 0.2},
    "test_without_seen": {"recall@50": 0.1},
    "pop": {"recall@50": 0.02},
    "baselines": {"ease": {"test": {"recall@50": 0.21}, "test_without_seen": {"recall@50": 0.11}}},
    "versions": {"tensorflow": "2"},
    "by_epoch": [1, 2],
    "command": "secret",
}


def card(directory, record=RECORD, evaluations=()):
    if record is not None:
        (directory / "metrics.json").write_text(json.dumps(record))
    settings = Settings(seed=5, dataset="/home/a", run="/home/b", max_history=20)
    return model_card(TrainedRun(None, settings, DATASET, record is not None, Path(directory)), evaluations)


def test_each_figure_has_protocol_users_and_baselines(tmp_path):
    made = card(tmp_path)
    common = {"protocol": "users"}
    assert made["figures"] == [
        common
        | {"split": "test", "seen_items": "kept", "users": 11, "model": {"recall@50": 0.2}}
        | {"baselines": {"pop": {"recall@50": 0.02}, "ease": {"recall@50": 0.21}}},
        common
        | {"split": "test", "seen_items": "left out", "users": 8, "model": {"recall@50": 0.1}}
        | {"baselines": {"ease": {"recall@50": 0.11}}},
        common
        | {"split": "validation", "seen_items": "kept", "users": 12, "model": {"recall@50": 0.3}}
        | {"baselines": {}},
    ]
    assert made["dataset"] == {
        "name": "shop",
        "fingerprint": "f" * 64,
        "items": 7,
        "counts": {"users": {"train": 9}},
    }
    assert (made["seed"], made["epochs"], made["best_epoch"], made["is_finished"]) == (5, 4, 2, True)
    assert made["settings"]["max_history"] == 20 and made["protocol"]["name"] == "users"
    written = json.dumps(made)
    assert not [place for place in ("/home/a", "/home/b", "secret") if place in written]
    assert "by_epoch" not in made


def test_an_unfinished_run_has_no_figures_and_one_composed_by_hand_has_parts(tmp_path):
    assert (card(tmp_path, None)["figures"], card(tmp_path, None)["is_finished"]) == ([], False)
    (tmp_path / "parts.txt").write_text("user_tower: Mine()\nitem_tower: Table()\n")
    made = card(tmp_path)
    assert (made["system"], made["parts"]) == ("composed", ["user_tower: Mine()", "item_tower: Table()"])


def test_evaluations_add_figures_and_those_of_another_run_are_refused(tmp_path):
    protocol = {"exclude_seen": True, "test_users": 6}
    record = HEAD | {"protocol": protocol, "test": {"hr@10": 0.5}, "pop": {"hr@10": 0.1}, "baselines": {}}
    figure = card(tmp_path, evaluations=[record])["figures"][-1]
    assert figure == {
        "protocol": "users",
        "split": "test",
        "seen_items": "left out",
        "users": 6,
        "model": {"hr@10": 0.5},
        "baselines": {"pop": {"hr@10": 0.1}},
    }
    with pytest.raises(InputError, match="evaluation 1 has seed 6, the run has 5: wanted a record that"):
        card(tmp_path, evaluations=[record, record | {"seed": 6}])
    with pytest.raises(InputError, match="evaluation 0 has dataset None, the run has ffff"):
        card(tmp_path, evaluations=[{"seed": 5}])
    with pytest.raises(InputError, match="evaluation 0 is no record of"):
        card(tmp_path, evaluations=[[]])
