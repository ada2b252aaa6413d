//! Every message survives the way, and nothing else is taken for one.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    domain::{
        event::MemberChange,
        permissions::{Action, Least, Overrides},
        room::{Member, Presence, Role},
    },
    ids::{ConnectionId, LlmId, UserId},
    wire::hint::presence::{
        CONNECTIONS, LAST_ARRIVAL, PAGE_USERS, PAGES, PresenceHint, PresentPage, PresentUser, Said,
    },
};

fn framed(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(u32::try_from(payload.len()).unwrap());
    out.put_slice(payload);
    out.freeze()
}

fn message_ids() -> impl Strategy<Value = MessageId> {
    any::<u128>().prop_map(|id| MessageId(Uuid::from_u128(id)))
}

fn users() -> impl Strategy<Value = UserId> {
    "[a-zA-Zäß🦊 ]{1,20}".prop_map(|name| UserId::parse(&name).unwrap())
}

fn notes(first: u64, last: u64) -> impl Strategy<Value = Note> {
    let started = (message_ids(), "[a-z]{1,8}", message_ids(), any::<i64>(), first..=last);
    let changes = [
        MemberChange::Joined,
        MemberChange::Updated,
        MemberChange::Left,
        MemberChange::Removed,
        MemberChange::Banned,
        MemberChange::Unbanned,
    ];
    let roles = [Role::Viewer, Role::Member, Role::Admin];
    prop_oneof![
        started.prop_map(|(message_id, llm, reply_to, at, seq)| Note::RunStarted(ActiveAnswer {
            answer: LiveAnswer {
                message_id,
                llm_id: LlmId::parse(&llm).unwrap(),
                reply_to,
                text: String::new(),
                started_at: Timestamp(at),
            },
            seq: Seq(seq),
        })),
        message_ids().prop_map(Note::RunEnded),
        Just(Note::RoomEnded),
        (
            users(),
            prop::sample::select(changes.to_vec()),
            prop::sample::select(roles.to_vec()),
            prop::option::of(1..i64::MAX)
        )
            .prop_map(|(user, change, role, until)| {
                Note::Membership { user, change, role, muted_until: until.map(Timestamp) }
            }),
        prop::collection::vec((prop::sample::select(Action::ALL[1..].to_vec()), 0..4_usize), 0..5).prop_map(
            |changes| {
                let least = [Role::Viewer, Role::Member, Role::Admin].map(Least::Role);
                let mut overrides = Overrides::default();
                for (action, n) in changes {
                    overrides.set(action, Some(least.get(n).copied().unwrap_or(Least::Nobody)));
                }
                Note::Permissions(overrides)
            }
        ),
    ]
}

fn batches() -> impl Strategy<Value = BusMessage> {
    let first = prop_oneof![1..1000_u64, 1..u64::MAX - 1000];
    (first, vec(vec(any::<u8>(), 0..50), 1..20)).prop_flat_map(|(first, payloads)| {
        let last = first + payloads.len() as u64 - 1;
        let mut frames = BytesMut::new();
        for (payload, seq) in payloads.iter().zip(first..) {
            frame::put_stored(&mut frames, payload, Seq(seq));
        }
        let frames = frames.freeze();
        vec(notes(first, last), 0..=payloads.len()).prop_map(move |notes| {
            let frames = frames.clone();
            BusMessage::Log(LogBatch { first: Seq(first), last: Seq(last), frames, notes: notes.into() })
        })
    })
}

fn transients() -> impl Strategy<Value = BusMessage> {
    let audience = prop_oneof![
        Just(Audience::Room),
        users().prop_map(Audience::Others),
        vec(users(), 0..4).prop_map(|users| Audience::Users(users.into())),
    ];
    let content = prop_oneof![
        (message_ids(), 0..1_000_000_usize, "\\PC{0,40}")
            .prop_map(|(message_id, offset, text)| TransientContent::Chunk { message_id, offset, text }),
        vec(any::<u8>(), 0..40).prop_map(|bytes| TransientContent::Error { original: framed(&bytes) }),
        Just(TransientContent::Other),
    ];
    (vec(any::<u8>(), 0..100), audience, content).prop_map(|(payload, audience, content)| {
        BusMessage::Transient(Transient { frame: framed(&payload), audience, content })
    })
}

fn interrupts() -> impl Strategy<Value = BusMessage> {
    let llm = proptest::option::of("[a-z]{1,8}".prop_map(|id| LlmId::parse(&id).unwrap()));
    (llm, proptest::option::of(message_ids()), users(), 1..=u64::MAX).prop_map(|(llm, message, by, up_to)| {
        BusMessage::Interrupt(Interrupt { llm, message, by, up_to: Seq(up_to) })
    })
}

