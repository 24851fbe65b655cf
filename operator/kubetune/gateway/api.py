"""The HTTP interface of docs/gateway-api.md: each request authenticated, read, handed to the storage, answered.

Handlers raise what is wrong; one place (`_refusal`) says which status and which hint that becomes.
"""

import asyncio
import concurrent.futures
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from aiohttp import web

from kubetune import logs
from kubetune.api import names
from kubetune.gateway import auth, batch, checkpoints, leases, wire
from kubetune.metrics.catalog import Metrics
from kubetune.storage import base, record_json

TIMEOUT = 40.0  # seconds for one request, its body included; above the database's own limits
CALLS = 4  # threads for what is not a report

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# What a handler may raise → (status, seconds for Retry-After, label of kubetune_reports_rejected_total).
_ANSWERS: tuple[tuple[type[Exception], int, int, str], ...] = (
    (wire.BadRequest, 400, 0, "bad_request"),
    (base.NotCurrent, 409, 0, "not_current"),
    (base.NotRecorded, 503, 1, "not_recorded"),
    (base.StorageUnavailable, 503, 2, "database"),
    (batch.Overloaded, 503, 1, "overloaded"),
    (auth.Undecided, 503, 2, "api_server"),
    (TimeoutError, 503, 2, "timeout"),
)


