"""Damages a bundle at random, in a way that a seed decides; nothing here comes from `export`."""

import json
import math
import os
import random
import shutil
from pathlib import Path
from typing import Any

from tests.export import toy

_WILD: list[Any] = [
    0, 1, -1, 2, 1000, 10**9, 2**31, 2**63, 10**400, 0.5, 1e308, math.nan, math.inf, True, None,
    "", "a", "exacu", "../../x", "/etc/passwd", "\ud800", "é" * 10_000, [], {}, [[]], {"a": 1},
]  # fmt: skip
_WILD_TEXTS = [
    b"", b"null", b"[]", b"{}", b"1" * 5_000, b"[" * 100_000, b'{"a":' * 100_000,
    b'{"a":' * 800 + b"1" + b"}" * 800,
    b"\xff\xfe\x00", b'{"version": ' + b"9" * 1_000_000 + b"}", b" " * (2 << 20), b'{"a": 1, "a": 2}',
]  # fmt: skip


def damaged_copy(source: Path, place: Path, seed: int) -> tuple[str, str]:
    """Copies a bundle and damages one file of the copy.

    Args:
      source: a bundle with one version.
      place: where the copy is made; what is there is removed.
      seed: decides which file and how.

    Returns:
      The kind of the bundle ("signed", or "signed again" after the damage, as an attacker would), and
      what was done, in words.
    """
    chance = random.Random(seed)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place, copy_function=os.link)
    kind = chance.choice(["signed", "signed again"])
    files = sorted(path for path in place.glob("*/*/**/*") if path.is_file())
    if kind == "signed again":
        names = ("scann_assets.pbtxt", "saved_model.pb")
        files = [path for path in files if path.suffix == ".json" or path.name in names]
    elif chance.random() < 0.3:
        files = [path for path in files if path.suffix == ".json"]
    path = chance.choice(files)
    old = path.read_bytes()
    kinds = [_flip, _flip, _cut, _empty, _append, _swap_lines, _swap_bytes, _wild_text, _remove, _link]
    if path.suffix == ".json":
        kinds = [*kinds[2:], *[_wild_value] * 15, *[_drop_key] * 5, _flip]
    elif path.suffix in (".pbtxt", ".txt") or path.name == "SHA256SUMS":
        kinds += [_swap_lines, _lead_out]
    how = chance.choice(kinds)
    path.unlink()  # it is a link
    how(chance, path, old)
    if kind == "signed again" and path.exists():
        version = next(one for one in path.parents if (one / "SHA256SUMS").exists())
        (version / "SHA256SUMS").unlink()
        toy.sign_again(version)
    return kind, f"seed {seed}: {how.__name__} {path.relative_to(place)}"


def _flip(chance: random.Random, path: Path, old: bytes) -> None:
    data = bytearray(old)
    for _ in range(chance.choice([1, 1, 1, 3])):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _cut(chance: random.Random, path: Path, old: bytes) -> None:
    path.write_bytes(old[: chance.randrange(max(1, len(old)))])


def _empty(_: random.Random, path: Path, __: bytes) -> None:
    path.write_bytes(b"")


def _append(chance: random.Random, path: Path, old: bytes) -> None:
    path.write_bytes(old + chance.choice([b"\n", b"x", old, chance.randbytes(50)]))


def _swap_lines(chance: random.Random, path: Path, old: bytes) -> None:
    lines = old.split(b"\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    path.write_bytes(b"\n".join(lines))


def _swap_bytes(chance: random.Random, path: Path, old: bytes) -> None:
    data = bytearray(old)
    length = chance.choice([1, 4, 24])
    for _ in range(len(data) > length):
        first, second = (chance.randrange(len(data) - length) for _ in range(2))
        one, other = data[first : first + length], data[second : second + length]
        data[first : first + length], data[second : second + length] = other, one
    path.write_bytes(data)


def _wild_text(chance: random.Random, path: Path, _: bytes) -> None:
    path.write_bytes(chance.choice(_WILD_TEXTS))


def _remove(_: random.Random, __: Path, ___: bytes) -> None:
    pass


def _link(_: random.Random, path: Path, old: bytes) -> None:
    bundle = next(one.parent for one in path.parents if one.name in ("user_tower", "item_index"))
    outside = bundle.with_name(path.name)
    outside.write_bytes(old)
    path.symlink_to(outside)


def _lead_out(chance: random.Random, path: Path, old: bytes) -> None:
    names = [b"dataset.npy", b"ids.txt", b"saved_model.pb", b"serialized_partitioner.pb"]
    name = chance.choice([one for one in names if one in old] or [b"item"])
    elsewhere = chance.choice([b"../" + name, b"/etc/passwd", b"a/../../" + name, b"."])
    path.write_bytes(old.replace(name, elsewhere))


def _wild_value(chance: random.Random, path: Path, old: bytes) -> None:
    description = json.loads(old)
    holder, key = chance.choice(_places(description))
    holder[key] = chance.choice(_WILD)
    path.write_text(json.dumps(description))


def _drop_key(chance: random.Random, path: Path, old: bytes) -> None:
    description = json.loads(old)
    holder, key = chance.choice(_places(description))
    del holder[key]
    path.write_text(json.dumps(description))


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    own = [(value, key) for key in keys]
    return own + [place for key in keys for place in _places(value[key])]
