"""A directory of shards: one output file for each input file, all of one version, resumable by shard.

<output>/part-1.parquet                 a shard that is there is whole: it was renamed into place
<output>/.retrieval/manifest.json       version, settings and inputs of the job
<output>/.retrieval/bundle/             that version, for as long as the job is not finished
<output>/.retrieval/unfinished/         what a process has begun
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.batch.history_files import stem
from export.store.bundle_errors import BundleError
from export.store.disk import full_disk_named
from export.store.housekeeping import only_one, remove_locked
from export.store.layout import (
    UNAVAILABLE_FILE,
    attribute_numbers,
    attributes_directory,
    check_name,
    index_directory,
    link_or_copy,
    newest,
    read_tower,
    to_disk,
)

_OWN = ".retrieval"


@dataclass(frozen=True)
class Shard:
    """One input file and the output file that is made of it."""

    source: Path
    path: Path

    @property
    def is_finished(self) -> bool:
        """Whether its file is there."""
        return self.path.is_file()


@dataclass(frozen=True)
class Job:
    """What is to be done in a directory: all shards, by one version, of which `bundle` is a bundle.

    `newest` is the bundle's newest version, which may be another one by now; in `unfinished` shards are
    written before they are renamed into place.
    """

    shards: list[Shard]
    version: str
    newest: str
    bundle: Path
    unfinished: Path

    @property
    def left(self) -> list[Shard]:
        """The shards that are not finished, the largest first: the end comes for all processes at once."""
        left = [shard for shard in self.shards if not shard.is_finished]
        return sorted(left, key=lambda shard: -shard.source.stat().st_size)


def place_shards(inputs: Sequence[Path], directory: Path, extension: str) -> list[Shard]:
    """Names the shard of each input, by its path below the directory that all of them share.

    Raises:
      BundleError: two inputs would have the same shard, or a shard is itself an input.
    """
    sources = list(dict.fromkeys(Path(os.path.abspath(path)) for path in inputs))  # noqa: PTH100
    common = Path(os.path.commonpath([source.parent for source in sources]))
    named: dict[Path, list[Path]] = {}
    for source in sources:
        below = source.parent.relative_to(common)
        named.setdefault(below / f"{stem(source)}{extension}", []).append(source)
    # `a.csv` beside `a.jsonl`: these keep their endings.
    placed: dict[Path, Path] = {}
    for name, same in named.items():
        for source in same:
            own = name if len(same) == 1 else name.with_name(f"{source.name}{extension}")
            if own in placed:
                raise BundleError(f"{placed[own]} and {source} would both become {own}; rename one of them.")
            placed[own] = source
    shards = [Shard(source, directory / name) for name, source in placed.items()]
    taken = {source.resolve() for source in sources} & {shard.path.resolve() for shard in shards}
    if taken:
        raise BundleError(f"The output would replace the input {min(taken)}; give another directory.")
    return shards


@contextlib.contextmanager
def opened_job(
    directory: Path, shards: list[Shard], *, bundle: Path, settings: Mapping[str, Any], overwrite: bool
) -> Iterator[Job]:
    """Begins a job in a directory, or goes on with the one that is there if it is the same.

    The newest version when it begins answers to its end: the job holds on to it (by links where the file
    system has them), so that no publication and no clearing away of old versions changes or stops it.

    Args:
      directory: of the shards, made when it does not exist.
      shards: from `place_shards`.
      bundle: whose newest version answers.
      settings: what else decides the answers, as JSON.
      overwrite: begin anew where the directory holds another job; its shards are removed.

    Raises:
      BundleError: the directory holds something else, another job, or a finished one of an older
        version; or another process is at work in it; or the bundle has no index for that version.
    """
    check_name(directory, "--output")  # a copy of the bundle lies in it
    own = directory / _OWN
    if directory.exists() and not directory.is_dir():
        raise BundleError(f"{directory} is a file; give the name of a directory.")
    if directory.is_dir() and not own.is_dir() and any(directory.iterdir()):
        raise BundleError(f"{directory} holds files of something else; give a new or an empty directory.")
    now_newest = newest(bundle, read_tower)["version"]
    with only_one(own / "lock", f"at work in {directory}"):
        wanted = {"settings": dict(settings), "inputs": _inputs(directory, shards)}
        manifest = _read_manifest(own)
        if manifest is not None and overwrite:
            _remove(directory, manifest)
            manifest = None
        made_here = set(manifest["inputs"]) if manifest else set()
        for name in wanted["inputs"]:
            if name not in made_here and (directory / name).exists():
                raise BundleError(
                    f"{directory / name} is in the way: this job did not make it. Move it away."
                )
        if manifest is None:
            try:
                version = _hold(bundle, own)
            except BaseException:
                _forget(directory, shards)
                raise
        else:
            _check_same(directory, manifest, wanted)
            version = held = manifest["version"]
            if all(shard.is_finished for shard in shards):
                held = now_newest
            elif not (own / "bundle").is_dir():  # it was finished before
                held = _hold(bundle, own)
            if held != version:
                shutil.rmtree(own / "bundle", ignore_errors=True)
                raise BundleError(
                    f"{directory} is of version {version}, and the newest version of {bundle} is {held}. Give"
                    " another directory, or --overwrite to replace it."
                )
        _write_manifest(own, {"version": version} | wanted)
        unfinished = own / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield Job(shards, version, now_newest, own / "bundle", unfinished)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            if all(shard.is_finished for shard in shards):
                shutil.rmtree(own / "bundle", ignore_errors=True)
            elif not any(shard.is_finished for shard in shards):
                _forget(directory, shards)


def _inputs(directory: Path, shards: Sequence[Shard]) -> dict[str, dict[str, Any]]:
    """What tells later whether an input is still the file that it was."""
    inputs = {}
    for shard in shards:
        about = shard.source.stat()
        inputs[str(shard.path.relative_to(directory))] = {
            "path": str(shard.source),
            "bytes": about.st_size,
            "modified_ns": about.st_mtime_ns,
        }
    return inputs


def _read_manifest(own: Path) -> dict[str, Any] | None:
    path = own / "manifest.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if set(manifest) != {"version", "settings", "inputs"}:
            raise ValueError(f"it has {sorted(manifest)}")
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(
            f"{path} cannot be read ({error}); remove {own.parent}, or give another directory."
        ) from error
    return manifest


def _write_manifest(own: Path, manifest: dict[str, Any]) -> None:
    made = own / "manifest.json.made"
    with full_disk_named(made):
        made.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        to_disk(made)
    made.replace(own / "manifest.json")


def _check_same(directory: Path, manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuses to mix the shards of two jobs; an input whose shard is not finished may change."""
    remedy = "Give another directory, or --overwrite to begin anew."
    was, now = manifest["settings"], wanted["settings"]
    for name in sorted({*was, *now}):
        if was.get(name) != now.get(name):
            raise BundleError(
                f"{directory} was begun with {name} {was.get(name)!r}, and now it is {now.get(name)!r}."
                f" {remedy}"
            )
    for name, source in manifest["inputs"].items():
        if (directory / name).is_file() and wanted["inputs"].get(name) != source:
            raise BundleError(
                f"{directory / name} was made of {source['path']}, which has changed since, or is not among"
                f" the inputs any more, or would have another place beside the others. {remedy}"
            )


