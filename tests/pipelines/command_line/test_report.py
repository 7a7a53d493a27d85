"""What scripts print of a record."""

from pipelines.command_line import report

METRICS = ("recall@20", "recall@50", "ndcg@20", "ndcg@50", "hr@20", "hr@50")


def test_columns_stand_below_their_names_however_long_the_system_is_called(capsys):
    record = {
        "system": "causerec_item_youtube_dnn",
        "protocol": {"exclude_seen": False},
        "test": dict.fromkeys(METRICS, 0.5),
        "pop": dict.fromkeys(METRICS, 0.25),
    }
    report.print_record(record)
    heads, *rows = capsys.readouterr().out.splitlines()[2:]
    ends = [heads.index(name) + len(name) for name in METRICS]
    for row, value in zip(rows, ("0.5000", "0.2500"), strict=True):
        assert [row[end - 6 : end] for end in ends] == [value] * 6


def test_a_mean_of_too_few_says_so():
    assert report.mean_and_error({"mean": 0.25, "standard_error": 0.125}, 2) == "0.25 ± 0.12"
    assert report.mean_and_error({"mean": 0.25, "standard_error": None}, 2) == "0.25 (one user)"
    assert report.mean_and_error({"mean": None, "standard_error": None}, 2) == "no user"
