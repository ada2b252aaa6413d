"""One room from its creation to the end of the server, as a Python client with generated code sees it.

Needs SALON_ADDRESS (host:port), SALON_PID (whom to send SIGTERM) and SALON_EXIT (the file in which the driver
writes the server's exit code). `tests/foreign/run python` sets them.
"""

import os
import pathlib
import signal
import time
import uuid
from types import SimpleNamespace

import grpc
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from session import TIMEOUT, Event, Failure, Scenario, Session, check, equal, generate, refused

ROOT = pathlib.Path(__file__).resolve().parents[3]
# The server's grace for a drain is 25 seconds; leaving takes longer only when it hangs.
DRAIN_TIMEOUT = 30.0
# An answer of the offline provider takes most of a second: an interrupt may come late, but not every time.
INTERRUPTS = 5

pb, services = generate(str(ROOT / "proto"), "room/v1/room.proto")
channel = grpc.insecure_channel(os.environ["SALON_ADDRESS"])
rooms = services.RoomServiceStub(channel)
scenario = Scenario()
step = scenario.step
# What later steps need of earlier ones.
at = SimpleNamespace()


def open_session(name):
    """A session whose events keep the bytes they came as: with resume these must be the same again."""
    call = channel.stream_stream(
        "/room.v1.RoomService/RoomSession",
        request_serializer=pb.ClientMessage.SerializeToString,
        response_deserializer=None,
    )
    return Session(pb.ClientMessage, call, lambda raw: Event(pb.ServerEvent.FromString(raw), raw), name)


def join(session, room_id, user_id, display_name, **more):
    session.command(join=pb.JoinRoom(room_id=room_id, user_id=user_id, display_name=display_name, **more))


def say(session, text, request_id=None, **more):
    """Sends a message, and gives its ack once the sender and the other have it."""
    message = pb.SendMessage(content=text, **more)
    if request_id is None:
        request_id = session.command(message=message)
    else:
        session.send(request_id, message=message)
    ack = session.answer(request_id)
    for reader in (at.ann, at.bob):
        event = reader.expect("message_received", lambda e: e.seq == ack.seq)
        equal(event.body.message.content, text, "the text")
        equal(event.body.message.message_id, ack.event_id, "the message_id")
    return ack


def both(kind, where=lambda event: True):
    """Takes the same event from both streams, checks that it is the same, and gives it."""
    first, second = at.ann.expect(kind, where), at.bob.expect(kind, where)
    equal(second.raw, first.raw, f"{kind} on the other's stream")
    return first


def answer_of(llm_id, asked):
    """Follows one answer on ann's stream from `llm_thinking` to `llm_done`."""
    thinking = both("llm_thinking", lambda e: e.body.llm_id == llm_id and e.body.reply_to == asked).body

    def belongs(event):
        if event.kind == "message_received":
            return event.body.message.message_id == thinking.message_id
        return event.kind in ("llm_chunk", "llm_done") and event.body.message_id == thinking.message_id

    text, received = b"", None
    while True:
        event = at.ann.take(belongs, "part of the answer")
        if event.kind == "llm_done":
            return thinking, text.decode(), received, event.body
        check(received is None, f"{event.kind} behind the answer's message")
        if event.kind == "message_received":
            received = event.body.message
        else:
            equal(event.body.offset, len(text), "the chunk's offset")
            text += event.body.content.encode()


@step("health: the server and its service are SERVING, an unknown service is not found")
def _():
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "room.v1.RoomService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
        equal(answer.status, health_pb2.HealthCheckResponse.SERVING, f"health of {service!r}")
    refused(StatusCode.NOT_FOUND, health.Check, health_pb2.HealthCheckRequest(service="no.such.Service"))


@step("reflection: v1 and v1alpha list the service under both names")
def _():
    for version in ("v1", "v1alpha"):
        info = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(info(iter([question]), timeout=TIMEOUT))
        names = {service.name for service in answer.list_services_response.service}
        wanted = {"room.v1.RoomService", "api.room.Room", "grpc.health.v1.Health"}
        check(wanted <= names, f"{version} lacks", wanted - names)