fn present_users(gone: bool) -> impl Strategy<Value = PresentUser> {
    let presences = prop::sample::select(vec![Presence::Online, Presence::Away, Presence::Offline]);
    let arrivals = prop::collection::btree_set(1..LAST_ARRIVAL, usize::from(!gone)..4);
    let roles = prop::sample::select(vec![Role::Viewer, Role::Member, Role::Admin]);
    let shown = prop::option::of(("[a-zß🦊 ]{0,20}", "\\PC{0,20}", "\\PC{0,20}", roles, any::<i32>()));
    (users(), presences, arrivals, shown).prop_map(|(user, presence, arrivals, shown)| {
        let member = shown.map(|(name, title, avatar, role, joined_at)| {
            let joined_at = Timestamp(joined_at.into());
            Arc::new(Member { id: user.clone(), name, title, avatar, role, joined_at, muted_until: None })
        });
        PresentUser { user, presence, arrivals: arrivals.into_iter().collect(), member }
    })
}

fn presences() -> impl Strategy<Value = BusMessage> {
    let nodes = || any::<u128>().prop_map(|id| NodeId(Uuid::from_u128(id)));
    let said = prop_oneof![
        present_users(true).prop_map(Said::Changed),
        (0..9_u32, vec(present_users(false), 0..9)).prop_map(|(page, users)| Said::All(PresentPage {
            page,
            pages: 9,
            users
        })),
        Just(Said::Same),
        Just(Said::Closed),
        prop::option::of(nodes()).prop_map(Said::Ask),
    ];
    let hints = (nodes(), 0..LAST_ARRIVAL, 1..LAST_ARRIVAL, said);
    hints.prop_map(|(node, opening, version, said)| {
        BusMessage::Presence(PresenceHint { node, opening, version, said })
    })
}

fn messages() -> impl Strategy<Value = BusMessage> {
    let reaches = (1..=u64::MAX).prop_map(|seq| BusMessage::Reaches(Seq(seq)));
    prop_oneof![batches(), transients(), interrupts(), presences(), reaches]
}

fn room() -> RoomId {
    RoomId::parse("a-room").unwrap()
}

proptest! {
    #[test]
    fn what_is_sent_is_what_arrives(message in messages()) {
        let node = NodeId::random();
        let bytes = encode(node, &room(), &message);
        prop_assert_eq!(sender(&bytes), Ok(node));
        prop_assert_eq!(decode(&bytes), Ok((room(), message)));
    }

    #[test]
    fn garbage_is_refused_and_never_a_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes.clone().into());
        let mut behind_a_header = encode(NodeId::random(), &room(), &BusMessage::Reaches(Seq(1)))[..HEADER].to_vec();
        behind_a_header.extend(bytes);
        let _ = decode(&behind_a_header.into());
    }

    #[test]
    fn a_cut_batch_is_refused(message in batches(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(NodeId::random(), &room(), &message);
        let cut = decode(&bytes.slice(..cut.index(bytes.len())));
        // Notes may be cut off unseen only between two of them: the events themselves are whole.
        if let (Ok((_, BusMessage::Log(cut))), BusMessage::Log(whole)) = (cut, &message) {
            prop_assert_eq!(&cut.frames, &whole.frames);
            prop_assert_eq!(cut.last, whole.last);
        }
    }
}

#[test]
fn events_that_are_not_the_ones_that_are_named_are_refused() {
    let mut frames = BytesMut::new();
    frame::put_stored(&mut frames, b"one", Seq(7));
    frame::put_stored(&mut frames, b"two", Seq(8));
    let frames = frames.freeze();
    let whole = LogBatch { first: Seq(7), last: Seq(8), frames: frames.clone(), notes: [].into() };
    let is_taken =
        |batch: LogBatch| decode(&encode(NodeId::random(), &room(), &BusMessage::Log(batch))).is_ok();
    assert!(is_taken(whole.clone()));
    assert!(!is_taken(LogBatch { last: Seq(9), ..whole.clone() }));
    assert!(!is_taken(LogBatch { last: Seq(7), ..whole.clone() }));
    assert!(!is_taken(LogBatch { first: Seq(6), last: Seq(7), ..whole.clone() }));
    assert!(!is_taken(LogBatch { first: Seq(0), ..whole.clone() }));
    assert!(!is_taken(LogBatch { first: Seq(8), last: Seq(7), ..whole.clone() }));
    assert!(!is_taken(LogBatch { frames: frames.slice(1..), ..whole.clone() }));
    assert!(!is_taken(LogBatch {
        first: Seq(1),
        last: Seq(u64::MAX),
        frames: Bytes::new(),
        ..whole.clone()
    }));
    assert!(!is_taken(LogBatch { notes: vec![Note::RoomEnded; 3].into(), ..whole }));
}

