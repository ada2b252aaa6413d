//! The shapes of the load, and which servers can be asked to carry them.

use super::child::Kind;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Load {
    /// So many messages a second over all rooms, each when it is due.
    Paced(u32),
    /// So many messages that are not yet acknowledged, over all rooms.
    InFlight(u32),
    /// Nothing.
    Idle,
}

/// What a shape belongs to: what can be asked for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// What is run when nothing is asked for.
    Main,
    /// The same load over more rooms, or over larger ones.
    Scale,
    /// Sessions in which nothing happens.
    Idle,
}

/// One load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) rooms: usize,
    pub(super) members: usize,
    /// On one connection.
    pub(super) streams: usize,
    /// Bytes of a text.
    pub(super) payload: usize,
    pub(super) load: Load,
}

/// Plain messages.
const TEXT: usize = 100;
/// Parts of an answer: twenty bytes of text, and the names around it.
const CHUNK: usize = 53;

const fn shape(name: &'static str, rooms: usize, members: usize, load: Load) -> Shape {
    Shape { name, group: Group::Main, rooms, members, streams: 1, payload: TEXT, load }
}

const fn scale(name: &'static str, rooms: usize, members: usize, streams: usize, rate: u32) -> Shape {
    let load = Load::Paced(rate);
    Shape { name, group: Group::Scale, rooms, members, streams, payload: TEXT, load }
}

/// All of them, in the order in which they run.
pub(super) const SHAPES: &[Shape] = &[
    shape("P1", 1, 1000, Load::Paced(50)),
    shape("P2", 100, 10, Load::Paced(5000)),
    shape("P3", 1000, 2, Load::Paced(10_000)),
    shape("S1", 1, 1000, Load::InFlight(80)),
    shape("S2", 100, 10, Load::InFlight(200)),
    shape("S3", 1000, 2, Load::InFlight(1000)),
    Shape { payload: CHUNK, ..shape("G1", 500, 2, Load::Paced(25_000)) },
    Shape { streams: 10, ..shape("M10", 1, 1000, Load::Paced(50)) },
    Shape { streams: 100, ..shape("M100", 1, 1000, Load::Paced(50)) },
    // Many streams on a connection: connections are not what is to grow, and file handles have an end.
    scale("rooms-100", 100, 2, 20, 5000),
    scale("rooms-1000", 1000, 2, 20, 5000),
    scale("rooms-10000", 10_000, 2, 20, 5000),
    scale("rooms-100000", 100_000, 2, 20, 5000),
    // As many sessions and as many deliveries in all of them.
    scale("members-10", 1000, 10, 1, 2000),
    scale("members-100", 100, 100, 1, 200),
    scale("members-1000", 10, 1000, 1, 20),
    scale("members-10000", 1, 10_000, 1, 2),
    Shape { group: Group::Idle, ..shape("idle-1", 1000, 10, Load::Idle) },
    Shape { group: Group::Idle, streams: 100, ..shape("idle-100", 1000, 10, Load::Idle) },
];

impl Shape {
    /// The load in words.
    pub(super) fn describe(&self) -> String {
        let load = match self.load {
            Load::Paced(rate) => format!("{rate} messages/s"),
            Load::InFlight(window) => format!("{window} in flight"),
            Load::Idle => "silent".into(),
        };
        let streams = match self.streams {
            1 => String::new(),
            streams => format!(", {streams} streams per connection"),
        };
        format!("{} x {}, {load}{streams}", self.rooms, self.members)
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.rooms * self.members
    }

    /// How many connections they are on.
    pub(super) fn connections(&self) -> usize {
        self.sessions().div_ceil(self.streams)
    }

    /// Whether a server can carry it: streams on one connection are a matter of HTTP/2, and what NATS holds for a
    /// subscription is not what the others hold for a session.
    pub(super) fn suits(&self, kind: Kind) -> bool {
        match kind {
            Kind::Salon | Kind::Bare => true,
            Kind::Naive => self.group != Group::Scale,
            Kind::Tcp => self.streams == 1,
            Kind::Nats => self.streams == 1 && self.group == Group::Main,
            Kind::SalonOriginal | Kind::Original => self.group == Group::Main,
        }
    }

    /// What `salon bench` is told of it.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        add("--rooms", self.rooms.to_string());
        add("--members", self.members.to_string());
        add("--streams-per-connection", self.streams.to_string());
        match self.load {
            Load::Paced(rate) => add("--rate", rate.to_string()),
            Load::InFlight(window) => add("--in-flight", window.to_string()),
            Load::Idle => {
                arguments.insert(0, "idle".into());
                return arguments;
            }
        }
        add("--payload", self.payload.to_string());
        arguments
    }
}

/// The shapes that are meant by names of shapes and of groups; nothing means the main ones.
pub(super) fn chosen(names: &[String]) -> anyhow::Result<Vec<Shape>> {
    let is_meant = |shape: &Shape, name: &str| match name {
        "all" => true,
        "main" => shape.group == Group::Main,
        "scale" => shape.group == Group::Scale,
        "idle" => shape.group == Group::Idle,
        name => shape.name.eq_ignore_ascii_case(name),
    };
    for name in names {
        if !SHAPES.iter().any(|shape| is_meant(shape, name)) {
            let known: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
            anyhow::bail!(
                "there is no shape {name:?}: write main, scale, idle, all or some of {}",
                known.join(", ")
            );
        }
    }
    let main = ["main".to_owned()];
    let names = if names.is_empty() { &main } else { names };
    Ok(SHAPES.iter().filter(|shape| names.iter().any(|name| is_meant(shape, name))).copied().collect())
}