@step("create a room; an empty name, a taken id and two LLMs of one name are refused")
def _():
    at.room_id = f"python-{uuid.uuid4().hex[:12]}"
    request = pb.CreateRoomRequest(
        name="Python room", created_by="ann", description="a foreign client", room_id=at.room_id
    )
    equal(rooms.CreateRoom(request, timeout=TIMEOUT).room_id, at.room_id, "the room's id")
    chosen = rooms.CreateRoom(pb.CreateRoomRequest(name="Another", created_by="zoe"), timeout=TIMEOUT)
    at.other_id = chosen.room_id
    equal(len(at.other_id), 12, "length of an id the server chose")
    why = refused(StatusCode.INVALID_ARGUMENT, rooms.CreateRoom, pb.CreateRoomRequest(name=" "))
    check("name" in why, "the refusal does not name the field:", why)
    refused(StatusCode.ALREADY_EXISTS, rooms.CreateRoom, request)
    twins = [pb.LLMConfig(id=id, display_name="Twin", model="m") for id in ("a", "b")]
    refused(StatusCode.ALREADY_EXISTS, rooms.CreateRoom, pb.CreateRoomRequest(name="Twins", llms=twins))


@step("get the room; an unknown one is not found")
def _():
    answer = rooms.GetRoom(pb.GetRoomRequest(room_id=at.room_id), timeout=TIMEOUT)
    equal(answer.room.name, "Python room", "the name")
    equal(answer.room.status, pb.ROOM_STATUS_WAITING, "the status")
    equal(answer.room.visibility, pb.ROOM_VISIBILITY_PUBLIC, "the visibility")
    equal(answer.seq, 1, "the head of the log")
    refused(StatusCode.NOT_FOUND, rooms.GetRoom, pb.GetRoomRequest(room_id="no-such-room"))


@step("list: public rooms in pages, a private one only for its creator")
def _():
    request = pb.CreateRoomRequest(name="Den", created_by="zoe", visibility=pb.ROOM_VISIBILITY_PRIVATE)
    private_id = rooms.CreateRoom(request, timeout=TIMEOUT).room_id

    def listed(**who):
        found, cursor = [], None
        while True:
            request = pb.ListRoomsRequest(limit=1, cursor=cursor, **who)
            page = rooms.ListRooms(request, timeout=TIMEOUT)
            check(len(page.rooms) <= 1, "the page is longer than asked for")
            found += [room.room_id for room in page.rooms]
            if not page.HasField("next_cursor"):
                return found
            cursor = page.next_cursor

    # Sorted here: rooms of the same millisecond have no order.
    equal(sorted(listed()), sorted([at.room_id, at.other_id]), "public rooms")
    equal(sorted(listed(user_id="zoe")), sorted([private_id, at.other_id]), "rooms of zoe")


@step("a first message that is no join and an unknown room are refused in band, and the stream lives")
def _():
    stream = open_session("early")
    stream.denied("not_joined", message=pb.SendMessage(content="hello?"))
    stream.send(ping=pb.Ping())
    stream.expect("pong")
    stream.denied("room_not_found", join=pb.JoinRoom(room_id="no-such-room", user_id="eve"))
    join(stream, at.other_id, "eve", "Eve")
    equal(stream.expect("room_state").body.room.room_id, at.other_id, "the room joined at last")
    stream.half_close()
    equal(stream.ended(), StatusCode.OK, "the status after a half-close")


@step("two users join: the creator is ADMIN, each sees the other")
def _():
    at.ann, at.bob = open_session("ann"), open_session("bob")
    join(at.ann, at.room_id, "ann", "Ann")
    state = at.ann.expect("room_state")
    equal(state.body.you.role, pb.ADMIN, "ann's role")
    equal(state.body.online_count, 1, "online when ann joined")
    join(at.bob, at.room_id, "bob-8273", "Bob Byte")
    at.bob_state = at.bob.expect("room_state")
    equal(at.bob_state.body.you.role, pb.MEMBER, "bob's role")
    equal(at.bob_state.body.room.status, pb.ROOM_STATUS_ACTIVE, "the room's status")
    here = {p.id for p in at.bob_state.body.participants if p.is_online}
    equal(here, {"ann", "bob-8273"}, "who is online in bob's room_state")
    equal(at.ann.expect("user_joined").body.user.name, "Bob Byte", "who joined")
    joined = at.ann.expect("member_changed", lambda e: e.body.member.id == "bob-8273")
    equal(joined.body.change, pb.MEMBER_CHANGE_JOINED, "the change")
    check(joined.seq <= at.bob_state.seq, "room_state speaks for less than the join itself")


