// One room from its creation to the end of the server, as a Node client that loads the contract sees it.
//
// Needs SALON_ADDRESS (host:port), SALON_PID (whom to send SIGTERM) and SALON_EXIT (the file in which the driver
// writes the server's exit code). `tests/foreign/run node` sets them.

import { randomUUID } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import {
  Failure, ROOT, Session, call, check, equal, grpc, load, refused, runSteps, shipped, step, withRawEvents,
} from "./session.mjs";

// The server's grace for a drain is 25 seconds; leaving takes longer only when it hangs.
const DRAIN_TIMEOUT_MS = 30_000;
// An answer of the offline provider takes most of a second: an interrupt may come late, but not every time.
const INTERRUPTS = 5;

const address = process.env.SALON_ADDRESS;
const insecure = grpc.credentials.createInsecure();
const contract = load("room/v1/room.proto", path.join(ROOT, "proto"));
const RoomService = withRawEvents(contract.room.v1.RoomService.service);
const rooms = new RoomService(address, insecure);

// What later steps need of earlier ones.
const at = {};

function join(session, room_id, user_id, display_name, more = {}) {
  session.command({ join: { room_id, user_id, display_name, ...more } });
}

// Takes the same event from both streams, checks that it is the same, and gives it.
async function both(kind, where) {
  const [first, second] = await Promise.all([at.ann.expect(kind, where), at.bob.expect(kind, where)]);
  check(first.raw.equals(second.raw), `${kind} has other bytes on the other's stream`);
  return first;
}

// Sends a message, and gives its ack once the sender and the other have it.
async function say(session, content, id) {
  const message = { message: { content } };
  if (id) session.send(message, id);
  const ack = await session.answer(id ?? session.command(message));
  const event = await both("message_received", (e) => e.seq === ack.seq);
  equal(event.body.message.content, content, "the text");
  equal(event.body.message.message_id, ack.event_id, "the message_id");
  return ack;
}

// Follows one answer on ann's stream from `llm_thinking` to `llm_done`.
async function answerOf(llm_id, asked) {
  const isIt = (e) => e.body.llm_id === llm_id && e.body.reply_to === asked;
  const thinking = (await both("llm_thinking", isIt)).body;
  const belongs = (e) =>
    e.kind === "message_received"
      ? e.body.message.message_id === thinking.message_id
      : ["llm_chunk", "llm_done"].includes(e.kind) && e.body.message_id === thinking.message_id;
  let [text, received] = ["", null];
  for (;;) {
    const event = await at.ann.take(belongs, "part of the answer");
    if (event.kind === "llm_done") return { thinking, text, received, done: event.body };
    check(received === null, `${event.kind} behind the answer's message`);
    if (event.kind === "message_received") {
      received = event.body.message;
    } else {
      equal(event.body.offset, Buffer.byteLength(text), "the chunk's offset");
      text += event.body.content;
    }
  }
}

step("health: the server and its service are SERVING, an unknown service is not found", async () => {
  const file = shipped("grpc-health-check", "proto/health/v1/health.proto");
  const { Health } = load(path.basename(file), path.dirname(file)).grpc.health.v1;
  const health = new Health(address, insecure);
  for (const service of ["", "room.v1.RoomService"]) {
    equal((await call(health, "Check", { service })).status, "SERVING", `health of "${service}"`);
  }
  await refused(grpc.status.NOT_FOUND, health, "Check", { service: "no.such.Service" });
});

step("reflection: v1 and v1alpha list the service under both names", async () => {
  for (const version of ["v1", "v1alpha"]) {
    const file = shipped("@grpc/reflection", `build/proto/grpc/reflection/${version}/reflection.proto`);
    const { ServerReflection } = load(path.basename(file), path.dirname(file)).grpc.reflection[version];
    const stream = new ServerReflection(address, insecure).ServerReflectionInfo();
    const answer = new Promise((resolve, reject) => stream.on("data", resolve).on("error", reject));
    stream.write({ list_services: "" });
    stream.end();
    const names = (await answer).list_services_response.service.map((service) => service.name);
    for (const wanted of ["room.v1.RoomService", "api.room.Room", "grpc.health.v1.Health"]) {
      check(names.includes(wanted), `${version} lacks ${wanted}, lists`, names);
    }
  }
});

