//! The client's half of HTTP/2, cut anywhere, and held back by windows.

use super::{
    super::prefixed,
    frames::{FRAME_BYTES, HEAD, PADDED},
    *,
};

/// A message for `send`, with its prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prefixed::push(&mut out, message);
    out
}

fn request() -> Request {
    Request {
        is_tls: false,
        path: "/room.v1.RoomService/RoomSession".into(),
        authority: "127.0.0.1:1".into(),
        authorization: Some(vec![b'x'; 300]),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

/// Messages and ends, with their streams.
type Events = Vec<(usize, Vec<u8>)>;

/// What the server's bytes come to, and what is answered.
fn heard(chunks: &[&[u8]], streams: usize) -> Result<(Events, Vec<u8>), Fault> {
    let mut out = Vec::new();
    let mut http2 = Http2::open(&request(), streams, &mut out);
    out.clear();
    let (mut heard, mut left) = (Vec::new(), Vec::new());
    for chunk in chunks {
        left.extend_from_slice(chunk);
        let whole = http2.receive(&left, &mut out, &mut |what| match what {
            Heard::Message(index, message) => heard.push((index, message.to_vec())),
            Heard::Ended(index, why) => heard.push((index, why.as_bytes().to_vec())),
            Heard::Joined(_) => panic!(),
        })?;
        left.drain(..whole);
    }
    Ok((heard, out))
}

#[test]
fn a_conversation_is_the_same_wherever_it_is_cut() {
    let message = framed(&[5; 70]);
    let mut padded = vec![3];
    padded.extend_from_slice(&framed(b"padded"));
    padded.extend_from_slice(&[0; 3]);
    let said = [
        frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        frame(HEADERS, END_HEADERS, 1, &[0x88]),
        // A message in two frames, with another stream's and a ping between them.
        frame(DATA, 0, 1, &message[..20]),
        frame(DATA, 0, 3, &framed(b"other")),
        frame(PING, 0, 0, b"12345678"),
        frame(DATA, 0, 1, &[&message[20..], &framed(b"")].concat()),
        frame(DATA, PADDED, 3, &padded),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88]),
        frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]),
    ]
    .concat();
    let expected = [
        (1, b"other".to_vec()),
        (0, vec![5; 70]),
        (0, Vec::new()),
        (1, b"padded".to_vec()),
        (0, b"ended by the server".to_vec()),
        (1, b"reset by the server, code 8".to_vec()),
    ];
    let answers = [frame(SETTINGS, ACK, 0, &[]), frame(PING, ACK, 0, b"12345678")].concat();
    for cut in 0..=said.len() {
        let (events, out) = heard(&[&said[..cut], &said[cut..]], 2).unwrap();
        assert_eq!(events, expected, "cut at {cut}");
        assert_eq!(out, answers, "cut at {cut}");
    }
    let single: Vec<&[u8]> = said.chunks(1).collect();
    assert_eq!(heard(&single, 2).unwrap().0, expected);
}

/// What was sent on a stream, of the frames in `out`, none of which is too long.
fn sent(mut out: &[u8], stream: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((frame, later)) = Frame::split(out).unwrap() {
        if (frame.kind, frame.stream) == (DATA, stream) {
            assert!(!frame.payload.is_empty());
            bytes.extend_from_slice(frame.payload);
        }
        out = later;
    }
    assert!(out.is_empty());
    bytes
}