@step("a second join on one stream is refused")
def _():
    again = pb.JoinRoom(room_id=at.room_id, user_id="ann")
    at.ann.denied("already_joined", join=again)


@step("talk: ack, and one event with the same bytes for everybody")
def _():
    at.first = say(at.ann, "Hello, Bob – grüß dich, 你好", request_id="hello")
    equal(at.first.last_seq, at.first.seq, "the last event of the message")
    check(not at.first.duplicate, "the first is no duplicate")
    for length, text in ((0, ""), (16 * 1024 + 1, "x" * (16 * 1024 + 1))):
        error = at.ann.denied("invalid_argument", message=pb.SendMessage(content=text))
        check("content" in error.field, f"a text of {length} bytes: the field is", error.field)


@step("a repeated request_id returns the first result and posts nothing")
def _():
    at.ann.send("hello", message=pb.SendMessage(content="Hello, Bob – grüß dich, 你好"))
    again = at.ann.answer("hello")
    check(again.duplicate, "the repeat is not marked")
    equal((again.seq, again.event_id), (at.first.seq, at.first.event_id), "the result of the repeat")
    behind = say(at.bob, "Hello, Ann")
    equal(behind.seq, at.first.seq + 1, "the position behind the repeat")


@step("a request_id with another body is refused")
def _():
    at.ann.send("hello", message=pb.SendMessage(content="something else"))
    error = at.ann.rejection("hello", "request_id_reused")
    check(not error.retryable, "it says that a retry may help")


@step("reply_to: a message of the room, and nothing else")
def _():
    reply = pb.SendMessage(content="A reply", reply_to=at.first.event_id)
    ack = at.bob.done(message=reply)
    event = both("message_received", lambda e: e.seq == ack.seq)
    equal(event.body.message.reply_to, at.first.event_id, "reply_to")
    at.bob.denied("not_found", message=pb.SendMessage(content="?", reply_to=str(uuid.uuid4())))
    at.bob.denied("not_found", message=pb.SendMessage(content="?", reply_to="not an id"))


@step("edit: by the author only")
def _():
    at.bob.denied(
        "permission_denied", edit_message=pb.EditMessage(message_id=at.first.event_id, content="forged")
    )
    ack = at.ann.done(edit_message=pb.EditMessage(message_id=at.first.event_id, content="Hello, Bob!"))
    event = both("message_edited", lambda e: e.seq == ack.seq)
    equal(event.body.content, "Hello, Bob!", "the new text")


@step("react: once, and taken back")
def _():
    react = pb.React(message_id=at.first.event_id, emoji="👍")
    at.bob.done(react=react)
    added = both("reaction_changed").body
    equal((added.user_id, added.emoji, added.added), ("bob-8273", "👍", True), "the reaction")
    equal(at.bob.done(react=react).seq, 0, "the event of the same reaction again")
    at.ann.done(react=pb.React(message_id=at.first.event_id, emoji="🎉"))
    both("reaction_changed", lambda e: e.body.emoji == "🎉")
    react.remove = True
    at.bob.done(react=react)
    equal(both("reaction_changed").body.added, False, "the reaction is there")