step("create a room; an empty name, a taken id and two LLMs of one name are refused", async () => {
  at.roomId = `node-${randomUUID().slice(0, 12)}`;
  const request = { name: "Node room", created_by: "ann", description: "a foreign client", room_id: at.roomId };
  equal((await call(rooms, "CreateRoom", request)).room_id, at.roomId, "the room's id");
  at.otherId = (await call(rooms, "CreateRoom", { name: "Another", created_by: "zoe" })).room_id;
  equal(at.otherId.length, 12, "length of an id the server chose");
  const why = await refused(grpc.status.INVALID_ARGUMENT, rooms, "CreateRoom", { name: " " });
  check(why.includes("name"), "the refusal does not name the field:", why);
  await refused(grpc.status.ALREADY_EXISTS, rooms, "CreateRoom", request);
  const llms = ["a", "b"].map((id) => ({ id, display_name: "Twin", model: "m" }));
  await refused(grpc.status.ALREADY_EXISTS, rooms, "CreateRoom", { name: "Twins", llms });
});

step("get the room; an unknown one is not found", async () => {
  const { room, seq } = await call(rooms, "GetRoom", { room_id: at.roomId });
  equal(room.name, "Node room", "the name");
  equal(room.status, "ROOM_STATUS_WAITING", "the status");
  equal(room.visibility, "ROOM_VISIBILITY_PUBLIC", "the visibility");
  equal(seq, 1, "the head of the log");
  await refused(grpc.status.NOT_FOUND, rooms, "GetRoom", { room_id: "no-such-room" });
});

step("list: public rooms in pages, a private one only for its creator", async () => {
  const den = { name: "Den", created_by: "zoe", visibility: "ROOM_VISIBILITY_PRIVATE" };
  const privateId = (await call(rooms, "CreateRoom", den)).room_id;
  const listed = async (who = {}) => {
    const found = [];
    let page = {};
    do {
      const cursor = page.next_cursor ? { cursor: page.next_cursor } : {};
      page = await call(rooms, "ListRooms", { limit: 1, ...cursor, ...who });
      check(page.rooms.length <= 1, "the page is longer than asked for");
      found.push(...page.rooms.map((room) => room.room_id));
    } while (page.next_cursor);
    return found.sort(); // Rooms of the same millisecond have no order.
  };
  equal(await listed(), [at.roomId, at.otherId].sort(), "public rooms");
  equal(await listed({ user_id: "zoe" }), [privateId, at.otherId].sort(), "rooms of zoe");
});

step("a first message that is no join and an unknown room are refused in band, and the stream lives", async () => {
  const stream = new Session(rooms, "early");
  await stream.denied("not_joined", { message: { content: "hello?" } });
  stream.send({ ping: {} });
  await stream.expect("pong");
  await stream.denied("room_not_found", { join: { room_id: "no-such-room", user_id: "eve" } });
  join(stream, at.otherId, "eve", "Eve");
  equal((await stream.expect("room_state")).body.room.room_id, at.otherId, "the room joined at last");
  stream.halfClose();
  equal(await stream.ended(), grpc.status.OK, "the status after a half-close");
});

step("two users join: the creator is ADMIN, each sees the other", async () => {
  [at.ann, at.bob] = [new Session(rooms, "ann"), new Session(rooms, "bob")];
  join(at.ann, at.roomId, "ann", "Ann");
  const state = (await at.ann.expect("room_state")).body;
  equal(state.you.role, "ADMIN", "ann's role");
  equal(state.online_count, 1, "online when ann joined");
  join(at.bob, at.roomId, "bob-8273", "Bob Byte");
  at.bobState = await at.bob.expect("room_state");
  equal(at.bobState.body.you.role, "MEMBER", "bob's role");
  equal(at.bobState.body.room.status, "ROOM_STATUS_ACTIVE", "the room's status");
  const here = at.bobState.body.participants.filter((p) => p.is_online).map((p) => p.id);
  equal(here.sort(), ["ann", "bob-8273"], "who is online in bob's room_state");
  equal((await at.ann.expect("user_joined")).body.user.name, "Bob Byte", "who joined");
  const joined = await at.ann.expect("member_changed", (e) => e.body.member.id === "bob-8273");
  equal(joined.body.change, "MEMBER_CHANGE_JOINED", "the change");
  check(joined.seq <= at.bobState.seq, "room_state speaks for less than the join itself");
});

