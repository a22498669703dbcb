//! What one interval was like. With `--json` a frame is one line:
//!
//! ```text
//! {
//!   "schema": 1,              this form; a higher number may lack a field that stands here
//!   "unix": 1790000000.25,    the reading's time, in seconds since 1970
//!   "interval_secs": 2.0,     the relay's own time between the two readings
//!   "restarted": false,       true: another process than before; rates are since its start
//!   "version", "tier", "uptime_secs", "draining",
//!   "process":  {"cpu", "resident_bytes", "open_fds", "max_fds", "threads"},
//!   "holdings": {"allocations", "allocations_max", "channels", "channels_max", "permissions",
//!                "relay_ports_open", "relay_ports", "routes", "xdp_routes"},
//!   "tiers":    [{"tier", "to_peer": FLOW, "to_client": FLOW, "refused_per_sec"}],
//!   "refused":  [{"tier", "reason", "per_sec"}],      highest first, all that are not 0
//!   "control":  {"cpu", "events_per_sec", "turns_per_sec", "requests_per_sec",
//!                "successes_per_sec", "errors": [{"code", "per_sec"}], "ring_dropped_per_sec"},
//!   "sessions": {"transports": [{"transport", "open", "begun_per_sec", "handshakes_per_sec",
//!                "handshakes_failed_per_sec"}], "messages_in_per_sec", "messages_out_per_sec",
//!                "ended": [{"reason", "per_sec"}], "queue_dropped_per_sec"},
//!   "workers":  [{"worker", "thread", "tier", "core", "strayed", "cpu", "waiting",
//!                "to_peer": FLOW, "to_client": FLOW, "in_per_sec", "out_per_sec", "to_control_per_sec",
//!                "refused_per_sec", "refused": [{"reason", "per_sec"}], "wakeups_per_sec",
//!                "batches_per_sec", "batch_mean", "batches": [{"size", "share"}],
//!                "gathered_in", "gathered_out", "ring_to_control": RING, "ring_to_worker": RING,
//!                "socket_overflows_per_sec", "spread", "relay_ports", "frames": FRAMES}],
//!   "cores":    [{"core", "to_peer_per_sec", "to_client_per_sec", "refused_per_sec",
//!                "punted_per_sec"}],                            of tier xdp
//!   "threads":  [{"thread", "cpu", "waiting"}]
//! }
//! FLOW: {"packets_per_sec", "bytes_per_sec"}                  datagrams; application data
//! FRAMES: {"queues", "zero_copy", "free", "held", "receiving", "sending", "set_aside",
//!          "batches_per_sec", "batch_mean", "batches": [{"size", "share"}],
//!          "forwarded_per_sec", "datagrams_per_sec", "refused_per_sec", "tx_full_per_sec",
//!          "rx_ring_full_per_sec", "rx_dropped_per_sec", "fill_ring_empty_per_sec",
//!          "wakeups_per_sec"}     of AF_XDP; null where it is off
//! RING: {"waiting_bytes", "peak_bytes", "size_bytes"}         now; since the start; its size
//! cpu, waiting: 1.0 is a whole core; waiting is for a core that another thread had
//! gathered: datagrams in one message of the kernel (GRO, GSO); null where none was carried
//! ```
//!
//! After a reading that failed it is `{"schema": 1, "unix": ..., "error": "..."}`.

use std::time::Duration;

use serde::Serialize;

use super::rates::{Interval, rounded};

mod worker;

pub use worker::{Batches, Frames, Ring, Worker};

/// The form of [`Frame`] in JSON.
pub const SCHEMA: u32 = 1;

/// One direction of one tier or worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Flow {
    /// Datagrams.
    pub packets_per_sec: f64,
    /// Bytes of application data.
    pub bytes_per_sec: f64,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tier {
    /// Its name.
    pub tier: &'static str,
    /// From clients.
    pub to_peer: Flow,
    /// From peers.
    pub to_client: Flow,
    /// Not forwarded by it.
    pub refused_per_sec: f64,
}

/// What one tier did not forward, for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refused {
    /// The tier.
    pub tier: &'static str,
    /// The reason.
    pub reason: String,
    /// How often.
    pub per_sec: f64,
}

/// A rate with the name of what it is of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// The name.
    pub reason: String,
    /// How often.
    pub per_sec: f64,
}

/// Error responses of one code.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Code {
    /// The STUN code.
    pub code: String,
    /// How often.
    pub per_sec: f64,
}

/// The process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Process {
    /// Cores in use.
    pub cpu: f64,
    /// Memory.
    pub resident_bytes: f64,
    /// Descriptors.
    pub open_fds: f64,
    /// Their limit.
    pub max_fds: f64,
    /// Threads.
    pub threads: f64,
}

/// What the relay holds for its clients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Holdings {
    /// Allocations.
    pub allocations: f64,
    /// Their limit.
    pub allocations_max: f64,
    /// Channels.
    pub channels: f64,
    /// Their limit.
    pub channels_max: f64,
    /// Permissions.
    pub permissions: f64,
    /// Relay ports that are open.
    pub relay_ports_open: f64,
    /// Relay ports that there are.
    pub relay_ports: f64,
    /// Channels in the workers' table.
    pub routes: f64,
    /// Channels in the kernel program's table.
    pub xdp_routes: f64,
}

