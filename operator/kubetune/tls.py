"""The gateway's certificate: made, kept and renewed by the operator, so that nobody needs cert-manager to begin.

An authority of our own signs it; trials get the authority's certificate in their environment, so it must outlive every
trial, and stands for ten years. Its key is in a Secret of its own that the gateway does not mount. Where the user (or
cert-manager) makes the certificate, settings.tls_manage is False and nothing here writes.
"""

import base64
import dataclasses
import datetime
import ipaddress
import logging
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubetune.api import names
from kubetune.kube import errors, resources
from kubetune.kube.client import Client
from kubetune.settings import Settings

AUTHORITY_DAYS = 3650
LEAF_DAYS = 90
_BACKDATE = datetime.timedelta(minutes=10)  # clocks of nodes differ

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


def make_authority(now: datetime.datetime) -> Pair:
    """A new authority: EC P-256, signs leaves only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubetune gateway CA")])
    certificate = (
        _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(_pem(certificate), _key_pem(key))


def make_leaf(authority: Pair, hosts: Sequence[str], now: datetime.datetime) -> Pair:
    """A server's certificate for ``hosts`` (DNS names and IP addresses), signed by the authority."""
    signer, signer_key = x509.load_pem_x509_certificate(authority.certificate), _load_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubetune gateway")])
    certificate = (
        _builder(name, signer.subject, key.public_key(), now, LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()), critical=False)
        .sign(signer_key, hashes.SHA256())
    )
    return Pair(_pem(certificate), _key_pem(key))


def is_due(certificate: bytes, now: datetime.datetime) -> bool:
    """Whether two thirds of a certificate's life are over."""
    parsed = x509.load_pem_x509_certificate(certificate)
    begin, end = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    return now >= begin + (end - begin) * 2 / 3


def leaf_fault(leaf: Pair, authority: Pair, hosts: Sequence[str], now: datetime.datetime) -> str | None:
    """Why a leaf must be made anew; None: it serves."""
    if not leaf.certificate:
        return "there is none yet"
    try:
        certificate = x509.load_pem_x509_certificate(leaf.certificate)
        key = _load_key(leaf.key)
        signer = x509.load_pem_x509_certificate(authority.certificate)
        names_in_it = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        certificate.verify_directly_issued_by(signer)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the answer is a new one
        return f"it cannot be used: {error or type(error).__name__}"
    if key.public_key() != certificate.public_key():
        return "its key is another certificate's"
    if {_host(host) for host in hosts} != set(names_in_it):
        return f"it is not for {', '.join(hosts)}"
    return "two thirds of its life are over" if is_due(leaf.certificate, now) else None


def authority_fault(authority: Pair, now: datetime.datetime) -> str | None:
    """Why the authority must be made anew; None: it serves."""
    if not authority.certificate:
        return "there is none yet"
    try:
        certificate, key = x509.load_pem_x509_certificate(authority.certificate), _load_key(authority.key)
    except (ValueError, TypeError) as error:
        return f"it cannot be used: {error}"
    if key.public_key() != certificate.public_key():
        return "its key is another certificate's"
    return "two thirds of its life are over" if is_due(authority.certificate, now) else None


def expiry(certificate: bytes) -> float:
    """When a certificate ends, epoch seconds."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()


def hosts(settings: Settings) -> list[str]:
    """Whom the certificate is for: settings.tls_hosts and the host that trials are told to talk to."""
    given = [host.strip() for host in settings.tls_hosts.split(",")]
    told = urllib.parse.urlsplit(settings.gateway_url).hostname or ""
    return list(dict.fromkeys(host for host in (*given, told) if host))


class Keeper:
    """Keeps the two Secrets of the operator's namespace as they should be."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._namespace = settings.namespace
        self._secret = settings.tls_secret
        self._authority_secret = f"{settings.tls_secret}-ca"
        self._manage = settings.tls_manage
        self._plain = settings.gateway_url.startswith("http:")  # development: no certificate at all
        self._hosts = hosts(settings)

    def keep(self, now: datetime.datetime) -> tuple[str | None, float | None]:
        """Make or renew what is due.

        Returns:
            The authority's PEM text that trials are to trust (None: the user's certificate has none, a public one)
            and when the gateway's certificate ends (epoch seconds; None: there is none yet).

        Raises the errors of `kube.errors`.
        """
        if self._plain:
            return None, None
        if not self._manage:
            return self._read_only()
        authority = self._authority(now)
        data, there = self._read(self._secret)
        leaf = Pair(data.get("tls.crt", b""), data.get("tls.key", b""))
        fault = leaf_fault(leaf, authority, self._hosts, now)
        if fault is None and data.get("ca.crt") != authority.certificate:
            fault = "the authority's certificate beside it is not the authority's"
        if fault is not None:
            logger.info("making the gateway's certificate: %s", fault)
            leaf = make_leaf(authority, self._hosts, now)
            secret = {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authority.certificate}
            self._write(self._secret, "kubernetes.io/tls", secret, there, self._owner())
        return authority.certificate.decode(), expiry(leaf.certificate)

    def _read_only(self) -> tuple[str | None, float | None]:
        data, _ = self._read(self._secret)
        certificate = data.get("tls.crt")
        authority = data.get("ca.crt")
        return authority.decode() if authority else None, expiry(certificate) if certificate else None

    def _authority(self, now: datetime.datetime) -> Pair:
        name = self._authority_secret
        data, there = self._read(name)
        authority = Pair(data.get("ca.crt", b""), data.get("ca.key", b""))
        fault = authority_fault(authority, now)
        if fault is None:
            return authority
        logger.info("making the gateway's certificate authority: %s", fault)
        authority = make_authority(now)
        self._write(name, "Opaque", {"ca.crt": authority.certificate, "ca.key": authority.key}, there)
        return authority

    def _owner(self) -> dict[str, str]:
        """The authority's Secret, which the chart brings (empty) and takes away: the leaf's goes with it."""
        _, there = self._read(self._authority_secret)
        uid = (there or {}).get("uid", "")
        return {"apiVersion": "v1", "kind": "Secret", "name": self._authority_secret, "uid": uid}

    def _read(self, name: str) -> tuple[dict[str, bytes], dict[str, Any] | None]:
        """A Secret's data and metadata; None: it is not there."""
        try:
            secret = self._client.get(resources.SECRETS, self._namespace, name)
        except errors.NotFound:
            return {}, None
        data = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
        return data, secret["metadata"]

    def _write(
        self,
        name: str,
        kind: str,
        data: Mapping[str, bytes],
        there: Mapping[str, Any] | None,
        owner: Mapping[str, str] | None = None,
    ) -> None:
        """Create, or replace exactly the version that was read; who came in between wins (Conflict). What others wrote
        into its metadata stays."""
        labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_NAME: "kubetune"}
        metadata: dict[str, Any] = {"name": name, "namespace": self._namespace, "labels": labels}
        if owner:
            metadata["ownerReferences"] = [dict(owner)]
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        body = {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "data": encoded}
        if there is None:
            self._client.create(resources.SECRETS, self._namespace, body)
        else:
            kept = ("labels", "annotations", "ownerReferences", "resourceVersion")
            metadata.update({key: there[key] for key in kept if there.get(key)})
            self._client.replace(resources.SECRETS, self._namespace, name, body)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is no elliptic curve key")
    return key