step("a second join on one stream is refused", async () => {
  await at.ann.denied("already_joined", { join: { room_id: at.roomId, user_id: "ann" } });
});

step("talk: ack, and one event with the same bytes for everybody", async () => {
  at.first = await say(at.ann, "Hello, Bob – grüß dich, 你好", "hello");
  equal(at.first.last_seq, at.first.seq, "the last event of the message");
  check(!at.first.duplicate, "the first is no duplicate");
  for (const length of [0, 16 * 1024 + 1]) {
    const error = await at.ann.denied("invalid_argument", { message: { content: "x".repeat(length) } });
    check(error.field.includes("content"), `a text of ${length} bytes: the field is`, error.field);
  }
});

step("a repeated request_id returns the first result and posts nothing", async () => {
  at.ann.send({ message: { content: "Hello, Bob – grüß dich, 你好" } }, "hello");
  const again = await at.ann.answer("hello");
  check(again.duplicate, "the repeat is not marked");
  equal([again.seq, again.event_id], [at.first.seq, at.first.event_id], "the result of the repeat");
  equal((await say(at.bob, "Hello, Ann")).seq, at.first.seq + 1, "the position behind the repeat");
});

step("a request_id with another body is refused", async () => {
  at.ann.send({ message: { content: "something else" } }, "hello");
  const error = await at.ann.rejection("hello", "request_id_reused");
  check(!error.retryable, "it says that a retry may help");
});

step("reply_to: a message of the room, and nothing else", async () => {
  const ack = await at.bob.done({ message: { content: "A reply", reply_to: at.first.event_id } });
  const event = await both("message_received", (e) => e.seq === ack.seq);
  equal(event.body.message.reply_to, at.first.event_id, "reply_to");
  await at.bob.denied("not_found", { message: { content: "?", reply_to: randomUUID() } });
  await at.bob.denied("not_found", { message: { content: "?", reply_to: "not an id" } });
});

step("edit: by the author only", async () => {
  const message_id = at.first.event_id;
  await at.bob.denied("permission_denied", { edit_message: { message_id, content: "forged" } });
  const ack = await at.ann.done({ edit_message: { message_id, content: "Hello, Bob!" } });
  const event = await both("message_edited", (e) => e.seq === ack.seq);
  equal(event.body.content, "Hello, Bob!", "the new text");
});

step("react: once, and taken back", async () => {
  const react = { message_id: at.first.event_id, emoji: "👍" };
  await at.bob.done({ react });
  const added = (await both("reaction_changed")).body;
  equal([added.user_id, added.emoji, added.added], ["bob-8273", "👍", true], "the reaction");
  equal((await at.bob.done({ react })).seq, 0, "the event of the same reaction again");
  await at.ann.done({ react: { ...react, emoji: "🎉" } });
  await both("reaction_changed", (e) => e.body.emoji === "🎉");
  await at.bob.done({ react: { ...react, remove: true } });
  equal((await both("reaction_changed")).body.added, false, "the reaction is there");
});

step("delete: the text is gone, the place stays", async () => {
  const { event_id: message_id } = await say(at.bob, "a slip of the tongue");
  const ack = await at.bob.done({ delete_message: { message_id } });
  const event = await both("message_deleted", (e) => e.seq === ack.seq);
  equal(event.body.deleted_by_id, "bob-8273", "who deleted it");
  const { messages } = await call(rooms, "LoadHistory", { room_id: at.roomId });
  const shown = (id) => messages.find((message) => message.message_id === id);
  equal([shown(message_id).content, shown(message_id).deleted], ["", true], "the deleted message");
  const first = shown(at.first.event_id);
  equal(first.content, "Hello, Bob!", "the edited message");
  check(first.edited_at, "it does not show that it was edited");
  equal(first.reactions, [{ emoji: "🎉", user_ids: ["ann"] }], "its reactions");
});

