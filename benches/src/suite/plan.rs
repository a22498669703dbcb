//! What is measured: one base point, and one dimension changed at a time.
//!
//! A full cross product of flows, sizes, directions, families and relays would take a day. All
//! subjects meet at the base point; elsewhere the figures that matter are the ceiling's, Turnwire's
//! and coturn's.

use std::time::Duration;

use wire::Family;

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From clients to peers.
    ToPeers,
    /// From peers to clients.
    ToClients,
    /// Both in turn.
    Both,
    /// From clients to other clients of the same relay.
    RelayToRelay,
}

impl Direction {
    /// As results have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Direction::ToPeers => "to-peer",
            Direction::ToClients => "to-client",
            Direction::Both => "both",
            Direction::RelayToRelay => "relay-to-relay",
        }
    }
}

/// How clients wrap their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// ChannelData.
    Channels,
    /// Send indications, with permissions only; peers' data come back in Data indications.
    Indications,
}

/// What is taken at a point, beside the rate with at most 0.1 % lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figures {
    /// No loss, saturation, CPU time, latency.
    All,
    /// Saturation.
    Rates,
    /// CPU time at an equal rate.
    Costs,
    /// Only this, in place of that rate: how fast full sockets are emptied, the generator being done.
    Drained,
    /// Only this: how long packets take at [`Scenario::rates`], and how busy the relay is.
    Delays,
}

/// One point of the space that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// On the command line and in results.
    pub(crate) name: &'static str,
    /// Channels that take turns.
    pub(crate) channels: u16,
    /// Application data, bytes.
    pub(crate) payload: u16,
    pub(crate) direction: Direction,
    pub(crate) mode: Mode,
    /// Families of clients and of peers.
    pub(crate) families: (Family, Family),
    /// Interfaces of the relay: one (XDP_TX) or two (redirect).
    pub(crate) arms: u8,
    /// Who takes part, by name; all that have no special task if empty.
    pub(crate) subjects: &'static [&'static str],
    pub(crate) figures: Figures,
    /// Of [`Figures::Delays`]: offered packets a second, the same to everybody.
    pub(crate) rates: Vec<f64>,
    /// Part of `--quick`.
    pub(crate) quick: bool,
}

impl Scenario {
    /// For people.
    pub(crate) fn title(&self) -> String {
        let family = |family| if family == Family::V4 { "IPv4" } else { "IPv6" };
        let families = match self.families {
            (client, peer) if client == peer => family(client).to_owned(),
            (client, peer) => format!("clients {}, peers {}", family(client), family(peer)),
        };
        let channels = if self.channels == 1 { "channel" } else { "channels" };
        let direction = match self.direction {
            Direction::ToPeers => "to peers",
            Direction::ToClients => "to clients",
            Direction::Both => "both directions",
            Direction::RelayToRelay => "relay to relay",
        };
        let how = match (self.mode, self.figures) {
            (Mode::Indications, _) => ", Send and Data indications",
            (_, Figures::Drained) => ", full sockets emptied after the generator has ended",
            (_, Figures::Delays) => ", delay at equal rates",
            _ => "",
        };
        let arms = if self.arms == 2 { ", two interfaces" } else { "" };
        format!(
            "{} {channels}, {} bytes, {direction}, {families}{arms}{how}",
            crate::summary::grouped(f64::from(self.channels)),
            crate::summary::grouped(f64::from(self.payload)),
        )
    }
}

/// Those whose figures matter everywhere.
const FEW: &[&str] = &["bare", "xdp", "sockets", "coturn"];
/// Where sockets meet their ceiling.
const ONE_FLOW: &[&str] = &["bare", "xdp", "af-xdp", "sockets", "echo", "coturn"];
/// Where the program forwards nothing.
const BY_INDICATIONS: &[&str] = &["af-xdp", "sockets", "coturn"];
/// The same relay on one core and on two.
const WORKERS: &[&str] = &["one-worker", "two-workers"];
/// Those that relay between two of their own clients; `turn-server` does nothing else.
const BETWEEN_CLIENTS: &[&str] = &["xdp", "sockets", "coturn", "pion", "turn-server"];

const BASE: Scenario = Scenario {
    name: "base",
    channels: 1000,
    payload: 160,
    direction: Direction::Both,
    mode: Mode::Channels,
    families: (Family::V4, Family::V4),
    arms: 1,
    subjects: &[],
    figures: Figures::All,
    rates: Vec::new(),
    quick: true,
};

/// The point that all others start from.
pub(crate) fn base() -> Scenario {
    BASE
}