@step("delete: the text is gone, the place stays")
def _():
    doomed = say(at.bob, "a slip of the tongue")
    ack = at.bob.done(delete_message=pb.DeleteMessage(message_id=doomed.event_id))
    event = both("message_deleted", lambda e: e.seq == ack.seq)
    equal(event.body.deleted_by_id, "bob-8273", "who deleted it")
    page = rooms.LoadHistory(pb.LoadHistoryRequest(room_id=at.room_id), timeout=TIMEOUT)
    shown = {message.message_id: message for message in page.messages}
    equal((shown[doomed.event_id].content, shown[doomed.event_id].deleted), ("", True), "the deleted message")
    first = shown[at.first.event_id]
    equal(first.content, "Hello, Bob!", "the edited message")
    check(first.HasField("edited_at"), "it does not show that it was edited")
    equal([(r.emoji, list(r.user_ids)) for r in first.reactions], [("🎉", ["ann"])], "its reactions")


@step("typing: seen by the other only, and over when the message comes")
def _():
    at.bob.send(typing=pb.TypingIndicator(is_typing=True))
    event = at.ann.expect("user_typing")
    equal((event.body.user_name, event.body.is_typing), ("Bob Byte", True), "who types")
    equal(event.seq, 0, "the position of a transient event")
    say(at.bob, "That is what I typed")
    equal(at.ann.expect("user_typing").body.is_typing, False, "typing after the message")
    check(not at.bob.has("user_typing"), "bob sees himself type")


@step("presence: away and back")
def _():
    for status in (pb.PRESENCE_STATUS_AWAY, pb.PRESENCE_STATUS_ONLINE):
        at.bob.done(set_presence=pb.SetPresence(status=status))
        event = at.ann.expect("presence_changed", lambda e: e.body.user_id == "bob-8273")
        equal(event.body.status, status, "bob's presence")


@step("signal: bytes as they are, for the others or for one")
def _():
    data = bytes(range(256))
    at.ann.send(signal=pb.SendSignal(type="cursor", data=data))
    event = at.bob.expect("signal").body
    equal((event.user_id, event.type, event.data), ("ann", "cursor", data), "the signal")
    at.bob.send(signal=pb.SendSignal(type="nudge", to=["ann"]))
    equal(at.ann.expect("signal").body.type, "nudge", "ann's first signal")


@step("mark_read: others see the receipt, and the cursor only moves forward")
def _():
    newest = say(at.ann, "Have you read this?")
    at.bob.done(mark_read=pb.MarkRead(message_id=newest.event_id))
    receipt = at.ann.expect("read_receipt").body
    equal((receipt.user_id, receipt.seq), ("bob-8273", newest.seq), "the receipt")
    at.bob.done(mark_read=pb.MarkRead(seq=at.first.seq))
    behind = say(at.ann, "And this?")
    at.bob.done(mark_read=pb.MarkRead(seq=behind.seq))
    equal(at.ann.expect("read_receipt").body.seq, behind.seq, "the receipt after a step back")


@step("add an LLM; its name cannot be taken twice")
def _():
    ada = pb.LLMConfig(id="ada", display_name="Ada Lovelace", model="offline", persona="You are Ada.")
    at.bob.done(add_llm=pb.AddLLM(llm=ada))
    equal(both("llm_added").body.llm, ada, "the LLM")
    other = pb.LLMConfig(id="other", display_name="ada lovelace", model="offline")
    at.bob.denied("already_exists", add_llm=pb.AddLLM(llm=other))
    at.bob.denied("not_found", remove_llm=pb.RemoveLLM(llm_id="nobody"))


@step("a mention is answered: thinking, chunks without a gap, the same text as a message, done")
def _():
    ack = at.bob.done(message=pb.SendMessage(content="@Ada Lovelace, what is a room?"))
    asked = both("message_received", lambda e: e.seq == ack.seq).body.message
    equal(list(asked.mentions), ["ada"], "who was mentioned")
    thinking, text, received, done = answer_of("ada", ack.event_id)
    check(received is not None and received.content, "no answer as a message")
    equal(received.content, text, "the message against its chunks")
    equal((received.sender_id, received.sender_type), ("ada", pb.LLM), "who answered")
    equal((received.reply_to, received.partial), (ack.event_id, False), "what the answer is")
    equal(done.reason, pb.LLM_DONE_REASON_COMPLETED, "how it ended")
    equal(done.provider, "offline", "who made it")
    at.bob.expect("message_received", lambda e: e.body.message.message_id == thinking.message_id)


