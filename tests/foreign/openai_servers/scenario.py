"""A room whose LLMs are models of a server that somebody else wrote.

Needs SALON_ADDRESS (host:port) and SALON_PROVIDER: the provider that the server asks. Both servers know the models
`fast`, `slow` and `busy`, which limits the rate, and no other.
"""

import os
import pathlib
import sys
import time
from types import SimpleNamespace

import grpc

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

from session import Event, Scenario, Session, check, equal, generate  # noqa: E402

PROVIDER = os.environ["SALON_PROVIDER"]
TEXT = "Grüße 👋🏽 from a server that somebody else wrote."
# The answer that is interrupted takes half a minute.
SOON = 5.0

pb, services = generate(str(HERE.parents[2] / "proto"), "room/v1/room.proto")
channel = grpc.insecure_channel(os.environ["SALON_ADDRESS"])
rooms = services.RoomServiceStub(channel)
scenario = Scenario()
step = scenario.step
at = SimpleNamespace()


@step(f"{PROVIDER}: a room with a model of each kind")
def _():
    llms = [pb.LLMConfig(id=name, model=name, display_name=name) for name in ("fast", "slow", "busy", "nobody")]
    llms.append(pb.LLMConfig(id="usual", display_name="usual"))
    request = pb.CreateRoomRequest(name=PROVIDER, llms=llms, created_by="ann")
    room_id = rooms.CreateRoom(request, timeout=15).room_id
    call = channel.stream_stream(
        "/room.v1.RoomService/RoomSession",
        request_serializer=pb.ClientMessage.SerializeToString,
        response_deserializer=None,
    )
    at.ann = Session(pb.ClientMessage, call, lambda raw: Event(pb.ServerEvent.FromString(raw), raw), "ann")
    at.ann.command(join=pb.JoinRoom(room_id=room_id, user_id="ann", display_name="Ann"))
    at.ann.expect("room_state")


def ask(llm_id):
    """Mentions the LLM and gives the id of the message."""
    return at.ann.done(message=pb.SendMessage(content=f"@{llm_id} hello")).event_id


def end_of(asked):
    return at.ann.expect("llm_done", lambda e: e.body.reply_to == asked).body


def streamed(done):
    chunks = [e.body for e in at.ann.all if e.kind == "llm_chunk" and e.body.message_id == done.message_id]
    return "".join(chunk.content for chunk in chunks)


@step(f"{PROVIDER}: an answer comes in chunks, is kept, and says what it cost")
def _():
    for llm_id in ("fast", "usual"):
        done = end_of(ask(llm_id))
        equal(done.reason, pb.LLM_DONE_REASON_COMPLETED, f"how it ended ({done.error_code})")
        equal(streamed(done), TEXT, "what was streamed")
        kept = at.ann.expect("message_received", lambda e: e.body.message.message_id == done.message_id)
        equal(kept.body.message.content, TEXT, "what was kept")
        equal(done.provider, PROVIDER, "who made it")
        check(done.usage.prompt_tokens > 0 and done.usage.completion_tokens > 0, "usage:", str(done.usage))
        check(0 < done.first_token_ms <= done.duration_ms + 1, "times:", done.first_token_ms, done.duration_ms)


@step(f"{PROVIDER}: a model that is not there fails with a clear code, and without the server's words")
def _():
    done = end_of(ask("nobody"))
    equal((done.reason, done.error_code), (pb.LLM_DONE_REASON_FAILED, "bad_request"), "how it ended")
    check(done.error_message and "nobody" not in done.error_message, "the message:", done.error_message)


@step(f"{PROVIDER}: a limit of the rate is told as one")
def _():
    done = end_of(ask("busy"))
    equal((done.reason, done.error_code), (pb.LLM_DONE_REASON_FAILED, "rate_limited"), "how it ended")


@step(f"{PROVIDER}: an interrupt ends a slow answer at once, and what had come is kept")
def _():
    asked = ask("slow")
    at.ann.expect("llm_chunk", lambda e: e.body.reply_to == asked)
    began = time.monotonic()
    at.ann.done(interrupt=pb.InterruptLLM(llm_id="slow"))
    done = end_of(asked)
    equal(done.reason, pb.LLM_DONE_REASON_INTERRUPTED, "how it ended")
    check(time.monotonic() - began < SOON, "it went on for seconds")
    kept = at.ann.expect("message_received", lambda e: e.body.message.message_id == done.message_id).body.message
    check(kept.partial and "This".startswith(kept.content[:4]), "what was kept:", kept.content)
    equal(end_of(ask("fast")).reason, pb.LLM_DONE_REASON_COMPLETED, "the next answer")


scenario.run()
