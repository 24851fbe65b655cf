"""The gateway's certificate: what it says, that a TLS client takes it, and when it is made anew."""

import datetime
import pathlib
import socket
import ssl
import threading
from typing import Any

import pytest
from cryptography import x509

from kubetune import tls
from kubetune.kube import errors, resources
from kubetune.settings import Settings

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
SETTINGS = Settings(namespace="kt", tls_hosts="gw.kt.svc, 10.0.0.1", gateway_url="https://gw.kt.svc:8443")


class Secrets:
    """The two calls of the API server that a keeper makes, with resourceVersions that count."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []

    def get(self, resource: resources.Resource, namespace: str, name: str) -> dict[str, Any]:
        assert (resource, namespace) == (resources.SECRETS, "kt")
        if name not in self.objects:
            raise errors.NotFound(404, "NotFound", name)
        return self.objects[name]

    def create(self, resource: resources.Resource, namespace: str, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        if name in self.objects:
            raise errors.AlreadyExists(409, "AlreadyExists", name)
        self._store(name, body)

    def replace(self, resource: resources.Resource, namespace: str, name: str, body: dict[str, Any]) -> None:
        if body["metadata"].get("resourceVersion") != self.objects[name]["metadata"]["resourceVersion"]:
            raise errors.Conflict(409, "Conflict", name)
        self._store(name, body)

    def _store(self, name: str, body: dict[str, Any]) -> None:
        self.writes.append(name)
        version = str(len(self.writes))
        uid = self.objects.get(name, {}).get("metadata", {}).get("uid", f"uid-{version}")
        self.objects[name] = {**body, "metadata": {**body["metadata"], "resourceVersion": version, "uid": uid}}


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def keeper(secrets: Secrets) -> tls.Keeper:
    return tls.Keeper(secrets, SETTINGS)  # type: ignore[arg-type]


def test_the_leaf_is_for_the_hosts_for_ninety_days_and_the_authority_for_ten_years() -> None:
    authority = tls.make_authority(NOW)
    leaf = tls.make_leaf(authority, ["gw.kt.svc", "10.0.0.1"], NOW)
    certificate = x509.load_pem_x509_certificate(leaf.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gw.kt.svc"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    assert certificate.not_valid_after_utc == NOW + 90 * DAY
    assert x509.load_pem_x509_certificate(authority.certificate).not_valid_after_utc == NOW + 3650 * DAY
    assert tls.expiry(leaf.certificate) == (NOW + 90 * DAY).timestamp()


@pytest.mark.parametrize(("host", "trusted"), [("localhost", True), ("elsewhere", False)])
def test_a_strict_tls_client_takes_it_for_its_hosts_only(tmp_path: pathlib.Path, host: str, trusted: bool) -> None:
    now = datetime.datetime.now(datetime.UTC)
    authority = tls.make_authority(now)
    leaf = tls.make_leaf(authority, ["localhost"], now)
    (tmp_path / "crt").write_bytes(leaf.certificate)
    (tmp_path / "key").write_bytes(leaf.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    client = ssl.create_default_context(cadata=authority.certificate.decode())
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT  # Python 3.13's default
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as connection:
                connection.sendall(b"hello")
        except ssl.SSLError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=host) as connection:
            got = connection.recv(5) == b"hello"
    except ssl.SSLCertVerificationError:
        got = False
    ours.close()
    thread.join()
    assert got is trusted


@pytest.mark.parametrize(
    ("days", "hosts", "fault"),
    [
        (0, ["gw.kt.svc"], None),
        (59, ["gw.kt.svc"], None),
        (61, ["gw.kt.svc"], "two thirds of its life are over"),
        (0, ["other.svc"], "it is not for other.svc"),
        (0, ["gw.kt.svc", "other.svc"], "it is not for gw.kt.svc, other.svc"),
    ],
)
def test_when_a_leaf_is_made_anew(days: int, hosts: list[str], fault: str | None) -> None:
    authority = tls.make_authority(NOW)
    leaf = tls.make_leaf(authority, ["gw.kt.svc"], NOW)
    assert tls.leaf_fault(leaf, authority, hosts, NOW + days * DAY) == fault


def test_a_leaf_of_another_authority_or_with_another_key_does_not_serve() -> None:
    authority, other = tls.make_authority(NOW), tls.make_authority(NOW)
    leaf, second = (tls.make_leaf(authority, ["x"], NOW) for _ in range(2))
    assert "it cannot be used" in str(tls.leaf_fault(leaf, other, ["x"], NOW))
    mixed = tls.Pair(leaf.certificate, second.key)
    assert tls.leaf_fault(mixed, authority, ["x"], NOW) == "its key is another certificate's"
    assert "it cannot be used" in str(tls.leaf_fault(tls.Pair(b"no PEM", leaf.key), authority, ["x"], NOW))
    assert tls.leaf_fault(tls.Pair(b"", b""), authority, ["x"], NOW) == "there is none yet"


def test_both_secrets_are_made_once_and_then_left_alone(keeper: tls.Keeper, secrets: Secrets) -> None:
    first = keeper.keep(NOW)
    assert secrets.writes == ["kubetune-gateway-tls-ca", "kubetune-gateway-tls"]
    assert keeper.keep(NOW + DAY) == first
    assert len(secrets.writes) == 2
    leaf = secrets.objects["kubetune-gateway-tls"]
    assert leaf["type"] == "kubernetes.io/tls"
    assert sorted(leaf["data"]) == ["ca.crt", "tls.crt", "tls.key"]
    assert sorted(secrets.objects["kubetune-gateway-tls-ca"]["data"]) == ["ca.crt", "ca.key"]
    assert first[1] == (NOW + 90 * DAY).timestamp()


def test_the_empty_secret_that_the_chart_brought_is_filled_and_owns_the_leaf(
    keeper: tls.Keeper, secrets: Secrets
) -> None:
    metadata = {"name": "kubetune-gateway-tls-ca", "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    secrets.create(resources.SECRETS, "kt", {"metadata": metadata, "type": "Opaque"})
    keeper.keep(NOW)
    authority, leaf = secrets.objects["kubetune-gateway-tls-ca"], secrets.objects["kubetune-gateway-tls"]
    assert sorted(authority["data"]) == ["ca.crt", "ca.key"]
    assert authority["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "Helm"}
    assert [owner["uid"] for owner in leaf["metadata"]["ownerReferences"]] == [authority["metadata"]["uid"]]


def test_a_renewed_leaf_is_of_the_same_authority_so_running_trials_still_trust_it(
    keeper: tls.Keeper, secrets: Secrets
) -> None:
    trusted, _ = keeper.keep(NOW)
    later, expiry = keeper.keep(NOW + 61 * DAY)
    assert secrets.writes[2:] == ["kubetune-gateway-tls"]
    assert later == trusted
    assert expiry == (NOW + 151 * DAY).timestamp()


def test_a_lost_authority_makes_both_new(keeper: tls.Keeper, secrets: Secrets) -> None:
    trusted, _ = keeper.keep(NOW)
    del secrets.objects["kubetune-gateway-tls-ca"]
    later, _ = keeper.keep(NOW)
    assert later != trusted
    assert secrets.writes[2:] == ["kubetune-gateway-tls-ca", "kubetune-gateway-tls"]
    assert keeper.keep(NOW)[0] == later


def test_another_operator_that_wrote_in_between_wins(keeper: tls.Keeper, secrets: Secrets) -> None:
    keeper.keep(NOW)
    read = secrets.get

    def overtaken(resource: resources.Resource, namespace: str, name: str) -> dict[str, Any]:
        found = read(resource, namespace, name)
        secrets.objects[name] = {**found, "metadata": {**found["metadata"], "resourceVersion": "99"}}
        return found

    secrets.get = overtaken  # type: ignore[method-assign]
    with pytest.raises(errors.Conflict):
        keeper.keep(NOW + 61 * DAY)


def test_a_certificate_of_the_users_is_read_and_never_written(secrets: Secrets) -> None:
    settings = Settings(namespace="kt", tls_manage=False)
    keeper = tls.Keeper(secrets, settings)  # type: ignore[arg-type]
    assert keeper.keep(NOW) == (None, None)
    tls.Keeper(secrets, SETTINGS).keep(NOW)  # type: ignore[arg-type]
    writes = len(secrets.writes)
    trusted, expiry = keeper.keep(NOW + 80 * DAY)
    assert trusted is not None
    assert trusted.startswith("-----BEGIN CERTIFICATE-----")
    assert expiry == (NOW + 90 * DAY).timestamp()
    assert len(secrets.writes) == writes


def test_the_host_that_trials_are_told_is_always_in_it() -> None:
    settings = Settings(tls_hosts="a.svc, b.svc", gateway_url="https://c.svc:8443")
    assert tls.hosts(settings) == ["a.svc", "b.svc", "c.svc"]


def test_a_gateway_without_tls_needs_no_certificate(secrets: Secrets) -> None:
    settings = Settings(namespace="kt", gateway_url="http://localhost:8080")
    assert tls.Keeper(secrets, settings).keep(NOW) == (None, None)  # type: ignore[arg-type]
    assert secrets.objects == {}
