"""What the Python scenarios share: generated code, one stream with everything it got, and the steps.

Nothing here sleeps as a condition: every wait is for an event, and has a timeout that names what did not come.
"""

import importlib
import os
import queue
import sys
import tempfile
import threading
import time
import traceback

import grpc
from grpc_tools import protoc

# Generous: a wait ends when its event comes, and a busy machine must not fail a run.
TIMEOUT = 15.0
# A scenario builds on its earlier steps: after so many failures the rest says nothing new.
MAX_FAILURES = 5


class Failure(Exception):
    """A step found something else than it should."""


def check(condition, message, *values):
    """Fails the step unless the condition holds; the values are shown."""
    if not condition:
        raise Failure(" ".join([message, *map(repr, values)]))


def equal(got, want, what):
    check(got == want, f"{what}: got {got!r}, want {want!r}")


def generate(root, proto):
    """Generates code from a .proto at run time, and gives the message and the service module."""
    out = tempfile.mkdtemp(prefix="salon-generated-")
    bundled = os.path.join(os.path.dirname(protoc.__file__), "_proto")
    code = protoc.main(
        ["protoc", f"-I{root}", f"-I{bundled}", f"--python_out={out}", f"--grpc_python_out={out}", proto]
    )
    check(code == 0, "protoc failed for", proto)
    sys.path.insert(0, out)
    name = proto.removesuffix(".proto").replace("/", ".")
    return importlib.import_module(f"{name}_pb2"), importlib.import_module(f"{name}_pb2_grpc")


def refused(code, call, *args):
    """Makes a unary call that must fail with a status, and gives the status's message."""
    try:
        answer = call(*args, timeout=TIMEOUT)
    except grpc.RpcError as error:
        equal(error.code(), code, f"status ({error.details()})")
        return error.details()
    raise Failure(f"must be refused with {code}, answered {answer}")


class Event:
    """One server event, and the bytes it came as when they are known."""

    def __init__(self, message, raw=None):
        self.message, self.raw = message, raw
        self.kind = message.WhichOneof("payload")

    @property
    def body(self):
        return getattr(self.message, self.kind)

    def __getattr__(self, name):
        return getattr(self.message, name)


class Session:
    """One RoomSession stream: what is sent, and every event in the order it came.

    `open_stream` takes an iterator of client messages and gives the call; `wrap` makes an Event of what the
    call yields.
    """

    def __init__(self, client_message, open_stream, wrap, name):
        self.name = name
        self.all = []
        self.status = None
        self.details = ""
        self._client_message = client_message
        self._pending = []
        self._changed = threading.Condition()
        self._outgoing = queue.SimpleQueue()
        self._requests = 0
        self._wrap = wrap
        self._call = open_stream(iter(self._outgoing.get, None))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        status, details = grpc.StatusCode.OK, ""
        try:
            for item in self._call:
                event = self._wrap(item)
                with self._changed:
                    self.all.append(event)
                    self._pending.append(event)
                    self._changed.notify_all()
        except grpc.RpcError as error:
            status, details = error.code(), error.details()
        with self._changed:
            self.status, self.details = status, details
            self._changed.notify_all()

    def send(self, request_id=None, **payload):
        """Sends one client message; the keyword is the member of the oneof."""
        message = self._client_message(**payload)
        if request_id is not None:
            message.request_id = request_id
        self._outgoing.put(message)

    def half_close(self):
        self._outgoing.put(None)

    def cancel(self):
        self._call.cancel()

    def take(self, where, what):
        """Takes the first event that was not taken yet and fits; waits for it when there is none."""
        deadline = time.monotonic() + TIMEOUT
        with self._changed:
            while True:
                for index, event in enumerate(self._pending):
                    if where(event):
                        return self._pending.pop(index)
                left = deadline - time.monotonic()
                if left <= 0 or self.status is not None:
                    waiting = ", ".join(str(event.kind) for event in self._pending[-12:])
                    end = f"; the stream ended with {self.status}: {self.details}" if self.status else ""
                    raise Failure(f"{self.name}: no {what} came; not taken: {waiting or 'nothing'}{end}")
                self._changed.wait(left)

    def expect(self, kind, where=lambda event: True):
        return self.take(lambda event: event.kind == kind and where(event), kind)

    def drop(self, kind):
        """Forgets the events of a kind that have come and were not taken."""
        with self._changed:
            self._pending = [event for event in self._pending if event.kind != kind]

    def ended(self):
        """Waits for the end of the stream and gives its status."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.status is not None, TIMEOUT):
                raise Failure(f"{self.name}: the stream does not end")
        return self.status

    def has(self, kind, where=lambda event: True):
        """Whether an event of this kind has come and was not taken."""
        with self._changed:
            return any(event.kind == kind and where(event) for event in self._pending)

    def command(self, **payload):
        """Sends a command with a request_id of its own and gives the id."""
        self._requests += 1
        request_id = f"{self.name}-{self._requests}"
        self.send(request_id, **payload)
        return request_id

    def done(self, **payload):
        """Sends a command and waits for its ack."""
        return self.answer(self.command(**payload))

    def answer(self, request_id):
        """Waits for the ack of a command; an error in its place fails the step."""
        event = self._reply(request_id)
        check(event.kind == "ack", f"{self.name}: {request_id} was refused:", str(event.body))
        return event.body

    def denied(self, code, **payload):
        """Sends a command that must be refused with a code, and gives the error."""
        return self.rejection(self.command(**payload), code)

    def rejection(self, request_id, code):
        event = self._reply(request_id)
        equal(event.kind, "error", f"{self.name}: the answer to {request_id}")
        equal(event.body.code, code, f"{self.name}: the code ({event.body.message})")
        return event.body

    def lasting(self):
        """The events of the room's log that this stream got after its join."""
        with self._changed:
            return [e for e in self.all if e.seq and e.kind not in ("room_state", "resumed")]

    def _reply(self, request_id):
        return self.take(
            lambda event: event.kind in ("ack", "error") and event.request_id == request_id,
            f"answer to {request_id}",
        )


def explain(error):
    """What went wrong and where, in lines; the whole trace only of what is no finding about the server."""
    calls = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    where = " < ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in reversed(calls[1:]))
    if isinstance(error, Failure):
        return [*str(error).splitlines(), where]
    if isinstance(error, grpc.RpcError):
        return [f"{error.code()}: {error.details()}", where]
    return "".join(traceback.format_exception(error)).splitlines()


class Scenario:
    """Steps in order, each printed as it ends."""

    def __init__(self):
        self.steps, self.passed, self.failed = [], 0, 0

    def step(self, name):
        def add(function):
            self.steps.append((name, function))
            return function

        return add

    def run(self):
        """Runs every step and leaves the process: open streams must not hold it up."""
        print(f"1..{len(self.steps)}", flush=True)
        for number, (name, function) in enumerate(self.steps, 1):
            if self.failed >= MAX_FAILURES:
                self.failed += 1
                print(f"not ok {number:02} {name} # not run", flush=True)
                continue
            try:
                function()
            except Exception as error:
                self.failed += 1
                print(f"not ok {number:02} {name}", flush=True)
                for line in explain(error):
                    print(f"  # {line}", flush=True)
            else:
                self.passed += 1
                print(f"ok {number:02} {name}", flush=True)
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        os._exit(1 if self.failed else 0)
