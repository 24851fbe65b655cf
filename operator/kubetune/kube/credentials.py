"""Who we are to the API server: the pod's service account, or a kubeconfig.

The `kubernetes` package finds and renews the credential (token files, exec plugins, client certificates); what it
found is used by our own two clients, the synchronous one (`client`) and the log follower's (`stream`).
"""

import os
import ssl
import threading
from typing import Any

import kubernetes.client
import kubernetes.client.rest
import kubernetes.config
import urllib3

_config: Any = kubernetes.config  # untyped
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


class NoCredentials(Exception):  # noqa: N818
    """Neither in a pod nor a usable kubeconfig."""


class Credentials:
    """Address, TLS set-up and a token that is read again when it is due. Shared by threads."""

    def __init__(self, configuration: Any, namespace: str) -> None:
        self._configuration = configuration
        self._lock = threading.Lock()
        self.namespace = namespace  # the pod's own, or the kubeconfig context's

    @classmethod
    def load(cls, kubeconfig: str | None = None, context: str | None = None) -> "Credentials":
        """In a pod (and neither argument given) its service account, else the kubeconfig (``None``: as kubectl
        finds it, by KUBECONFIG or in the home directory).

        Raises:
            NoCredentials: saying what was looked for.
        """
        configuration = kubernetes.client.Configuration()
        try:
            if kubeconfig is None and context is None and os.path.exists(_NAMESPACE_FILE):
                _config.load_incluster_config(client_configuration=configuration)
                with open(_NAMESPACE_FILE, encoding="utf-8") as file:
                    return cls(configuration, file.read().strip())
            _config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)
            return cls(configuration, _context_namespace(kubeconfig, context))
        except (_config.ConfigException, OSError) as error:
            raise NoCredentials(f"no credentials for the API server: {error}") from error

    @property
    def server(self) -> str:
        """https://host:port, without a slash at the end."""
        return str(self._configuration.host).rstrip("/")

    def headers(self) -> dict[str, str]:
        """The Authorization header of this moment; none with a client certificate."""
        with self._lock:  # the refresh hook writes what it reads
            for key in ("BearerToken", "authorization"):  # the package's newer and older name
                value = self._configuration.get_api_key_with_prefix(key)
                if value:
                    scheme, _, token = value.strip().partition(" ")
                    return {"Authorization": f"Bearer {token}" if scheme.lower() == "bearer" else value.strip()}
            if self._configuration.username:
                return {"Authorization": str(self._configuration.get_basic_auth_token())}
            return {}

    def connection(self) -> dict[str, Any]:
        """The same as kopf's ConnectionInfo takes it; asked for again when the server says 401."""
        configuration = self._configuration
        scheme, _, token = self.headers().get("Authorization", "").partition(" ")
        return {
            "server": self.server,
            "ca_path": configuration.ssl_ca_cert,
            "insecure": not configuration.verify_ssl,
            "scheme": scheme or None,
            "token": token or None,
            "certificate_path": configuration.cert_file,
            "private_key_path": configuration.key_file,
        }

    def pool(self, size: int) -> urllib3.PoolManager:
        """A pool of at most ``size`` connections to the server; a request waits for a free one."""
        self._configuration.connection_pool_maxsize = size
        manager: urllib3.PoolManager = kubernetes.client.rest.RESTClientObject(self._configuration).pool_manager
        manager.connection_pool_kw["block"] = True
        return manager

    def ssl_context(self) -> ssl.SSLContext:
        """The same TLS set-up for asyncio."""
        configuration = self._configuration
        context = ssl.create_default_context(
            cafile=configuration.ssl_ca_cert or None, cadata=getattr(configuration, "ca_cert_data", None)
        )
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
        return context

    @property
    def server_hostname(self) -> str | None:
        """The name in the server's certificate, where it is not the address's."""
        return getattr(self._configuration, "tls_server_name", None)


def _context_namespace(kubeconfig: str | None, context: str | None) -> str:
    contexts, active = _config.list_kube_config_contexts(config_file=kubeconfig)
    chosen = next((entry for entry in contexts if entry["name"] == context), active)
    return str((chosen.get("context") or {}).get("namespace") or "default")