/// The control thread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Control {
    /// Cores in use.
    pub cpu: f64,
    /// Datagrams and ends of connections dealt with.
    pub events_per_sec: f64,
    /// Turns of its loop.
    pub turns_per_sec: f64,
    /// Requests of clients.
    pub requests_per_sec: f64,
    /// Success responses.
    pub successes_per_sec: f64,
    /// Error responses.
    pub errors: Vec<Code>,
    /// Datagrams for which a ring to or from it had no room.
    pub ring_dropped_per_sec: f64,
}

/// Clients of one transport.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transport {
    /// `tcp`, `tls` or `dtls`.
    pub transport: &'static str,
    /// Connections or associations.
    pub open: f64,
    /// Begun.
    pub begun_per_sec: f64,
    /// Handshakes that succeeded.
    pub handshakes_per_sec: f64,
    /// Handshakes that failed.
    pub handshakes_failed_per_sec: f64,
}

/// TCP, TLS and DTLS clients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sessions {
    /// By transport.
    pub transports: Vec<Transport>,
    /// Messages from them.
    pub messages_in_per_sec: f64,
    /// Messages to them.
    pub messages_out_per_sec: f64,
    /// Connections that ended.
    pub ended: Vec<Reason>,
    /// Messages that found a client's queue full.
    pub queue_dropped_per_sec: f64,
}

/// The kernel program on one core.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Core {
    /// The core's number.
    pub core: String,
    /// Datagrams from clients.
    pub to_peer_per_sec: f64,
    /// Datagrams from peers.
    pub to_client_per_sec: f64,
    /// Not forwarded: passed on to the host, or handed to workers.
    pub refused_per_sec: f64,
    /// Handed to workers by AF_XDP, where they forward what has a route as well.
    pub punted_per_sec: f64,
}

/// One thread, or several of one name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thread {
    /// Its name.
    pub thread: String,
    /// Cores in use.
    pub cpu: f64,
    /// Cores that it waited for.
    pub waiting: f64,
}

/// One interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frame {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When, in seconds since 1970.
    pub unix: f64,
    /// How long.
    pub interval_secs: f64,
    /// Rates are since the relay's start.
    pub restarted: bool,
    /// The relay's version.
    pub version: String,
    /// The tier that it chose.
    pub tier: String,
    /// Time since its start.
    pub uptime_secs: f64,
    /// It makes no new allocations.
    pub draining: bool,
    /// The process.
    pub process: Process,
    /// What it holds.
    pub holdings: Holdings,
    /// Each tier.
    pub tiers: Vec<Tier>,
    /// What was not forwarded, the most frequent first.
    pub refused: Vec<Refused>,
    /// The control thread.
    pub control: Control,
    /// Clients that are not UDP.
    pub sessions: Sessions,
    /// Each worker and each session thread.
    pub workers: Vec<Worker>,
    /// The kernel program on each core.
    pub cores: Vec<Core>,
    /// Each thread.
    pub threads: Vec<Thread>,
}

/// Tiers, the fastest first.
const TIERS: [&str; 5] = ["xdp", AF_XDP, "socket", "session", "control"];
/// Only where it is on.
const AF_XDP: &str = "af_xdp";

impl Frame {
    /// What happened in `interval`, which ended at `unix`.
    pub fn new(interval: &Interval<'_>, unix: Duration) -> Frame {
        let now = interval.now();
        let gauge = |name| interval.gauge(name, &[]);
        let frames = interval.now().all("turnwire_af_xdp_queues", &[]).next().is_some();
        let tiers = TIERS.iter().filter(|tier| frames || **tier != AF_XDP);
        let tiers: Vec<Tier> = tiers.map(|tier| one_tier(interval, tier)).collect();
        Frame {
            schema: SCHEMA,
            unix: rounded(unix.as_secs_f64()),
            interval_secs: rounded(interval.secs()),
            restarted: interval.restarted(),
            version: now.label("turnwire_build_info", "version").to_owned(),
            tier: now.label("turnwire_build_info", "tier").to_owned(),
            uptime_secs: gauge("turnwire_uptime_seconds"),
            draining: gauge("turnwire_draining") > 0.0,
            process: Process {
                cpu: interval.rate("process_cpu_seconds_total", &[]),
                resident_bytes: gauge("process_resident_memory_bytes"),
                open_fds: gauge("process_open_fds"),
                max_fds: gauge("process_max_fds"),
                threads: gauge("process_threads"),
            },
            holdings: holdings(gauge),
            tiers,
            refused: refused(interval),
            control: control(interval),
            sessions: sessions(interval),
            workers: Worker::all(interval),
            cores: cores(interval),
            threads: threads(interval),
        }
    }
}