step("typing: seen by the other only, and over when the message comes", async () => {
  at.bob.send({ typing: { is_typing: true } });
  const event = await at.ann.expect("user_typing");
  equal([event.body.user_name, event.body.is_typing], ["Bob Byte", true], "who types");
  equal(event.seq, 0, "the position of a transient event");
  await say(at.bob, "That is what I typed");
  equal((await at.ann.expect("user_typing")).body.is_typing, false, "typing after the message");
  check(!at.bob.has("user_typing"), "bob sees himself type");
});

step("presence: away and back", async () => {
  for (const status of ["PRESENCE_STATUS_AWAY", "PRESENCE_STATUS_ONLINE"]) {
    await at.bob.done({ set_presence: { status } });
    const event = await at.ann.expect("presence_changed", (e) => e.body.user_id === "bob-8273");
    equal(event.body.status, status, "bob's presence");
  }
});

step("signal: bytes as they are, for the others or for one", async () => {
  const data = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  at.ann.send({ signal: { type: "cursor", data } });
  const { user_id, type, data: got } = (await at.bob.expect("signal")).body;
  equal([user_id, type, data.equals(got)], ["ann", "cursor", true], "the signal");
  at.bob.send({ signal: { type: "nudge", to: ["ann"] } });
  equal((await at.ann.expect("signal")).body.type, "nudge", "ann's first signal");
});

step("mark_read: others see the receipt, and the cursor only moves forward", async () => {
  const newest = await say(at.ann, "Have you read this?");
  await at.bob.done({ mark_read: { message_id: newest.event_id } });
  const receipt = (await at.ann.expect("read_receipt")).body;
  equal([receipt.user_id, receipt.seq], ["bob-8273", newest.seq], "the receipt");
  await at.bob.done({ mark_read: { seq: at.first.seq } });
  const behind = await say(at.ann, "And this?");
  await at.bob.done({ mark_read: { seq: behind.seq } });
  equal((await at.ann.expect("read_receipt")).body.seq, behind.seq, "the receipt after a step back");
});

step("add an LLM; its name cannot be taken twice", async () => {
  const lists = { allowed_tools: ["files__*"], fallback_models: ["small"] };
  const ada = { id: "ada", display_name: "Ada Lovelace", model: "offline", persona: "You are Ada.", ...lists };
  await at.bob.done({ add_llm: { llm: ada } });
  const { llm } = (await both("llm_added")).body;
  equal({ ...llm }, { ...ada, title: "", chat_style: "CHAT_STYLE_UNSPECIFIED", avatar: "" }, "the LLM");
  const other = { id: "other", display_name: "ada lovelace", model: "offline" };
  await at.bob.denied("already_exists", { add_llm: { llm: other } });
  await at.bob.denied("not_found", { remove_llm: { llm_id: "nobody" } });
});

step("a mention is answered: thinking, chunks without a gap, the same text as a message, done", async () => {
  const ack = await at.bob.done({ message: { content: "@Ada Lovelace, what is a room?" } });
  const asked = (await both("message_received", (e) => e.seq === ack.seq)).body.message;
  equal(asked.mentions, ["ada"], "who was mentioned");
  const { thinking, text, received, done } = await answerOf("ada", ack.event_id);
  check(received?.content, "no answer as a message");
  equal(received.content, text, "the message against its chunks");
  equal([received.sender_id, received.sender_type], ["ada", "LLM"], "who answered");
  equal([received.reply_to, received.partial], [ack.event_id, false], "what the answer is");
  equal(done.reason, "LLM_DONE_REASON_COMPLETED", "how it ended");
  equal(done.provider, "offline", "who made it");
  await at.bob.expect("message_received", (e) => e.body.message.message_id === thinking.message_id);
});

