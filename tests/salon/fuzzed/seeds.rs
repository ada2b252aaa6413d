//! What the fuzzer begins with: at least one input of each kind that a target understands, made with Salon's own
//! encoders.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use salon::{
    clock::Timestamp,
    domain::room::Presence,
    grpc::cursor,
    ids::{ApprovalId, ConnectionId, EventId, LlmId, MessageId, NodeId, PollId, Seq, UserId},
    wire::{
        backup, encode, frame,
        hint::{
            Audience, BusMessage, Interrupt, LogBatch, Note, Transient, TransientContent, codec,
            presence::{PresenceHint, PresentPage, PresentUser, Said},
        },
        pb::room::v1::{self as pb, client_message::Payload},
        snapshot, transient,
    },
};
use uuid::Uuid;

use super::{BETWEEN, opening::Table, tokens};

/// The seeds of a target, with their names.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    let seeds = match target {
        "commands" => commands(),
        "configuration" => configurations(),
        "cursor" => cursors(),
        "hint" => hints(),
        "mention" => mentions(),
        "stored" => stored(),
        "token" => tokens(),
        other => panic!("no target {other}"),
    };
    seeds.into_iter().enumerate().map(|(at, data)| (format!("seed-{at:02}"), data)).collect()
}

fn join(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.join(&BETWEEN[..])
}

/// The actor's place among the users, then the message.
fn step(who: u8, payload: Payload) -> Vec<u8> {
    let message = pb::ClientMessage { payload: Some(payload), request_id: "r-1".into() };
    [vec![who], message.encode_to_vec()].concat()
}

const ADA: u8 = 0;
const BOB: u8 = 1;
const VERA: u8 = 2;
const UNA: u8 = 4;

/// What the opening has left: its question, its poll, its call that waits.
struct There {
    message: MessageId,
    poll: PollId,
    approval: ApprovalId,
}

impl There {
    fn find() -> Self {
        let table = Table::laid();
        Self {
            message: table.room.recent.front().unwrap().id,
            poll: *table.room.polls.keys().next().unwrap(),
            approval: *table.room.approvals.keys().next().unwrap(),
        }
    }
}

fn commands() -> Vec<Vec<u8>> {
    let one = talk().into_iter().chain(moderate()).chain(rule()).chain(automate()).chain(transient_ones());
    let mut seeds: Vec<Vec<u8>> = one.collect();
    // All of them in one room, but for the one that ends it.
    let all: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    seeds.push(join(&all));
    seeds.push(step(ADA, Payload::EndRoom(pb::EndRoom { reason: "done".into() })));
    seeds
}

fn talk() -> Vec<Vec<u8>> {
    let there = There::find();
    let (message_id, poll_id) = (there.message.to_string(), there.poll.to_string());
    let option = |text: &str| pb::PollOptionInput { text: text.into(), description: "d".into() };
    vec![
        step(
            BOB,
            Payload::Message(pb::SendMessage {
                content: "well, @Mia Ⅱ: `@bot`?\n> @all\n".into(),
                mentions: vec!["@bot,".into()],
                reply_to: Some(message_id.clone()),
                content_type: "text/markdown".into(),
            }),
        ),
        step(
            BOB,
            Payload::React(pb::React {
                message_id: message_id.clone(), emoji: "👩‍💻".into(), remove: false
            }),
        ),
        step(
            BOB,
            Payload::EditMessage(pb::EditMessage {
                message_id: message_id.clone(),
                content: "hello @mia".into(),
                regenerate: true,
            }),
        ),
        step(VERA, Payload::Message(pb::SendMessage { content: "may I?".into(), ..Default::default() })),
        step(
            BOB,
            Payload::CastVote(pb::CastVote {
                poll_id: poll_id.clone(),
                option_ids: vec!["1".into(), "3".into()],
                reason: "because".into(),
            }),
        ),
        step(BOB, Payload::RetractVote(pb::RetractVote { poll_id: poll_id.clone() })),
        step(
            BOB,
            Payload::CreatePoll(pb::CreatePoll {
                question: "When?".into(),
                options: vec![option("now"), option("later")],
                secret_ballot: true,
                closes_in_ms: 60_000,
                quorum: 1,
                ..Default::default()
            }),
        ),
        step(ADA, Payload::ClosePoll(pb::ClosePoll { poll_id })),
        step(ADA, Payload::DeleteMessage(pb::DeleteMessage { message_id })),
    ]
}

