"""The certificate that the gateway shows, read again when its mounted files change: rotated without a restart."""

import asyncio
import logging
import os
import ssl
import time

from kubetune import tls

LOOK = 10.0  # seconds between two looks at the files

logger = logging.getLogger(__name__)

Pair = tuple[bytes, bytes]


class Certificate:
    """``directory``: holds tls.crt and tls.key, as the kubelet mounts a Secret of type kubernetes.io/tls."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._loaded: Pair | None = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    @property
    def loaded(self) -> bool:
        return self._loaded is not None

    def refresh(self) -> bool:
        """Load the files if they are new; whether there is a certificate to show. A pair that does not fit together
        (one file of the old and one of the new) is left for the next look."""
        try:
            folder = os.path.dirname(os.path.realpath(self._path("tls.crt")))  # the kubelet swaps one link for all
            crt, key = os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key")
            pair = (_read(crt), _read(key))
            if pair != self._loaded:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(crt, key)  # raises before the live one changes
                expiry = tls.expiry(pair[0])
                self.context.load_cert_chain(crt, key)
                self._loaded = pair
                logger.info(
                    "the certificate of %s is loaded, good for %.0f days", folder, (expiry - time.time()) / 86400
                )
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            if self._loaded is not None:
                logger.warning("the new certificate in %s cannot be used yet: %s", self._directory, error)
        return self.loaded

    async def appear(self, pause: float = 1.0) -> None:
        """Wait until there is a certificate: the operator may just be making it."""
        begun = told = time.monotonic()
        while not self.refresh():
            if time.monotonic() - told >= 30 or told == begun:
                logger.info("waiting for %s and tls.key", self._path("tls.crt"))
                told = time.monotonic()
            await asyncio.sleep(pause)

    async def watch(self, pause: float = LOOK) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(pause)
            self.refresh()

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
