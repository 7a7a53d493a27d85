"""One user's card as Markdown."""

import re
from collections.abc import Sequence

from causerec_tf.studies.cases import Card

_HIT = "✓"  # beside a recommendation that did come next


def card_text(card: Card, names: Sequence[str]) -> str:
    """The history, what each run recommended and what came next, in Markdown.

    Its signs are escaped in names, of which that of item `i` stands at `i - 1`.
    """

    def name(item: int) -> str:
        return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", names[item - 1])

    def cell(items: Sequence[int], place: int) -> str:
        if place >= len(items):
            return ""
        return f"**{_HIT}** {name(items[place])}" if items[place] in card.hits else name(items[place])

    history, future = (" · ".join(map(name, items)) for items in (card.history, card.future))
    lines = [
        f"# User {card.user_id}",
        "",
        f"History, the last {len(card.history)} of {card.num_history}, oldest first: {history}",
        "",
        f"Recommended ({_HIT}: it did come next, sooner or later):",
        "",
        "| | " + " | ".join(card.recommended) + " |",
        "|---" * (len(card.recommended) + 1) + "|",
    ]
    for place in range(max(map(len, card.recommended.values()))):
        cells = [cell(items, place) for items in card.recommended.values()]
        lines.append(f"| {place + 1} | " + " | ".join(cells) + " |")
    lines += ["", f"What came next, the first {len(card.future)} of {card.num_future}: {future}", ""]
    return "\n".join(lines)
