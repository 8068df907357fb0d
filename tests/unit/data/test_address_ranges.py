"""The guard's table: every range of IANA's special-purpose registries at both ends, and what IPv6 carries inside."""

import ipaddress

import pytest

from phisight.data.fetch.addresses import checked_address, redacted
from phisight.data.fetch.special_purpose import NOT_PUBLIC_IPV4, NOT_PUBLIC_IPV6, is_public
from phisight.data.images.rejection import Rejection
from tests.helpers.inside_addresses import FORMS, REGISTRY, SINGLE, carrying


@pytest.mark.parametrize("text", REGISTRY)
def test_a_range_is_refused_at_both_ends(text: str) -> None:
    network = ipaddress.ip_network(text)
    assert not is_public(network[0])
    assert not is_public(network[-1])
    assert not is_public(network[3 % network.num_addresses])


@pytest.mark.parametrize("text", [*NOT_PUBLIC_IPV4, *NOT_PUBLIC_IPV6])
def test_what_lies_beside_a_range_is_public_unless_another_range_holds_it(text: str) -> None:
    network = ipaddress.ip_network(text)
    tables = [ipaddress.ip_network(other) for other in (*NOT_PUBLIC_IPV4, *NOT_PUBLIC_IPV6)]
    kind = type(network[0])
    outside = [int(network[0]) - 1, int(network[-1]) + 1]
    for number in outside:
        if not 0 <= number < 2**network.max_prefixlen:
            continue
        address = kind(number)
        held = any(address.version == table.version and address in table for table in tables)
        assert is_public(address) is not held, address


@pytest.mark.parametrize("text", SINGLE)
def test_single_addresses_of_clouds_and_of_newer_registries(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.0.0.192"])
@pytest.mark.parametrize("form", FORMS)
def test_what_carries_an_inside_address_is_refused(inner: str, form: str) -> None:
    assert not is_public(carrying(inner, form))


@pytest.mark.parametrize("text", ["1.1.1.1", "223.255.255.255", "2606:4700::1111", "2a00::1", "2002:808:808::1"])
def test_the_public_internet_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "https://user:PW@host/a.jpg?token=PW#PW=1", "//user:PW@host/a.jpg?token=PW", "HTTPS://user:PW@host:8443/a?PW",
        "http://PW@host/a", "s3://KEY:PW@bucket/a?versionId=PW", "host/a.jpg?token=PW", "user:PW@host/a.jpg",
        "https:/user:PW@host/a?token=PW", "http://host/a;session=PW", "http://host/a#access_token=PW",
        "data:image/png;base64,PW", "ftp://user:PW@host/a", "http://user:PW@[::1]:99999/a",
    ],
)  # fmt: skip
def test_no_secret_is_shown_whatever_the_form(text: str) -> None:
    assert "PW" not in redacted(text)


def test_an_address_without_a_scheme_is_https() -> None:
    assert checked_address("//cdn.example/a.jpg") == "https://cdn.example/a.jpg"
    assert redacted("//cdn.example/a.jpg?x=1") == "//cdn.example/a.jpg"


SECRET_BUCKETS = [
    "s3://KEY:PW@bucket/a.jpg",
    "s3://KEY:PW/x+y@bucket/a.jpg",
    "s3://KEY:12/PW@bucket/a.jpg",
    "S3://PW@bucket/a.jpg",
    "gs://user:PW@bucket/a.jpg",
    "gcs://bucket:443/a.jpg",
    "s3://a::https://user:PW@inner/b.jpg",
    "s3://bucket/a::file://user:PW@b",
    "gs://bucket/a.zip::gs://b",
    "simplecache::s3://KEY:PW@bucket/a.jpg",
    "https::s3://KEY:PW@bucket/a.jpg",
]


@pytest.mark.parametrize("text", SECRET_BUCKETS)
def test_a_bucket_s_address_carries_no_credentials_and_no_chain(text: str) -> None:
    with pytest.raises(Rejection) as caught:
        checked_address(text)
    assert caught.value.kind == "bad_url"
    assert "PW" not in caught.value.reason + redacted(text)


def test_a_bucket_s_address_is_read_as_it_is() -> None:
    for text in ("s3://my.bucket-1/a b@2x.jpg", "gs://b/a:1.jpg", "https://cdn.example/@user/a.jpg"):
        assert checked_address(text) == text
        assert redacted(text) == text
    assert redacted("https://me:12/PW@host/a.jpg") == "https://host/a.jpg"