def interrupt_one():
    """Has an answer begun, interrupts it, and gives its `llm_done` and how long that took to come."""
    ack = at.ann.done(message=pb.SendMessage(content="@ada tell me all that you know"))
    both("message_received", lambda e: e.seq == ack.seq)
    at.bob.expect("llm_chunk", lambda e: e.body.reply_to == ack.event_id)
    began = time.monotonic()
    at.bob.done(interrupt=pb.InterruptLLM(llm_id="ada"))
    done = both("llm_done", lambda e: e.body.reply_to == ack.event_id).body
    return done, time.monotonic() - began


@step("interrupt: a running answer ends at once and what had come is kept")
def _():
    for _ in range(INTERRUPTS):
        done, took = interrupt_one()
        if done.reason != pb.LLM_DONE_REASON_COMPLETED:
            break
    equal(done.reason, pb.LLM_DONE_REASON_INTERRUPTED, "how it ended")
    check(took < 2.0, "the answer went on for seconds:", took)
    kept = both("message_received", lambda e: e.body.message.message_id == done.message_id).body.message
    check(kept.partial and kept.content, "the partial text was not kept")
    chunks = [e.body for e in at.bob.all if e.kind == "llm_chunk"]
    streamed = "".join(chunk.content for chunk in chunks if chunk.message_id == done.message_id)
    check(kept.content.startswith(streamed), "the kept text is not what was streamed")


def create_poll(question, **more):
    """Creates a poll, waits until the LLM has voted by itself, and gives the poll and the LLM's vote."""
    options = [pb.PollOptionInput(text=text) for text in ("Tea", "Coffee", "Water")]
    ack = at.ann.done(create_poll=pb.CreatePoll(question=question, options=options, **more))
    equal(ack.last_seq, ack.seq + 1, "a poll is two events: the last")
    message = both("message_received", lambda e: e.seq == ack.seq).body.message
    poll = both("poll_created", lambda e: e.seq == ack.last_seq).body.poll
    equal((message.content, message.poll_id), (question, poll.poll_id), "the message of the poll")
    equal([option.text for option in poll.options], ["Tea", "Coffee", "Water"], "the options")
    both("llm_thinking", lambda e: e.body.poll_id == poll.poll_id)
    vote = both("poll_voted", lambda e: e.body.poll_id == poll.poll_id)
    done = both("llm_done", lambda e: e.body.poll_id == poll.poll_id).body
    equal(done.reason, pb.LLM_DONE_REASON_COMPLETED, "how the LLM's vote ended")
    # In a poll with several choices it may have made more than one.
    at.ann.drop("poll_voted")
    at.bob.drop("poll_voted")
    return poll, vote


def cast(session, poll, *indexes):
    ids = [poll.options[index].id for index in indexes]
    return session.done(cast_vote=pb.CastVote(poll_id=poll.poll_id, option_ids=ids))


@step("poll: one option is too few; the LLM votes by itself, with a reason")
def _():
    one = pb.CreatePoll(question="?", options=[pb.PollOptionInput(text="only")])
    at.ann.denied("invalid_poll", create_poll=one)
    at.poll, vote = create_poll("What shall we drink?", mandatory=True)
    equal(vote.body.vote.voter_id, "ada", "who voted first")
    check(vote.body.vote.reason, "the LLM gave no reason")
    equal(vote.body.ballot_count, 1, "ballots")


