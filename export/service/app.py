"""The web application: paths, and which failure becomes which status."""

import dataclasses
import reprlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi import Query as Parameter
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import field_validator
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from export.query import Query
from export.service.availability_path import add_availability, read_token
from export.service.body_limit import BodyLimit
from export.service.columns_path import add_columns
from export.service.headers import DOCS_POLICY, HEADERS, POLICY, page_policy
from export.service.logs import LOGGER
from export.service.messages import (
    MOST_ERRORS,
    BatchRecommended,
    BatchRequest,
    ErrorAnswer,
    Explained,
    ListSteps,
    Named,
    Readiness,
    Recommended,
    RecommendRequest,
    Shown,
    Similar,
    SimilarRequest,
    counted,
    encodable,
)
from export.service.observation import Observation
from export.service.service import Lookup, Service
from export.service.work_queue import DeadlineError, QueueFullError
from export.store.bundle_errors import BundleError, QueryError, TowerBusyError, TowerError, TowerTimeoutError
from export.towers.answers import Recommendation

_PAGE = Path(__file__).with_name("page.html")
# Of requests, as `Query` calls them; of several histories the first three are lists.
_OF_A_QUERY = ("user", "context", "time", "diversity", "category_cap")
_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (400, 408, 413, 422, 429, 503, 504)
}
_STATUS: dict[type[Exception], int] = {
    QueueFullError: 429,
    TowerBusyError: 429,
    DeadlineError: 504,
    TowerTimeoutError: 504,
    TowerError: 503,
    QueryError: 422,
    BundleError: 503,  # a request has been checked by then: what cannot be used is the bundle
}


def create_app(service: Service, *, log_requests: bool = True, page: bool = True) -> FastAPI:
    """Makes the application, which closes the service when it ends.

    `log_requests` writes a line for every request; `page` serves the page at `/`, what it asks for, and the
    description of the interface.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="causerec_tf",
        summary="Recommendations from histories of item ids.",
        lifespan=lifespan,
        openapi_url="/openapi.json" if page else None,
        docs_url=None,  # ours has a policy of its own
        redoc_url=None,
    )
    # The last that is added is the first to see a request.
    app.add_middleware(
        BodyLimit,
        most_bytes=service.options.max_body_bytes,
        most_values=service.options.max_body_values,
        most_seconds=service.options.max_body_seconds,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=service.options.allowed_hosts, www_redirect=False)
    app.add_middleware(Observation, metrics=service.metrics, log_requests=log_requests)
    _add_failures(app)
    _add_operations(app, service)
    _add_recommendations(app, service, explained=page)
    if service.options.unavailable_token_file is not None:
        add_availability(app, service, read_token(Path(service.options.unavailable_token_file)), _FAILURES)
    if page:
        _add_page(app, service)
        add_columns(app, service)
    return app


def _add_recommendations(app: FastAPI, service: Service, *, explained: bool) -> None:
    most_histories, most_ids = service.options.max_batch, service.options.max_history_ids

    def few_ids(history: Any) -> Any:
        return counted(history, 0, most_ids, "item ids (--max_history_ids)")

    class LimitedRequest(RecommendRequest):
        """One history of at most --max_history_ids."""

        _counted = field_validator("history", "allow", "deny", mode="before")(few_ids)

    class LimitedBatchRequest(BatchRequest):
        """Several histories, at most --max_batch, answered in their order."""

        _few = field_validator("allow", "deny", mode="before")(few_ids)

        @field_validator("histories", mode="before")
        @classmethod
        def _counted(cls, histories: Any) -> Any:
            histories = counted(histories, 1, most_histories, "of them")
            return list(map(few_ids, histories)) if isinstance(histories, list) else histories

    @app.post("/recommend", responses=_FAILURES, response_model_exclude_none=True)
    async def recommend(request: LimitedRequest) -> Recommended:
        """Recommends for one history."""
        answers = await service.recommend(
            [_query(request.history, request, service)], _seconds(request.timeout_ms, service)
        )
        return _recommended(answers)[0]

    @app.post("/recommend/batch", responses=_FAILURES, response_model_exclude_none=True)
    async def recommend_batch(request: LimitedBatchRequest) -> BatchRecommended:
        """Recommends for several histories at once."""
        first = _query(request.histories[0], request, service)
        nothing = [None] * len(request.histories)
        each = zip(
            *(
                request.histories,
                request.users or nothing,
                request.contexts or nothing,
                request.times or nothing,
            ),
            strict=True,
        )
        queries = [
            dataclasses.replace(first, history=history, user=user, context=context, time=time)
            for history, user, context, time in each
        ]
        answers = await service.recommend(queries, _seconds(request.timeout_ms, service))
        return BatchRecommended(answers=_recommended(answers))

    class LimitedSimilarRequest(SimilarRequest):
        """Items, at most --max_batch, each of which is asked for by itself."""

        _few = field_validator("allow", "deny", mode="before")(few_ids)

        @field_validator("items", mode="before")
        @classmethod
        def _counted(cls, items: Any) -> Any:
            return counted(items, 1, most_histories, "items (--max_batch)")

    @app.post("/similar", response_model=Similar, responses=_FAILURES)
    async def similar(request: LimitedSimilarRequest) -> Response:
        """Finds the nearest items of each item, in names."""
        query = _query(request.items, request, service)
        return _json(await service.similar(query, _seconds(request.timeout_ms, service)))

    if not explained:
        return

    @app.post("/explain", response_model=Explained, responses=_FAILURES)
    async def explain(request: LimitedRequest) -> Response:
        """Recommends in names, and tells which past items the answer rests on."""
        query = _query(request.history, request, service)
        return _json(await service.explain(query, _seconds(request.timeout_ms, service)))


def _add_page(app: FastAPI, service: Service) -> None:
    text = _PAGE.read_text(encoding="utf-8")
    policy = {POLICY: page_policy(text)}

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(text, headers=policy)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        shown = get_swagger_ui_html(openapi_url="/openapi.json", title=app.title)
        shown.headers[POLICY] = DOCS_POLICY
        return shown

    @app.get("/items", response_model=list[Named], responses=_FAILURES)
    async def items(
        query: str = Parameter(max_length=200), limit: int = Parameter(10, ge=1, le=100)
    ) -> list[dict]:
        """Finds items whose id or name contains a text, the most popular first."""
        return await service.find(Lookup(query, limit), _seconds(None, service))

    @app.get("/item", response_model=Shown)
    def item(id: str = Parameter(max_length=1000)) -> dict:
        """An item with its attributes; of one that is not there none."""
        return service.shown(id)

    @app.get("/model_card", responses={404: {"model": ErrorAnswer}})
    async def model_card() -> Response:
        """What the newest version was trained on and with, and its figures; from the bundle."""
        if service.model_card is None:
            raise HTTPException(404, "The bundle has no model card; export/bundle.py writes one.")
        return _json(service.model_card)

    @app.get("/examples", response_model=list[list[Named]])
    async def examples() -> Response:
        """Histories of real users, from the warm-up file of the newest version."""
        return _json(service.examples)


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process runs. Restart it when this fails."""
        return {"status": "running"}

    @app.get("/readyz", responses={503: {"model": ErrorAnswer}})
    async def readyz() -> Readiness:
        """Tower and index answer. Send requests only while this does not fail."""
        # Busy is not broken: taken out of the balancer, it would leave its load to the others.
        try:
            await service.check(_seconds(None, service))
        except (QueueFullError, TowerBusyError):
            pass
        except DeadlineError:
            if not service.waiting:
                raise
        catalogue = service.catalogue
        return Readiness(
            ready=True,
            version=catalogue.version,
            items=catalogue.num_items,
            max_k=service.options.max_k,
        )

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_failures(app: FastAPI) -> None:
    for kind, status in _STATUS.items():

        async def failed(_request: Request, error: Exception, status: int = status) -> JSONResponse:
            if status == 503:
                LOGGER.error("%s: %s", type(error).__name__, error)
            return _failure(status, str(error))

        app.add_exception_handler(kind, failed)

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> JSONResponse:
        return _failure(error.status_code, error.detail)

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _failure(422, " ".join(_told(one) for one in error.errors()[:MOST_ERRORS]))

    @app.exception_handler(Exception)
    async def unforeseen(_request: Request, _error: Exception) -> JSONResponse:
        return _failure(500, "The service failed; its log has the traceback.")


