"""Following a pod's log through the API server, asynchronously: one task per pod instead of one thread.

The gateway reads metrics from logs this way; no sidecar and no changed command are needed.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeAlias

import aiohttp

from kubetune.kube import errors, resources
from kubetune.kube.credentials import Credentials

MAX_LINE = 65536  # bytes kept of one line; a progress bar without newlines must not eat the memory
LogLine: TypeAlias = tuple[str, str]  # (RFC 3339 time with nanoseconds, text without newline)


class LogStreams:
    """Log streams of one API server. Make it inside a running loop; close it there."""

    def __init__(self, credentials: Credentials, idle: float = 3600.0, user_agent: str = "kubetune") -> None:
        """``idle``: seconds without a byte after which a followed log is taken for dead (then `Unavailable`)."""
        self._credentials = credentials
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=credentials.ssl_context(), limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=idle),
            headers={"User-Agent": user_agent},
            trust_env=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def __aenter__(self) -> "LogStreams":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def follow(
        self, namespace: str, pod: str, container: str | None = None, since: str = "", follow: bool = True
    ) -> AsyncGenerator[LogLine, None]:
        """The container's lines, until it has ended (``follow``) or up to now.

        Args:
            container: ``None`` only for a pod of one container.
            since: RFC 3339; lines from that time on. The kubelet cuts it to whole seconds, so lines of that second
                come again: who resumes drops what it has.

        Yields:
            (time, text) of each line; a line longer than `MAX_LINE` is cut, its rest dropped.

        Raises:
            NotFound: the pod is gone. Invalid: the container has not started (400). Unavailable: try again.
        """
        params = {"timestamps": "true", "follow": "true" if follow else "false"}
        if container:
            params["container"] = container
        if since:
            params["sinceTime"] = since
        url = self._credentials.server + resources.PODS.path(namespace, pod, "log")
        try:
            async with self._session.get(
                url,
                params=params,
                headers=self._credentials.headers(),
                server_hostname=self._credentials.server_hostname,
            ) as response:
                if response.status >= 400:
                    raise errors.from_response(response.status, await response.read(), response.headers)
                async with contextlib.aclosing(lines(response.content.iter_any())) as stream:
                    async for line in stream:
                        yield split(line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unavailable(0, type(error).__name__, f"log of {namespace}/{pod}: {error}") from error


def split(line: str) -> LogLine:
    """A line with its timestamp in front as (time, text)."""
    time, _, text = line.partition(" ")
    return time, text


async def lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """Chunks of bytes as lines, decoded; of a line longer than `MAX_LINE` the beginning. A last line without a
    newline counts."""
    rest = bytearray()
    async for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for piece in whole:
            rest += piece[: MAX_LINE - len(rest)]
            yield rest.decode("utf-8", "replace")
            rest.clear()
        rest += last[: MAX_LINE - len(rest)]
    if rest:
        yield rest.decode("utf-8", "replace")