@step("vote, move and retract; only who may closes it, and then it is closed")
def _():
    tea, coffee = at.poll.options[0].id, at.poll.options[1].id
    cast(at.bob, at.poll, 0)
    vote = both("poll_voted").body
    equal((vote.option_id, list(vote.option_ids), vote.ballot_count), (tea, [tea], 2), "the vote")
    cast(at.bob, at.poll, 1)
    moved = both("poll_voted").body
    equal((moved.option_id, list(moved.retracted_option_ids)), (coffee, [tea]), "the moved vote")
    equal(moved.ballot_count, 2, "ballots after the move")
    equal(cast(at.bob, at.poll, 1).seq, 0, "the event of the same vote again")
    at.bob.done(retract_vote=pb.RetractVote(poll_id=at.poll.poll_id))
    equal(both("vote_retracted").body.ballot_count, 1, "ballots after taking the vote back")
    poll_id = at.poll.poll_id
    at.bob.denied("not_found", cast_vote=pb.CastVote(poll_id=poll_id, option_ids=["99"]))
    at.bob.denied("invalid_argument", cast_vote=pb.CastVote(poll_id=poll_id, option_ids=[tea, coffee]))
    at.bob.denied("permission_denied", close_poll=pb.ClosePoll(poll_id=poll_id))
    cast(at.bob, at.poll, 0)
    both("poll_voted")
    at.ann.done(close_poll=pb.ClosePoll(poll_id=poll_id))
    closed = both("poll_closed").body
    equal((closed.closed_by_id, closed.poll.status), ("ann", pb.POLL_CLOSED), "the closed poll")
    voters = {v.voter_id for option in closed.poll.options for v in option.votes}
    equal(voters, {"ada", "bob-8273"}, "the voters in the result")
    at.bob.denied("poll_closed", cast_vote=pb.CastVote(poll_id=poll_id, option_ids=[coffee]))
    at.ann.denied("poll_closed", close_poll=pb.ClosePoll(poll_id=poll_id))


@step("anonymous poll: no voter leaves the server, the counts are right")
def _():
    poll, llm_vote = create_poll("In secret?", anonymous=True, allow_multiple=True)
    cast(at.bob, poll, 0, 2)
    votes = [both("poll_voted"), both("poll_voted")]
    at.ann.done(close_poll=pb.ClosePoll(poll_id=poll.poll_id))
    closed = both("poll_closed")
    for event in [llm_vote, *votes, closed]:
        for secret in (b"bob-8273", b"Bob Byte", b"Ada Lovelace"):
            check(secret not in event.raw, f"{event.kind} tells of a voter:", secret)
    counts = sum(option.vote_count for option in closed.body.poll.options)
    ballots = closed.body.poll.ballot_count
    equal(ballots, 2, "ballots")
    check(counts >= 3, "votes counted for bob's two options and the LLM's:", counts)
    page = rooms.LoadHistory(pb.LoadHistoryRequest(room_id=at.room_id), timeout=TIMEOUT)
    shown = next(p for p in page.polls if p.poll_id == poll.poll_id)
    check(not any(v.voter_id or v.voter_name for o in shown.options for v in o.votes), "history tells voters")


@step("history: pages backwards without a gap; a tampered cursor is refused")
def _():
    posted = [e.body.message.message_id for e in at.bob.lasting() if e.kind == "message_received"]
    pages, cursor = [], None
    while True:
        request = pb.LoadHistoryRequest(room_id=at.room_id, limit=5, cursor=cursor)
        page = rooms.LoadHistory(request, timeout=TIMEOUT)
        pages.insert(0, [message.message_id for message in page.messages])
        if not page.HasField("next_cursor"):
            break
        check(len(page.messages) == 5, "a page before the last is short:", len(page.messages))
        cursor = page.next_cursor
    check(len(pages) > 2, "too few pages to prove anything:", len(pages))
    equal(sum(pages, []), posted, "all pages together")
    middle = len(cursor) // 2
    tampered = cursor[:middle] + ("A" if cursor[middle] != "A" else "B") + cursor[middle + 1 :]
    for wrong in (tampered, "nonsense"):
        request = pb.LoadHistoryRequest(room_id=at.room_id, cursor=wrong)
        refused(StatusCode.INVALID_ARGUMENT, rooms.LoadHistory, request)
    elsewhere = pb.LoadHistoryRequest(room_id=at.other_id, cursor=cursor)
    refused(StatusCode.INVALID_ARGUMENT, rooms.LoadHistory, elsewhere)
    many = rooms.LoadHistory(pb.LoadHistoryRequest(room_id=at.room_id, limit=4_000_000_000), timeout=TIMEOUT)
    equal([message.message_id for message in many.messages], posted, "a page of four billion")