// Has an answer begun, interrupts it, and gives its `llm_done` and how long that took to come.
async function interruptOne() {
  const ack = await at.ann.done({ message: { content: "@ada tell me all that you know" } });
  await both("message_received", (e) => e.seq === ack.seq);
  const ofIt = (e) => e.body.reply_to === ack.event_id;
  await at.bob.expect("llm_chunk", ofIt);
  const began = performance.now();
  await at.bob.done({ interrupt: { llm_id: "ada" } });
  const done = (await both("llm_done", ofIt)).body;
  return { done, took: performance.now() - began };
}

step("interrupt: a running answer ends at once and what had come is kept", async () => {
  let [done, took] = [null, 0];
  for (let attempt = 0; attempt < INTERRUPTS; attempt += 1) {
    ({ done, took } = await interruptOne());
    if (done.reason !== "LLM_DONE_REASON_COMPLETED") break;
  }
  equal(done.reason, "LLM_DONE_REASON_INTERRUPTED", "how it ended");
  check(took < 2000, "the answer went on for milliseconds:", took);
  const isKept = (e) => e.body.message.message_id === done.message_id;
  const kept = (await both("message_received", isKept)).body.message;
  check(kept.partial && kept.content, "the partial text was not kept");
  const chunks = at.bob.all.filter((e) => e.kind === "llm_chunk" && e.body.message_id === done.message_id);
  const streamed = chunks.map((e) => e.body.content).join("");
  check(kept.content.startsWith(streamed), "the kept text is not what was streamed");
});

// Creates a poll, waits until the LLM has voted by itself, and gives the poll and the LLM's vote.
async function createPoll(question, more) {
  const options = ["Tea", "Coffee", "Water"].map((text) => ({ text }));
  const ack = await at.ann.done({ create_poll: { question, options, ...more } });
  equal(ack.last_seq, ack.seq + 1, "a poll is two events: the last");
  const { message } = (await both("message_received", (e) => e.seq === ack.seq)).body;
  const { poll } = (await both("poll_created", (e) => e.seq === ack.last_seq)).body;
  equal([message.content, message.poll_id], [question, poll.poll_id], "the message of the poll");
  equal(poll.options.map((option) => option.text), ["Tea", "Coffee", "Water"], "the options");
  const ofIt = (e) => e.body.poll_id === poll.poll_id;
  await both("llm_thinking", ofIt);
  const vote = await both("poll_voted", ofIt);
  const done = (await both("llm_done", ofIt)).body;
  equal(done.reason, "LLM_DONE_REASON_COMPLETED", "how the LLM's vote ended");
  // In a poll with several choices it may have made more than one.
  for (const session of [at.ann, at.bob]) session.drop("poll_voted");
  return { poll, vote };
}

function cast(session, poll, ...indexes) {
  const option_ids = indexes.map((index) => poll.options[index].id);
  return session.done({ cast_vote: { poll_id: poll.poll_id, option_ids } });
}

step("poll: one option is too few; the LLM votes by itself, with a reason", async () => {
  await at.ann.denied("invalid_poll", { create_poll: { question: "?", options: [{ text: "only" }] } });
  const { poll, vote } = await createPoll("What shall we drink?", { mandatory: true });
  at.poll = poll;
  equal(vote.body.vote.voter_id, "ada", "who voted first");
  check(vote.body.vote.reason, "the LLM gave no reason");
  equal(vote.body.ballot_count, 1, "ballots");
});

