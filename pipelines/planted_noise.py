"""Trains on a generated world with and without noise; measures what noise costs and which model detects it.

    python pipelines/planted_noise.py --flagfile_of_runs=configs/quickstart.flags --output=runs/planted_noise

Worlds of one seed with and without noise agree in every event that is not noise. Three models are trained for
each seed: base on the clean world, base and the flagfile's method on the noisy one. All are measured on what
the test users went on to in the clean world. docs/studies.md says what the record holds.
"""

from pathlib import Path

from absl import flags

from causerec_tf import flagfiles
from causerec_tf.errors import InputError
from causerec_tf.files import write_json
from pipelines.command_line import command, outputs, report

FLAGS = flags.FLAGS

flags.DEFINE_string("flagfile_of_runs", None, "Flagfile with the settings of the runs.", required=True)
flags.DEFINE_string("output", None, "Directory for datasets, runs and record.", required=True)
flags.DEFINE_list("seeds", ["0"], "Seeds of the runs.")
flags.DEFINE_integer("world_seed", 0, "Seed of the world.", lower_bound=0)
flags.DEFINE_integer("num_users", 6000, "Users of the world.", lower_bound=1)
flags.DEFINE_float("noise_rate", 0.2, "Share of the events that are noise.", lower_bound=0.0, upper_bound=1.0)

_METRICS = ("recall@50", "ndcg@50", "hr@50")
_RECORD = "planted_noise.json"


def main() -> None:
    """Generates, trains what is not trained yet, measures, writes the record."""
    output = Path(FLAGS.output)
    outputs.check_place(output, "--output", InputError, is_filled=True)
    seeds = _seeds(FLAGS.seeds)
    asked = flagfiles.parse([f"--flagfile={FLAGS.flagfile_of_runs}", "--dataset=", "--run="])
    if asked.method == "base":
        raise InputError(
            "the settings of --flagfile_of_runs have --method=base: wanted a counterfactual one."
        )

    import dataclasses

    from causerec_tf import checkpoints, evaluation, records, training
    from causerec_tf.comparison import mean_and_standard_error
    from causerec_tf.data.generated import synthetic
    from causerec_tf.runs import RunDirectory
    from causerec_tf.studies import noise_detection

    checkpoints.check_name(output, "--output")  # of the runs in it
    command.keep_freed_memory()
    worlds, datasets = {}, {}
    for name, rate in {"clean": 0.0, "noisy": FLAGS.noise_rate}.items():
        worlds[name] = synthetic.generate(num_users=FLAGS.num_users, noise_rate=rate, seed=FLAGS.world_seed)
        datasets[name] = _dataset(output / f"{name}_world", worlds[name])

    systems: dict[str, dict] = {}
    for seed in seeds:
        for world, method in (("clean", "base"), ("noisy", "base"), ("noisy", asked.method)):
            dataset = datasets[world]
            run = RunDirectory(output / f"{method}-{world}-{seed}")
            settings = dataclasses.replace(
                asked, dataset=str(dataset.directory), run=str(run.path), method=method, seed=seed
            )
            print(f"{run.path.name}: {dataset.num_training_windows:,} examples an epoch", flush=True)
            with run.locked():
                run.start(settings, dataset)
                model, _ = training.train(settings, dataset, run)
            histories = {
                f"{name}_history": noise_detection.users_between(
                    history_of, datasets["clean"], dataset, "test", settings.max_history
                )
                for name, history_of in datasets.items()
            }
            figures = {}
            for kind, users in histories.items():
                values = evaluation.per_user(
                    evaluation.rank_users(model, users, 50, exclude_seen=False), users
                )
                figures[kind] = {name: mean_and_standard_error(values[name]) for name in _METRICS}
                row = "".join(f"{name} {figures[kind][name]['mean']:.4f}  " for name in _METRICS)
                print(f"  {kind:15}{row}", flush=True)
            if world == "noisy":
                figures["detection"] = noise_detection.detection(model, dataset, worlds[world])
                print(f"  AUC of the noise {figures['detection']['auc']['mean']:.4f}", flush=True)
            systems[run.path.name] = {"settings": dataclasses.asdict(settings)} | figures
    record = {
        "world": {"seed": FLAGS.world_seed, "users": FLAGS.num_users, "noise_rate": FLAGS.noise_rate},
        "datasets": {name: one.fingerprint for name, one in datasets.items()},
        "systems": systems,
        "command": report.this_command(),
        "versions": records.versions(),
    }
    write_json(output / _RECORD, record)
    print(f"record: {output / _RECORD}")


def _seeds(given: list[str]) -> list[int]:
    if not given or not all(one.isdecimal() for one in given) or len(set(given)) < len(given):
        raise InputError(f"--seeds={','.join(given)}: wanted different whole numbers, comma-separated.")
    return [int(one) for one in given]


def _dataset(directory: Path, world):
    """The world as a dataset, made if it is not there; it must be of this world."""
    from causerec_tf.data.sequences import open_dataset
    from causerec_tf.data.splits import split_sequences
    from causerec_tf.data.writing import sequence_writer
    from causerec_tf.studies.noise_detection import find_noise

    if not directory.exists():
        sequences = split_sequences.build_sequences(world.events(), split_seed=0, num_shards=2)
        about = {"time_unit": "as given", "split_seed": 0, "source": {"kind": "generated"}}
        sequence_writer.write_dataset(sequences, directory, num_shards=2, about=about)
    dataset = open_dataset(directory)
    find_noise(dataset.read("test"), dataset.item_ids(), world)
    return dataset


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