#[test]
fn a_connection_of_the_sender_is_nobody_elsewhere() {
    let transient = |audience| Transient { frame: framed(b"x"), audience, content: TransientContent::Other };
    let sent = BusMessage::Transient(transient(Audience::OtherConnections(ConnectionId::next())));
    let arrived = decode(&encode(NodeId::random(), &room(), &sent)).unwrap().1;
    assert_eq!(arrived, BusMessage::Transient(transient(Audience::Room)));
}

#[test]
fn an_interrupt_that_names_nobody_or_anything_is_refused() {
    let good =
        pb::Interrupt { llm_id: "ada".into(), by_user_id: "ann".into(), up_to: 7, ..Default::default() };
    let read = |change: fn(&mut pb::Interrupt)| {
        let mut interrupt = good.clone();
        change(&mut interrupt);
        interrupt_from_pb(&interrupt)
    };
    assert!(read(|_| {}).is_ok());
    assert_eq!(read(|it| it.up_to = 0), Err(Malformed("its position")));
    assert_eq!(read(|it| it.by_user_id.clear()), Err(Malformed("an id")));
    assert_eq!(read(|it| it.llm_id = "x".repeat(100_000)), Err(Malformed("an id")));
    assert_eq!(read(|it| it.message_id = vec![1; 15].into()), Err(Malformed("the id of a message")));
}

#[test]
fn another_version_and_other_programs_are_told_apart() {
    let bytes = encode(NodeId::random(), &room(), &BusMessage::Reaches(Seq(1)));
    let mut newer = bytes.to_vec();
    newer[1] = 2;
    assert_eq!(decode(&newer.into()), Err(HintError::Version(2)));
    assert_eq!(decode(&Bytes::from_static(b"{\"room\": 1}")), Err(HintError::Foreign));
    assert_eq!(decode(&Bytes::new()), Err(HintError::Foreign));
    let large = vec![0; MAX_BYTES + 1];
    assert_eq!(decode(&large.into()), Err(HintError::TooLarge(MAX_BYTES + 1)));
}

#[test]
fn presence_beyond_what_a_node_says_is_refused() {
    let user = PresentUser {
        user: UserId::parse("ann").unwrap(),
        presence: Presence::Online,
        arrivals: [3, 5].into(),
        member: None,
    };
    let is_taken = |version, said| {
        let hint = PresenceHint { node: NodeId::random(), opening: 1, version, said };
        decode(&encode(NodeId::random(), &room(), &BusMessage::Presence(hint))).is_ok()
    };
    let changed = |user: &PresentUser| is_taken(1, Said::Changed(user.clone()));
    assert!(changed(&user));
    assert!(!is_taken(0, Said::Changed(user.clone())));
    assert!(is_taken(LAST_ARRIVAL - 1, Said::Same) && !is_taken(LAST_ARRIVAL, Said::Same));
    let arrived = |arrivals: &[u64]| changed(&PresentUser { arrivals: arrivals.into(), ..user.clone() });
    assert!(arrived(&[]) && arrived(&[LAST_ARRIVAL - 1]));
    // Whoever comes behind the largest number has the same.
    assert!(arrived(&[LAST_ARRIVAL - 1, LAST_ARRIVAL - 1]));
    assert!(!arrived(&[0]) && !arrived(&[5, 3]) && !arrived(&[LAST_ARRIVAL]));
    let many: Vec<u64> = (1..).take(CONNECTIONS).collect();
    assert!(arrived(&many));
    assert!(!arrived(&(1..).take(CONNECTIONS + 1).collect::<Vec<u64>>()));
    let named = |name: &str| {
        let id = user.user.clone();
        let (title, avatar, joined_at) = (String::new(), String::new(), Timestamp(0));
        let member = Member {
            id,
            name: name.to_owned(),
            role: Role::Member,
            title,
            avatar,
            joined_at,
            muted_until: None,
        };
        changed(&PresentUser { member: Some(Arc::new(member)), ..user.clone() })
    };
    assert!(named(&"x".repeat(128)) && !named(&"x".repeat(129)) && !named("a\u{202E}b"));
    let page = |page, pages, users: &[PresentUser]| {
        is_taken(1, Said::All(PresentPage { page, pages, users: users.to_vec() }))
    };
    assert!(page(0, 1, &[]) && page(PAGES - 1, PAGES, &vec![user.clone(); PAGE_USERS]));
    assert!(!page(0, 0, &[]) && !page(1, 1, &[]) && !page(0, PAGES + 1, &[]));
    assert!(!page(0, 1, &vec![user.clone(); PAGE_USERS + 1]));
    assert!(!page(0, 1, &[PresentUser { arrivals: [].into(), ..user.clone() }]));
}