step("vote, move and retract; only who may closes it, and then it is closed", async () => {
  const { poll_id, options } = at.poll;
  const [tea, coffee] = options.map((option) => option.id);
  await cast(at.bob, at.poll, 0);
  const vote = (await both("poll_voted")).body;
  equal([vote.option_id, vote.option_ids, vote.ballot_count], [tea, [tea], 2], "the vote");
  await cast(at.bob, at.poll, 1);
  const moved = (await both("poll_voted")).body;
  equal([moved.option_id, moved.retracted_option_ids], [coffee, [tea]], "the moved vote");
  equal(moved.ballot_count, 2, "ballots after the move");
  equal((await cast(at.bob, at.poll, 1)).seq, 0, "the event of the same vote again");
  await at.bob.done({ retract_vote: { poll_id } });
  equal((await both("vote_retracted")).body.ballot_count, 1, "ballots after taking the vote back");
  await at.bob.denied("not_found", { cast_vote: { poll_id, option_ids: ["99"] } });
  await at.bob.denied("invalid_argument", { cast_vote: { poll_id, option_ids: [tea, coffee] } });
  await at.bob.denied("permission_denied", { close_poll: { poll_id } });
  await cast(at.bob, at.poll, 0);
  await both("poll_voted");
  await at.ann.done({ close_poll: { poll_id } });
  const closed = (await both("poll_closed")).body;
  equal([closed.closed_by_id, closed.poll.status], ["ann", "POLL_CLOSED"], "the closed poll");
  const voters = closed.poll.options.flatMap((option) => option.votes.map((v) => v.voter_id));
  equal(voters.sort(), ["ada", "bob-8273"], "the voters in the result");
  await at.bob.denied("poll_closed", { cast_vote: { poll_id, option_ids: [coffee] } });
  await at.ann.denied("poll_closed", { close_poll: { poll_id } });
});

step("anonymous poll: no voter leaves the server, the counts are right", async () => {
  const { poll, vote: llmVote } = await createPoll("In secret?", { anonymous: true, allow_multiple: true });
  await cast(at.bob, poll, 0, 2);
  const votes = [await both("poll_voted"), await both("poll_voted")];
  await at.ann.done({ close_poll: { poll_id: poll.poll_id } });
  const closed = await both("poll_closed");
  for (const event of [llmVote, ...votes, closed]) {
    for (const secret of ["bob-8273", "Bob Byte", "Ada Lovelace"]) {
      check(!event.raw.includes(secret), `${event.kind} tells of a voter:`, secret);
    }
  }
  equal(closed.body.poll.ballot_count, 2, "ballots");
  const counts = closed.body.poll.options.reduce((sum, option) => sum + option.vote_count, 0);
  check(counts >= 3, "votes counted for bob's two options and the LLM's:", counts);
  const { polls } = await call(rooms, "LoadHistory", { room_id: at.roomId });
  const shown = polls.find((p) => p.poll_id === poll.poll_id);
  const told = shown.options.flatMap((option) => option.votes).filter((v) => v.voter_id || v.voter_name);
  equal(told, [], "voters told by history");
});

step("history: pages backwards without a gap; a tampered cursor is refused", async () => {
  const room_id = at.roomId;
  const received = at.bob.lasting().filter((e) => e.kind === "message_received");
  const posted = received.map((e) => e.body.message.message_id);
  const pages = [];
  let cursor;
  for (;;) {
    const page = await call(rooms, "LoadHistory", { room_id, limit: 5, ...(cursor ? { cursor } : {}) });
    pages.unshift(page.messages.map((message) => message.message_id));
    if (!page.next_cursor) break;
    equal(page.messages.length, 5, "length of a page before the last");
    cursor = page.next_cursor;
  }
  check(pages.length > 2, "too few pages to prove anything:", pages.length);
  equal(pages.flat(), posted, "all pages together");
  const middle = Math.floor(cursor.length / 2);
  const other = cursor[middle] === "A" ? "B" : "A";
  for (const wrong of [cursor.slice(0, middle) + other + cursor.slice(middle + 1), "nonsense"]) {
    await refused(grpc.status.INVALID_ARGUMENT, rooms, "LoadHistory", { room_id, cursor: wrong });
  }
  await refused(grpc.status.INVALID_ARGUMENT, rooms, "LoadHistory", { room_id: at.otherId, cursor });
  const many = await call(rooms, "LoadHistory", { room_id, limit: 4_000_000_000 });
  equal(many.messages.map((message) => message.message_id), posted, "a page of four billion");
});

