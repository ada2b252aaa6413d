//! What is aimed at, and whether it was reached: ratios of medians of one run, and a few sizes.

use serde::Serialize;

use super::{child::Kind, outcome::Figures};

/// The medians of a run.
pub(super) type Medians = Vec<(&'static str, Kind, Figures)>;

/// A bound that a figure must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A comparison, with what it has come to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    /// The shape.
    pub(super) shape: &'static str,
    /// What is compared.
    pub(super) what: &'static str,
    /// What it has come to.
    pub(super) value: f64,
    /// What it should be.
    pub(super) goal: Option<String>,
    /// Whether it is; none: there is no goal.
    pub(super) is_reached: Option<bool>,
}

impl Check {
    fn new(shape: &'static str, what: &'static str, value: f64, bound: Option<Bound>) -> Self {
        let (goal, is_reached) = match bound {
            None => (None, None),
            Some(Bound::AtLeast(least)) => (Some(format!(">= {least}")), Some(value >= least)),
            Some(Bound::AtMost(most)) => (Some(format!("<= {most:.4}")), Some(value <= most)),
        };
        let goal = goal.map(|goal| match goal.contains('.') {
            true => goal.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => goal,
        });
        Self { shape, what, value, goal, is_reached }
    }

    /// As it stands in a table.
    pub(super) fn cell(&self) -> String {
        match (&self.goal, self.is_reached) {
            (Some(goal), Some(true)) => format!("{:.2} ({goal}: ok)", self.value),
            (Some(goal), _) => format!("**{:.2}** ({goal}: not reached)", self.value),
            (None, _) => format!("{:.2}", self.value),
        }
    }
}

/// Salon against the limit: 1 is as cheap as plain TCP.
pub(super) const OF_TCP: &str = "tcp / salon";
/// Salon against tonic without rooms: 1 is as cheap.
pub(super) const OF_BARE: &str = "salon / bare";
/// How many times as much as Salon tonic costs as it is mostly written.
pub(super) const OF_NAIVE: &str = "naive / salon";
/// How many times as much as Salon core NATS costs.
pub(super) const OF_NATS: &str = "nats / salon";
/// How many times as much as Salon another server of the original's contract costs, both spoken to by it.
pub(super) const OF_ORIGINAL: &str = "original / salon-original";

/// Least efficiencies against plain TCP.
const TCP: &[(&str, f64)] = &[("P1", 0.65), ("P2", 0.80), ("S1", 0.45), ("S2", 0.55), ("S3", 0.55)];
/// How many times cheaper than naive tonic at least.
const NAIVE: &[(&str, f64)] = &[("P1", 1.2), ("S1", 5.0), ("S2", 1.35)];
/// Paid for everything beside sending: at most this many times bare tonic.
const BARE: f64 = 1.10;
/// A log, roles and counters, and still not dearer than a broker that keeps nothing.
const NATS: f64 = 1.0;
/// Ten streams on a connection against one on each.
const MULTIPLEXED: f64 = 0.4;
/// The same delivery with more rooms, or with more members.
const FLAT: f64 = 1.3;
/// KiB for a silent session on a connection of its own, and beyond bare tonic's.
const IDLE_KIB: (f64, f64) = (19.0, 2.0);
/// KiB for one of a hundred on a connection.
const IDLE_KIB_SHARED: f64 = 4.0;
/// Microseconds of a processor for a silent session and a second.
const IDLE_US: f64 = 2.5;

/// The ratios of one shape, as far as both servers were measured.
pub(super) fn ratios(medians: &Medians, shape: &'static str) -> Vec<Check> {
    let cpu = |kind| find(medians, shape, kind).map(|figures| figures.cpu_us);
    let listed = |list: &[(&str, f64)]| list.iter().find(|(name, _)| *name == shape).map(|(_, least)| *least);
    let sides = [
        (Kind::Tcp, OF_TCP, listed(TCP).map(Bound::AtLeast)),
        (Kind::Bare, OF_BARE, Some(Bound::AtMost(BARE))),
        (Kind::Naive, OF_NAIVE, listed(NAIVE).map(Bound::AtLeast)),
        (Kind::Nats, OF_NATS, Some(Bound::AtLeast(NATS))),
        (Kind::Original, OF_ORIGINAL, None),
    ];
    let ratio = |(kind, what, bound): (Kind, &'static str, Option<Bound>)| {
        let salon = cpu(if kind.speaks_original() { Kind::SalonOriginal } else { Kind::Salon })?;
        let other = cpu(kind)?;
        let value = if kind == Kind::Bare { salon / other } else { other / salon };
        value.is_finite().then(|| Check::new(shape, what, value, bound))
    };
    sides.into_iter().filter_map(ratio).collect()
}

/// What compares a server with itself under another load, and the sizes.
pub(super) fn others(medians: &Medians) -> Vec<Check> {
    let mut checks = Vec::new();
    let salon = |shape| find(medians, shape, Kind::Salon);
    let mut against = |shape, base, what, bound| {
        if let (Some(one), Some(other)) = (salon(shape), salon(base)) {
            checks.push(Check::new(shape, what, one.cpu_us / other.cpu_us, bound));
        }
    };
    against("M10", "P1", "its cost / that of P1", Some(Bound::AtMost(MULTIPLEXED)));
    against("M100", "P1", "its cost / that of P1", None);
    for shape in ["rooms-1000", "rooms-10000", "rooms-100000"] {
        against(shape, "rooms-100", "its cost / that of rooms-100", Some(Bound::AtMost(FLAT)));
    }
    for shape in ["members-100", "members-1000", "members-10000"] {
        against(shape, "members-10", "its cost / that of members-10", Some(Bound::AtMost(FLAT)));
    }
    if let Some(one) = salon("idle-1") {
        let (most, beyond) = IDLE_KIB;
        let bare = find(medians, "idle-1", Kind::Bare).map(|bare| bare.kib_per_session + beyond);
        let most = bare.map_or(most, |bare| bare.min(most));
        checks.push(Check::new(
            "idle-1",
            "KiB for a session",
            one.kib_per_session,
            Some(Bound::AtMost(most)),
        ));
        let what = "us of a processor for a session and a second";
        checks.push(Check::new("idle-1", what, one.session_us, Some(Bound::AtMost(IDLE_US))));
    }
    if let Some(one) = salon("idle-100") {
        let most = Some(Bound::AtMost(IDLE_KIB_SHARED));
        checks.push(Check::new("idle-100", "KiB for a session", one.kib_per_session, most));
    }
    checks
}

/// The medians of a server in a shape.
pub(super) fn find<'a>(medians: &'a Medians, shape: &str, kind: Kind) -> Option<&'a Figures> {
    medians.iter().find(|(name, of, _)| *name == shape && *of == kind).map(|(_, _, figures)| figures)
}
