//! What a run and a sink say to each other: a magic number, then JSON, in one datagram each.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// In front of every command and answer. Its first byte is no stamp's and no STUN message's matter:
/// what is not a command is judged as data.
pub const MAGIC: &[u8; 8] = b"\xf7TWsink1";

/// From a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Forget what is known of this tag; what time is it?
    Hello {
        /// The measurement to come.
        tag: u8,
        /// The run's CLOCK_MONOTONIC in nanoseconds.
        time: u64,
    },
    /// Send this flow's datagrams to where this command comes from.
    Flow {
        /// The measurement.
        tag: u8,
        /// The flow.
        flow: u32,
        /// What an [`Answer::Cookie`] to this address said; 0 at first.
        cookie: u64,
    },
    /// Begin.
    Go {
        /// The measurement.
        tag: u8,
        /// The sink's clock less the run's, in nanoseconds.
        offset: i64,
        /// When, by the run's clock.
        start: u64,
        /// For how long, in nanoseconds.
        len: u64,
        /// Length and number of the parts of the run.
        slots: (u64, usize),
        /// Datagrams a second of the sink's own, all flows together; `None`: as many as go.
        rate: Option<f64>,
        /// Payload lengths.
        mix: String,
    },
    /// Make up the results.
    Report {
        /// The measurement.
        tag: u8,
    },
    /// A part of them.
    Fetch {
        /// The measurement.
        tag: u8,
        /// From which byte on.
        at: usize,
    },
}

/// From a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To `Hello`.
    Ready {
        /// As asked.
        time: u64,
        /// The sink's CLOCK_MONOTONIC in nanoseconds.
        sink_time: u64,
    },
    /// To `Flow`: say this first.
    Cookie {
        /// The flow.
        flow: u32,
        /// For this address.
        cookie: u64,
    },
    /// To `Flow`.
    Added {
        /// The flow.
        flow: u32,
    },
    /// To `Go`.
    Going,
    /// To `Report`.
    Made {
        /// Bytes of the results.
        len: usize,
    },
    /// To `Fetch`.
    Part {
        /// From which byte on.
        at: usize,
        /// The bytes, which are ASCII.
        text: String,
    },
    /// To anything.
    No {
        /// Why not.
        why: String,
    },
}

impl Answer {
    /// Whether this answers that command, and not one before it.
    pub fn is_to(&self, command: &Command) -> bool {
        match (command, self) {
            (_, Answer::No { .. }) => true,
            (Command::Hello { time, .. }, Answer::Ready { time: of, .. }) => time == of,
            (
                Command::Flow { flow, .. },
                Answer::Cookie { flow: of, .. } | Answer::Added { flow: of },
            ) => flow == of,
            (Command::Go { .. }, Answer::Going) => true,
            (Command::Report { .. }, Answer::Made { .. }) => true,
            (Command::Fetch { at, .. }, Answer::Part { at: of, .. }) => at == of,
            _ => false,
        }
    }
}

/// What a sink has seen and done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Flow, received, reordered, duplicated, corrupted.
    pub flows: Vec<(u32, u64, u64, u64, u64)>,
    /// Datagrams that could not be attributed since the measurement began.
    pub unreadable: u64,
    /// Received by part of the run.
    pub by_slot: Vec<u64>,
    /// Latencies, as base64.
    pub latency: String,
    /// Datagrams that the sink's own sockets had no room for.
    pub dropped_here: u64,
    /// What it sent, if it was asked to.
    pub sent: Option<Outgoing>,
}

/// What a sink has sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Due by the schedule.
    pub offered: u64,
    /// The flows in the order of their turns, and how much of each was sent.
    pub by_flow: Vec<(u32, u32)>,
    /// Sent by part of the run.
    pub by_slot: Vec<u64>,
    /// Refused by the sink's kernel, and why.
    pub refused: (u64, Option<String>),
    /// Lateness, as base64.
    pub lateness: String,
    /// When it ended, by the run's clock.
    pub ended: u64,
}

/// A command or answer as a datagram.
pub fn write(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    // Plain data, written to memory: neither can fail.
    let json = serde_json::to_vec(message).unwrap_or_default();
    bytes.extend_from_slice(&json);
    bytes
}

/// The command or answer in a datagram, if it is one.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes.strip_prefix(MAGIC)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_data_is_no_message() {
        let hello = Command::Hello { tag: 7, time: u64::MAX };
        assert!(Answer::Ready { time: u64::MAX, sink_time: 1 }.is_to(&hello));
        assert!(!Answer::Ready { time: 5, sink_time: 1 }.is_to(&hello));
        assert!(!Answer::Going.is_to(&hello));
        assert_eq!(read(&write(&hello)), Some(hello));
        assert_eq!(read::<Command>(&[0; 64]), None);
        assert_eq!(read::<Command>(MAGIC), None);
    }
}
