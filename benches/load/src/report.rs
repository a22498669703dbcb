//! What every subcommand writes: one JSON document, the same keys always.
//!
//! The schema is [`SCHEMA`] and is described in README.md. Keys are only ever added under one
//! number; a reader ignores those that it does not know.

mod machine;
mod text;

pub use machine::Machine;
pub use text::{count, percent, rate, summary};

use serde::{Deserialize, Serialize};

use crate::latency::Latency;
use crate::plan::Direction;

/// The schema's name and version.
pub const SCHEMA: &str = "turnwire-load/1";

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// "run", "search" or "churn".
    pub kind: String,
    /// What comparisons call it.
    pub label: String,
    /// This program's version.
    pub version: String,
    /// The command line, without secrets.
    pub command: Vec<String>,
    /// When it started: seconds since 1970.
    pub started_unix_secs: u64,
    /// Where the generator ran.
    pub machine: Machine,
    /// What was asked for.
    pub settings: Settings,
    /// How long the allocations and channels took.
    pub setup: Option<Setup>,
    /// How it ended.
    pub ended: Ended,
    /// What went wrong, if something did. What was measured until then is kept.
    pub failure: Option<Failure>,
    /// The result of `run`; of `search`, the last trial at the rate that was found.
    pub run: Option<RunResult>,
    /// The result of `search`.
    pub search: Option<SearchResult>,
    /// The result of `churn`.
    pub churn: Option<ChurnResult>,
}

/// How a measurement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// As planned.
    Complete,
    /// By Ctrl-C.
    Interrupted,
    /// By a failure.
    Failed,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In a line.
    pub message: String,
    /// The STUN error code, if the server gave one.
    pub stun_code: Option<u16>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The server, as a URI.
    pub server: String,
    /// Its address.
    pub address: String,
    /// "udp", "tcp" or "tls".
    pub transport: String,
    /// Allocations.
    pub allocations: usize,
    /// Channels of each.
    pub channels_per_allocation: usize,
    /// Payload lengths, as written.
    pub payload: String,
    /// "to-peer", "to-client" or "both".
    pub direction: String,
    /// "channel" or "send".
    pub mode: String,
    /// "own", "sink" or "relay".
    pub peer: String,
    /// "socket", "kernel" or "af-xdp".
    pub generator: String,
    /// The interfaces of the latter two.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Whether segmentation offload was used.
    pub offload: bool,
    /// Sender and receiver threads.
    pub threads: [usize; 2],
    /// Cores that they were pinned to.
    pub cores: Vec<usize>,
}

/// How long the allocations and channels took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Allocations that the server granted.
    pub allocations: usize,
    /// Channels that were bound, or permissions that were installed.
    pub channels: usize,
    /// Seconds from the first request to the last answer.
    pub secs: f64,
}

/// Datagrams, counted. `sent = received + lost + corrupted + misrouted`, unless something was both
/// damaged and duplicated on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Due by the schedule.
    pub offered: u64,
    /// Handed to the kernel.
    pub sent: u64,
    /// Received intact at the right place, each once.
    pub received: u64,
    /// Never seen.
    pub lost: u64,
    /// `lost / sent`.
    pub loss_ratio: f64,
    /// Received after a later one of the flow; part of `received`.
    pub reordered: u64,
    /// Received again; not part of `received`.
    pub duplicated: u64,
    /// Received with wrong bytes.
    pub corrupted: u64,
    /// Received intact on a wrong socket or channel.
    pub misrouted: u64,
}

impl Counts {
    /// Of everything sent, what did not arrive intact where it should.
    pub fn undelivered_ratio(&self) -> f64 {
        match self.sent {
            0 => 0.0,
            sent => (sent.saturating_sub(self.received)) as f64 / sent as f64,
        }
    }
}

/// The result of one measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Datagrams a second that were asked for, all flows together; null: as many as go.
    pub asked_pps: Option<f64>,
    /// Seconds in which datagrams were sent.
    pub secs: f64,
    /// `sent` a second.
    pub sent_pps: f64,
    /// `received` a second of sending.
    pub received_pps: f64,
    /// Payload bits of what was received, a second.
    pub received_bps: f64,
    /// All flows.
    pub totals: Counts,
    /// Datagrams of an earlier measurement.
    pub stray: u64,
    /// One-way latency of all flows, from the scheduled time.
    pub latency: Option<Latency>,
    /// Its histogram: HdrHistogram V2, deflated, base64, in nanoseconds.
    pub latency_histogram: String,
    /// How the ends' clocks compare: "same host", or "estimated".
    pub clock: String,
    /// Each direction by itself.
    pub directions: Vec<DirectionResult>,
    /// How well the generator did.
    pub generator: Generator,
    /// What the server's process used, if it is known.
    pub server_cpu: Option<ServerCpu>,
    /// The run in equal parts of time.
    pub slots: Vec<Slot>,
    /// Flows in all.
    pub flows_total: usize,
    /// All flows, or the worst of them if there are more than are listed.
    pub flows: Vec<FlowResult>,
}

impl RunResult {
    /// Whether the generator sent what it was asked for in time, and received what came back.
    pub fn kept_up(&self) -> bool {
        let sent = self.totals.sent + self.generator.blocked;
        kept_up(self.asked_pps, sent, self.totals.offered, self.secs)
            && self.generator.dropped_here == 0
    }
}

