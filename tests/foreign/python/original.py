"""A client of the contract that Salon grew out of, unchanged: its own stub, its own package, its own service name.

The stub is generated from `tests/foreign/original/room.proto` and calls `/api.room.Room/…`. Events and fields that
it does not know arrive as unknown ones and must not disturb it. Needs SALON_ADDRESS.
"""

import os
import pathlib
import uuid
from types import SimpleNamespace

import grpc
from grpc import StatusCode

from session import TIMEOUT, Event, Scenario, Session, check, equal, generate, refused

ROOT = pathlib.Path(__file__).resolve().parents[3]

pb, services = generate(str(ROOT / "tests" / "foreign" / "original"), "room.proto")
current, _ = generate(str(ROOT / "proto"), "room/v1/room.proto")
channel = grpc.insecure_channel(os.environ["SALON_ADDRESS"])
rooms = services.RoomStub(channel)
scenario = Scenario()
step = scenario.step
at = SimpleNamespace()


def open_session(name):
    return Session(pb.ClientMessage, rooms.RoomSession, Event, name)


def both(kind, where=lambda event: True):
    first, second = at.ann.expect(kind, where), at.bob.expect(kind, where)
    equal(second.body, first.body, f"{kind} on the other's stream")
    return first.body


def say(session, text, **more):
    session.send(message=pb.SendMessage(content=text, **more))
    return both("message_received", lambda e: e.body.message.content == text).message


@step("contract: every original message, field and value keeps its name, number and type")
def _():
    old, new = pb.DESCRIPTOR, current.DESCRIPTOR
    equal(len(old.message_types_by_name), 47, "original messages")
    for name, message in old.message_types_by_name.items():
        check(name in new.message_types_by_name, "there is no message", name)
        fields = new.message_types_by_name[name].fields_by_name
        for field in message.fields:
            check(field.name in fields, "there is no field", f"{name}.{field.name}")
            now = fields[field.name]
            shape = lambda f: (
                f.number,
                f.type,
                f.is_repeated,
                f.has_presence,
                f.containing_oneof and f.containing_oneof.name,
                (f.message_type or f.enum_type) and (f.message_type or f.enum_type).name,
            )
            equal(shape(now), shape(field), f"{name}.{field.name}")
        known = {field.number for field in message.fields}
        added = [f for f in fields.values() if f.number not in known]
        check(all(f.number >= 20 for f in added), "a new field below 20 in", name)
    for name, values in old.enum_types_by_name.items():
        for value in values.values:
            now = new.enum_types_by_name[name].values_by_name.get(value.name)
            equal(now and now.number, value.number, f"{name}.{value.name}")


@step("create, get and list")
def _():
    ada = pb.LLMConfig(id="ada", display_name="Ada", model="offline", persona="You are Ada.")
    request = pb.CreateRoomRequest(name="Original", llms=[ada], created_by="ann", description="as it was")
    at.room_id = rooms.CreateRoom(request, timeout=TIMEOUT).room_id
    equal(len(at.room_id), 12, "length of the id")
    room = rooms.GetRoom(pb.GetRoomRequest(room_id=at.room_id), timeout=TIMEOUT).room
    equal((room.name, room.created_by, list(room.llms)), ("Original", "ann", [ada]), "the room")
    equal(room.visibility, pb.ROOM_VISIBILITY_PUBLIC, "unspecified visibility")
    listed = rooms.ListRooms(pb.ListRoomsRequest(user_id="ann"), timeout=TIMEOUT).rooms
    equal([r.room_id for r in listed], [at.room_id], "rooms of ann")
    refused(StatusCode.NOT_FOUND, rooms.GetRoom, pb.GetRoomRequest(room_id="no-such-room"))


@step("ping works before the join; an unknown room is ROOM_NOT_FOUND and the stream stays open")
def _():
    at.ann, at.bob = open_session("ann"), open_session("bob")
    at.ann.send(ping=pb.Ping())
    at.ann.expect("pong")
    at.ann.send(join=pb.JoinRoom(room_id="no-such-room", user_id="ann"))
    equal(at.ann.expect("error").body.code, "ROOM_NOT_FOUND", "the code")


@step("join: room_state for the joiner, user_joined for the others")
def _():
    at.ann.send(join=pb.JoinRoom(room_id=at.room_id, user_id="ann", display_name="Ann", role=pb.MEMBER))
    equal(at.ann.expect("room_state").body.room.name, "Original", "the room")
    at.bob.send(join=pb.JoinRoom(room_id=at.room_id, user_id="bob", display_name="Bob", avatar="🐻"))
    state = at.bob.expect("room_state").body
    check({"ann", "bob"} <= {p.id for p in state.participants if p.is_online}, "room_state lacks who is online")
    equal(at.ann.expect("user_joined").body.user.avatar, "🐻", "the avatar of who joined")


@step("message: to everybody, the sender included")
def _():
    first = say(at.ann, "Hello from years ago")
    equal((first.sender_id, first.sender_name, first.sender_type), ("ann", "Ann", pb.HUMAN), "the sender")
    check(first.timestamp.seconds > 0, "the message has no time")
    equal(say(at.bob, "A reply", reply_to=first.message_id).reply_to, first.message_id, "reply_to")


@step("typing: to the others")
def _():
    at.bob.send(typing=pb.TypingIndicator(is_typing=True))
    typing = at.ann.expect("user_typing").body
    equal((typing.user_id, typing.user_name, typing.is_typing), ("bob", "Bob", True), "who types")