fn holdings(gauge: impl Fn(&'static str) -> f64) -> Holdings {
    Holdings {
        allocations: gauge("turnwire_allocations"),
        allocations_max: gauge("turnwire_allocations_max"),
        channels: gauge("turnwire_channels"),
        channels_max: gauge("turnwire_channels_max"),
        permissions: gauge("turnwire_permissions"),
        relay_ports_open: gauge("turnwire_relay_ports_open"),
        relay_ports: gauge("turnwire_relay_ports"),
        routes: gauge("turnwire_routes"),
        xdp_routes: gauge("turnwire_xdp_routes"),
    }
}

fn one_tier(interval: &Interval<'_>, tier: &'static str) -> Tier {
    let flow = |direction| {
        let labels = [("tier", tier), ("direction", direction)];
        Flow {
            packets_per_sec: interval.rate("turnwire_forwarded_packets_total", &labels),
            bytes_per_sec: interval.rate("turnwire_forwarded_bytes_total", &labels),
        }
    };
    let refused_per_sec = interval.rate("turnwire_refused_packets_total", &[("tier", tier)]);
    Tier { tier, to_peer: flow("to_peer"), to_client: flow("to_client"), refused_per_sec }
}

fn refused(interval: &Interval<'_>) -> Vec<Refused> {
    let of_tier = |tier: &'static str| {
        let rates =
            interval.rates_by("turnwire_refused_packets_total", &[("tier", tier)], "reason");
        rates.into_iter().map(move |(reason, per_sec)| Refused { tier, reason, per_sec })
    };
    let mut all: Vec<Refused> = TIERS.into_iter().flat_map(of_tier).collect();
    all.sort_by(|one, other| other.per_sec.total_cmp(&one.per_sec));
    all
}

fn control(interval: &Interval<'_>) -> Control {
    let errors = interval.rates_by("turnwire_error_responses_total", &[], "code");
    Control {
        cpu: interval.rate("turnwire_thread_cpu_seconds_total", &[("thread", "control")]),
        events_per_sec: interval.rate("turnwire_control_events_total", &[]),
        turns_per_sec: interval.rate("turnwire_control_turns_total", &[]),
        requests_per_sec: interval.rate("turnwire_requests_total", &[]),
        successes_per_sec: interval.rate("turnwire_success_responses_total", &[]),
        errors: errors.into_iter().map(|(code, per_sec)| Code { code, per_sec }).collect(),
        ring_dropped_per_sec: interval.rate("turnwire_ring_dropped_packets_total", &[]),
    }
}

fn sessions(interval: &Interval<'_>) -> Sessions {
    let transport = |transport: &'static str| {
        let labels = [("transport", transport)];
        let handshakes = |result| {
            let labels = [("transport", transport), ("result", result)];
            interval.rate("turnwire_handshakes_total", &labels)
        };
        Transport {
            transport,
            open: interval.gauge("turnwire_connections", &labels),
            begun_per_sec: interval.rate("turnwire_connections_begun_total", &labels),
            handshakes_per_sec: handshakes("ok"),
            handshakes_failed_per_sec: handshakes("failed"),
        }
    };
    let messages =
        |direction| interval.rate("turnwire_session_messages_total", &[("direction", direction)]);
    let ended = interval.rates_by("turnwire_connections_ended_total", &[], "reason");
    Sessions {
        transports: ["tcp", "tls", "dtls"].into_iter().map(transport).collect(),
        messages_in_per_sec: messages("in"),
        messages_out_per_sec: messages("out"),
        ended: ended.into_iter().map(|(reason, per_sec)| Reason { reason, per_sec }).collect(),
        queue_dropped_per_sec: interval.rate("turnwire_session_queue_dropped_total", &[]),
    }
}

fn cores(interval: &Interval<'_>) -> Vec<Core> {
    let labels = [("tier", "xdp"), ("direction", "to_peer")];
    let all = interval.now().all("turnwire_core_forwarded_packets_total", &labels);
    let core = |core: &str| {
        let forwarded = |direction| {
            let labels = [("tier", "xdp"), ("core", core), ("direction", direction)];
            interval.rate("turnwire_core_forwarded_packets_total", &labels)
        };
        let labels = [("tier", "xdp"), ("core", core)];
        Core {
            core: core.to_owned(),
            to_peer_per_sec: forwarded("to_peer"),
            to_client_per_sec: forwarded("to_client"),
            refused_per_sec: interval.rate("turnwire_core_refused_packets_total", &labels),
            punted_per_sec: interval.rate("turnwire_core_punted_packets_total", &labels),
        }
    };
    let mut cores: Vec<Core> = all.map(|(series, _)| core(series.label("core"))).collect();
    cores.sort_by_key(|core| core.core.parse().unwrap_or(u64::MAX));
    cores
}

fn threads(interval: &Interval<'_>) -> Vec<Thread> {
    let all = interval.now().all("turnwire_thread_cpu_seconds_total", &[]);
    all.map(|(series, _)| {
        let thread = series.label("thread");
        let labels = [("thread", thread)];
        Thread {
            thread: thread.to_owned(),
            cpu: interval.rate("turnwire_thread_cpu_seconds_total", &labels),
            waiting: interval.rate("turnwire_thread_waiting_seconds_total", &labels),
        }
    })
    .collect()
}
