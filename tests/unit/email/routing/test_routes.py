"""Routes as they are written, in Python and in the environment, and the order in which a mail goes by them."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import jetq_email
from jetq import SettingsError
from jetq_email import Postmark, Route, Router, Secret, Smtp
from jetq_email.message import Email, Envelope, compose
from jetq_email.routing.opening import check_transport
from jetq_email.routing.routes import in_turn, router_of
from jetq_email.settings import parse
from jetq_email.tasks import jetq_ready

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UNTYPED: Any = jetq_email
"""For what a type checker refuses already."""

MEMORY, FILE = Route("memory"), Route("file")


def mail(job_id: str = "j1", *, domain: str = "shop.example", tag: str | None = None) -> Envelope:
    return compose(
        Email(to=["a@example.com"], subject="s", text="t", sender=f"s@{domain}", tag=tag), job_id=job_id, date=WHEN
    )


def names(router: Router, envelope: Envelope) -> list[str]:
    return [each.name for each in in_turn(router, envelope)]


# --- the order


def test_mails_go_by_the_weights() -> None:
    router = Router([Route("memory", weight=6), Route("file", weight=3), Route("console", weight=1)])
    envelope = mail()
    first = Counter(names(router, replace(envelope, job_id=f"email:{number}"))[0] for number in range(10_000))
    for name, share in (("memory", 0.6), ("file", 0.3), ("console", 0.1)):
        assert abs(first[name] / 10_000 - share) < 0.02  # four times the spread of what is drawn by chance


def test_what_the_first_route_had_goes_to_the_others_by_their_weights() -> None:
    router = Router([Route("memory", weight=6), Route("file", weight=3), Route("console", weight=1)])
    turns = [names(router, replace(mail(), job_id=f"email:{number}")) for number in range(10_000)]
    second = Counter(turn[1] for turn in turns if turn[0] == "memory")
    assert abs(second["file"] / second.total() - 0.75) < 0.03


def test_every_attempt_of_a_job_goes_the_same_way() -> None:
    """Guarantee: a repeat goes to the provider that has had the mail, in whatever process it is made."""
    for number in range(100):
        one, other = (Router([Route("memory", weight=2), FILE, Route("console")]) for _ in range(2))
        job = f"email:{number}"
        assert names(one, mail(job)) == names(other, mail(job))
    assert names(one, mail("email:1")) == ["console", "memory", "file"]  # and in whatever version


def test_a_route_that_is_added_moves_only_its_own_mails() -> None:
    before, after = Router([MEMORY, FILE]), Router([MEMORY, FILE, Route("console")])
    for number in range(200):
        envelope = replace(mail(), job_id=str(number))
        then, now = names(before, envelope)[0], names(after, envelope)[0]
        assert now in (then, "console")


def test_the_fallback_is_the_last() -> None:
    router = Router([Route("memory", weight=0.001), Route("file", weight=0.001)], fallback="console")
    assert all(names(router, replace(mail(), job_id=str(number)))[-1] == "console" for number in range(50))


def test_routes_for_a_domain_or_a_tag_stand_before_those_for_all() -> None:
    router = Router(
        [
            Route("memory", weight=1000),
            Route("file", domains=("shop.example", "Straße.de")),
            Route("console", tags="receipts"),
        ]
    )
    assert names(router, mail(domain="other.example")) == ["memory"]
    assert names(router, mail(domain="sub.shop.example")) == ["memory"]
    assert names(router, mail(domain="shop.example")) == ["file", "memory"]
    assert names(router, mail(domain="straße.de")) == ["file", "memory"]
    assert names(router, mail(domain="other.example", tag="receipts")) == ["console", "memory"]
    assert sorted(names(router, mail(tag="receipts"))[:2]) == ["console", "file"]


def test_a_route_with_domains_and_tags_takes_what_has_both() -> None:
    router = Router([Route("file", domains="shop.example", tags="receipts")], fallback=Route("memory", tags="receipts"))
    assert names(router, mail(tag="receipts")) == ["file", "memory"]
    assert names(router, mail()) == []
    assert names(router, mail(domain="other.example", tag="receipts")) == ["memory"]


# --- in Python


def test_a_route_is_called_as_its_provider_or_as_it_says() -> None:
    postmark = Postmark(token=Secret("t"))
    assert [
        each.name for each in (Route(postmark), Route(Smtp(host="h")), Route("file"), Route(postmark, name="eu"))
    ] == [
        "postmark",
        "smtp",
        "file",
        "eu",
    ]


def test_a_key_that_is_given_as_a_text_is_a_secret_from_there_on() -> None:
    token: Any = "canary"
    route = Route(Postmark(token=token))
    assert isinstance(route.through, Postmark) and route.through.token == Secret("canary")
    assert "canary" not in repr(route)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNTYPED.Route("postmrak"), "there is no transport 'postmrak'"),
        (lambda: UNTYPED.Route(object()), "or the name of one, not object"),
        (lambda: UNTYPED.Route("file", weight=0), "route file: a weight is a number above 0, not 0"),
        (lambda: UNTYPED.Route("file", weight=float("nan")), "a weight"),
        (lambda: UNTYPED.Route("file", weight=float("inf")), "a weight"),
        (lambda: UNTYPED.Route("file", weight="9"), "a weight"),
        (lambda: UNTYPED.Route("file", domains=("not a domain",)), "'not a domain' is no domain"),
        (lambda: UNTYPED.Route("file", domains=(7,)), "7 is no domain"),
        (lambda: UNTYPED.Route("file", tags=("no tag",)), "route file: tag 'no tag': not one word"),
        (lambda: UNTYPED.Route("file", tags=(7,)), "route file: tag 7: not one word"),
        (lambda: UNTYPED.Route("file", name="a.b"), "route 'a.b': not one word"),
        (lambda: UNTYPED.Route(UNTYPED.Smtp(host="h", port="587")), r"Smtp\(port=\.\.\.\): Expected `int"),
        (lambda: UNTYPED.Route(UNTYPED.Postmark(token=7)), r"Postmark\(token=\.\.\.\): Expected `Secret`, got `int`"),
        (lambda: UNTYPED.Router([]), "a list of at least one Route"),
        (lambda: UNTYPED.Router(["file"]), "a list of at least one Route"),
        (lambda: UNTYPED.Router([FILE, MEMORY], fallback="file"), "two routes are called file"),
    ],
)
def test_a_route_that_cannot_be_is_refused_where_it_is_written(make: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make()


# --- in the environment


def test_routes_from_the_environment_alone() -> None:
    router = router_of(
        parse(
            {
                "JETQ_EMAIL_ROUTES": "postmark:9, file:0.5,console",
                "JETQ_EMAIL_FALLBACK": "smtp",
                "JETQ_EMAIL_POSTMARK_TOKEN": "t",
                "JETQ_EMAIL_HOST": "h",
                "JETQ_EMAIL_ALLOW_DUPLICATES": "true",
            }
        )
    )
    assert router is not None and router.allow_duplicates
    assert [(each.name, each.weight) for each in router.routes] == [("postmark", 9), ("file", 0.5), ("console", 1)]
    assert router.fallback == Route("smtp")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ROUTES": "postmark:0"}, "JETQ_EMAIL_ROUTES: '0' is no weight for postmark"),
        ({"ROUTES": "postmark:many"}, "JETQ_EMAIL_ROUTES: 'many' is no weight"),
        ({"ROUTES": "postmark:-1"}, "no weight"),
        ({"ROUTES": "postmark:nan"}, "no weight"),
        ({"ROUTES": "postmark:"}, "no weight"),
        ({"ROUTES": "postmrak:9"}, "JETQ_EMAIL_ROUTES: there is no transport 'postmrak'; known: smtp, ses, "),
        ({"ROUTES": "file,"}, "there is no transport ''"),
        (
            {"ROUTES": "postmark:9"},
            "JETQ_EMAIL_ROUTES: transport postmark is not set up; set JETQ_EMAIL_POSTMARK_TOKEN",
        ),
        ({"ROUTES": "smtp"}, "JETQ_EMAIL_ROUTES: transport smtp needs a server; set JETQ_EMAIL_HOST"),
        ({"ROUTES": "file,file"}, "two routes are called file"),
        ({"ROUTES": "file", "FALLBACK": "smtp"}, "JETQ_EMAIL_FALLBACK: transport smtp needs a server"),
        ({"ROUTES": "file", "TRANSPORT": "file"}, "JETQ_EMAIL_ROUTES and JETQ_EMAIL_TRANSPORT are both set"),
        ({"FALLBACK": "file"}, "JETQ_EMAIL_FALLBACK goes with JETQ_EMAIL_ROUTES"),
        ({"TRANSPORT": "file", "ALLOW_DUPLICATES": "1"}, "JETQ_EMAIL_ALLOW_DUPLICATES goes with JETQ_EMAIL_ROUTES"),
        ({"TRANSPORT": "fiel"}, "JETQ_EMAIL_TRANSPORT: there is no transport 'fiel'"),
    ],
)
def test_routes_that_cannot_be_are_refused_by_the_name_of_the_variable(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_transport(parse({f"JETQ_EMAIL_{name}": value for name, value in environ.items()}))
    assert message in f"{caught.value.message}; {caught.value.hint}"


# --- a Router of the application


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the module `shop_mail`, and has it chosen."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("JETQ_EMAIL_TRANSPORT", "shop_mail:mail")

    def write(text: str) -> None:
        (tmp_path / "shop_mail.py").write_text(f"from jetq_email import *\n{text}\n")

    yield write
    sys.modules.pop("shop_mail", None)


def test_a_router_of_the_application(application: Any) -> None:
    application("mail = Router([Route(Postmark(token=Secret('t')), weight=9)], fallback=Smtp(host='h'))")
    jetq_ready()
    router = router_of(parse({"JETQ_EMAIL_TRANSPORT": "shop_mail:mail"}))
    assert router is not None and [each.name for each in router.all] == ["postmark", "smtp"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "raise RuntimeError('oh')",
            "JETQ_EMAIL_TRANSPORT=shop_mail:mail: shop_mail cannot be imported: RuntimeError: oh",
        ),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("mail = Route('nothing')", "JETQ_EMAIL_TRANSPORT=shop_mail:mail: there is no transport 'nothing'"),
        ("", "there is nothing of that name"),
        ("mail = 7", "that is int, and no Router"),
        ("mail = Router([Route('postmark')])", "route postmark: transport postmark is not set up"),
        ("mail = Router([Route(Smtp(host='h', user='u'))])", "route smtp: JETQ_EMAIL_USER and JETQ_EMAIL_PASSWORD go"),
        ("mail = Router([Route('file')], fallback=Smtp(host='smtp://h'))", "route smtp: JETQ_EMAIL_HOST is a host's"),
    ],
)
def test_a_worker_is_told_what_lacks_before_it_takes_a_mail(application: Any, text: str, message: str) -> None:
    application(text)
    with pytest.raises(SettingsError) as caught:
        jetq_ready()
    assert message in caught.value.message
