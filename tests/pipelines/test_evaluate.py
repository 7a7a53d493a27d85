"""The evaluation script as a user runs it, beside figures worked out user by user."""

import json
import shutil

import numpy as np
import pytest

from causerec_tf.data.sequences import open_dataset
from tests import reference
from tests.pipelines import scripts

EVALUATE = "pipelines/evaluate.py"
NAMES = ("recall", "ndcg", "ndcg_hits", "ndcg_target_order", "hr", "mrr")
OF_LISTS = ("coverage", "popularity", "novelty")


def counts_of(dataset):
    return np.bincount(dataset.read("train").items, minlength=dataset.num_items + 1)[1:].tolist()


def users_of(dataset, split):
    """Histories and targets from the definition: the first 80 % of each user, and the distinct rest."""
    rows = [items.tolist() for items in dataset.read(split).rows() if len(items) >= 2]
    cuts = [max(1, len(items) * 8 // 10) for items in rows]
    return [(items[:cut], list(dict.fromkeys(items[cut:]))) for items, cut in zip(rows, cuts, strict=True)]


def figures_of(rank, dataset, users, *, exclude_seen, cutoffs=(10, 20, 50)):
    """The figures of a rule that ranks the whole catalogue for a history, user by user."""
    values, lists = [], []
    for seen, targets in users:
        ranked = rank(seen)
        if exclude_seen:
            ranked, targets = ([item for item in items if item not in seen] for items in (ranked, targets))
            if not targets:
                continue
        lists.append(ranked)
        values.append(
            {
                f"{name}@{k}": value
                for k in cutoffs
                for name, value in reference.ranking_metrics(ranked, targets, k).items()
            }
        )
    figures = {name: np.mean([one[name] for one in values]) for name in values[0]}
    for k in cutoffs:
        of_lists = reference.list_metrics(lists, counts_of(dataset), k)
        figures |= {f"{name}@{k}": value for name, value in of_lists.items()}
    return figures, len(values)


def popular(dataset):
    """POP by the vocabulary's order."""
    return lambda seen: list(range(1, dataset.num_items + 1))


@pytest.mark.parametrize(
    ("split", "flags"), [("validation", []), ("test", []), ("test", ["--exclude_seen"])], ids=str
)
def test_a_record_for_each_split_and_policy(tmp_path, trained, split, flags):
    output = tmp_path / "made" / "record.json"
    per_user = tmp_path / "users.npz"
    files = [f"--output={output}", f"--per_user={per_user}"]
    done = scripts.run(EVALUATE, f"--run={trained.run}", f"--split={split}", *files, *flags)
    assert done.returncode == 0, done.stderr
    record = json.loads(output.read_text(encoding="utf-8"))
    kept = json.loads((trained.run / "metrics.json").read_text(encoding="utf-8"))
    dataset = open_dataset(trained.dataset)
    users = users_of(dataset, split)
    pop, num_users = figures_of(popular(dataset), dataset, users, exclude_seen=bool(flags))
    assert record["pop"] == record["baselines"]["pop"][split] == pytest.approx(pop)
    assert record["protocol"][f"{split}_users"] == num_users
    assert record["protocol"]["exclude_seen"] is bool(flags)
    with np.load(per_user, allow_pickle=False) as of_users:
        means = {name: of_users[name].mean(dtype=np.float64) for name in of_users.files}
        assert all(of_users[name].shape == (num_users,) for name in of_users.files)
    assert set(means) == {f"{name}@{k}" for name in NAMES for k in (10, 20, 50)}
    assert means == pytest.approx({name: record[split][name] for name in means}, abs=1e-6)
    assert set(record[split]) - set(means) == {f"{name}@{k}" for name in OF_LISTS for k in (10, 20, 50)}
    # What training measured on the best epoch, from the model that was kept.
    of_training = kept["test_without_seen"] if flags else kept[split]
    assert {name: record[split][name] for name in of_training} == pytest.approx(of_training, abs=1e-6)
    assert (f"{split}_without_seen" in record) is not bool(flags)
    if not flags:
        left_out, num_left = figures_of(popular(dataset), dataset, users, exclude_seen=True)
        assert record["baselines"]["pop"][f"{split}_without_seen"] == pytest.approx(left_out)
        assert record["protocol"][f"{split}_without_seen_users"] == num_left
        assert record[f"{split}_without_seen"] != pytest.approx(record[split])
        assert "seen items left out" in done.stdout
    if split == "test":
        of_training = kept["baselines"]["pop"]["test_without_seen" if flags else "test"]
        assert record["baselines"]["pop"]["test"] == of_training
    for name in ("system", "recipe", "seed", "split_seed", "dataset", "versions"):
        assert record[name] == kept[name]
    assert f"{split} users" in done.stdout and f"{record[split]['ndcg@50']:.4f}" in done.stdout
    policy = "seen items left out" if flags else "seen items kept"
    assert policy in done.stdout
    assert [path.name for path in output.parent.iterdir()] == ["record.json"]
    groups = record["groups"][split]
    assert groups["head items"]["targets"] + groups["tail items"]["targets"] == sum(
        len([item for item in targets if not (flags and item in seen)]) for seen, targets in users
    )
    assert f"{groups['head items']['figures']['model']['recall@50']:.4f}" in done.stdout


def test_all_baselines_by_one_flag_at_cutoffs_of_ones_own(tmp_path, trained):
    output = tmp_path / "record.json"
    flags = [f"--run={trained.run}", "--cutoffs=15,3", "--baselines", f"--output={output}"]
    done = scripts.run(EVALUATE, *flags)
    assert done.returncode == 0, done.stderr
    record = json.loads(output.read_text(encoding="utf-8"))
    wanted = ["pop", "pop_7d", "own_past", "item_knn", "item_knn_recent", "vsknn", "ease"]
    assert [name for name in record["baselines"] if name != "ials"] == wanted  # its package may be missing
    assert {name.partition("@")[2] for name in record["test"]} == {"3", "15"}
    assert "own_past" not in done.stdout.partition("seen items left out")[2].partition("by group")[0]
    dataset = open_dataset(trained.dataset)
    users = users_of(dataset, "test")
    by_counts = popular(dataset)(None)

    def own_past(seen):
        return reference.own_past(seen, by_counts)

    own, _ = figures_of(own_past, dataset, users, exclude_seen=False, cutoffs=(3, 15))
    assert record["baselines"]["own_past"] == {"test": pytest.approx(own)}
    interactions = np.zeros([len(dataset.read("train")), dataset.num_items])
    for row, items in enumerate(dataset.read("train").rows()):
        interactions[row, items - 1] = 1
    weights = {
        "item_knn": reference.cosines(interactions),
        "ease": reference.ease_weights(interactions, 500.0),
    }
    for name, items_to_items in weights.items():
        for key, exclude_seen in (("test", False), ("test_without_seen", True)):

            def ranked(seen, items_to_items=items_to_items):
                scores = items_to_items[[item - 1 for item in dict.fromkeys(seen)]].sum(axis=0)
                return (np.argsort(-scores, kind="stable") + 1).tolist()

            want, _ = figures_of(ranked, dataset, users, exclude_seen=exclude_seen, cutoffs=(3, 15))
            # Ties and near ties of float32 may change places.
            assert record["baselines"][name][key] == pytest.approx(want, abs=2e-3, rel=1e-2), (name, key)


def test_a_list_of_baselines_and_what_the_data_do_not_allow(tmp_path, trained):
    run, output = f"--run={trained.run}", tmp_path / "record.json"
    done = scripts.run(EVALUATE, run, "--baselines=pop_30d,ease_5", f"--output={output}")
    assert done.returncode == 0, done.stderr
    record = json.loads(output.read_text(encoding="utf-8"))
    assert list(record["baselines"]) == ["pop", "pop_30d", "ease_5"]
    small = "--most_memory=0.00001"
    scripts.assert_refused(
        scripts.run(EVALUATE, run, "--baselines=item_knn,ease", small),
        "--baselines=ease: EASE inverts a matrix of 120 x 120 float32",
        "raise --most_memory",
    )
    done = scripts.run(EVALUATE, run, "--baselines", small)
    assert done.returncode == 0, done.stderr
    assert "note: without ease: EASE inverts a matrix" in done.stdout and "item_knn " in done.stdout


@pytest.mark.long
def test_targets_of_ones_own_with_whole_histories_or_histories_of_ones_own(tmp_path, trained):
    dataset = open_dataset(trained.dataset)
    ids = dataset.item_ids()
    rows = {}  # user -> whole history
    for split in ("train", "validation", "test"):
        users = dataset.read(split)
        rows |= {user: items.tolist() for user, items in zip(users.user_ids, users.rows(), strict=True)}
    chosen = sorted(rows)[::9]
    draw = np.random.default_rng(3)
    wanted = {user: draw.permutation(dataset.num_items)[:4] + 1 for user in chosen}
    lines = [f"{ids[item - 1]},x,{user}" for user in chosen for item in wanted[user]]
    lines += [lines[0], "no item,x," + chosen[0], f"{ids[0]},x,a stranger"]
    file = tmp_path / "week.csv"
    file.write_text("\n".join(["sku,n,customer", *lines]) + "\n", encoding="utf-8")
    columns = ["--user_column=customer", "--item_column=sku"]
    output = tmp_path / "record.json"
    flags = [f"--run={trained.run}", f"--targets={file}", *columns, f"--output={output}"]
    done = scripts.run(EVALUATE, *flags)
    assert done.returncode == 0, done.stderr
    said = f"{len(chosen)} users to measure; left out: 1 users without a history, 1 targets that are no items"
    assert said in done.stdout and "targets users" in done.stdout
    record = json.loads(output.read_text(encoding="utf-8"))
    users = [(rows[user], wanted[user].tolist()) for user in chosen]
    for key, exclude_seen in (("targets", False), ("targets_without_seen", True)):
        pop, count = figures_of(popular(dataset), dataset, users, exclude_seen=exclude_seen)
        assert record["baselines"]["pop"][key] == pytest.approx(pop)
        assert record["protocol"][f"{key}_users"] == count
    assert record["protocol"]["targets"] == "the distinct items in week.csv"
    assert record["groups"]["targets"]["known users"]["users"] == sum(
        user in set(dataset.read("train").user_ids) for user in chosen
    )

    histories = tmp_path / "histories.jsonl"
    mine = [{"user_id": user, "history": [ids[7], "no item", ids[3]]} for user in [*chosen[:5], "a stranger"]]
    histories.write_text("".join(json.dumps(one) + "\n" for one in mine), encoding="utf-8")
    done = scripts.run(EVALUATE, *flags, f"--histories={histories}", "--overwrite", "--baselines=own_past")
    assert done.returncode == 0, done.stderr
    record = json.loads(output.read_text(encoding="utf-8"))
    users = [([8, 4], wanted[user].tolist()) for user in chosen[:5]] + [([8, 4], [1])]

    def own_past(seen):
        return reference.own_past(seen, popular(dataset)(None))

    own, _ = figures_of(own_past, dataset, users, exclude_seen=False)
    assert record["baselines"]["own_past"]["targets"] == pytest.approx(own)
    assert record["protocol"]["history"] == "of histories.jsonl"

    with file.open("a", encoding="utf-8") as more:
        more.write(f"{ids[0]},x,\n")
    line = f"week.csv, line {len(lines) + 2}: column 'customer' is empty"
    scripts.assert_refused(scripts.run(EVALUATE, *flags, "--overwrite"), line)
    done = scripts.run(EVALUATE, *flags, "--overwrite", "--on_bad_row=skip")
    assert done.returncode == 0 and "skipped: 1 with no user id" in done.stdout, done.stderr
    done = scripts.run(EVALUATE, flags[0], flags[1])
    scripts.assert_refused(
        done, "week.csv has no column 'user_id'", "Name yours with --user_column and --item"
    )
    assert "time" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--run"),
        (["--run=r", "--splt=test"], "splt"),
        (["--run=r", "--split=train"], "--split=train"),
        (["--run=r", "--output=there.json"], "there.json exists: choose another --output"),
        (["--run=r", "--per_user=there.json"], "there.json exists: choose another --per_user"),
        (["--run=r", "--disturbed=0.3,2"], "--disturbed=0.3,2: wanted different numbers above 0, at most 1"),
        (["--run=r", "--disturbed=0.3", "--exclude_seen"], "--disturbed with --exclude_seen"),
        (["--run=r", "--disturbed=0.3", "--targets=there.json"], "--disturbed is of the users of a --split"),
        (["--run=r", "--cutoffs=10,0"], "--cutoffs=10,0: wanted different whole numbers above 0"),
        (["--run=r", "--cutoffs=5,5"], "--cutoffs=5,5: wanted different"),
        (["--run=r", "--baselines=pop,knn"], "there is no baseline 'knn': wanted some of pop, pop_7d"),
        (["--run=r", "--most_memory=2"], "--most_memory has no effect without --baselines=ease"),
        (["--run=r", "--histories=there.json"], "--histories has no effect without --targets"),
        (["--run=r", "--targets=there.json", "--split=test"], "Leave it or --split out"),
        (["--run=r", "--targets=none.csv"], "--targets=none.csv is not there, or is no file"),
        (["--run=r"], "is missing: r is not the directory of a run"),
    ],
)
def test_bad_input_ends_with_two_and_leaves_all_as_it_was(tmp_path, flags, message):
    (tmp_path / "there.json").write_text("mine")
    scripts.assert_refused(scripts.run(EVALUATE, *flags, cwd=tmp_path), message)
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]
    assert (tmp_path / "there.json").read_text() == "mine"


