"""Ten workflows as they occur: each is a few tasks, and one function that puts their calls together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from jetq import Failure, Jetq, Work, each, group, task

# --- 1 map and reduce: one job for each text, and one for all


@task
async def count_words(text: str) -> dict[str, int]:
    return Counter(text.lower().split())


@task
async def add_up(counts: list[dict[str, int]]) -> dict[str, int]:
    return sum((Counter(each) for each in counts), Counter[str]())


def word_count(texts: Iterable[str]) -> Work[dict[str, int]]:
    return each(count_words, texts) | add_up


# --- 2 fan-out of unknown size: how many segments there are is known when the video has been split


@task
async def split(video: str) -> list[str]:
    return [f"{video}#{number}" for number in range(len(video))]


@task(queue="gpu")
async def transcode(segment: str, codec: str = "av1") -> str:
    return f"{segment}.{codec}"


@task
async def concat(segments: list[str]) -> str:
    return "+".join(segments)


def convert(video: str) -> Work[str]:
    return each(transcode, split.bind(video).out, codec="h264") | concat


# --- 3 ETL with a branch that may fail: the report is made without it


@task
async def extract(source: str) -> list[int]:
    if source == "weather":
        raise ConnectionError("the weather station does not answer")
    return [1, 2, 3]


@task
async def publish(sales: list[int], weather: list[int] | None) -> str:
    return f"{sum(sales)} sold" + (f" at {max(weather)} degrees" if weather else "")


def report() -> Work[str]:
    weather = extract.bind("weather").named("weather").or_else(None)
    return publish.bind(extract.bind("sales").named("sales").out, weather.out)


# --- 4 best effort: each failure is in its place among the values


@task(max_attempts=1)
async def ping(host: str) -> float:
    if "." not in host:
        raise ConnectionError(f"there is no {host}")
    return 0.02


@task
async def summarize(times: list[float | Failure]) -> str:
    failed = [each.message for each in times if isinstance(each, Failure)]
    return f"{len(times) - len(failed)} up; {', '.join(failed)}"


def survey(hosts: Iterable[str]) -> Work[str]:
    return each(ping, hosts).settled() | summarize


# --- 5 nightly: a schedule starts a workflow at each of its times, whose id is `report-<time>`


def every_night(app: Jetq) -> None:
    app.schedule("report", report(), cron="0 2 * * *", tz="UTC")


# --- 6 saga: what was done is undone when a later step has failed


@task
async def book_flight(trip: str) -> str:
    BOOKED.add(f"flight-{trip}")
    return f"flight-{trip}"


@task
async def book_hotel(trip: str) -> str:
    BOOKED.add(f"hotel-{trip}")
    return f"hotel-{trip}"


@task(max_attempts=1)
async def pay(bookings: Sequence[str], cents: int) -> str:
    if cents > 100_000:
        raise PermissionError("the card was declined")
    return " and ".join(bookings)


@task
async def undo(trip: str) -> None:
    BOOKED.difference_update({f"flight-{trip}", f"hotel-{trip}"})  # also what was never booked


def travel(trip: str, cents: int) -> Work[str]:
    bookings = [book_flight.bind(trip).out, book_hotel.bind(trip).out]
    return pay.bind(bookings, cents).on_failure(undo.bind(trip))


BOOKED: set[str] = set()
"""In place of the airline and the hotel."""


# --- 7 a resource that is given back whatever the end


@task
async def start_cluster(name: str) -> None:
    CLUSTERS.add(name)


@task(max_attempts=1)
async def train(name: str, part: int) -> int:
    if part > 3:
        raise MemoryError(f"part {part} is too large for {name}")
    return part * 10


@task
async def stop_cluster(name: str) -> None:
    CLUSTERS.discard(name)


def training(name: str, parts: Iterable[int]) -> Work[list[int]]:
    ready = start_cluster.bind(name)
    trained = group(train.bind(name, part).after(ready) for part in parts)
    return trained.finally_(stop_cluster.bind(name))


CLUSTERS: set[str] = set()
"""In place of machines that cost money."""


# --- 8 groups in a group: each row is reduced as soon as its own tiles are done


@task
async def brightness(tile: int) -> int:
    return tile % 256


@task
async def brightest(values: list[int]) -> int:
    return max(values, default=0)


def brightest_of_all(rows: Iterable[Sequence[int]]) -> Work[int]:
    return group(each(brightness, row) | brightest for row in rows) | brightest


# --- 9 any graph: `.out` where a value is needed, `.after` where only the order counts


@task
async def lint(commit: str) -> None: ...


@task
async def build(commit: str) -> str:
    return f"image-{commit}"


@task
async def check(image: str, suite: str) -> bool:
    return suite != "broken"


@task
async def deploy(image: str, checks: dict[str, bool]) -> str:
    return f"{image} is live" if all(checks.values()) else f"{image} stays"


def release(commit: str) -> Work[str]:
    image = build.bind(commit).after(lint.bind(commit))
    checks = {suite: check.bind(image.out, suite).named(suite).out for suite in ("unit", "slow")}
    return deploy.bind(image.out, checks)


# --- 10 one at a time for each customer: whoever asks while one is open gets that one


@task
async def list_orders(customer: int) -> list[int]:
    return [customer * 10 + number for number in range(3)]


@task
async def copy_order(order: int) -> int:
    return order


@task
async def note_sync(orders: list[int]) -> int:
    return len(orders)


def sync(customer: int) -> tuple[str, bool]:
    work = each(copy_order, list_orders.bind(customer).out).window(50) | note_sync
    workflow = work.delay(key=f"sync:{customer}", expires=3600)
    return workflow.id, workflow.disposition == "stored"