class Api:
    """The handlers. ``draining`` set: answer, and ask the client to connect anew (elsewhere)."""

    def __init__(
        self,
        storage: base.GatewayStorage,
        authenticator: auth.Authenticator,
        batcher: batch.Batcher,
        metrics: Metrics,
        leasing: leases.Leases,
        keeping: checkpoints.Checkpoints,
        timeout: float = TIMEOUT,
    ) -> None:
        self._storage = storage
        self._authenticator = authenticator
        self._batcher = batcher
        self._metrics = metrics
        self._leases = leasing
        self._checkpoints = keeping
        self._timeout = timeout
        self._threads = concurrent.futures.ThreadPoolExecutor(CALLS, thread_name_prefix="call")
        self.draining = False

    def application(self, body_limit: int) -> web.Application:
        """``body_limit``: bytes of one request's body."""
        application = web.Application(client_max_size=body_limit, middlewares=[self._answer])
        application.add_routes(
            [
                web.post("/v1/report", self.report),
                web.post("/v1/finish", self.finish),
                web.get("/v1/trial", self.trial),
                web.post("/v1/model", self.model),
                web.get("/v1/experiments/{namespace}/{name}/trials", self.trials),
                web.get("/v1/experiments/{namespace}/{name}/history", self.history),
                web.get("/v1/models/{namespace}", self.models),
                web.get("/v1/experiments/{namespace}/{name}/record", self.record),
                web.get("/v1/experiments/{namespace}/{name}/trials/{number}/reports", self.trial_reports),
                web.get("/v1/experiments/{namespace}/{name}/trials/{number}/log", self.trial_log),
                *self._leases.routes(),
                *self._checkpoints.routes(),
            ]
        )
        return application

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    # ---- trials

    async def report(self, request: web.Request) -> web.Response:
        who = await self._speaker(request)
        reports = wire.read_reports(await request.read())
        with _about(who):
            answers = await self._batcher.submit(
                [base.Incoming(who, report.key, report.step, report.metrics) for report in reports]
            )
            for answer in answers:
                if isinstance(answer, ValueError):
                    raise wire.BadRequest(str(answer))
                if isinstance(answer, Exception):
                    raise answer
        last = answers[-1]
        assert isinstance(last, base.Answer)
        return web.json_response(wire.write_answer(last))

    async def finish(self, request: web.Request) -> web.Response:
        who = await self._speaker(request)
        status, message = wire.read_finish(await request.read())
        with _about(who):
            answer = await self._call(self._storage.finish, who, status, message)
            logger.info("the trial says that it ended: %s", status)
        return web.json_response(wire.write_answer(answer))

    async def model(self, request: web.Request) -> web.Response:
        """First the model's version is committed, then the report that lets the refit complete."""
        who = await self._speaker(request)
        address, digest = wire.read_model(await request.read())
        with _about(who):
            try:
                _, version = await self._call(self._storage.model, who, address, digest)
            except ValueError as error:
                raise wire.BadRequest(str(error)) from error
            key = f"model-{hashlib.sha256(f'{address} {digest}'.encode()).hexdigest()}"
            (answer,) = await self._batcher.submit([base.Incoming(who, key, None, {names.MODEL_METRIC: 1.0})])
            if isinstance(answer, Exception):
                raise answer
            logger.info("the model of version %d is at %s", version, address)
        return web.json_response({**wire.write_answer(answer), "version": version})

    async def trial(self, request: web.Request) -> web.Response:
        who = await self._speaker(request)
        answer = await self._call(self._storage.look, who)
        parameters = await self._call(self._storage.parameters, who)
        return web.json_response(wire.write_trial(who, parameters, answer))

    async def _speaker(self, request: web.Request) -> base.Identity:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return await self._authenticator.trial(token.strip() if scheme.lower() == "bearer" else None)

    # ---- people

    async def trials(self, request: web.Request) -> web.Response:
        namespace, name = await self._reader(request)
        state, offset, limit = wire.read_page(request.query)
        phase = wire.read_phase(request.query)
        study, counts, rows = await self._found(self._storage.trials, namespace, name, state, offset, limit, phase)
        return web.json_response(wire.write_trials(study, counts, rows))

    async def history(self, request: web.Request) -> web.Response:
        namespace, name = await self._reader(request)
        found = await self._found(self._storage.history, namespace, name, wire.read_phase(request.query))
        return web.json_response(record_json.history(found))

    async def record(self, request: web.Request) -> web.Response:
        namespace, name = await self._reader(request)
        _, offset, limit = wire.read_page(request.query)
        most, phase = min(limit, wire.MOST_RECORDS), wire.read_phase(request.query)
        found = await self._found(self._storage.record, namespace, name, offset, most, phase)
        return web.json_response({"trials": [record_json.trial(each) for each in found]})

    async def models(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.query.get("experiment") or None
        await self._authenticator.reader(request.headers.get(names.READ_TOKEN_HEADER), namespace)
        return web.json_response(wire.write_models(await self._call(self._storage.models, namespace, name)))

    async def trial_reports(self, request: web.Request) -> web.Response:
        namespace, name = await self._reader(request)
        number, phase = wire.read_number(request.match_info["number"]), wire.read_phase(request.query)
        reports = await self._found(self._storage.trial_reports, namespace, name, number, phase)
        return web.json_response(wire.write_reports(reports))

    async def trial_log(self, request: web.Request) -> web.Response:
        namespace, name = await self._reader(request)
        number, phase = wire.read_number(request.match_info["number"]), wire.read_phase(request.query)
        log = await self._found(self._storage.log_tail, namespace, name, number, phase)
        place = await self._found(self._storage.place, namespace, name, number, phase)
        return web.json_response(wire.write_log(log, place))

    async def _reader(self, request: web.Request) -> tuple[str, str]:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        await self._authenticator.reader(request.headers.get(names.READ_TOKEN_HEADER), namespace)
        return namespace, name

    # ---- how

    async def _call(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """A storage's method, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args, **kwargs))

    async def _found(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        try:
            return await self._call(function, *args, **kwargs)
        except KeyError as error:
            raise web.HTTPNotFound(text=str(error.args[0]) if error.args else "not found") from error

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self._timeout):
                response = await handler(request)
        except (ConnectionError, asyncio.CancelledError):  # whoever asked has gone
            raise
        except Exception as error:  # noqa: BLE001 - every failure becomes an answer, logged where it is ours
            response = self._refusal(request, error)
        if self.draining:
            response.force_close()
        return response

    def _refusal(self, request: web.Request, error: Exception) -> web.Response:
        status, retry_after, label, message = _judge(error)
        if request.path == "/v1/report":
            self._metrics.reports_rejected.labels(label).inc()
        if label == "unexpected":
            logger.exception("%s %s failed: %s", request.method, request.path, error, exc_info=error)
        else:
            level = logging.DEBUG if status in (409, 503) else logging.INFO  # those two come in floods
            logger.log(level, "%s %s: %d, %s", request.method, request.path, status, message)
        headers = {"Retry-After": str(retry_after)} if retry_after else {}
        if isinstance(error, web.HTTPMethodNotAllowed):
            headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return web.json_response({"error": message}, status=status, headers=headers)


def _judge(error: Exception) -> tuple[int, int, str, str]:
    """(status, Retry-After, label, message) of what went wrong."""
    for kind, status, retry_after, label in _ANSWERS:
        if isinstance(error, kind):
            return status, retry_after, label, str(error) or "the request took too long"
    if isinstance(error, auth.Refused):
        return error.status, 0, {401: "token", 403: "no_trial"}.get(error.status, "not_current"), str(error)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return 413, 0, "too_large", f"the body is too large: {error.text}; send fewer reports at once"
    if isinstance(error, web.HTTPNotFound) and error.text and not error.text.startswith("404"):
        return 404, 0, "not_found", error.text
    if isinstance(error, web.HTTPException):
        return error.status, 0, "bad_request", f"{error.reason}; the interface is described in docs/gateway-api.md"
    return 500, 5, "unexpected", "the gateway failed; its log says more"


def _about(who: base.Identity) -> Any:
    return logs.about(namespace=who.namespace, experiment=who.experiment, trial=who.number, attempt=who.attempt)