@pytest.mark.long
def test_disturbed_histories_are_measured_as_the_script_for_several_runs_does(tmp_path, trained):
    flags = [f"--run={trained.run}", "--split=validation", f"--output={tmp_path / 'record.json'}"]
    done = scripts.run(EVALUATE, *flags, "--disturbed=0.2,0.5")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    several = [f"--runs={trained.run}", "--split=validation", f"--output={tmp_path / 'several'}"]
    assert scripts.run("pipelines/robustness.py", *several, "--rates=0.2,0.5").returncode == 0
    wanted = json.loads((tmp_path / "several" / "robustness.json").read_text(encoding="utf-8"))
    [system] = wanted["systems"].values()
    assert record["disturbed"]["clicks_sha256"] == system["clicks_sha256"]
    for ours, theirs in zip(record["disturbed"]["conditions"], system["conditions"], strict=True):
        assert ours == {name: value for name, value in theirs.items() if name != "change_minus_first"}
        assert f"{ours['values']['recall@50']['mean']:.4f}" in done.stdout


def test_a_run_is_measured_from_another_directory(tmp_path, trained):
    """Its flagfile has relative paths, as the README's commands write them."""
    shutil.copytree(trained.run, tmp_path / "run")
    text = (tmp_path / "run" / "flags.txt").read_text()
    (tmp_path / "run" / "flags.txt").write_text(text.replace(str(trained.dataset), "datasets/world"))
    done = scripts.run(EVALUATE, "--run=run", cwd=tmp_path)
    scripts.assert_refused(done, "is no dataset", "stands in run/flags.txt", "name its place with --dataset")
    done = scripts.run(EVALUATE, "--run=run", f"--dataset={trained.dataset}", "--output=r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = json.loads((trained.run / "metrics.json").read_text(encoding="utf-8"))
    record = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert record["test"] == pytest.approx(kept["test"], abs=1e-6)


@pytest.mark.long
def test_a_run_is_measured_on_its_own_dataset_only(tmp_path, trained):
    """The dataset was prepared again in its place, or is gone, or the best epoch is."""
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    flags = (run / "flags.txt").read_text()
    (run / "flags.txt").write_text(flags.replace(str(trained.dataset), str(tmp_path / "other")))
    arguments = [f"--run={run}", f"--output={tmp_path / 'record.json'}"]
    scripts.assert_refused(scripts.run(EVALUATE, *arguments), "other is no dataset")
    scripts.write_world(tmp_path / "other", split_seed=1)
    scripts.assert_refused(scripts.run(EVALUATE, *arguments), "has fingerprint", "was trained on")

    (run / "flags.txt").write_text(flags)
    shutil.rmtree(run / "best")
    scripts.assert_refused(scripts.run(EVALUATE, *arguments), "has lost the checkpoint of the best epoch")
    assert not (tmp_path / "record.json").exists()
