"""What scripts print of a record."""

from pipelines.command_line import report

METRICS = ("recall", "ndcg", "hr", "mrr", "coverage", "novelty", "popularity")


def figures(*values):
    """Of two cut-offs; a value for each metric at both."""
    return {f"{name}@{k}": value for k in (10, 20) for name, value in zip(METRICS, values, strict=False)}


RECORD = {
    "system": "causerec_item_youtube_dnn",
    "protocol": {"exclude_seen": False, "test_users": 1200, "test_without_seen_users": 30},
    "test": figures(0.5, 0.125, 0.75, 0.25, 0.1, 7.125, 80.25),
    "test_without_seen": figures(0.25, 0.125, 0.5, 0.25, 0.2, 8, 70),
    "pop": figures(0.25, 0.25, 0.75, 0.125, 0.9, 9, 90),
    "baselines": {
        "pop": {"test": figures(0.25, 0.25, 0.75, 0.125, 0.9, 9, 90)},
        "ease": {"test": figures(0.125, 0, 0, 0, 0, 0, 0), "test_without_seen": figures(*[0.3] * 7)},
    },
}


def test_systems_stand_beside_each_other_and_the_best_value_is_marked(capsys):
    report.print_record(RECORD)
    kept, left_out = capsys.readouterr().out.strip().split("\n\n")
    title, heads, *rows = kept.splitlines()
    assert title == "1,200 test users, whole catalogue, seen items kept; * the best"
    assert heads.split() == list(METRICS)
    assert [row.split()[:-3] for row in rows[:3]] == [
        ["@10", "causerec_item_youtube_dnn", "0.5000*", "0.1250", "0.7500*", "0.2500*"],
        ["pop", "0.2500", "0.2500*", "0.7500*", "0.1250"],
        ["ease", "0.1250", "0.0000", "0.0000", "0.0000"],
    ]
    assert [row.split()[-3:] for row in rows[:2]] == [["0.1000", "7.12", "80.2"], ["0.9000", "9.00", "90.0"]]
    assert rows[3].split()[0] == "@20" and len(rows) == 6
    ends = [heads.index(name) + len(name) for name in METRICS]
    assert all(row.replace("*", " ")[end - 1] != " " and row[end - 1] != "*" for row in rows for end in ends)
    assert left_out.startswith("30 test users, whole catalogue, seen items left out; * the best")
    assert [row.split()[0] for row in left_out.splitlines()[2:]] == ["@10", "ease", "@20", "ease"]


def test_a_record_of_an_earlier_version_is_shown_with_what_it_has(capsys):
    old = {name: RECORD[name] for name in ("system", "protocol")}
    old["test"] = old["pop"] = {"recall@20": 0.5, "recall@50": 0.75, "hr@20": 0.25, "hr@50": 0.5}
    report.print_record(old)
    _, heads, first, *_ = capsys.readouterr().out.strip().splitlines()
    assert heads.split() == ["recall", "hr"]
    assert first.split() == ["@20", "causerec_item_youtube_dnn", "0.5000*", "0.2500*"]


def test_groups_stand_below_each_other_with_what_they_mean(capsys):
    group = {"meaning": "at most 5 events", "users": 1234, "targets": 2345}
    of_systems = {"model": {"recall@10": 0.1, "recall@20": 0.5}, "pop": {"recall@10": 0.1, "recall@20": 0.25}}
    groups = {"short histories": group | {"figures": of_systems}}
    report.print_groups(RECORD | {"baselines": {"pop": {"test": {}}}, "groups": {"test": groups}})
    title, heads, row = capsys.readouterr().out.strip().splitlines()
    assert title == "recall@20 by group, 1,200 test users, whole catalogue, seen items kept"
    assert heads.split() == ["users", "targets", "causerec_item_youtube_dnn", "pop"]
    assert row.split(maxsplit=6) == [
        "short",
        "histories",
        "1,234",
        "2,345",
        "0.5000",
        "0.2500",
        "at most 5 events",
    ]


def test_a_mean_of_too_few_says_so():
    assert report.mean_and_error({"mean": 0.25, "standard_error": 0.125}, 2) == "0.25 ± 0.12"
    assert report.mean_and_error({"mean": 0.25, "standard_error": None}, 2) == "0.25 (one user)"
    assert report.mean_and_error({"mean": None, "standard_error": None}, 2) == "no user"
