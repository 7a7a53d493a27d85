"""Shows what trained runs make of some test users: a t-SNE picture and a card of recommendations.

python pipelines/case_studies.py --runs=runs/ml100k_base,runs/ml100k_causerec_item --output=runs/case_studies

The figures 3 and 4 of the paper. Users and items are drawn by `--seed` alone, not chosen by their looks. It
writes `users.png`, `card.md` and the figures, `case_studies.json`.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from absl import flags

from causerec_tf import files
from causerec_tf.errors import InputError
from pipelines.command_line import command, outputs, report, trained_runs

FLAGS = flags.FLAGS

flags.DEFINE_list("runs", None, "Directories of trained runs on one dataset, comma-separated.", required=True)
flags.DEFINE_string("dataset", None, "Where their dataset is now, if it was moved.")
flags.DEFINE_string("output", None, "Directory to write.", required=True)
flags.DEFINE_string("user", None, "Id of the test user on the card. None: the first one drawn.")
flags.DEFINE_integer("num_users", 6, "Users in the t-SNE picture.", lower_bound=2, upper_bound=10)
flags.DEFINE_integer("items_per_user", 10, "Future items of each user, at most.", lower_bound=1)
flags.DEFINE_integer(
    "k", 10, "How many recommendations, past and future items the card shows.", lower_bound=1
)
flags.DEFINE_bool("exclude_seen", True, "Leave the items of the history out of the recommendations.")
flags.DEFINE_integer("seed", 0, "Seed of the draw of users and items, and of t-SNE.", lower_bound=0)
flags.DEFINE_bool("overwrite", False, "Replace --output if this script made it.")

_MARKER = "case_studies.json"


def main() -> None:
    """Loads the runs, measures, draws, sums up."""
    _check_installed("scikit-learn", "matplotlib")
    output = Path(FLAGS.output)
    outputs.check_place(output.resolve(), "--output", InputError)
    files.check_output(output, marker=_MARKER, overwrite=FLAGS.overwrite)
    names = trained_runs.names_of(FLAGS.runs)

    from causerec_tf import evaluation, records
    from causerec_tf.data.holdout import evaluation_users
    from causerec_tf.studies import cases
    from pipelines.studies import case_study_card, case_study_picture

    trained = trained_runs.load(FLAGS.runs, FLAGS.dataset)
    first = trained[names[0]]
    test = first.dataset.read("test")
    users = {name: evaluation_users(test, one.settings.max_history) for name, one in trained.items()}
    all_users = users[names[0]]
    chosen = cases.choose_users(all_users.user_ids, FLAGS.num_users, seed=FLAGS.seed, wanted=FLAGS.user)
    items = cases.choose_items(all_users.targets, chosen, FLAGS.items_per_user, seed=FLAGS.seed)
    maps, ranked = {}, {}
    for name, one in trained.items():
        maps[name] = cases.user_map(one.model, users[name], chosen, items, seed=FLAGS.seed)
        lists = evaluation.rank_users(one.model, users[name], FLAGS.k, exclude_seen=FLAGS.exclude_seen)
        ranked[name] = lists[chosen[0]]
    card = cases.card(all_users, int(chosen[0]), ranked, num_shown=FLAGS.k)
    shown_ids = all_users.user_ids[chosen].tolist()
    item_names = first.dataset.item_names()
    own = cases.ownership(items, cases.shown_items(items))

    record = {
        "dataset": {"name": first.dataset.name, "fingerprint": first.dataset.fingerprint},
        "seed": FLAGS.seed,
        "users": shown_ids,
        "relative_distance": {name: cases.summary(one, maps[names[0]]) for name, one in maps.items()},
        "command": report.this_command(),
        "versions": records.versions() | {"scikit-learn": version("scikit-learn")},
    }
    with files.directory_written_beside(output, marker=_MARKER, overwrite=FLAGS.overwrite) as beside:
        case_study_picture.draw_maps(beside / "users.png", maps, shown_ids, own)
        files.write_text(beside / "card.md", case_study_card.card_text(card, item_names))
        files.write_json(beside / _MARKER, record)

    print("\nmean distance from a user to their future items / to those of others (1: no nearer)")
    print(f"{'':24}{'picture':>11}{'before':>11}{'all users':>11}{'catalogue':>11}{'all - first':>20}")
    for name, one in record["relative_distance"].items():
        figures = (one["in_picture"], one["before"], one["all_users"], one["all_users_catalogue"])
        difference = report.mean_and_error(
            {"mean": one["all_users_minus_first"], "standard_error": one["standard_error"]}, 3
        )
        print(f"{name:24}" + "".join(f"{figure:11.3f}" for figure in figures) + f"{difference:>20}")
    print(f"users {', '.join(shown_ids)}, drawn with --seed={FLAGS.seed}: {output}")


def _check_installed(*packages: str) -> None:
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError as error:
            raise InputError(
                f"the pictures need {package}, which is not installed here: pip install 'causerec_tf[plots]'."
            ) from error


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
