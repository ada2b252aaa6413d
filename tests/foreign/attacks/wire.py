"""HTTP/2 written by hand: frames that no well-behaved library sends, over own sockets."""

import contextlib
import os
import socket

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HOST, PORT = os.environ.get("SALON_ATTACKED", os.environ["SALON_ADDRESS"]).rsplit(":", 1)
# A peer that closes is noticed when something is sent; one that stands still must not hold up the attack.
TIMEOUT = 5.0


def call_headers(path="/room.v1.RoomService/RoomSession"):
    """The headers of a call, without an entry in any table: every stream can have the same bytes."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return encoder.encode(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ],
        huffman=False,
    )


HEADERS = call_headers()


def frame(kind, stream, flags=(), **fields):
    made = kind(stream, **fields)
    for flag in flags:
        made.flags.add(flag)
    return made.serialize()


def headers(stream, flags=("END_HEADERS",), block=HEADERS):
    return frame(HeadersFrame, stream, flags, data=block)


def reset(stream):
    return frame(RstStreamFrame, stream, error_code=8)


def window_update(stream, increment):
    return frame(WindowUpdateFrame, stream, window_increment=increment)


def data(stream, payload=b"", flags=()):
    return frame(DataFrame, stream, flags, data=payload)


def ping():
    return frame(PingFrame, 0, opaque_data=b"12345678")


def settings(values=None):
    return frame(SettingsFrame, 0, settings=values or {})


def continuation(stream, block):
    return frame(ContinuationFrame, stream, data=block)


class Connection:
    """One connection: sends bytes until the server has had enough, and knows whether it said so."""

    def __init__(self, values=None):
        self.socket = socket.create_connection((HOST, int(PORT)), timeout=TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # By the server; or by us, because it does not read any more.
        self.closed = False
        self.stuck = False
        self.goaway = None
        self.received = b""
        self.send(PREFACE + settings(values))

    def send(self, payload):
        """Whether the server still takes it."""
        if self.closed or self.stuck:
            return False
        try:
            self.socket.sendall(payload)
        except TimeoutError:
            self.stuck = True
            self.socket.close()
            return False
        except OSError:
            self.closed = True
        self.drain()
        return not self.closed

    def drain(self, wait=0.0):
        """Reads what is there, and looks for GOAWAY."""
        if self.stuck:
            return
        with contextlib.suppress(OSError):
            self.socket.settimeout(wait or 0.000001)
            try:
                while True:
                    part = self.socket.recv(1 << 16)
                    if not part:
                        self.closed = True
                        break
                    self.received += part
                    self.parse()
            except (TimeoutError, BlockingIOError):
                pass
            except OSError:
                self.closed = True
            self.socket.settimeout(TIMEOUT)

    def parse(self):
        while len(self.received) >= 9:
            head, length = Frame.parse_frame_header(memoryview(self.received[:9]))
            if len(self.received) < 9 + length:
                return
            if isinstance(head, GoAwayFrame):
                head.parse_body(memoryview(self.received[9 : 9 + length]))
                self.goaway = head.error_code
            self.received = self.received[9 + length :]

    def over(self):
        """Whether nothing can be sent any more."""
        return self.closed or self.stuck

    def close(self):
        self.socket.close()