// The positions from `first` to `last`, both among them.
function positions(first, last) {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

step("resume: after_seq brings the same bytes as the stream that never left", async () => {
  const neverLeft = at.bob.lasting();
  const head = neverLeft.at(-1).seq;
  for (const after_seq of [at.bobState.seq, at.bobState.seq + 7, head - 1, head]) {
    const again = new Session(rooms, `bob after ${after_seq}`);
    join(again, at.roomId, "bob-8273", "Bob Byte", { after_seq });
    const resumed = await again.expect("resumed");
    equal([resumed.body.after_seq, resumed.seq], [after_seq, head], "what resumed speaks for");
    for (const wanted of neverLeft.filter((e) => e.seq > after_seq)) {
      const got = await again.expect(wanted.kind, (e) => e.seq === wanted.seq);
      check(got.raw.equals(wanted.raw), `event ${wanted.seq} (${wanted.kind}) came with other bytes`);
    }
    const seqs = again.lasting().map((e) => e.seq);
    equal(seqs, positions(after_seq + 1, head), `the positions after ${after_seq}`);
    again.halfClose();
    await again.ended();
  }
  const seqs = neverLeft.map((e) => e.seq);
  equal(seqs, positions(at.bobState.seq + 1, head), "the positions on the stream that never left");
  const log = rooms.ReadLog({ room_id: at.roomId, after_seq: at.bobState.seq });
  const read = [];
  for await (const { event } of log) read.push([event.seq, event.payload, event.event_id]);
  equal(read, neverLeft.map((e) => [e.seq, e.kind, e.event_id]), "the log");
});

step("leave: only the last connection is the user's, then closing and OK", async () => {
  await say(at.bob, "My other devices are gone, I am still here");
  check(!at.ann.has("user_left"), "bob is said to have left with a second connection");
  at.bob.command({ leave: {} });
  const closing = (await at.bob.expect("closing")).body;
  equal([closing.reason, closing.reconnect], ["CLOSING_REASON_LEFT", false], "why the stream ends");
  equal(await at.bob.ended(), grpc.status.OK, "the status");
  equal((await at.ann.expect("user_left")).body.user_id, "bob-8273", "who left");
  const left = await at.ann.expect("member_changed", (e) => e.body.change === "MEMBER_CHANGE_LEFT");
  equal(left.body.member.id, "bob-8273", "who is no member any more");
});

step("an ended room: every stream closes, it can be read and not joined", async () => {
  at.ann.command({ end_room: { reason: "good night" } });
  equal((await at.ann.expect("room_ended")).body.reason, "good night", "the reason");
  const closing = (await at.ann.expect("closing")).body;
  equal([closing.reason, closing.reconnect], ["CLOSING_REASON_ROOM_ENDED", false], "why the stream ends");
  equal(await at.ann.ended(), grpc.status.OK, "the status");
  const late = new Session(rooms, "late");
  await late.denied("room_ended", { join: { room_id: at.roomId, user_id: "late" } });
  late.cancel();
  const { room } = await call(rooms, "GetRoom", { room_id: at.roomId });
  equal(room.status, "ROOM_STATUS_ENDED", "the status of the room");
  const { messages } = await call(rooms, "LoadHistory", { room_id: at.roomId, limit: 1 });
  equal(messages.length, 1, "what can still be read");
});

step("drain: closing says where to resume, and the server exits 0 within its grace", async () => {
  const stream = new Session(rooms, "last");
  join(stream, at.otherId, "zoe", "Zoe");
  await stream.expect("room_state");
  const ack = await stream.done({ message: { content: "before the end" } });
  const began = performance.now();
  process.kill(Number(process.env.SALON_PID), "SIGTERM");
  const closing = (await stream.expect("closing")).body;
  equal([closing.reason, closing.reconnect], ["CLOSING_REASON_DRAINING", true], "why the stream ends");
  equal(closing.resume_seq, ack.last_seq, "where to resume");
  equal(await stream.ended(), grpc.status.UNAVAILABLE, "the status");
  while (!existsSync(process.env.SALON_EXIT)) {
    if (performance.now() - began > DRAIN_TIMEOUT_MS) {
      throw new Failure(`the server still runs ${DRAIN_TIMEOUT_MS} ms after SIGTERM`);
    }
    await pause(20);
  }
  equal(readFileSync(process.env.SALON_EXIT, "utf8"), "0", "the server's exit code");
});

await runSteps();
