"""The two pictures of the case studies: users beside their future items, and one user's card."""

import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from causerec_tf.studies.cases import Card, UserMap
from pipelines.command_line import glyphs
from pipelines.studies.case_study_card import HIT

_HIT_COLOUR = "#1b7837"
_WIDTH = 34  # of a name on the card, in Latin characters
_DOT = 45.0  # area of a dot in square points


def draw_maps(path: Path, maps: Mapping[str, UserMap], user_ids: Sequence[str], own: np.ndarray) -> None:
    """Draws a panel a run, side by side: users as stars, their items as dots of the same colour.

    An item of several users is drawn in all their colours, one dot within the other. The maps are all of the
    same users, whose names are `user_ids`, and items; `own`, bool [U, N], says whose is which.
    """
    # Not pyplot: it keeps figures, and looks for a screen.
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(maps), 6.2), layout="constrained")
    colour_of = colormaps["tab10"]
    for axes, (name, one) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        num_owners = np.zeros(len(one.items))
        for user, user_id in enumerate(user_ids):
            mine = own[user]
            areas = _DOT / (1 + 2 * num_owners[mine])
            axes.scatter(*one.items[mine].T, s=areas, color=colour_of(user), linewidths=0)
            axes.scatter(
                *one.users[user].T, s=260, marker="*", color=colour_of(user), edgecolors="black", zorder=3
            )
            label = axes.annotate(
                user_id, one.users[user, 0], xytext=(7, 6), textcoords="offset points", fontsize=9, zorder=4
            )
            label.set_parse_math(False)
            num_owners += mine
        title = axes.set_title(
            f"{name}\nown items / others' items, mean distance from the star:\n{one.in_picture:.2f} in this"
            f" picture, {one.before:.2f} before t-SNE\n{np.nanmean(one.all_users):.2f} for all"
            f" {len(one.all_users):,} test users",
            fontsize=10,
        )
        title.set_parse_math(False)
        axes.set_xticks([])
        axes.set_yticks([])
    glyphs.save(figure, path, dpi=100)


def draw_card(path: Path, card: Card, names: Sequence[str]) -> None:
    """Draws the history, what each run recommended and what came next, a column each.

    `names` are those of the items, that of item `i` at `i - 1`.
    """
    from matplotlib.figure import Figure

    columns = {f"history, last {len(card.history)} of {card.num_history}": card.history}
    columns |= card.recommended
    columns[f"came next, first {len(card.future)} of {card.num_future}"] = card.future
    rows = max(map(len, columns.values()))
    figure = Figure(figsize=(3.1 * len(columns), 0.26 * rows + 0.9))
    axes = figure.add_axes((0.01, 0.0, 0.98, 0.98))
    axes.set_axis_off()
    axes.set_xlim(0, len(columns))
    axes.set_ylim(rows + 2.2, -0.6)
    axes.text(0, 0, f"user {card.user_id}", fontsize=11, weight="bold", parse_math=False)
    for column, (title, items) in enumerate(columns.items()):
        axes.text(column, 1.2, title, fontsize=9, weight="bold", parse_math=False)
        for row, item in enumerate(items):
            is_hit = title in card.recommended and item in card.hits
            shown = _cut(names[item - 1])
            axes.text(
                column,
                row + 2.3,
                f"{HIT} {shown}" if is_hit else shown,
                fontsize=9,
                color=_HIT_COLOUR if is_hit else "black",
                parse_math=False,
            )
    glyphs.save(figure, path, dpi=100)


def _cut(name: str) -> str:
    """As much of a name as there is room for; East Asian characters take twice that of Latin ones."""
    widths = (2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in name)
    ends = list(itertools.accumulate(widths))
    if not ends or ends[-1] <= _WIDTH:
        return name
    return name[: sum(end < _WIDTH for end in ends)] + "…"
