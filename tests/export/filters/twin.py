"""The language of filters once more, an item and a comparison at a time; nothing here comes from `export`."""

from datetime import UTC, datetime


def passes(item, expression):
    """Whether an item, a dictionary of its values, passes a filter as JSON has it."""
    return all(holds(item, name, wanted) for name, wanted in expression.items())


def holds(item, name, wanted):
    if name == "all":
        return all(passes(item, part) for part in wanted)
    if name == "any":
        return any(passes(item, part) for part in wanted)
    if name == "not":
        return not passes(item, wanted)
    value = item.get(name)
    if not isinstance(wanted, dict):
        wanted = {"in": wanted if isinstance(wanted, list) else [wanted]}
    return all(compares(value, operator, bound) for operator, bound in wanted.items())


def compares(value, operator, bound):
    if operator == "missing":
        return (value is None or value == []) == bound
    if value is None:
        return False
    if operator in ("in", "all"):
        has = set(value) if isinstance(value, list) else {value}
        if isinstance(next(iter(has), None), str):
            bound = [str(one) for one in bound]
        found = [any(same(one, other) for other in has) for one in bound]
        return any(found) if operator == "in" else all(found)
    bound = moment(bound) if isinstance(bound, str) else bound
    return {"lt": value < bound, "le": value <= bound, "gt": value > bound, "ge": value >= bound}[operator]


def same(one, other):
    if isinstance(other, bool) or isinstance(one, bool):
        return one is other
    return (moment(one) if isinstance(one, str) and isinstance(other, float) else one) == other


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