def _forget(directory: Path, shards: Sequence[Shard]) -> None:
    """Leaves nothing of a job that made nothing."""
    remove_locked(directory / _OWN, directory / _OWN / "lock")
    above = {place for shard in shards for place in shard.path.relative_to(directory).parents}
    for place in sorted(above, key=lambda place: -len(place.parts)):  # the directory itself is the last
        with contextlib.suppress(OSError):  # something else is in it, or it was never made
            (directory / place).rmdir()


def _remove(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Removes a job, the manifest last: what a killed removal leaves is still known to belong to it."""
    for name in manifest["inputs"]:
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / _OWN / "bundle", ignore_errors=True)
    (directory / _OWN / "manifest.json").unlink()


def _hold(bundle: Path, own: Path) -> str:
    """Takes hold of the newest version, and gives its fingerprint."""
    made = own / "bundle.made"

    def copied(tower: Path) -> str:
        shutil.rmtree(made, ignore_errors=True)
        version = read_tower(tower)["version"]
        index = index_directory(bundle, version)
        if not index.is_dir():
            raise BundleError(
                f"{tower} answers version {version}, and {index} is missing. Publish the run again: the index"
                " is built in its place."
            )
        parts = [tower, index]
        if numbers := attribute_numbers(bundle):
            parts.append(attributes_directory(bundle, numbers[-1]))
        if (out := bundle / UNAVAILABLE_FILE).is_file():
            made.mkdir(parents=True)
            link_or_copy(out, made / UNAVAILABLE_FILE)
        for part in parts:
            shutil.copytree(part, made / part.relative_to(bundle), copy_function=link_or_copy)
        # What is removed is renamed before: still there, it was whole all the time.
        if not all(part.is_dir() for part in parts):
            raise BundleError(f"{tower} was removed.")
        return version

    try:
        version = newest(bundle, copied)
        shutil.rmtree(own / "bundle", ignore_errors=True)
        made.rename(own / "bundle")
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return version
