"""A shop that takes orders over HTTP and works on them in jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from jetq import BrokerError, Jetq, JobNotFound, Reject

jobs = Jetq()


class Line(BaseModel):
    sku: str
    price: Decimal = Field(gt=0)


class Order(BaseModel):
    number: int
    customer: str
    lines: list[Line] = Field(min_length=1)


class Receipt(BaseModel):
    order: int
    total: Decimal


class Accepted(BaseModel):
    job: str


class Progress(BaseModel):
    state: str
    receipt: Receipt | None = None


@jobs.task(queue="billing", max_attempts=5, timeout=20)
async def charge(order: Order) -> Receipt:
    total = sum((line.price for line in order.lines), Decimal())
    if total > 10_000:
        raise Reject("somebody has to look at orders above 10,000")
    return Receipt(order=order.number, total=total)


@asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncGenerator[None, None]:
    yield
    await jobs.session.aclose()


web = FastAPI(lifespan=lifespan)


@web.post("/orders", status_code=202)
async def take(order: Order) -> Accepted:
    try:
        # The id makes the request safe to repeat: the second one finds the job of the first.
        job = await charge.options(id=f"order-{order.number}").adelay(order)
    except BrokerError as error:
        raise HTTPException(503, "no order can be taken at the moment") from error
    return Accepted(job=job.id)


@web.get("/orders/{number}")
async def look(number: int) -> Progress:
    job = jobs.job(f"order-{number}", queue="billing")
    try:
        state = await job.astatus()
    except JobNotFound as error:
        raise HTTPException(404, "there is no such order") from error
    return Progress(state=state, receipt=await job.aresult() if state == "succeeded" else None)