fn more(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

#[test]
fn what_waits_for_a_window_goes_out_in_order_and_does_not_hold_others_up() {
    let mut out = Vec::new();
    let mut http2 = Http2::open(&request(), 2, &mut out);
    out.clear();
    let long = framed(&[1; 40_000]);
    http2.send(0, &long, &mut out);
    assert_eq!(sent(&out, 1), long);
    assert_eq!(out.len(), long.len() + long.len().div_ceil(FRAME_BYTES) * HEAD);
    out.clear();
    // 25,530 are left on the stream and on the connection.
    http2.send(0, &long, &mut out);
    http2.send(0, &framed(b"behind it"), &mut out);
    http2.send(1, &framed(b"another"), &mut out);
    let mut all = sent(&out, 1);
    assert_eq!((all.len(), sent(&out, 3).len()), (25_530, 0));
    out.clear();
    http2.receive(&more(0, 100_000), &mut out, &mut |_| {}).unwrap();
    assert_eq!(out, frame(DATA, 0, 3, &framed(b"another")));
    out.clear();
    http2.receive(&more(1, 100_000), &mut out, &mut |_| {}).unwrap();
    all.extend(sent(&out, 1));
    assert_eq!(all, [long, framed(b"behind it")].concat());
}

#[test]
fn a_message_that_is_larger_than_every_window_leaves_part_by_part() {
    let mut out = Vec::new();
    let mut http2 = Http2::open(&request(), 2, &mut out);
    out.clear();
    let large = framed(&[7; 200_000]);
    http2.send(0, &large, &mut out);
    http2.send(1, &framed(b"another"), &mut out);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let mut rounds = 0;
    while one.len() < large.len() || other.is_empty() {
        one.extend(sent(&out, 1));
        other.extend(sent(&out, 3));
        out.clear();
        // The server gives back what it has read, as one that takes 65,535 bytes does.
        for update in [more(1, 30_000), more(0, 30_000)] {
            http2.receive(&update, &mut out, &mut |_| {}).unwrap();
        }
        rounds += 1;
        assert!(rounds < 20, "{} of {} bytes have left", one.len(), large.len());
    }
    assert_eq!((one, other), (large, framed(b"another")));
}

#[test]
fn what_waits_on_a_stream_that_is_over_does_not_leave() {
    let mut out = Vec::new();
    let mut http2 = Http2::open(&request(), 2, &mut out);
    for stream in [0, 1] {
        http2.send(stream, &framed(&[1; 60_000]), &mut out);
    }
    out.clear();
    http2.receive(&frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]), &mut out, &mut |_| {}).unwrap();
    http2.receive(&more(0, 1_000_000), &mut out, &mut |_| {}).unwrap();
    http2.send(1, &framed(b"later"), &mut out);
    assert!(out.is_empty());
    http2.send(0, &framed(b"later"), &mut out);
    assert_eq!(sent(&out, 1), framed(b"later"));
}

#[test]
fn a_smaller_first_window_counts_for_streams_that_are_open() {
    let mut out = Vec::new();
    let mut http2 = Http2::open(&request(), 1, &mut out);
    out.clear();
    http2.receive(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]), &mut out, &mut |_| {}).unwrap();
    out.clear();
    http2.send(0, &framed(b"longer than ten"), &mut out);
    assert_eq!(sent(&out, 1), framed(b"longer than ten")[..10]);
    out.clear();
    http2.receive(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]), &mut out, &mut |_| {}).unwrap();
    // The server takes more when it knows that we know.
    let rest = frame(DATA, 0, 1, &framed(b"longer than ten")[10..]);
    assert_eq!(out, [frame(SETTINGS, ACK, 0, &[]), rest].concat());
}

#[test]
fn ends_of_the_connection_are_faults_that_say_why() {
    let away = frame(GOAWAY, 0, 0, b"\0\0\0\x05\0\0\0\x0bcalm down");
    assert_eq!(heard(&[&away], 1).unwrap_err(), Fault::GoAway { code: 11, text: "calm down".into() });
    let few = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]);
    assert!(heard(&[&few], 1).is_ok());
    assert_eq!(heard(&[&few], 2).unwrap_err(), Fault::Streams { allowed: 1 });
    assert!(heard(&[b"HTTP/1.1 400 Bad Request\r\n"], 1).unwrap_err().to_string().contains("no HTTP/2"));
    assert!(heard(&[&frame(DATA, PADDED, 1, &[9, 1])], 1).is_err());
    let not_ours = heard(&[&frame(DATA, 0, 2, &framed(b"not ours"))], 2).unwrap_err().to_string();
    assert!(not_ours.contains("stream 2"), "{not_ours}");
}

#[test]
fn a_stream_that_was_refused_has_the_words_of_the_server() {
    let mut block = vec![0x88];
    for (name, value) in [("grpc-status", "7"), ("grpc-message", "not%20you")] {
        block.push(0x00);
        headers::push_text(&mut block, name.as_bytes());
        headers::push_text(&mut block, value.as_bytes());
    }
    let refused = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
    let (events, _) = heard(&[&refused], 1).unwrap();
    assert_eq!(events, [(0, b"ended by the server: not you (PermissionDenied)".to_vec())]);
    // What goes on in another frame is not read, and is an end all the same.
    let (events, _) = heard(&[&frame(HEADERS, END_STREAM, 1, &block[..9])], 1).unwrap();
    assert_eq!(events, [(0, b"ended by the server".to_vec())]);
}

#[test]
fn windows_are_topped_up_before_they_are_empty() {
    let mut out = Vec::new();
    let mut http2 = Http2::open(&request(), 1, &mut out);
    out.clear();
    let data = frame(DATA, 0, 1, &framed(&[0; FRAME_BYTES - prefixed::PREFIX]));
    let mut messages = 0_usize;
    for _ in 0..TOP_UP as usize / FRAME_BYTES {
        assert!(out.is_empty());
        http2.receive(&data, &mut out, &mut |_| messages += 1).unwrap();
    }
    assert_eq!(messages, TOP_UP as usize / FRAME_BYTES);
    assert_eq!(out, [more(0, TOP_UP), more(1, TOP_UP)].concat());
}