/// All scenarios, the base first.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let figures = Figures::Rates;
    let point = |name| Scenario { name, subjects: FEW, figures, quick: false, ..BASE };
    vec![
        BASE,
        Scenario { channels: 1, subjects: ONE_FLOW, ..point("1-channel") },
        Scenario {
            mode: Mode::Indications,
            subjects: BY_INDICATIONS,
            figures: Figures::Costs,
            ..point("send")
        },
        Scenario {
            direction: Direction::ToClients,
            subjects: WORKERS,
            figures: Figures::Drained,
            ..point("two-cores")
        },
        Scenario { channels: 64_000, quick: true, ..point("64000-channels") },
        Scenario { payload: 20, ..point("20-bytes") },
        Scenario { payload: 1160, ..point("1160-bytes") },
        Scenario { direction: Direction::ToPeers, ..point("to-peer") },
        Scenario { direction: Direction::ToClients, ..point("to-client") },
        Scenario { families: (Family::V6, Family::V6), ..point("ipv6") },
        Scenario { families: (Family::V4, Family::V6), ..point("ipv4-to-ipv6") },
        Scenario {
            channels: 64_000,
            payload: 1160,
            families: (Family::V6, Family::V6),
            ..point("64000-channels-1160-bytes-ipv6")
        },
        Scenario { arms: 2, ..point("two-interfaces") },
        Scenario {
            direction: Direction::RelayToRelay,
            subjects: BETWEEN_CLIENTS,
            quick: true,
            ..point("relay-to-relay")
        },
    ]
}

/// Shares of what a subject carries at which latency is taken.
pub(crate) const LATENCY_AT: [f64; 3] = [0.1, 0.5, 0.9];

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// `full` or `quick`.
    pub(crate) name: &'static str,
    /// Rounds that count, at the base point and elsewhere; one more comes first and is dropped.
    pub(crate) rounds: (usize, usize),
    /// What begins later than this has one round that counts.
    pub(crate) limit: Duration,
    /// Trials with all that the generator can, for each figure that they make.
    pub(crate) saturated: usize,
    /// How long each trial sends.
    pub(crate) trial: Duration,
    /// Bisections of a search.
    pub(crate) steps: u32,
    /// The search is over when the failing rate is this share above the carried one.
    pub(crate) resolution: f64,
    /// Rounds of the program's cost, and repetitions in each.
    pub(crate) cost: (usize, u32),
}

/// The whole suite.
pub(crate) const FULL: Effort = Effort {
    name: "full",
    rounds: (4, 3),
    limit: Duration::from_secs(16 * 60),
    saturated: 2,
    trial: Duration::from_millis(250),
    steps: 4,
    resolution: 0.04,
    cost: (9, 200_000),
};

/// For every day.
pub(crate) const QUICK: Effort = Effort {
    name: "quick",
    rounds: (2, 2),
    limit: Duration::from_secs(4 * 60),
    saturated: 1,
    trial: Duration::from_millis(200),
    steps: 3,
    resolution: 0.08,
    cost: (3, 100_000),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_covers_what_it_promises() {
        let all = scenarios();
        let some = |holds: &dyn Fn(&Scenario) -> bool| all.iter().any(holds);
        for channels in [1, 1000, 64_000] {
            assert!(some(&|one| one.channels == channels), "{channels} channels");
        }
        for payload in [20, 160, 1160] {
            assert!(some(&|one| one.payload == payload), "{payload} bytes");
        }
        assert!(some(&|one| one.mode == Mode::Indications), "indications");
        let families =
            [(Family::V4, Family::V4), (Family::V6, Family::V6), (Family::V4, Family::V6)];
        for families in families {
            assert!(some(&|one| one.families == families), "{families:?}");
        }
        for direction in
            [Direction::ToPeers, Direction::ToClients, Direction::Both, Direction::RelayToRelay]
        {
            assert!(some(&|one| one.direction == direction), "{direction:?}");
        }
    }

    #[test]
    fn each_point_but_the_corners_changes_one_thing() {
        let all = scenarios();
        for one in &all[1..] {
            let changes = [
                one.channels != BASE.channels,
                one.payload != BASE.payload,
                one.direction != BASE.direction && one.figures != Figures::Drained,
                one.mode != BASE.mode,
                one.figures == Figures::Drained,
                one.families != BASE.families,
                one.arms != BASE.arms,
            ];
            let changes = changes.iter().filter(|changed| **changed).count();
            let corner = one.name.starts_with("64000-channels-");
            assert_eq!(changes, if corner { 3 } else { 1 }, "{}", one.name);
        }
        let mut names: Vec<_> = all.iter().map(|one| one.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len(), "two of one name");
    }
}
