"""An HTTP/2 client made of the `h2` package, which also judges what the gateway sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
from gateway_world import KEY, F, World

HEADERS = {
    ":method": "POST", ":scheme": "http", ":path": "/test.Echo/Unary", ":authority": "localhost", "te": "trailers",
    "content-type": "application/grpc", "authorization": f"Bearer {KEY}", "function-id": F,
}  # fmt: skip


@dataclass
class Exchange:
    """What came on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None
    ended: bool = False


class H2Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.exchanges: dict[int, Exchange] = {}
        self.goaway: int | None = None
        self.acknowledge = True
        """Whether what was read is given back to the windows."""
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def request(self, body: bytes | None = b"\0\0\0\0\x02hi", **headers: str) -> int:
        """Start a call; underscores in names stand for dashes, and an empty value leaves a header out."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = HEADERS | {(f":{name}" if f":{name}" in HEADERS else name): value for name, value in given.items()}
        number = self.h2.get_next_available_stream_id()
        self.exchanges[number] = Exchange()
        self.h2.send_headers(number, [(k, v) for k, v in fields.items() if v], end_stream=body is None)
        if body is not None:
            self.h2.send_data(number, body, end_stream=True)
        self.flush()
        return number

    async def until_ended(self, number: int) -> Exchange:
        """The exchange, once it is over."""
        async with asyncio.timeout(5):
            while not (self.exchanges[number].ended or self.goaway is not None):
                if not await self.read():
                    break
        return self.exchanges[number]

    async def read(self) -> bool:
        """Take what comes next; False at the end of the connection."""
        try:
            data = await self.reader.read(65536)
        except ConnectionError:
            return False
        for event in self.h2.receive_data(data):
            self._take(event)
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.flush()
        return bool(data)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=number, headers=headers):
                self.exchanges[number].headers = _text(headers)
            case h2.events.TrailersReceived(stream_id=number, headers=headers):
                self.exchanges[number].trailers = _text(headers)
            case h2.events.DataReceived(stream_id=number, data=data, flow_controlled_length=size):
                self.exchanges[number].body += data
                if self.acknowledge:
                    self.h2.acknowledge_received_data(size, number)
            case h2.events.StreamEnded(stream_id=number):
                self.exchanges[number].ended = True
            case h2.events.StreamReset(stream_id=number, error_code=code):
                self.exchanges[number].reset = int(code)
                self.exchanges[number].ended = True
            case h2.events.ConnectionTerminated(error_code=code):
                self.goaway = int(code or 0)
            case _:
                pass


def _text(headers: object) -> dict[str, str]:
    assert isinstance(headers, list)
    return {str(name): str(value) for name, value in headers}


@contextlib.asynccontextmanager
async def an_h2_client(world: World) -> AsyncIterator[H2Client]:
    """A connection to the gRPC port."""
    client = H2Client(*await asyncio.open_connection("127.0.0.1", world.grpc_port))
    try:
        yield client
    finally:
        client.writer.close()
        await asyncio.sleep(0)