@step("resume: after_seq brings the same bytes as the stream that never left")
def _():
    never_left = at.bob.lasting()
    head = never_left[-1].seq
    for after in (at.bob_state.seq, at.bob_state.seq + 7, head - 1, head):
        again = open_session(f"bob after {after}")
        join(again, at.room_id, "bob-8273", "Bob Byte", after_seq=after)
        resumed = again.expect("resumed")
        equal((resumed.body.after_seq, resumed.seq), (after, head), "what resumed speaks for")
        for wanted in (e for e in never_left if e.seq > after):
            got = again.expect(wanted.kind, lambda e: e.seq == wanted.seq)
            check(got.raw == wanted.raw, f"event {wanted.seq} ({wanted.kind}) came with other bytes")
        seqs = [e.seq for e in again.lasting()]
        equal(seqs, list(range(after + 1, head + 1)), f"the positions after {after}")
        again.half_close()
        again.ended()
    seqs = [e.seq for e in never_left]
    equal(seqs, list(range(at.bob_state.seq + 1, head + 1)), "the positions on the stream that never left")
    log = rooms.ReadLog(pb.ReadLogRequest(room_id=at.room_id, after_seq=at.bob_state.seq), timeout=TIMEOUT)
    equal([answer.event for answer in log], [e.message for e in never_left], "the log")


@step("leave: only the last connection is the user's, then closing and OK")
def _():
    say(at.bob, "My other devices are gone, I am still here")
    check(not at.ann.has("user_left"), "bob is said to have left with a second connection")
    at.bob.command(leave=pb.LeaveRoom())
    closing = at.bob.expect("closing").body
    equal((closing.reason, closing.reconnect), (pb.CLOSING_REASON_LEFT, False), "why the stream ends")
    equal(at.bob.ended(), StatusCode.OK, "the status")
    equal(at.ann.expect("user_left").body.user_id, "bob-8273", "who left")
    left = at.ann.expect("member_changed", lambda e: e.body.change == pb.MEMBER_CHANGE_LEFT)
    equal(left.body.member.id, "bob-8273", "who is no member any more")


@step("an ended room: every stream closes, it can be read and not joined")
def _():
    at.ann.command(end_room=pb.EndRoom(reason="good night"))
    equal(at.ann.expect("room_ended").body.reason, "good night", "the reason")
    closing = at.ann.expect("closing").body
    equal((closing.reason, closing.reconnect), (pb.CLOSING_REASON_ROOM_ENDED, False), "why the stream ends")
    equal(at.ann.ended(), StatusCode.OK, "the status")
    late = open_session("late")
    late.denied("room_ended", join=pb.JoinRoom(room_id=at.room_id, user_id="late"))
    late.cancel()
    info = rooms.GetRoom(pb.GetRoomRequest(room_id=at.room_id), timeout=TIMEOUT).room
    equal(info.status, pb.ROOM_STATUS_ENDED, "the status of the room")
    page = rooms.LoadHistory(pb.LoadHistoryRequest(room_id=at.room_id, limit=1), timeout=TIMEOUT)
    equal(len(page.messages), 1, "what can still be read")


@step("drain: closing says where to resume, and the server exits 0 within its grace")
def _():
    stream = open_session("last")
    join(stream, at.other_id, "zoe", "Zoe")
    stream.expect("room_state")
    ack = stream.done(message=pb.SendMessage(content="before the end"))
    began = time.monotonic()
    os.kill(int(os.environ["SALON_PID"]), signal.SIGTERM)
    closing = stream.expect("closing").body
    equal((closing.reason, closing.reconnect), (pb.CLOSING_REASON_DRAINING, True), "why the stream ends")
    equal(closing.resume_seq, ack.last_seq, "where to resume")
    equal(stream.ended(), StatusCode.UNAVAILABLE, "the status")
    exit_code = pathlib.Path(os.environ["SALON_EXIT"])
    while not exit_code.exists():
        if time.monotonic() - began > DRAIN_TIMEOUT:
            raise Failure(f"the server still runs {DRAIN_TIMEOUT} s after SIGTERM")
        time.sleep(0.02)
    equal(exit_code.read_text(), "0", "the server's exit code")


scenario.run()
