"""The benchmarks run at tiny sizes and store what others read: never how long anything took."""

import json
import math
import socketserver
import threading
import time

import numpy as np
import pytest

from benchmarks import evaluation, extrapolation, open_load, products, rounds, tables
from causerec_tf.errors import InputError
from tests.pipelines import scripts

RUN = "benchmarks/run.py"
RATIOS = {
    "training": {
        "base_over_tfrs",
        "base_in_batch_over_tfrs_adagrad",
        "causerec_item_step_over_base",
        "causerec_item_comirec_sa_step_over_comirec_sa",
        "tuned_near_step_over_tuned_base",
        "sasrec_sequences_over_windows",
        "sasrec_sequences_over_windows_full_softmax",
    },
    "evaluation": {"numpy_over_ours"},
    "growth": {"step_10m_over_100k"},
    "evaluation_growth": {"pair_10m_over_100k", "user_of_many_over_few"},
    "index": {"exact_over_index_at_recall_99"},
    "filters": {"recall_at_50", "time_over_unfiltered_at_50", "recall_at_1", "time_over_unfiltered_at_1"},
    "availability": {"p99_with_changes_over_without"},
    "serving": {"http_over_bare_p50", "batched_over_one_by_one"},
    "load": {"answered_at_twice_over_in_time"},
    "hostile_clients": {"worst_p99_over_100_ms"},
    "compilation": {"mlp_base_plain_over_xla", "mlp_causerec_item_plain_over_xla"},
}


