"""The faults of a chaos run. Each is over, and noted if it allows a job to run again, when it returns."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import nats.errors
import nats.js.errors
from nats.js.client import JetStreamContext

from jetq import BrokerError, Rejected
from tests.faults.chaos.checker import Attempt
from tests.faults.chaos.hostile import plant
from tests.faults.chaos.producers import store_big
from tests.faults.chaos.scene import LEASE, QUEUE, WORKERS, Scene
from tests.servers import NatsCluster, NatsServer

__all__ = ["POISONED", "Fault", "menu"]

Fault = Callable[[Scene], Awaitable[None]]

POISONED = "tests.apps.chaos_tasks.poisoned"
_poisons = itertools.count()

_LONGEST = 8.0
"""Seconds of the longest fault."""

_SKEWS = (300.0, -300.0, 3600.0, -3600.0, 0.3)

_USUAL, _LESS = "1MB", "128KB"
"""Of `max_payload`. The less still is enough for each message of the run but the big ones."""

_RELOADED = "Reloaded: max_payload"

_JOBS = f"{QUEUE.upper()}_JOBS"
_FILL = "FILL"
_CHUNK = 512 * 1024


def menu(nodes: int) -> Mapping[str, tuple[int, Fault]]:
    """The faults for so many nodes by name, each with its weight."""
    common: dict[str, tuple[int, Fault]] = {
        "worker killed": (8, _kill_worker),
        "worker stopped in order": (6, _stop_worker),
        "worker paused": (4, _pause_worker),
        "worker with a wrong clock": (2, _skew_worker),
        "worker's clock set": (3, _set_clock),
        "connections reset": (4, _reset),
        "black hole": (4, _black_hole),
        "slow network": (2, _slow),
        "hostile messages": (4, plant),
        "poison": (1, _poison),
        "consumer deleted": (1, _delete_consumer),
        "consumer edited": (2, _edit_consumer),
        "results deleted": (1, _delete_results),
        "state deleted": (1, _delete_state),
        "payload limit lowered": (5, _lower_limit),
    }
    if nodes == 1:
        return common | {
            "server killed": (4, _kill_server),
            "server restarted": (4, _restart_server),
            "server paused": (2, _pause_server),
            "lame duck": (1, _lame_duck),
            "store full": (2, _fill_store),
        }
    return common | {
        "leader killed": (6, _kill_leader),
        "node restarted": (4, _restart_node),
        "leader paused": (3, _pause_leader),
        "leader stepped down": (3, _step_down),
        "all nodes killed": (1, _kill_all),
    }


# --- workers


async def _kill_worker(scene: Scene) -> None:
    place, since = scene.random.randrange(WORKERS), time.time()
    worker = scene.workers[place]
    worker.kill()
    scene.disturbed("worker killed", since, pid=worker.pid)
    scene.workers[place] = scene.start_worker(place)


async def _stop_worker(scene: Scene) -> None:
    """A deploy: what it gives back may have been handed out to it a moment before it was told."""
    place, since = scene.random.randrange(WORKERS), time.time()
    worker = scene.workers[place]
    worker.stop()
    scene.workers[place] = scene.start_worker(place)
    await asyncio.to_thread(worker.wait, 30.0)
    scene.disturbed("worker stopped in order", since, pid=worker.pid)


async def _pause_worker(scene: Scene) -> None:
    worker, since = scene.random.choice(scene.workers), time.time()
    os.kill(worker.pid, signal.SIGSTOP)
    await _for_a_while(scene)
    os.kill(worker.pid, signal.SIGCONT)
    scene.disturbed("worker paused", since, pid=worker.pid)


async def _poison(scene: Scene) -> None:
    """A job that ends each worker that reads its arguments, until it is dead: the scene notes their ends."""
    n = next(_poisons)
    attempt = Attempt(f"poison-{n}", n, POISONED, "stored")
    app = scene.app()
    try:
        await app.aenqueue(app.call(POISONED, {"poison": {"n": n}}, queue=QUEUE, id=attempt.id))
    except Rejected:
        attempt = replace(attempt, outcome="rejected")
    except BrokerError:
        attempt = replace(attempt, outcome="unknown")
    finally:
        await app.session.aclose()
    scene.attempts.append(attempt)


async def _skew_worker(scene: Scene) -> None:
    """In the place of one that ends in order comes one whose machine's clock is off. Nothing may run early, late or
    twice for that."""
    place, since = scene.random.randrange(WORKERS), time.time()
    worker = scene.workers[place]
    worker.stop()
    scene.workers[place] = scene.start_worker(place, skew=scene.random.choice(_SKEWS))
    await asyncio.to_thread(worker.wait, 30.0)
    scene.disturbed("worker stopped in order", since, pid=worker.pid)


async def _set_clock(scene: Scene) -> None:
    """The clock of a worker's machine is set while it works, and set right again."""
    worker = scene.random.choice(scene.workers)
    os.kill(worker.pid, signal.SIGUSR1)
    await _for_a_while(scene)
    os.kill(worker.pid, signal.SIGUSR1)