def _failure(status: int, message: str) -> JSONResponse:
    headers = dict(HEADERS)  # an answer to what was not foreseen passes no middleware
    if status in (429, 503):
        headers["Retry-After"] = "1"
    if status == 408:
        headers["Connection"] = "close"  # or the server would go on reading the rest
    return JSONResponse({"error": encodable(message)}, status, headers)


def _told(error: dict) -> str:
    """One finding of the framework: where, what was wanted, what was got."""
    source, *parts = error["loc"]  # the source is "query", the address, or "body"
    place = ".".join(map(str, parts)) or source
    wanted = error["msg"].removeprefix("Value error, ")
    reason = error.get("ctx", {}).get("error")
    if error["type"] == "json_invalid":
        return f"The body is not JSON ({reason})."
    if isinstance(error.get("input"), bytes):
        return "The body was not read as JSON: send the header Content-Type: application/json."
    if error["type"] == "value_error":
        return f"{place}: {wanted}."
    if error["type"] == "missing":
        if source == "query":
            return f"{place}: missing in the address."
        return f"{place}: missing; wanted it in the JSON of the body."
    return f"{place}: got {reprlib.repr(error['input'])}; {wanted[:1].lower()}{wanted[1:]}."


def _query(
    history: Sequence[str], request: RecommendRequest | BatchRequest | SimilarRequest, service: Service
) -> Query:
    """What a request asks about one history; raises HTTPException or QueryError where it may not."""
    if request.k > service.options.max_k:
        raise HTTPException(422, f"k: got {request.k}; wanted 1 to {service.options.max_k} (--max_k).")
    return Query(
        history,
        request.k,
        isinstance(request, SimilarRequest) or request.exclude_seen,
        service.check_filter(request.filter),
        request.allow,
        request.deny,
        request.seed,
        **{name: getattr(request, name, None) for name in _OF_A_QUERY},
    )


def _seconds(timeout_ms: int | None, service: Service) -> float:
    most = service.options.max_timeout_ms
    if timeout_ms is not None and timeout_ms > most:
        raise HTTPException(422, f"timeout_ms: got {timeout_ms}; wanted 1 to {most}.")
    return (timeout_ms or service.options.timeout_ms) / 1e3


def _recommended(answers: Sequence[Recommendation]) -> list[Recommended]:
    return [
        Recommended.model_construct(
            **vars(answer) | {"steps": answer.steps and ListSteps.model_construct(**answer.steps)}
        )
        for answer in answers
    ]


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")
