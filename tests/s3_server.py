"""An S3-compatible store on loopback: objects by presigned address, which it checks as a store does.

It takes an address if the signature is that of the credential it knows (`kubetune.s3.presign`, which
tests/unit/test_s3.py holds to AWS' own example and botocore's addresses) and it has not expired.
"""

import datetime
import time
import xml.sax.saxutils
from urllib.parse import parse_qsl, unquote, urlsplit

from aiohttp import web

from kubetune import s3

BUCKET, REGION, ACCESS, SECRET = "models", "eu-west-9", "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG"
PAGE = 2  # keys of one list


class S3Server:
    """``objects`` by key. ``failing``: so many requests are answered with 503 first; ``cutting``: of so many objects
    that are asked for the connection ends before they do."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing = self.cutting = 0
        self.requests: list[str] = []
        self.modified: dict[str, float] = {}  # by key, seconds since the epoch; others: now

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**30)
        application.add_routes([web.route("*", "/{path:.*}", self._answer)])
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.method)
        if self.failing:
            self.failing -= 1
            return web.Response(status=503)
        if not self._is_signed(request):
            return web.Response(status=403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")
        bucket, _, key = unquote(urlsplit(str(request.url)).path).lstrip("/").partition("/")
        if bucket != BUCKET:
            return web.Response(status=404)
        if not key:
            return self._list(request.query["prefix"], request.query.get("continuation-token", ""))
        if request.method == "PUT":
            self.objects[key] = await request.read()
            return web.Response()
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        if key not in self.objects:
            return web.Response(status=404)
        if self.cutting:
            self.cutting -= 1
            return await self._cut(request, self.objects[key])
        return web.Response(body=self.objects[key])

    async def _cut(self, request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    def _time(self, key: str) -> str:
        moment = datetime.datetime.fromtimestamp(self.modified.get(key, time.time()), datetime.UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def _is_signed(self, request: web.Request) -> bool:
        address = urlsplit(str(request.url))
        query = dict(parse_qsl(address.query))
        own = {name: value for name, value in query.items() if not name.startswith("X-Amz-")}
        made = datetime.datetime.strptime(query.get("X-Amz-Date", "20000101T000000Z"), "%Y%m%dT%H%M%SZ")
        made = made.replace(tzinfo=datetime.UTC)
        expires = int(query.get("X-Amz-Expires", "0"))
        plain = f"{address.scheme}://{request.host}{unquote(address.path)}"
        expected = s3.presign(request.method, plain, REGION, ACCESS, SECRET, made, expires, own)
        fresh = datetime.datetime.now(datetime.UTC) - made < datetime.timedelta(seconds=expires)
        return fresh and dict(parse_qsl(urlsplit(expected).query)) == query

    def _list(self, prefix: str, after: str) -> web.Response:
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        page = "".join(
            f"<Contents><Key>{xml.sax.saxutils.escape(key)}</Key><LastModified>{self._time(key)}</LastModified></Contents>"
            for key in keys[:PAGE]
        )
        more = f"<NextContinuationToken>{keys[PAGE - 1]}</NextContinuationToken>" if len(keys) > PAGE else ""
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        return web.Response(text=f'<ListBucketResult xmlns="{space}">{page}{more}</ListBucketResult>')
