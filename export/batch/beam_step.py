"""The same recommendations as a step of Apache Beam, for clusters.

    import apache_beam as beam
    from export.batch.beam_step import Recommend
    from export.batch.job_settings import JobSettings

    histories | Recommend("/shared/bundles/shop", JobSettings(k=50))

where `histories` has pairs (user id, list of item ids or `export.query.Query` without k), wherever they were
read. The workers must see the bundle under the same path.
"""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import polars as pl
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from export.batch.history_files import read_histories
from export.batch.job_settings import BAD_ROWS_TOLD, AnswerTally, JobSettings
from export.batch.recommendation_files import json_line, row, schema_of
from export.store.bundle_errors import BundleError
from export.store.layout import read_tower, resolve_number, tower_directory
from export.tower_columns import TowerColumns

# Beam's own runner in Python. What is called DirectRunner tries to download another one first.
_LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
_SMALLEST_BATCH, _LARGEST_BATCH = 32, 2048
_METRICS = "causerec"


class Recommend(beam.PTransform):
    """Pairs (user id, item ids or Query) -> pairs (user id, `export.towers.answers.Recommendation`).

    The bundle's newest version when the pipeline is made answers throughout: keep it (`--keep` of
    `export/bundle.py`) until the pipeline has ended. A worker process loads it once.
    """

    def __init__(self, bundle: Path | str, settings: JobSettings):
        """Settles the version; raises BundleError without one."""
        super().__init__()
        self._bundle, self._settings = str(bundle), settings
        self._number = resolve_number(Path(bundle), None)
        place = tower_directory(Path(bundle), self._number)
        description = read_tower(place)
        self.version: str = description["version"]
        self.columns = TowerColumns.described(description, f"{place}:")

    def expand(self, histories: beam.PCollection) -> beam.PCollection:
        """Gathers batches and answers them."""
        answer = _Answer(self._bundle, self._number, self.version, self._settings)
        return (
            histories
            | "batch" >> beam.BatchElements(min_batch_size=_SMALLEST_BATCH, max_batch_size=_LARGEST_BATCH)
            | "answer" >> beam.ParDo(answer)
        )


class _Answer(beam.DoFn):
    def __init__(self, bundle: str, number: int, version: str, settings: JobSettings):
        super().__init__()
        self._bundle, self._number, self._version = bundle, number, version
        self._settings = settings
        self._shared = Shared()  # between the threads of a worker process

    def setup(self) -> None:
        self._answering = self._shared.acquire(self._load)

    def _load(self) -> Any:
        from export.batch.answering import Answering  # loads TensorFlow: in the workers alone

        answering = Answering.open(self._bundle, self._settings, version=self._number)
        retriever = answering.retriever
        if retriever.version != self._version:
            raise BundleError(
                f"Version {self._number} of {self._bundle} is {retriever.version} on this worker, and"
                f" {self._version} where the pipeline was made: all must see the same bundle."
            )
        return answering

    def process(self, batch: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        answers = self._answering([query for _, query in batch])
        tally = AnswerTally()
        tally.count(answers, self._settings.k)
        _count(tally)
        for (user_id, _), answer in zip(batch, answers, strict=True):
            yield user_id, answer


def recommend_files(
    inputs: Sequence[Path],
    output: Path,
    *,
    bundle: Path,
    settings: JobSettings,
    file_format: str,
    runner: str,
    options: str = "",
) -> tuple[AnswerTally, str]:
    """Recommends for the histories of some files into a directory that is there.

    The workers must see the files under the same paths; each is read by one. Beam decides on the files of the
    output, `part-00000-of-00003` and so on. `file_format` is `parquet` or `jsonl`; `options` are Beam's own.

    Returns:
      What came of it, and the version that answered.

    Raises:
      BundleError: an input cannot be read, or a row when bad ones are not skipped.
    """
    name = _LOCAL_RUNNER if runner == "DirectRunner" else runner
    root = beam.Pipeline(options=PipelineOptions(shlex.split(options), runner=name))
    errors = output / ".errors"
    recommend = Recommend(bundle, settings)
    read = (
        root
        | "files" >> beam.Create([str(path) for path in inputs])
        | "spread the files" >> beam.Reshuffle()
        | "read" >> beam.ParDo(_Read(settings, recommend.columns)).with_outputs("errors", main="histories")
    )
    # Bad rows end the job in words of our own: raised in a worker, they would come wrapped in Beam's.
    _ = read.errors | "errors" >> beam.io.WriteToText(str(errors), shard_name_template="", num_shards=1)
    answered = read.histories | "spread the users" >> beam.Reshuffle() | "recommend" >> recommend
    prefix = str(output / "part")
    written = schema_of(recommend.columns, settings)
    if file_format == "parquet":
        schema = pl.DataFrame(schema=written).to_arrow().schema
        rows = answered | "rows" >> beam.MapTuple(row, written)
        _ = rows | "write" >> beam.io.WriteToParquet(prefix, schema, file_name_suffix=".parquet")
    else:
        lines = answered | "lines" >> beam.MapTuple(json_line, written)
        _ = lines | "write" >> beam.io.WriteToText(prefix, file_name_suffix=".jsonl")
    result = root.run()
    result.wait_until_finish()
    reports = [json.loads(line) for line in errors.read_text(encoding="utf-8").split("\n") if line]
    errors.unlink()
    if fatal := [message for is_fatal, message in reports if is_fatal]:
        raise BundleError(min(fatal))
    counters = [one for one in result.metrics().query()["counters"] if one.key.metric.namespace == _METRICS]
    counts: Counter[str] = Counter()
    for one in counters:
        counts[one.key.metric.name] += one.result
    told = sorted(message for _, message in reports)[:BAD_ROWS_TOLD]
    return AnswerTally(counts, told), recommend.version


class _Read(beam.DoFn):
    """A path -> its pairs; of what cannot be read, [whether it ends the job, message] as JSON."""

    def __init__(self, settings: JobSettings, tower_columns: TowerColumns):
        super().__init__()
        self._settings, self._tower_columns = settings, tower_columns

    def process(self, path: str) -> Iterator[Any]:
        bad = AnswerTally()
        skip = bad.skip if self._settings.skip_bad_rows else None
        reports = []
        try:
            rows = read_histories([Path(path)], self._settings.columns, self._tower_columns, on_bad_row=skip)
            for one in rows:
                bad.count_given([one])
                yield one.user_id, one.query(exclude_seen=self._settings.exclude_seen)
        except BundleError as error:
            reports.append([True, str(error)])
        _count(bad)
        reports += [[False, message] for message in bad.told]
        yield from (beam.pvalue.TaggedOutput("errors", json.dumps(report)) for report in reports)


def _count(tally: AnswerTally) -> None:
    for name, count in tally.counts.items():
        Metrics.counter(_METRICS, name).inc(count)