@step("LLMs: added, updated in part, removed")
def _():
    at.ann.send(add_llm=pb.AddLLM(llm=pb.LLMConfig(id="bert", display_name="Bert", model="offline")))
    equal(both("llm_added").llm.id, "bert", "the LLM added")
    at.ann.send(update_llm=pb.UpdateLLM(llm_id="bert", title="Critic", chat_style=pb.CHAT_STYLE_BULLET))
    updated = both("llm_updated").llm
    wanted = ("Bert", "Critic", pb.CHAT_STYLE_BULLET)
    equal((updated.display_name, updated.title, updated.chat_style), wanted, "the LLM after the change")
    at.ann.send(remove_llm=pb.RemoveLLM(llm_id="bert"))
    equal(both("llm_removed").llm_id, "bert", "the LLM removed")


@step("mention: thinking, chunks, done; the text is in history under the chunks' id")
def _():
    asked = say(at.ann, "@Ada are you there?", mentions=["ada"])
    equal(both("llm_thinking").reply_to, asked.message_id, "what the LLM answers to")
    done = both("llm_done", lambda e: e.body.llm_id == "ada")
    chunks = [e.body for e in at.ann.all if e.kind == "llm_chunk" and e.body.message_id == done.message_id]
    check(chunks, "no chunk came before llm_done")
    equal({(c.llm_id, c.reply_to) for c in chunks}, {("ada", asked.message_id)}, "whose chunks")
    page = rooms.LoadHistory(pb.LoadHistoryRequest(room_id=at.room_id, limit=1), timeout=TIMEOUT)
    equal(page.messages[0].message_id, done.message_id, "the newest message")
    equal(page.messages[0].content, "".join(c.content for c in chunks), "its text")


@step("interrupt by llm_id alone: the answer ends with what had come")
def _():
    asked = say(at.ann, "@ada tell me all that you know")
    at.ann.expect("llm_chunk", lambda e: e.body.reply_to == asked.message_id)
    at.bob.send(interrupt=pb.InterruptLLM(llm_id="ada"))
    done = both("llm_done", lambda e: e.body.llm_id == "ada")
    check(done.message_id, "llm_done does not say which answer")
    page = rooms.LoadHistory(pb.LoadHistoryRequest(room_id=at.room_id, limit=1), timeout=TIMEOUT)
    equal(page.messages[0].message_id, done.message_id, "the newest message")


@step("polls: INVALID_POLL for one option; created, voted by option, closed")
def _():
    one = pb.CreatePoll(question="?", options=[pb.PollOptionInput(text="only")])
    at.ann.send(create_poll=one)
    equal(at.ann.expect("error").body.code, "INVALID_POLL", "the code")
    options = [pb.PollOptionInput(text=text) for text in ("Yes", "No")]
    at.ann.send(create_poll=pb.CreatePoll(question="Shall we?", options=options, mandatory=True))
    message = both("message_received", lambda e: e.body.message.content == "Shall we?").message
    poll = both("poll_created").poll
    equal(message.poll_id, poll.poll_id, "the poll of the message")
    equal((poll.status, poll.mandatory), (pb.POLL_OPEN, True), "the poll")
    yes = poll.options[0].id
    at.bob.send(cast_vote=pb.CastVote(poll_id=poll.poll_id, option_ids=[yes], reason="why not"))
    vote = both("poll_voted", lambda e: e.body.vote.voter_id == "bob")
    equal((vote.option_id, vote.vote.voter_name, vote.vote.reason), (yes, "Bob", "why not"), "bob's vote")
    both("poll_voted", lambda e: e.body.vote.voter_id == "ada")
    at.ann.send(close_poll=pb.ClosePoll(poll_id=poll.poll_id))
    equal(both("poll_closed").closed_by_name, "Ann", "who closed it")


@step("the description of the room")
def _():
    at.bob.send(update_room_description=pb.UpdateRoomDescription(description="as it is"))
    room = both("room_updated", lambda e: e.body.room.description == "as it is").room
    equal(room.room_id, at.room_id, "the room")


@step("history: pages backwards from the newest, each in the order of time")
def _():
    received = [e.body.message.message_id for e in at.bob.all if e.kind == "message_received"]
    found, cursor = [], None
    while True:
        request = pb.LoadHistoryRequest(room_id=at.room_id, limit=2, cursor=cursor)
        page = rooms.LoadHistory(request, timeout=TIMEOUT)
        found = [message.message_id for message in page.messages] + found
        if not page.HasField("next_cursor"):
            break
        cursor = page.next_cursor
    equal(found, received, "all pages together")
    check(len(found) == len(set(found)) and len(found) > 4, "a message is there twice, or too few:", len(found))


@step("the end of a stream: user_left, and a message needs a stream that has joined")
def _():
    at.bob.half_close()
    equal(at.bob.ended(), StatusCode.OK, "the status after a half-close")
    equal(at.ann.expect("user_left").body.user_id, "bob", "who left")
    stranger = open_session(f"stranger-{uuid.uuid4().hex[:4]}")
    stranger.send(message=pb.SendMessage(content="anybody here?"))
    equal(stranger.expect("error").body.code, "NOT_JOINED", "the code")
    stranger.cancel()
    at.ann.cancel()


scenario.run()
