"""A TCP proxy that can hold back, slow down and cut what passes through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

__all__ = ["Proxy"]

_CHUNK = 64 * 1024
_MOST_UNDER_WAY = 1000


class _Way:
    """One direction: whether anything passes, how late, how much a second, and what becomes of it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.delay = 0.0
        self.rate: float | None = None
        self.tamper: Callable[[bytes], bytes] | None = None


class Proxy:
    """Listens on a port of its own and passes on to `target`, the port of a server that may come and go."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.up, self.down = _Way(), _Way()
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many pass through it now."""
        return len(self._connections)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def hold(self, *, up: bool, down: bool) -> None:
        """A black hole: what is sent that way does not arrive before `heal`, and nobody is told."""
        for way, held in ((self.up, up), (self.down, down)):
            (way.open.clear if held else way.open.set)()

    def slow(self, *, delay: float = 0.0, rate: float | None = None) -> None:
        """Seconds by which everything is late, and bytes a second, both ways."""
        for way in (self.up, self.down):
            way.delay, way.rate = delay, rate

    def lie(self, tamper: Callable[[bytes], bytes]) -> None:
        """Have what the server says pass through `tamper`."""
        self.down.tamper = tamper

    def heal(self) -> None:
        self.hold(up=False, down=False)
        self.slow()
        self.down.tamper = None

    def reset(self) -> None:
        """Cut every connection, with an RST to both ends."""
        for connection, writers in list(self._connections.items()):
            for writer in writers:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()
            connection.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        writers = self._connections[connection] = [writer]
        try:
            there, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(to_server)
            ways = [self._pass(reader, to_server, self.up), self._pass(there, writer, self.down)]
            async with asyncio.TaskGroup() as group:
                for way in ways:
                    group.create_task(way)
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass  # either end is gone, and the other is to see that
        finally:
            del self._connections[connection]
            for each in writers:
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: _Way) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_UNDER_WAY)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(reader, way, under_way))
            group.create_task(self._write(writer, way, under_way))

    async def _read(
        self, reader: asyncio.StreamReader, way: _Way, under_way: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(_CHUNK):
            await under_way.put((loop.time() + way.delay, data))
        raise ConnectionResetError

    async def _write(
        self, writer: asyncio.StreamWriter, way: _Way, under_way: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - loop.time())
            await way.open.wait()
            if way.tamper is not None:
                data = way.tamper(data)
            for piece in _pieces(data, way.rate):
                if way.rate:
                    await asyncio.sleep(len(piece) / way.rate)
                writer.write(piece)
                await writer.drain()


def _pieces(data: bytes, rate: float | None) -> list[bytes]:
    """What passes at once: all of it, or a tenth of a second's worth."""
    size = len(data) if rate is None else max(1, int(rate / 10))
    return [data[start : start + size] for start in range(0, len(data), size)]
