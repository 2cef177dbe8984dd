"""Several servers and providers at once: which route a mail takes, and the order of the other routes if that one
fails."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, force_setattr, replace

from jetq import JetqError, SettingsError
from jetq_email.errors import Unsendable
from jetq_email.message import Envelope
from jetq_email.message.address import parse_mailbox
from jetq_email.message.lines import one_word
from jetq_email.providers import PROVIDERS, Provider, check_client
from jetq_email.rates import RateText
from jetq_email.secret import Secret
from jetq_email.settings import PREFIX, TRANSPORTS, Auth, Settings, Tls, check

__all__ = ["Route", "Router", "Smtp", "check_route", "in_turn", "router_of"]


class Smtp(Struct, frozen=True, kw_only=True):
    """An SMTP server for a route. The fields are those of `Settings`; everything else is as the environment says. rate:
    how many mails the server gets from all workers together."""

    name: ClassVar[str] = "smtp"

    host: str
    port: int | None = None
    user: str | None = None
    password: Secret | None = None
    auth: Auth = "auto"
    token: Secret | None = None
    token_command: Secret | None = None
    tls: Tls = "starttls"
    ca_file: Path | None = None
    rate: RateText | None = None

    def within(self, settings: Settings) -> Settings:
        """Return `settings` with this server in them. Raises SettingsError for an impossible value."""
        made = replace(settings, **{name: value for name, value in asdict(self).items() if name != "rate"})
        check(made)
        return made


class Route(Struct, frozen=True):
    """One way for mails.

    through: an SMTP server, a provider, or the name of a transport that the environment sets up, such as "postmark".
    weight: the route's share of the mails, relative to the other routes. name: how log lines call the route; by default
    the name of its provider. domains, tags: the route takes only mails whose From has one of these domains, and that
    have one of these tags.
    """

    through: Smtp | Provider | str
    weight: float = 1.0
    name: str = ""
    domains: str | Sequence[str] = ()
    tags: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        through = _checked(self.through)
        name = _word(self.name or (through if isinstance(through, str) else through.name), "route")
        if not (isinstance(self.weight, int | float) and 0 < self.weight < math.inf):
            raise SettingsError(
                f"route {name}: a weight is a number above 0, not {self.weight!r}",
                hint="give what is to get no mails while others take them as the fallback",
            )
        force_setattr(self, "through", through)
        force_setattr(self, "name", name)
        force_setattr(self, "domains", tuple(_domain(each, name) for each in _several(self.domains)))
        force_setattr(self, "tags", tuple(_word(each, f"route {name}: tag") for each in _several(self.tags)))

    @property
    def is_special(self) -> bool:
        """Whether the route takes only mails of certain domains or tags."""
        return bool(self.domains or self.tags)

    def takes(self, envelope: Envelope) -> bool:
        """Return whether the route takes `envelope`."""
        domain, tag = envelope.fields.sender.domain, envelope.fields.tag
        return (not self.domains or domain in _several(self.domains)) and (not self.tags or tag in _several(self.tags))


class Router:
    """Sends mails by several routes, in proportion to their weights.

    fallback: takes a mail when none of the routes does. allow_duplicates: if it is unknown whether a route has a mail,
    the next route sends it too, so that somebody may get it twice; without it, that mail stays with the first route.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        fallback: Route | Smtp | Provider | str | None = None,
        allow_duplicates: bool = False,
    ) -> None:
        if not isinstance(routes, Sequence) or not routes or not all(isinstance(each, Route) for each in routes):
            raise SettingsError("a Router takes a list of at least one Route", hint='Router([Route("smtp")])')
        self.routes = tuple(routes)
        self.fallback = fallback if fallback is None or isinstance(fallback, Route) else Route(fallback)
        self.allow_duplicates = allow_duplicates
        names = [each.name for each in self.all]
        for name in names:
            if names.count(name) > 1:
                raise SettingsError(
                    f"two routes are called {name}", hint=f'tell them apart: Route(..., name="{name}-2")'
                )

    @property
    def all(self) -> tuple[Route, ...]:
        """All routes, the fallback last."""
        return self.routes if self.fallback is None else (*self.routes, self.fallback)


def in_turn(router: Router, envelope: Envelope) -> list[Route]:
    """Return the routes that take `envelope`, in the order in which they are tried. It is the same in each attempt of a
    job.

    Routes for the mail's domain or tag come before routes for all mails, and the fallback comes last. Within each of
    the two groups the order is random by weight. Adding or removing a route moves no mails between the other routes.
    """
    taking = [each for each in router.routes if each.takes(envelope)]
    special = [each for each in taking if each.is_special]
    general = [each for each in taking if not each.is_special]
    last = [router.fallback] if router.fallback is not None and router.fallback.takes(envelope) else []
    return [*_drawn(special, envelope.job_id), *_drawn(general, envelope.job_id), *last]