# --- the network


async def _reset(scene: Scene) -> None:
    scene.random.choice(scene.links).reset()


async def _black_hole(scene: Scene) -> None:
    place, since = scene.random.randrange(WORKERS + 1), time.time()
    way = scene.random.choice(["up", "down", "both"])
    scene.links[place].hold(up=way != "down", down=way != "up")
    await _for_a_while(scene)
    scene.links[place].heal()
    if place < WORKERS:
        scene.disturbed("black hole", since, pid=scene.workers[place].pid)


async def _slow(scene: Scene) -> None:
    link = scene.random.choice(scene.links)
    link.slow(scene.random.uniform(0.01, 0.2))
    await asyncio.sleep(scene.random.uniform(0.5, 3.0))
    link.heal()


# --- one server


async def _kill_server(scene: Scene) -> None:
    since = time.time()
    await _down(scene, scene.nodes[0], NatsServer.kill)
    scene.disturbed("server killed", since)


async def _restart_server(scene: Scene) -> None:
    since = time.time()
    await _down(scene, scene.nodes[0], NatsServer.stop)
    scene.disturbed("server restarted", since)


async def _pause_server(scene: Scene) -> None:
    since = time.time()
    scene.nodes[0].pause()
    await _for_a_while(scene)
    scene.nodes[0].resume()
    scene.disturbed("server paused", since)


async def _lame_duck(scene: Scene) -> None:
    """The server sends its clients away, and ends."""
    since = time.time()
    os.kill(scene.nodes[0].pid, signal.SIGUSR2)
    await _for_a_while(scene)
    await asyncio.to_thread(scene.nodes[0].stop)
    await asyncio.to_thread(scene.nodes[0].start)
    scene.disturbed("lame duck", since)


async def _fill_store(scene: Scene) -> None:
    """Another stream takes all the space there is; then it goes."""
    async with scene.jetstream() as jetstream:
        await jetstream.add_stream(name=_FILL, subjects=["fill"])
        try:
            while True:
                await jetstream.publish("fill", bytes(_CHUNK))
        except nats.js.errors.APIError:
            pass  # full
        try:
            while True:  # and the last gaps
                await jetstream.publish("fill", bytes(1024))
        except nats.js.errors.APIError:
            pass
        await asyncio.sleep(scene.random.uniform(0.5, 4.0))
        await jetstream.delete_stream(_FILL)


async def _lower_limit(scene: Scene) -> None:
    """Less may be in one message than the jobs have that stand and are just being stored; something else happens
    meanwhile, and then it may be as much again."""
    at_work: list[Fault] = [_for_a_while, _kill_worker, _stop_worker, _pause_worker, _reset, _black_hole]
    broken: list[Fault] = [_kill_server, _restart_server] if len(scene.nodes) == 1 else [_kill_leader, _restart_node]
    meanwhile = scene.random.choice(at_work + broken)
    app = scene.app(scene.links[-1].urls)
    try:
        await store_big(scene, app, 4)
        await asyncio.gather(store_big(scene, app, 3), _limit_payload(scene, _LESS))
        try:
            await meanwhile(scene)
            await store_big(scene, app, 2)
        finally:
            await _limit_payload(scene, _USUAL)
    finally:
        await app.session.aclose()


