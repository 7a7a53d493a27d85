"""The picture of the case studies: users beside their future items."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from causerec_tf.studies.cases import UserMap

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
    figure.savefig(path, dpi=100)
