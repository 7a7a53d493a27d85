"""Answers for people to read, as JSON: items with their names, what a list rests on, similar items.

A long history takes a while here, so none of it happens on the event loop.
"""

import dataclasses
import json
import time
from typing import Any

from export.index.catalogue import Catalogue
from export.index.catalogue_cache import CatalogueCache
from export.lists.list_maker import ListMaker
from export.query import Query
from export.retriever import Retriever
from export.service.messages import encodable


class InNames:
    """Writes answers in the names of the version that gave them."""

    def __init__(self, catalogues: CatalogueCache):
        """Takes the catalogues of the bundle."""
        self._catalogues = catalogues

    def explained(self, retriever: Retriever, make_lists: ListMaker, asked: Query, seconds: float) -> bytes:
        """The answer to a query, and what it rests on: `export.service.messages.Explained`."""
        ends = time.monotonic() + seconds
        listed = make_lists.is_active(asked)
        plain = dataclasses.replace(asked, diversity=None, category_cap=None)
        answer, influences = retriever.recommend_explained(plain, timeout=seconds)
        if listed:  # what the model's own list rests on says what this one does
            [answer] = make_lists([asked], max(1e-3, ends - time.monotonic()))
        catalogue = self._catalogues.get(answer.version)
        explained = {
            "history": [named(catalogue, item) for item in asked.item_ids],
            "items": _scored(catalogue, answer.items, answer.scores),
            "influences": [
                named(catalogue, one.item) | {"share": one.share, "vector_change": one.vector_change}
                for one in influences
            ],
            "fallback": answer.fallback,
            "version": answer.version,
            "plan": answer.plan,
            "steps": answer.steps,
            "num_unknown_values": answer.num_unknown_values,
        }
        return json.dumps(explained).encode()

    def similar(self, retriever: Retriever, asked: Query, seconds: float) -> bytes:
        """The nearest items of each item of a query."""
        answers = retriever.similar(asked, timeout=seconds)
        catalogue = self._catalogues.get(answers[0].version)
        similar = [
            {
                "item": named(catalogue, answer.item),
                "items": _scored(catalogue, answer.items, answer.scores),
                "unknown": answer.unknown,
            }
            for answer in answers
        ]
        return json.dumps({"answers": similar, "version": catalogue.version}).encode()


def named(catalogue: Catalogue, item: str) -> dict[str, Any]:
    """An item as `export.service.messages.Named`."""
    name = encodable(catalogue.name_of(item))
    return {"id": encodable(item), "name": name, "known": catalogue.knows(item)}


def _scored(catalogue: Catalogue, items: list[str], scores: list[float]) -> list[dict[str, Any]]:
    return [named(catalogue, item) | {"score": score} for item, score in zip(items, scores, strict=True)]
