"""What goes over the wire: the JSON of requests and answers, checked by pydantic."""

import itertools
import reprlib
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    WithJsonSchema,
    model_validator,
)

DEFAULT_K = 20
# Errors in one refusal. Each is made on the event loop, where every other request waits for it.
MOST_ERRORS = 3


def _item_ids(history: Any) -> Any:
    """Takes integers for ids too, as the batch command does, and says which item is neither."""
    if not isinstance(history, list):
        raise ValueError("wanted a list of item ids")
    kinds = set(map(type, history))  # of thousands of items at the speed of C: every other request waits
    if not kinds <= {str, int}:
        number, item = next((n, one) for n, one in enumerate(history) if type(one) not in (str, int))
        raise ValueError(f"item {number} is {reprlib.repr(item)}; wanted a string or an integer")
    return list(map(str, history)) if int in kinds else history


def _history(history: Any) -> Any:
    """Takes rows beside ids; what is in them is checked where the columns of the version are known."""
    if not isinstance(history, list) or dict not in set(map(type, history)):
        return _item_ids(history)
    for number, row in enumerate(history):
        if type(row) is dict and type(row.get("id")) not in (str, int):
            raise ValueError(f"item {number} is {reprlib.repr(row)}; wanted its id, a string or an integer")
    _item_ids([row if type(row) is not dict else row["id"] for row in history])
    return [str(row) if type(row) is int else row for row in history]


ItemIds = Annotated[list[str], BeforeValidator(_item_ids)]
History = Annotated[
    list[Any],
    BeforeValidator(_history),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
    Field(description="Item ids, oldest first, at most --max_history_ids; integers are taken for strings."),
]
Values = Annotated[dict[str, Any] | None, Field(description="Values by name; what is absent is missing.")]
Moment = Annotated[
    int | float | str | None,
    Field(description="When the list is asked for: seconds since 1970, or ISO 8601 text."),
]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a misspelt field would be ignored without a word

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, body: Any) -> Any:
        """Leaves only the first unknown fields to be refused: each is an error of its own."""
        if not isinstance(body, dict):
            return body
        known = [name for name in cls.model_fields if name in body]
        unknown = (name for name in body if name not in cls.model_fields)
        return {name: body[name] for name in [*known, *itertools.islice(unknown, MOST_ERRORS)]}


class _Asked(_Checked):
    k: int = Field(DEFAULT_K, ge=1, strict=True, description="How many items; at most --max_k.")
    filter: dict[str, Any] | None = Field(
        None,
        description="Which items may be answered, by their attributes.",
        examples=[{"category": ["a", "b"], "price": {"lt": 20}}],
    )
    allow: ItemIds | None = Field(None, description="Answer only these ids; at most --max_history_ids.")
    deny: ItemIds = Field([], description="Do not answer these ids; at most --max_history_ids.")
    seed: int | None = Field(
        None, ge=0, lt=2**63, strict=True, description="What exploration draws by; the history if absent."
    )
    timeout_ms: int | None = Field(
        None,
        ge=1,
        strict=True,
        description="Milliseconds in which an answer is of use; --timeout_ms if absent.",
    )


class _Request(_Asked):
    exclude_seen: bool = Field(True, strict=True, description="Leave out the items of the history.")
    diversity: float | None = Field(
        None, ge=0, strict=True, description="In place of --diversity; at most --max_diversity."
    )
    category_cap: int | None = Field(
        None, ge=1, strict=True, description="In place of --category_cap; at least --min_category_cap."
    )


class RecommendRequest(_Request):
    """One history."""

    history: History = Field(examples=[["35462", "31094"]])
    user: Values = None
    context: Values = None
    time: Moment = None


