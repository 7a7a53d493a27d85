"""The interface with the columns that the newest version reads: what a client may send beside item ids."""

import copy
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from export.service.service import Service
from export.tower_columns import ASKED_AS, ID, TIME, TowerColumn, TowerColumns

_TEXT = {"type": "string"}
_MOMENT = {
    "anyOf": [{"type": "integer"}, _TEXT],
    "description": "Seconds since 1970, or ISO 8601 text.",
}


def add_columns(app: FastAPI, service: Service) -> None:
    """Adds `GET /columns`, and has the description of the interface follow the versions."""

    @app.get("/columns")
    async def columns() -> list[dict[str, Any]]:
        """What the newest version reads beside item ids; empty: ids alone."""
        return [
            {"name": one.name, "asked_as": ASKED_AS.get(one.owner, "history"), "kind": one.kind}
            | ({"separator": one.separator} if one.separator else {})
            | ({"values": list(one.values)} if one.values else {})
            for one in service.columns.columns
        ]

    app.openapi = _described(app, service)  # type: ignore[method-assign]


def _described(app: FastAPI, service: Service) -> Callable[[], dict[str, Any]]:
    made: dict[TowerColumns, dict[str, Any]] = {}
    plain: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not plain:
            plain.append(
                get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            )
        columns = service.columns
        if columns not in made:
            made.clear()
            made[columns] = with_columns(plain[0], columns)
        return made[columns]

    return openapi


def with_columns(description: dict[str, Any], columns: TowerColumns) -> dict[str, Any]:
    """The description of the interface in which requests have the columns of a version."""
    described = copy.deepcopy(description)
    for schema in described["components"]["schemas"].values():
        fields = schema.get("properties", {})
        for owner, field in ASKED_AS.items():
            values = _object(columns, owner)
            for name, lists in ((field, False), (f"{field}s", True)):
                if name in fields and ("history" in fields or "histories" in fields):
                    kept = {key: fields[name][key] for key in ("description", "title") if key in fields[name]}
                    items = {"anyOf": [values, {"type": "null"}]}
                    fields[name] = kept | ({"type": "array", "items": items} if lists else values)
        for name in ("history", "histories"):
            if name in fields and "exclude_seen" in fields:  # of a request, and not of an answer
                ids = fields[name] if name == "history" else fields[name]["items"]
                if rows := columns.of("event"):
                    row = _object(columns, "event", {ID: _TEXT}, required=[ID])
                    row["description"] = f"An item, and of the event {', '.join(rows)}."
                    ids["items"] = {"anyOf": [_TEXT, row]}
    return described


def _object(
    columns: TowerColumns, owner: str, more: dict[str, Any] | None = None, required: list[str] | None = None
) -> dict[str, Any]:
    own = columns.of(owner)
    if owner != "event":  # the time of a request is a field of its own
        own = {name: one for name, one in own.items() if one.kind != TIME}
    properties = {**(more or {}), **{name: _value(one) for name, one in own.items()}}
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return made | ({"required": required} if required else {})


def _value(column: TowerColumn) -> dict[str, Any]:
    examples = {"examples": list(column.values)} if column.values else {}
    if column.kind == "numeric":
        return {"type": "number"}
    if column.kind == "embedding":
        size = column.size
        return {"type": "array", "items": {"type": "number"}, "minItems": size, "maxItems": size}
    if column.kind == "multi":
        return {"type": "array", "items": _TEXT | examples, "description": f"{column.length} are read."}
    return _MOMENT if column.kind == TIME else _TEXT | examples
