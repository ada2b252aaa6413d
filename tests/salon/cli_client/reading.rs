//! Commands that only read: the log, the rooms, the health.

use super::*;

#[tokio::test]
async fn a_log_is_printed_as_lines_of_json() {
    let fake = Fake::default();
    let event = |seq| ServerEvent {
        seq,
        payload: Some(Payload::MessageReceived(pb::MessageReceived {
            message: Some(message("m", "Ann", "two\nlines")),
        })),
        ..Default::default()
    };
    fake.log.lock().unwrap().extend([event(1), event(2), event(3)]);
    let server = fake.serve().await.to_string();
    let mut out = Vec::new();
    let asked =
        LogOptions { server: server.clone().into(), room: "tea".into(), after: 1, ..Default::default() };
    assert_eq!(log::run(asked, &mut out).await.unwrap(), Exit::Success);
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<&str> = lines.iter().map(|line| line["seq"].as_str().unwrap()).collect();
    assert_eq!(seqs, ["2", "3"]);
    assert_eq!(lines[0]["messageReceived"]["message"]["content"], "two\nlines");

    let missing = LogOptions { server: server.into(), room: "gone".into(), ..Default::default() };
    let error = log::run(missing, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
}

#[tokio::test]
async fn rooms_are_listed_over_all_pages_up_to_the_limit() {
    let fake = Fake::default();
    let room = |id: &str| pb::RoomInfo { room_id: id.into(), name: id.to_uppercase(), ..Default::default() };
    fake.rooms.lock().unwrap().extend(["a", "b", "c", "d", "e"].map(room));
    let server = fake.serve().await.to_string();
    for (limit, expected) in [(0, "abcde"), (3, "abc"), (4, "abcd"), (9, "abcde")] {
        let mut out = Vec::new();
        let asked = RoomsOptions { server: server.clone().into(), limit, json: true, ..Default::default() };
        assert_eq!(rooms::run(asked, &mut out).await.unwrap(), Exit::Success);
        let listed: String = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["roomId"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(listed, expected, "limit {limit}");
    }
}

#[tokio::test]
async fn health_is_good_only_when_the_server_says_so() {
    let fake = Fake::default();
    let server = fake.serve().await.to_string();
    for (service, expected, exit) in [
        ("", "serving\n", Exit::Success),
        ("room.v1.RoomService", "serving\n", Exit::Success),
        ("draining", "not serving\n", Exit::Failure),
        ("nothing", "the server knows no service \"nothing\"\n", Exit::Failure),
    ] {
        let mut out = Vec::new();
        let asked = HealthOptions { server: server.clone().into(), service: service.into(), timeout: LONG };
        assert_eq!(health::run(asked, &mut out).await.unwrap(), exit, "{service}");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    // A port on which nobody ever answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = silent.local_addr().unwrap().to_string();
    let asked =
        HealthOptions { server: server.into(), service: String::new(), timeout: Duration::from_millis(100) };
    let mut out = Vec::new();
    assert_eq!(health::run(asked, &mut out).await.unwrap(), Exit::Failure);
    assert_eq!(String::from_utf8(out).unwrap(), "no answer within 100 ms\n");
}