/// A generator that sends less than this of what was due is the limit.
const KEPT_UP: f64 = 0.99;
/// So is one that takes longer than this times what it should, and the seconds below.
const OVERTIME: f64 = 1.03;
const STUTTER_SECS: f64 = 0.05;

/// Whether so much was sent in time, or given to a stream that was full: then the relay lags.
pub(crate) fn kept_up(asked: Option<f64>, sent: u64, offered: u64, secs: f64) -> bool {
    let Some(asked) = asked else { return true };
    let planned_secs = offered as f64 / asked;
    sent as f64 >= KEPT_UP * offered as f64 && secs <= planned_secs * OVERTIME + STUTTER_SECS
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DirectionResult {
    /// Which.
    pub direction: Direction,
    /// Its counts.
    pub counts: Counts,
    /// Its latency.
    pub latency: Option<Latency>,
    /// Its histogram.
    pub latency_histogram: String,
}

/// How well the generator did: whether it was the limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// In words, when it did not keep up.
    pub shortfall: Option<String>,
    /// From being due to being handed to the kernel. Part of every latency.
    pub lateness: Option<Latency>,
    /// Datagrams that a full stream did not take.
    pub blocked: u64,
    /// Datagrams that this host's kernel refused.
    pub refused: u64,
    /// Why, the last time.
    pub refusal: Option<String>,
    /// Datagrams dropped here because a receiving socket was full: part of `lost`, and not the
    /// server's fault.
    pub dropped_here: u64,
    /// CPU seconds of this process.
    pub cpu_secs: f64,
    /// The interfaces of a generator that has no sockets, in the order in which they were given.
    #[serde(default)]
    pub devices: Vec<DeviceResult>,
}

/// An interface that frames were sent by, and at which the sink stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceResult {
    /// Its name.
    pub name: String,
    /// How the sink was attached: "native" or "generic".
    pub sink: String,
    /// How frames were sent: "redirect", "AF_XDP, zero copy" or "AF_XDP, copy".
    pub transmit: String,
    /// Packets that the interface sent in the run, by its own counter, other traffic included.
    pub tx_packets: u64,
    /// Packets that it received.
    pub rx_packets: u64,
}

/// What the server's process used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerCpu {
    /// The process.
    pub pid: u32,
    /// User and system time. The kernel's work in softirq is not in it.
    pub secs: f64,
    /// The same for each million datagrams received.
    pub secs_per_million: Option<f64>,
}

/// A part of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its start, in seconds from the run's.
    pub at_secs: f64,
    /// Its length.
    pub secs: f64,
    /// Sent of what was due in it.
    pub sent: u64,
    /// Of these, received sooner or later, damaged ones included.
    pub received: u64,
    /// Their latency.
    pub latency: Option<Latency>,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowResult {
    /// Its number.
    pub flow: u32,
    /// Its direction.
    pub direction: Direction,
    /// The allocation, counted from 0.
    pub allocation: usize,
    /// The channel number (in mode send: that of the peer).
    pub channel: u16,
    /// Its counts. Datagrams that cannot be attributed count as lost here.
    pub counts: Counts,
    /// Its latency, with fewer digits the more flows there are; null above 4,096 flows.
    pub latency: Option<Latency>,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// One for each loss that was allowed.
    pub rates: Vec<FoundRate>,
    /// Every trial, in order.
    pub trials: Vec<Trial>,
}

/// The highest rate at which no more than so much is lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundRate {
    /// Of what was sent, how much may be undelivered.
    pub loss_max: f64,
    /// Datagrams received a second; null: even the lowest rate lost more.
    pub pps: Option<f64>,
    /// Whether the rate held each time that it was repeated.
    pub confirmed: u32,
    /// The generator, not the relay, was the limit: the true rate is at least this.
    pub generator_limited: bool,
    /// Latency in the trial that counts.
    pub latency: Option<Latency>,
    /// What the server used in that trial.
    pub server_cpu: Option<ServerCpu>,
}

/// One trial of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Datagrams a second that were asked for.
    pub asked_pps: f64,
    /// That were sent.
    pub sent_pps: f64,
    /// Of what was sent, how much was undelivered.
    pub undelivered_ratio: f64,
    /// The 99th percentile of latency.
    pub p99_us: Option<f64>,
    /// Whether the generator kept up.
    pub kept_up: bool,
}

/// The result of churn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChurnResult {
    /// Seconds.
    pub secs: f64,
    /// Whole lives, from Allocate to the end, a second.
    pub lives_per_sec: f64,
    /// Lives that were asked for a second; null: as many as go.
    pub asked_per_sec: Option<f64>,
    /// Lives under way at once, at most.
    pub in_flight: usize,
    /// Each kind of request.
    pub requests: Vec<ChurnRequest>,
    /// What the server's process used.
    pub server_cpu: Option<ServerCpu>,
}

/// One kind of request under churn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChurnRequest {
    /// "allocate", "create-permission", "channel-bind", "refresh" or "delete".
    pub kind: String,
    /// Answered with success.
    pub succeeded: u64,
    /// The same a second.
    pub per_sec: f64,
    /// Not so, by cause.
    pub failed: std::collections::BTreeMap<String, u64>,
    /// From the first datagram to success, challenges included.
    pub latency: Option<Latency>,
    /// Its histogram.
    pub latency_histogram: String,
}