async def _limit_payload(scene: Scene, most: str) -> None:
    """Tell the servers, one after another: they read their configuration again, or are started again."""
    restarted = scene.random.random() < 0.5
    since = time.time()
    for node in scene.nodes:
        node.limit_payload(most)
        if restarted:
            await _down(scene, node, NatsServer.stop)
        else:
            await _reload(node)
    if restarted and len(scene.nodes) == 1:
        scene.disturbed("server restarted", since)


async def _reload(node: NatsServer) -> None:
    """Return once it goes by its new configuration."""
    before = node.log.count(_RELOADED)
    node.reload()
    async with asyncio.timeout(_LONGEST):
        while node.log.count(_RELOADED) == before:
            await asyncio.sleep(0.02)


# --- three servers: what one of them forgets the others know, so only the end of all allows a second run


async def _kill_leader(scene: Scene) -> None:
    await _down(scene, _leader(scene), NatsServer.kill)


async def _restart_node(scene: Scene) -> None:
    await _down(scene, scene.random.choice(scene.nodes), NatsServer.stop)


async def _pause_leader(scene: Scene) -> None:
    leader = _leader(scene)
    leader.pause()
    await _for_a_while(scene)
    leader.resume()
    await _whole(scene)


async def _step_down(scene: Scene) -> None:
    async with scene.jetstream() as jetstream:
        await jetstream._api_request(f"$JS.API.STREAM.LEADER.STEPDOWN.{_JOBS}", timeout=5.0)
    await _whole(scene)


async def _kill_all(scene: Scene) -> None:
    since = time.time()
    for node in scene.nodes:
        node.kill()
    await asyncio.sleep(scene.random.uniform(0.0, 2.0))
    for node in scene.nodes:
        await asyncio.to_thread(node.start)
    await _whole(scene)
    scene.disturbed("all nodes killed", since)


# --- streams


async def _delete_consumer(scene: Scene) -> None:
    """What was handed out is handed out again by the consumer that the workers make."""
    since = time.time()
    async with scene.jetstream() as jetstream:
        await jetstream.delete_consumer(_JOBS, QUEUE)
    scene.disturbed("consumer deleted", since)


async def _edit_consumer(scene: Scene) -> None:
    """Somebody shortens `ack_wait`, and sets it back: at once what was not renewed lately is handed out again."""
    since = time.time()
    async with scene.jetstream() as jetstream:
        config = (await jetstream.consumer_info(_JOBS, QUEUE)).config
        for ack_wait in (LEASE / 3, LEASE):
            config.ack_wait = ack_wait
            await jetstream.add_consumer(_JOBS, config)
            await _for_a_while(scene)
    scene.disturbed("consumer edited", since)


async def _delete_results(scene: Scene) -> None:
    async with scene.jetstream() as jetstream:
        await jetstream.delete_stream("JETQ_RESULTS")


async def _delete_state(scene: Scene) -> None:
    """Not while a job stays that has no room: what is known of it besides its message stands there."""
    async with scene.jetstream() as jetstream:
        async with asyncio.timeout(_LONGEST):
            while await _kept(jetstream):
                await asyncio.sleep(0.2)
        await jetstream.delete_stream("JETQ_STATE")


async def _kept(jetstream: JetStreamContext) -> bool:
    """Whether there are jobs that stay for want of room."""
    wanted = b'{"subjects_filter":"jetq._state.kept.>"}'
    info = await jetstream._api_request("$JS.API.STREAM.INFO.JETQ_STATE", wanted, timeout=5.0)
    return bool(info["state"].get("subjects"))


# --- what they share


async def _down(scene: Scene, node: NatsServer, end: Callable[[NatsServer], None]) -> None:
    await asyncio.to_thread(end, node)
    await asyncio.sleep(scene.random.uniform(0.0, 2.0))
    await asyncio.to_thread(node.start)
    await _whole(scene)


async def _for_a_while(scene: Scene) -> None:
    await asyncio.sleep(scene.random.uniform(0.5, _LONGEST))


async def _whole(scene: Scene) -> None:
    """Until every node is current: one fault at a time, or a majority is gone."""
    if isinstance(scene.broker, NatsCluster):
        await asyncio.to_thread(scene.broker.wait)


def _leader(scene: Scene) -> NatsServer:
    assert isinstance(scene.broker, NatsCluster)
    return scene.broker.leader(_JOBS) or scene.random.choice(scene.nodes)