def router_of(settings: Settings) -> Router | None:
    """Return a Router of the routes in the settings; None if the settings name only one transport. Raises
    SettingsError."""
    if settings.routes:
        return Router(
            [Route(name, weight) for name, weight in settings.routes],
            fallback=settings.fallback,
            allow_duplicates=settings.allow_duplicates,
        )
    if settings.transport is not None and ":" in settings.transport:
        return _imported(settings.transport)
    return None


def check_route(route: Route, settings: Settings) -> None:
    """Raise SettingsError if the environment does not set `route` up, or if its server's settings are impossible."""
    through = route.through
    try:
        if isinstance(through, Smtp):
            through.within(settings)
        elif isinstance(through, str):
            settings.check_set_up(through)
        if not isinstance(through, Smtp) and (not isinstance(through, str) or through in PROVIDERS):
            check_client()
    except SettingsError as error:
        raise SettingsError(f"route {route.name}: {error.message}", hint=error.hint) from None


# --- the draw


def _drawn(routes: Sequence[Route], job_id: str) -> list[Route]:
    """Return the routes in a random order by weight (weighted rendezvous hashing). Each route has a number for the job,
    and the smallest number comes first.

    The numbers are distributed like waiting times for events whose rate is the weight. So each route comes first as
    often as its weight says.
    """
    return sorted(routes, key=lambda route: -math.log(_chance(f"{job_id}\n{route.name}")) / route.weight)


def _chance(text: str) -> float:
    """Return a number between 0 and 1, both excluded, that depends only on `text`."""
    drawn = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 12
    return (drawn + 0.5) / 2**52  # 53 bits, as many as a float has


# --- what is given in Python


def _several(given: str | Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


def _domain(text: str, route: str) -> str:
    """Return `text` in the form that an address's domain has: in lower case and ASCII."""
    try:
        return parse_mailbox("anybody@" + text, "domains").domain
    except (Unsendable, TypeError):
        raise SettingsError(
            f"route {route}: {text!r} is no domain", hint="what stands behind the @ in From: shop.example"
        ) from None


def _word(text: Any, what: str) -> str:
    """Return `text` if it is a word, as tags and the names of routes are, because logs and records hold them."""
    try:
        return one_word(text, what)
    except (Unsendable, TypeError):
        raise SettingsError(f"{what} {text!r}: not one word", hint="1 to 64 letters, digits, '-' and '_'") from None


def _checked(through: Any) -> Any:
    """Return `through` if it is a way for mails. Its fields are checked here, because Python itself accepts any
    value."""
    if isinstance(through, str):
        if through not in TRANSPORTS:
            raise SettingsError(f"there is no transport {through!r}", hint=f"known: {', '.join(TRANSPORTS)}")
        return through
    if not isinstance(through, Smtp) and not all(hasattr(through, each) for each in ("name", "build", "read")):
        raise SettingsError(
            f"a route goes through a provider, an Smtp or the name of one, not {type(through).__name__}",
            hint='Route(Smtp(host="smtp.example.com")), Route("postmark")',
        )
    if not isinstance(through, Struct):
        return through
    try:
        return msgspec.convert(asdict(through), type(through), dec_hook=_converted)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).rpartition(" - at `$.")
        raise SettingsError(f"{type(through).__name__}({place.rstrip('`')}=...): {problem or error}") from None


def _converted(kind: type, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if kind in (Secret, Path) and isinstance(value, str):
        return kind(value)
    raise TypeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _imported(place: str) -> Router:
    """Import and return the Router at `module:name`. Raises SettingsError."""
    said = f"{PREFIX}TRANSPORT={place}"
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except JetqError as error:
        raise SettingsError(f"{said}: {error.message}", hint=error.hint) from error
    except (Exception, SystemExit) as error:  # importing a module may raise any error
        raise SettingsError(
            f"{said}: {module} cannot be imported: {type(error).__name__}: {error}",
            hint="is it installed, or below the directory in which the worker is started?",
        ) from error
    if not isinstance(found, Router):
        what = "there is nothing of that name" if found is None else f"that is {type(found).__name__}, and no Router"
        raise SettingsError(f"{said}: {what}", hint=f"{name or 'mail'} = Router([...]) in {module}")
    return found
