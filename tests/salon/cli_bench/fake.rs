//! A small server of rooms over plain TCP, which serves as it should, or in one way does not.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use prost::Message as _;
use salon::wire::pb::room::v1::{self as pb, client_message, server_event::Payload};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};

/// What it does wrong, with every tenth message to its first client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Loses,
    Repeats,
    /// Holds it back until the next of the same sender was told.
    Reorders,
    /// Also tells it to a client in another room.
    Mixes,
    /// Closes the connection.
    HangsUp,
    /// Delivers it, and does not acknowledge it.
    Forgets,
    /// Acknowledges what nobody has said.
    Invents,
    /// Closes each connection that has joined.
    Leaves,
    /// Answers the fourth join when there were four more.
    HoldsOneJoin,
    /// Takes so long to answer a join of somebody who was there before.
    JoinsSlowly(Duration),
}

/// A message that was told: its room, its sender, and the event.
type Told = (String, String, Vec<u8>);

struct Client {
    room: String,
    out: UnboundedSender<Option<Vec<u8>>>,
}

#[derive(Default)]
struct State {
    clients: Vec<Client>,
    /// Messages to the first client.
    told: usize,
    held: Option<(String, Vec<u8>)>,
    /// Messages that were said.
    said: usize,
    /// Joins that were asked for.
    joins: usize,
    /// The answer to one of them, and who waits for it.
    held_join: Option<UnboundedSender<Option<Vec<u8>>>>,
}

/// The server; dropped, it is gone.
pub struct Fake {
    pub url: String,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (state, mut clients) = (Arc::<Mutex<State>>::default(), JoinSet::new());
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(serve(stream, fault, Arc::clone(&state)));
            }
        });
        Self { url, _tasks: tasks }
    }
}

async fn serve(stream: TcpStream, fault: Fault, state: Arc<Mutex<State>>) {
    let (reader, writer) = stream.into_split();
    let (out, told) = unbounded_channel();
    // Whichever ends first ends the connection.
    tokio::select! {
        () = read(reader, fault, state, out) => {}
        () = write(writer, told) => {}
    }
}

async fn read(
    mut reader: OwnedReadHalf,
    fault: Fault,
    state: Arc<Mutex<State>>,
    out: UnboundedSender<Option<Vec<u8>>>,
) {
    let (mut room, mut user) = (String::new(), String::new());
    while let Ok(_flag) = reader.read_u8().await {
        let length = reader.read_u32().await.unwrap();
        let mut bytes = vec![0; length as usize];
        reader.read_exact(&mut bytes).await.unwrap();
        let message = pb::ClientMessage::decode(bytes.as_slice()).unwrap();
        match message.payload.unwrap() {
            client_message::Payload::Join(join) => {
                (room, user) = (join.room_id, join.user_id);
                answer_join(fault, &state, &out).await;
                state.lock().unwrap().clients.push(Client { room: room.clone(), out: out.clone() });
            }
            client_message::Payload::Message(said) => {
                if let Some(acknowledged) = acknowledged(fault, &state, message.request_id) {
                    let _ = out.send(Some(event(Payload::Ack(pb::Ack::default()), &acknowledged)));
                }
                let message = pb::Message { content: said.content, ..Default::default() };
                let received = pb::MessageReceived { message: Some(message) };
                let told = (room.clone(), user.clone(), event(Payload::MessageReceived(received), ""));
                state.lock().unwrap().tell(fault, &told);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn answer_join(fault: Fault, state: &Mutex<State>, out: &UnboundedSender<Option<Vec<u8>>>) {
    let answer = event(Payload::RoomState(pb::RoomState::default()), "");
    let number = {
        let mut state = state.lock().unwrap();
        state.joins += 1;
        if fault == Fault::HoldsOneJoin && state.joins == 4 {
            state.held_join = Some(out.clone());
            return;
        }
        if state.joins == 8
            && let Some(held) = state.held_join.take()
        {
            let _ = held.send(Some(answer.clone()));
        }
        state.joins
    };
    match fault {
        Fault::JoinsSlowly(slowly) if number > 1 => tokio::time::sleep(slowly).await,
        _ => {}
    }
    let _ = out.send(Some(answer));
    if fault == Fault::Leaves {
        let _ = out.send(None);
    }
}

/// What is acknowledged of a message with this id.
fn acknowledged(fault: Fault, state: &Mutex<State>, request_id: String) -> Option<String> {
    let mut state = state.lock().unwrap();
    state.said += 1;
    let is_chosen = state.said % 10 == 5;
    match fault {
        Fault::Forgets if is_chosen => None,
        // The counter is behind the eight digits of the sender.
        Fault::Invents if is_chosen => Some(format!("{}7fffffff{}", &request_id[..8], &request_id[16..])),
        _ => Some(request_id),
    }
}

async fn write(mut writer: OwnedWriteHalf, mut told: UnboundedReceiver<Option<Vec<u8>>>) {
    while let Some(Some(event)) = told.recv().await {
        if writer.write_all(&event).await.is_err() {
            return;
        }
    }
}

impl State {
    fn tell(&mut self, fault: Fault, (room, user, event): &Told) {
        for place in 0..self.clients.len() {
            if self.clients[place].room == *room {
                self.tell_one(place, fault, user, event);
            }
        }
    }

    fn tell_one(&mut self, place: usize, fault: Fault, user: &str, event: &[u8]) {
        let send = |place: usize, event: &[u8]| {
            let _ = self.clients[place].out.send(Some(event.to_vec()));
        };
        let is_chosen = place == 0 && {
            self.told += 1;
            self.told % 10 == 5
        };
        match fault {
            Fault::Loses if is_chosen => return,
            Fault::Repeats if is_chosen => send(place, event),
            Fault::Reorders if is_chosen => {
                self.held = Some((user.to_owned(), event.to_vec()));
                return;
            }
            Fault::Mixes if is_chosen => {
                let room = &self.clients[place].room;
                let other = self.clients.iter().position(|client| client.room != *room).unwrap();
                send(other, event);
            }
            Fault::HangsUp if is_chosen => {
                let _ = self.clients[place].out.send(None);
                return;
            }
            _ => {}
        }
        send(place, event);
        let is_next = self.held.as_ref().is_some_and(|(held, _)| place == 0 && held == user);
        if let Some((_, held)) = self.held.take_if(|_| is_next) {
            send(place, &held);
        }
    }
}

/// An event with its prefix.
fn event(payload: Payload, request_id: &str) -> Vec<u8> {
    let event =
        pb::ServerEvent { payload: Some(payload), request_id: request_id.into(), ..Default::default() };
    let event = event.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(event.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&event);
    bytes
}
