"""What `helm test` runs in the cluster; the standard library only."""

import os
import ssl
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/"
AUTHORITY = "/etc/kubetune/tls/ca.crt"


def status(url: str, authority: str | None = None, token: str | None = None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    context = ssl.create_default_context(cafile=authority)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def check(what: str, seen: int, expected: int) -> None:
    print(f"{'ok  ' if seen == expected else 'FAIL'} {what}: HTTP {seen}", flush=True)
    if seen != expected:
        raise SystemExit(f"{what}: expected HTTP {expected}")


with open(ACCOUNT + "token", encoding="utf-8") as file:
    own_token = file.read()
trusted = AUTHORITY if os.path.exists(AUTHORITY) else None
check("the operator is ready", status(os.environ["OPERATOR"] + "/readyz"), 200)
check("the gateway is ready", status(os.environ["GATEWAY"] + "/readyz"), 200)
check("the gateway turns away who has no token, by TLS", status(os.environ["GATEWAY_TLS"] + "/v1/trial", trusted), 401)
kinds = "https://kubernetes.default.svc/apis/kubetune.dev/v1alpha1"
check("the API server knows Experiments", status(kinds, ACCOUNT + "ca.crt", own_token), 200)