fn rule() -> Vec<Vec<u8>> {
    let llm = |id: &str| pb::LlmConfig {
        id: id.into(),
        display_name: "Third".into(),
        model: "m".into(),
        fallback_models: vec!["n".into()],
        ..Default::default()
    };
    vec![
        step(
            UNA,
            Payload::Join(pb::JoinRoom {
                room_id: "room".into(),
                user_id: "una".into(),
                display_name: "Una".into(),
                title: "new".into(),
                avatar: "🦊".into(),
                after_seq: Some(3),
                chunk_interval_ms: Some(40),
                ..Default::default()
            }),
        ),
        step(ADA, Payload::UpdateMember(pb::UpdateMember { user_id: "bob".into(), role: 3 })),
        step(
            ADA,
            Payload::RemoveMember(pb::RemoveMember {
                user_id: "vera".into(),
                reason: "spam".into(),
                ..Default::default()
            }),
        ),
        step(
            ADA,
            Payload::UpdateRoom(pb::UpdateRoom {
                name: Some(" Lounge ".into()),
                visibility: 2,
                settings: Some(pb::RoomSettings { turn_policy: 2, response_policy: 2, ..Default::default() }),
                allowed_tools: Some(pb::StringList { values: vec!["files__*".into()] }),
                ..Default::default()
            }),
        ),
        step(ADA, Payload::UpdateRoomDescription(pb::UpdateRoomDescription { description: "About".into() })),
        step(ADA, Payload::AddLlm(pb::AddLlm { llm: Some(llm("third")) })),
        step(
            ADA,
            Payload::UpdateLlm(pb::UpdateLlm {
                llm_id: "third".into(),
                persona: Some("terse".into()),
                display_name: Some("Drei".into()),
                ..Default::default()
            }),
        ),
        step(ADA, Payload::RemoveLlm(pb::RemoveLlm { llm_id: "third".into() })),
        step(BOB, Payload::Leave(pb::LeaveRoom::default())),
    ]
}

fn moderate() -> Vec<Vec<u8>> {
    vec![
        step(
            ADA,
            Payload::CreateInvitation(pb::CreateInvitation {
                expires_in_ms: 60_000,
                role: 3,
                for_user_id: "una".into(),
            }),
        ),
        step(
            ADA,
            Payload::RevokeInvitation(pb::RevokeInvitation { invitation_id: "0123456789abcdef".into() }),
        ),
        step(
            ADA,
            Payload::MuteMember(pb::MuteMember {
                user_id: "bob".into(),
                duration_ms: 60_000,
                reason: "noise".into(),
            }),
        ),
    ]
}

fn automate() -> Vec<Vec<u8>> {
    let there = There::find();
    vec![
        step(
            ADA,
            Payload::DecideApproval(pb::DecideApproval {
                approval_id: there.approval.to_string(),
                approve: true,
                reason: "fine".into(),
            }),
        ),
        step(
            ADA,
            Payload::StartAutopilot(pb::StartAutopilot {
                mode: 1,
                topic: "tea".into(),
                llm_ids: vec!["bot".into(), "mia".into()],
                max_turns: 4,
                ..Default::default()
            }),
        ),
        step(ADA, Payload::ControlAutopilot(pb::ControlAutopilot { action: 2, reason: "wait".into() })),
        step(
            ADA,
            Payload::Regenerate(pb::Regenerate { message_id: there.message.to_string(), model: "m".into() }),
        ),
    ]
}

fn transient_ones() -> Vec<Vec<u8>> {
    vec![
        step(BOB, Payload::Ping(pb::Ping {})),
        step(BOB, Payload::Authenticate(pb::Authenticate { credential: "a.b.c".into() })),
        step(BOB, Payload::Typing(pb::TypingIndicator { is_typing: true })),
        step(BOB, Payload::Interrupt(pb::InterruptLlm { llm_id: "bot".into(), ..Default::default() })),
        step(BOB, Payload::MarkRead(pb::MarkRead { seq: 3, ..Default::default() })),
        step(BOB, Payload::SetPresence(pb::SetPresence { status: 2 })),
        step(
            BOB,
            Payload::Signal(pb::SendSignal {
                r#type: "cursor".into(),
                data: vec![1, 2].into(),
                ..Default::default()
            }),
        ),
    ]
}