class BatchRequest(_Request):
    """Several histories, answered in their order."""

    histories: Annotated[list[History], FailFast()] = Field(examples=[[["35462", "31094"], []]])
    users: list[Values] | None = Field(None, description="`user` of each history.")
    contexts: list[Values] | None = Field(None, description="`context` of each history.")
    times: list[Moment] | None = Field(None, description="`time` of each history.")

    @model_validator(mode="after")
    def _one_each(self) -> "BatchRequest":
        for name in ("users", "contexts", "times"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.histories):
                raise ValueError(f"{name} has {len(given)} of them; wanted one for each history")
        return self


class SimilarRequest(_Asked):
    """Items, each of which is asked for by itself."""

    items: Annotated[
        list[str],
        BeforeValidator(_item_ids),
        Field(description="Item ids, 1 to --max_batch; integers are taken for strings."),
    ] = Field(examples=[["35462", "31094"]])


def counted(values: Any, least: int, most: int, what: str) -> Any:
    """Refuses a list that is too long or too short before anything in it is read."""
    if isinstance(values, list) and not least <= len(values) <= most:
        raise ValueError(f"{len(values)} {what}; wanted {least} to {most}")
    return values


def encodable(text: str) -> str:
    """A text without halves of surrogate pairs, which JSON can ask for and UTF-8 cannot answer."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class UnavailableRequest(_Checked):
    """Items that are out from now on, and items that are back."""

    out: ItemIds = Field([], description="At most --max_history_ids; of any version, or of none.")
    back: ItemIds = Field([], description="The same.")


class Unavailable(BaseModel):
    """How many ids are out."""

    unavailable: int


class ListSteps(BaseModel):
    """What was done to a list after the search; what does not act is absent.

    Attributes:
      candidates: how many items were found to choose from.
      reranker: "used", or why the list has its own order: "late", "busy" or "failed", with `reranker_error`.
      diversity: this, `relevance` and `category_cap` are the flags that act.
      explored: the ids that were drawn from `explored_from` by `seed`.
    """

    candidates: int
    reranker: str | None = None
    reranker_error: str | None = None
    diversity: float | None = None
    relevance: float | None = None
    category_cap: int | None = None
    explored: list[str] | None = None
    explored_from: str | None = None
    seed: int | None = None


class Recommended(BaseModel):
    """The answer to one history, as in the rows of the batch command.

    Fewer than k items when fewer unseen ones are left. `fallback` says that nothing of the history was
    known: the items are the most popular ones, their scores 0. `plan` says how the items were found; "empty":
    none passes the filter. `num_unknown_values`, where features are read: values that training never saw.
    """

    items: list[str]
    scores: list[float]
    num_unknown: int
    fallback: bool
    version: str
    plan: str
    steps: ListSteps | None = None
    num_unknown_values: int | None = None


class BatchRecommended(BaseModel):
    """The answers to several histories."""

    answers: list[Recommended]


class Named(BaseModel):
    """An item to read; `known` is whether the tower knows it, in histories."""

    id: str
    name: str
    known: bool = True


class Shown(Named):
    """An item, and its attributes, which filters read."""

    attributes: dict[str, Any]


class Scored(Named):
    """A recommended item."""

    score: float


class Influential(Named):
    """A past item: the share of the top k that changes without it, and by how far the user's vector moves."""

    share: float
    vector_change: float


class Explained(BaseModel):
    """Recommendations in names, and the past items on which they rest, the most influential first."""

    history: list[Named]
    items: list[Scored]
    influences: list[Influential]
    fallback: bool
    version: str
    plan: str
    steps: ListSteps | None = None
    num_unknown_values: int | None = None


class SimilarToOne(BaseModel):
    """The nearest items of an item, their scores the cosine; `unknown`: the version does not have it."""

    item: Named
    items: list[Scored]
    unknown: bool


class Similar(BaseModel):
    """The nearest items of several items, in their order."""

    answers: list[SimilarToOne]
    version: str


class Readiness(BaseModel):
    """Whether the service can answer, and with what."""

    ready: bool
    version: str
    items: int
    max_k: int


class ErrorAnswer(BaseModel):
    """Why there is no answer: what was got, what was wanted, what to do."""

    error: str