@pytest.mark.parametrize(
    "names",
    [["evaluation"], pytest.param(list(RATIOS), marks=pytest.mark.long)],
    ids=["one", "all"],
)
def test_each_stores_its_ratios_and_a_picture(tmp_path, names):
    scripts.write_world(tmp_path / "world")
    done = scripts.run(
        RUN,
        *("--quick", "--rounds=2", "--towers=comirec_sa"),
        *(f"--dataset={tmp_path / 'world'}", f"--output={tmp_path / 'results'}"),
        *([] if names == list(RATIOS) else [f"--only={','.join(names)}"]),
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        ratios = RATIOS[name]
        stored = json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))
        assert set(stored["ratios"]) >= ratios
        for ratio, median in stored["ratios"].items():
            assert math.isfinite(median) and median > 0
            spread = stored["spread"][ratio]
            assert len(spread["rounds"]) == 2
            assert spread["min"] <= spread["median"] <= spread["max"]
        assert stored["quick"] and "benchmarks/run.py" in stored["command"]
        assert stored["machine"]["cores"] >= 1
        assert (tmp_path / "results" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    if names != list(RATIOS):
        return
    preparation = json.loads((tmp_path / "results" / "preparation.json").read_text(encoding="utf-8"))
    assert [run["rows"] for run in preparation["details"]["runs"]] == [2000]
    assert preparation["measures"]["local_2k_memory"]["median"] > 0
    assert preparation["measures"]["local_2k_disk"]["unit"] == "bytes a row"
    page = tables.filled(tables.PAGE.read_text(encoding="utf-8"), tmp_path / "results")
    assert "not measured yet" not in page
    in_words = {"load", "hostile_clients"}  # the page tells these without a table
    for ratio in set.union(*(RATIOS[name] for name in RATIOS.keys() - in_words)):
        assert f"| `{ratio}` |" in page


@pytest.mark.parametrize("flag", ["--only=speed", "--dataset=nowhere", "--rounds=0", "--rows=5,many"])
def test_wrong_flags_are_refused(flag):
    scripts.assert_refused(scripts.run(RUN, flag), "error:", flag.partition("=")[2])


def test_an_answer_is_right_or_wrong():
    expected = {"items": ["a", "b", "c"], "scores": [3.0, 2.0, 2.0]}

    def right(items, scores):
        return open_load.is_right({"items": items, "scores": scores}, expected)

    assert right(["a", "b", "c"], [3.0, 2.0, 2.00001])
    assert right(["a", "c", "b"], [3.0, 2.0, 2.0])
    assert right(["a", "b", "d"], [3.0, 2.0, 2.0])
    assert not right(["b", "a", "c"], [3.0, 2.0, 2.0])
    assert not right(["a", "b"], [3.0, 2.0])
    assert not right(["a", "b", "c"], [3.0, 2.0, 1.9])
    assert not right(["d", "b", "c"], [3.0, 2.0, 2.0])


def test_a_load_that_is_not_kept_up_with_counts_from_when_each_was_due():
    answer = json.dumps({"items": ["a"], "scores": [1.0]}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
    turn = threading.Lock()

    class Slow(socketserver.StreamRequestHandler):
        def handle(self):
            while length := [int(line[15:]) for line in self.head() if line.startswith(b"Content-Length:")]:
                self.rfile.read(length[0])
                with turn:  # one at a time, 50 a second
                    time.sleep(0.02)
                self.wfile.write(head + answer)

        def head(self):
            return list(iter(self.rfile.readline, b"\r\n")) if self.rfile.peek(1) else []

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 1000

    with Server(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        body, expected = {"history": []}, json.loads(answer)
        found = open_load.ask(address, [body], [expected], rate=200, seconds=0.5)
        wrong = open_load.ask(
            address, [body], [expected | {"items": ["b"], "scores": [9.0]}], rate=20, seconds=0.2
        )
        server.shutdown()
    # A hundred in half a second, and at least two seconds to answer them: the last waits 1.5 s.
    assert len(found.due) == 100 and set(found.status) == {200} and found.wrong == 0
    assert found.milliseconds.max() >= 1490 and found.milliseconds.min() >= 20
    assert wrong.wrong == 4


def test_rounds_rotate_and_their_ratios_stay_within_a_round(monkeypatch):
    monkeypatch.setattr(rounds.gc, "collect", lambda: None)  # of all that the tests before have left
    order = []
    blocks = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = rounds.interleave(blocks, 2)
    assert order == list("abcbca")
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 2)
    assert rounds.quotients([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_operations_of_a_step():
    # 6 B S d of the softmax; 6 rows (d 256 + 256 256 + 256 d) of the MLP.
    step = products.mean_tower_step(batch_size=10, num_candidates=30, width=8, encoded=3)
    softmax, mlp = 6 * 10 * 30 * 8, 6 * 3 * 10 * (8 * 256 + 256 * 256 + 256 * 8)
    assert sum(one.operations for one in step) == softmax + mlp


@pytest.mark.parametrize("shape", [[600, 8], [600, 4, 8]])
def test_the_numpy_reference_ranks_as_a_full_sort_does(shape):
    random = np.random.default_rng(0)
    users, items = random.standard_normal(shape, np.float32), random.standard_normal([90, 8], np.float32)
    scores = users @ items.T
    if scores.ndim == 3:
        scores = scores.max(axis=1)
    wanted = np.argsort(-scores, axis=1)[:, : evaluation.K] + 1
    np.testing.assert_array_equal(evaluation.numpy_top_k(users, items), wanted)
    np.testing.assert_array_equal(evaluation.our_top_k(users, items), wanted)


def test_extrapolations_follow_their_rules(tmp_path):
    def store(name, measures, scale=None, **ratios):
        measured = {key: {"median": value} for key, value in measures.items()}
        content = {"measures": measured, "details": {"scale": scale, "items": 500}, "ratios": ratios}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))

    rows = {"local_50000k_rows": 500_000.0, "DirectRunner_5000k_rows": 100_000.0}
    memory = {"local_5000k_memory": 1.0, "local_50000k_memory": 5.5}
    store("preparation", rows | memory)
    steps = {"base_1m": 30.0, "base_10m": 32.0, "causerec_item_1m": 100.0, "causerec_item_10m": 110.0}
    store("growth", steps, {"settings": {"batch_size": 1000}})
    store("evaluation", {"rank_users": 1_000_000.0})
    store("evaluation_growth", {}, pair_10m_over_100k=1.5)
    store("index", {"ours chosen": 0.2}, {"num_items": 10_000})
    scale = extrapolation.Scale(items=1_000_000, events=1_000_000_000, dimension=10, evaluation_users=500)
    lines = extrapolation.table(scale, tmp_path).splitlines()
    found = dict(line.strip("| ").split(" | ")[:2] for line in lines[2:])
    assert found["users"] == "20,000,000"
    assert found["preparation, one machine: time"] == "33.3 minutes"  # 1e9 / 5e5 s
    assert found["preparation, one machine: memory"] == "107.4 GB"  # .1 GiB a million rows
    assert found["preparation, 100 workers of Beam"] == "100.0 s"
    assert found["item table"] == "40.0 MB" and found["item table with both moments"] == "120.0 MB"
    assert found["training examples an epoch"] == "784,000,000"
    assert found["`base`: examples a second, one machine"] == "33,333"  # 32 - 2 ms for a decade less
    assert found["`base`: an epoch, one machine"] == "6.5 hours"
    assert found["`base`: machines for an epoch a day"] == "1"
    assert found["evaluation of 500 users"] == "1.5 s"  # 2 ns x 1.5 x 500 x 1e6
    assert found["index, int8"] == "15.0 MB"  # 10 MB and 5 MB of codes
    assert found["a query of the index, one thread"] == "2.0 ms to 20.0 ms"  # x 10, x 100
    (tmp_path / "index.json").unlink()
    with pytest.raises(InputError, match=r"benchmarks/run\.py --only=index"):
        extrapolation.table(scale, tmp_path)
