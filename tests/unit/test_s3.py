"""Presigned addresses against AWS' published example and botocore's.

botocore itself cannot be installed beside the kubernetes client (they ask for different versions of python-dateutil),
so its answers are here: version 1.44.5, `generate_presigned_url` with signature_version s3v4 and addressing_style path.
"""

import datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from kubetune import s3
from kubetune.settings import Settings

# From "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)", Amazon S3 API Reference.
EXAMPLE = datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC)
ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def test_the_published_example() -> None:
    address = "https://examplebucket.s3.amazonaws.com/test.txt"
    signed = s3.presign("GET", address, "us-east-1", ACCESS, SECRET, EXAMPLE, 86400)
    assert signed == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@pytest.mark.parametrize(
    ("method", "key", "query", "expected"),
    [
        (
            "GET",
            "/kubetune/0b1e-4f/17/1-40-a9.tar",
            {},
            "685910cd307709e968e6110b02b8db60e1a6fd313816795cc41701839c078f7d",
        ),
        (
            "PUT",
            "/team a/ü+(1)~/17/2-n3-a9.tar",
            {},
            "221b177d449b9e4a7818212ea301fd92b83ca0b2071585bc952569fc7751347a",
        ),
        ("DELETE", "/k/1.tar", {}, "ff99b979ef79228a4164086e8cb6ca13d3a29de447c7620d2894f3b45d3a0150"),
        (
            "GET",
            "",
            {"list-type": "2", "prefix": "a b/&=/", "encoding-type": "url"},
            "33624ee5c90a1ab3fa742639e2a14fd211b7ff20cfd4e57171487d8a3adf80b9",
        ),
    ],
)
def test_as_botocore_signs(method: str, key: str, query: dict[str, str], expected: str) -> None:
    address = f"http://127.0.0.1:9000/models{key}"
    now = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
    signed = s3.presign(method, address, "eu-west-9", "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", now, 3600, query)
    assert signed.endswith(f"&X-Amz-Signature={expected}")
    assert parse_qs(urlsplit(signed).query)["X-Amz-Date"] == ["20260301T120000Z"]


def test_a_store_is_what_the_settings_say() -> None:
    assert s3.Store.of(Settings()) is None
    given = Settings(s3_endpoint="https://minio:9000/", s3_bucket="b", s3_prefix="/k/", s3_access_key=ACCESS)
    store = s3.Store.of(given)
    assert store is not None
    assert store.key("uid", "3/1-4-x") == "k/uid/3/1-4-x.tar"
    assert store.url("GET", "k/a").startswith("https://minio:9000/b/k/a?X-Amz-")
    assert store.url("GET", "", {"list-type": "2"}).startswith("https://minio:9000/b?X-Amz-")
    assert "hush" not in repr(s3.Store("e", "b", "r", "p", "a", "hush"))
    assert "hush" not in repr(Settings(s3_secret_key="hush"))
