//! The client's half of HTTP/2, cut anywhere, and held back by windows.

use super::{super::prefixed, *};

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

#[test]
fn what_waits_for_a_window_goes_out_in_order_and_does_not_hold_others_up() {
    let mut out = Vec::new();
    let mut http2 = Http2::open(&request(), 2, &mut out);
    out.clear();
    let long = framed(&[1; 40_000]);
    http2.send(0, &long, &mut out);
    let frames = long.len().div_ceil(FRAME_BYTES);
    assert_eq!(out.len(), long.len() + frames * HEAD);
    out.clear();
    // 25,000 are left on the stream and on the connection.
    http2.send(0, &long, &mut out);
    http2.send(0, &framed(b"behind it"), &mut out);
    http2.send(1, &framed(b"another"), &mut out);
    assert!(out.is_empty());
    let more = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    http2.receive(&more(0, 100_000), &mut out, &mut |_| {}).unwrap();
    assert_eq!(out, frame(DATA, 0, 3, &framed(b"another")));
    out.clear();
    http2.receive(&more(1, 100_000), &mut out, &mut |_| {}).unwrap();
    assert!(out.ends_with(&frame(DATA, 0, 1, &framed(b"behind it"))));
    assert_eq!(out.len(), long.len() + frames * HEAD + HEAD + framed(b"behind it").len());
}

#[test]
fn a_smaller_first_window_counts_for_streams_that_are_open() {
    let mut out = Vec::new();
    let mut http2 = Http2::open(&request(), 1, &mut out);
    out.clear();
    http2.receive(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]), &mut out, &mut |_| {}).unwrap();
    out.clear();
    http2.send(0, &framed(b"longer than ten"), &mut out);
    assert!(out.is_empty());
    http2.receive(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]), &mut out, &mut |_| {}).unwrap();
    assert!(out.ends_with(&framed(b"longer than ten")));
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
    let more = |stream| frame(WINDOW_UPDATE, 0, stream, &TOP_UP.to_be_bytes());
    assert_eq!(out, [more(0), more(1)].concat());
}