fn tokens() -> Vec<Vec<u8>> {
    const HEADER: &str = r#"{"alg":"HS256","typ":"JWT","kid":"k1"}"#;
    let claims = |more: &str| {
        let own = r#""iss":"https://issuer","aud":"salon","userId":"ann","tenant":"acme","exp":1800000600"#;
        format!("{{{own}{more}}}")
    };
    let say =
        |header: &str, payload: &str| [vec![1], join(&[header.as_bytes(), payload.as_bytes()])].concat();
    let rich = r#","name":"Ann 🦊","roomId":"tea","role":"coach","iat":1800000000,"nbf":1799999990,"jti":"t1",
        "grants":{"write":false},"permissions":["video","screen-share"]"#;
    let mut seeds = vec![
        say(HEADER, &claims("")),
        say(r#"{"alg":"HS256"}"#, &claims(rich)),
        say(HEADER, &claims(r#","grants":["join","write"],"role":"client""#)),
        say(r#"{"alg":"none"}"#, &claims("")),
        say(r#"{"alg":"RS256","kid":"k1","crit":["b64"]}"#, &claims("")),
        say(HEADER, r#"{"iss":"https://issuer","aud":["a","salon"],"exp":1e9,"userId":"ann"}"#),
        say(HEADER, r#"{"iss":"https://issuer","aud":"salon","exp":1800000600,"userId":"\u202e\u001b"}"#),
        say(HEADER, r#"{"exp":1,"exp":2}"#),
    ];
    let token = tokens::signed(HEADER.as_bytes(), claims("").as_bytes());
    seeds.push([vec![0], token.clone().into_bytes()].concat());
    let rsa = r#"{"kty":"RSA","kid":"r","alg":"RS256","use":"sig","e":"AQAB","n":"AQAB"}"#;
    let ec = r#"{"kty":"EC","crv":"P-256","kid":"e","x":"AA","y":"AA"}"#;
    let okp = r#"{"kty":"OKP","crv":"Ed25519","kid":"o","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let oct = r#"{"kty":"oct","kid":"s","k":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}"#;
    for keys in [okp.to_owned(), oct.to_owned(), format!("{rsa},{ec}"), format!("{okp},{oct}")] {
        let set = format!(r#"{{"keys":[{keys}]}}"#);
        seeds.push([vec![2], join(&[set.as_bytes(), token.as_bytes()])].concat());
    }
    seeds
}

fn configurations() -> Vec<Vec<u8>> {
    let shipped = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config.yaml"));
    let bare: Vec<&str> = shipped
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
        .map(|line| line.split(" #").next().unwrap_or(line))
        .collect();
    let mut seeds = vec![bare.join("\n").into_bytes()];
    for text in [
        "grpc: { host: \"::1\", port: 0, keepalive_interval: 30 s }\n",
        "grpc: { host: 0.0.0.0 }\nauth: { allow_open_on_network: true }\n",
        "store: { kind: memory }\nlimits: { history_page: 10, join_timeout: 1m }\n",
        "llm:\n  providers:\n    p: { kind: openai, base_url: \"https://a/v1\", api_key_env: OPENAI_API_KEY }\n",
        "llm:\n  models:\n    m: { provider: offline, fallbacks: [n] }\n",
        "mcp:\n  servers:\n    files: { command: [cat], env: [SALON_TEST_TOKEN], tools: { read: {} } }\n",
        "llm:\n  budgets:\n    user: { tokens_per_day: 1000000, money_per_month: 2.5 }\n",
        "bus: { kind: nats, url: nats://h:4222 }\nstore: { kind: postgres, url: \"postgres://u@h/d\" }\n",
        "log: { level: \"info,salon=debug\", format: json }\n",
        "a: &a [*a]\n",
        "grpc: 1\nnobody: { knows: this }\n? [x]\n: y\n",
    ] {
        seeds.push(text.as_bytes().to_vec());
    }
    seeds
}

fn cursors() -> Vec<Vec<u8>> {
    ["rooms", "rooms of ada", "history room back", "history room forth", "members room"]
        .into_iter()
        .flat_map(|list| {
            let number = cursor::encode(list, &7_u64.to_be_bytes());
            let text = cursor::encode(list, b"bob");
            [join(&[list.as_bytes(), number.as_bytes()]), join(&[list.as_bytes(), text.as_bytes()])]
        })
        .collect()
}

fn mentions() -> Vec<Vec<u8>> {
    [
        ["hello @bot, and @GPT_4.", "", "Bot"],
        ["@all: > no", "", "Bot"],
        ["> @bot\n`@bot` ```\n@bot\n``` @小明!", "@小明", "小明"],
        ["ｈｉ ＠ｂｏｔ and x@bot.org @bot@bot", "everyone\nbot.", "Bot"],
        ["@Ada Lovelace @ada  lovelace's @ada\u{301}", "nobody", "Ada Lovelace"],
    ]
    .into_iter()
    .flat_map(|[text, beside, name]| {
        let two = join(&[text.as_bytes(), beside.as_bytes()]);
        let four = join(&[text.as_bytes(), beside.as_bytes(), name.as_bytes(), "Ada".as_bytes()]);
        [two, four]
    })
    .collect()
}

fn stored() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for inputs in commands() {
        let table = super::commands::play(&inputs);
        let mut room = salon::domain::apply::create(&table.log[0]).unwrap();
        let mut log = vec![0];
        for (at, recorded) in table.log.iter().enumerate() {
            salon::domain::apply::apply(&mut room, recorded);
            let encoded = encode::event(&room, recorded);
            if at > 0 {
                log.extend_from_slice(&BETWEEN);
            }
            log.extend_from_slice(&join(&[&encoded.public, &encoded.private]));
        }
        // The fuzzer takes what is long apart anyway.
        if table.log.len() > 12 {
            seeds.push(log);
            seeds.push([vec![1], snapshot::encode(&room).to_vec()].concat());
        }
    }
    let parts = [
        backup::Part::Header(backup::Header {
            version: backup::VERSION,
            program: "salon".into(),
            created_at: Timestamp(1_700_000_000_000),
            store: "sqlite".into(),
        }),
        backup::Part::Room(backup::RoomHead { room: Table::laid().room.id, head: Seq(9), fence: Seq(8) }),
        backup::Part::Cursor { user: UserId::parse("bob").unwrap(), seq: Seq(7) },
    ];
    seeds.extend(parts.map(|part| [vec![2], backup::encode(part)].concat()));
    seeds
}

fn hints() -> Vec<Vec<u8>> {
    let table = Table::laid();
    let mut room = salon::domain::apply::create(&table.log[0]).unwrap();
    let mut frames = BytesMut::new();
    let mut notes = Vec::new();
    for recorded in &table.log {
        salon::domain::apply::apply(&mut room, recorded);
        frame::put_stored(&mut frames, &encode::event(&room, recorded).public, recorded.seq);
        notes.extend(Note::of(recorded.seq, recorded));
    }
    let last = Seq(table.log.len() as u64);
    let batch = LogBatch { first: Seq(1), last, frames: frames.freeze(), notes: notes.into() };
    let there = There::find();
    let stamp = || transient::Stamp { event_id: EventId(Uuid::from_u128(9)), at: Timestamp(1) };
    let user = UserId::parse("bob").unwrap();
    let told = |audience, content| {
        let frame = transient::presence(stamp(), &user, Presence::Away);
        BusMessage::Transient(Transient { frame, audience, content })
    };
    let chunk = TransientContent::Chunk { message_id: there.message, offset: 3, text: "more".into() };
    let error = TransientContent::Error { original: Bytes::from_static(&[0, 0, 0, 0, 0]) };
    let connection = ConnectionId::next();
    let present = PresentUser {
        user: user.clone(),
        presence: Presence::Away,
        arrivals: vec![1, 5].into(),
        member: room.members.get(&user).cloned().map(Into::into),
    };
    let page = PresentPage { page: 0, pages: 1, users: vec![present.clone()] };
    let node = NodeId(Uuid::from_u128(1));
    let said = |said| BusMessage::Presence(PresenceHint { node, opening: 3, version: 4, said });
    [
        said(Said::Changed(present)),
        said(Said::All(page)),
        said(Said::Same),
        said(Said::Closed),
        said(Said::Ask(Some(node))),
        BusMessage::Log(batch),
        BusMessage::Reaches(last),
        told(Audience::Room, TransientContent::Other),
        told(Audience::Room, chunk),
        told(Audience::Others(user.clone()), error),
        told(Audience::OtherConnections(connection), TransientContent::Other),
        told(Audience::Users(vec![user.clone(), user.clone()].into()), TransientContent::Other),
        BusMessage::Interrupt(Interrupt {
            llm: Some(LlmId::parse("bot").unwrap()),
            message: Some(there.message),
            by: user.clone(),
            up_to: last,
        }),
    ]
    .into_iter()
    .map(|message| codec::encode(node, &table.room.id, &message).to_vec())
    .collect()
}
