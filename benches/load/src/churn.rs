//! Lives of allocations: made, used, refreshed and deleted, each on a socket of its own.
//!
//! ```text
//! due ──> free slot ──> Allocate ──> ChannelBind ... ──> Refresh ... ──> Refresh to 0 ──> slot free
//!  └───────────────────────────── "life" ───────────────────────────────────┘
//! ```
//!
//! Each request's latency counts from when it is sent; a life's from when it was due, so that waiting
//! for a slot shows there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use turn::client::{Allocate, Request};

use crate::control::{ControlError, Engine, EngineSettings, Kind, Outcome, Pump, Why};
use crate::cpu;
use crate::lab::{connect, delete_all};
use crate::latency::{self, Latency};
use crate::link::Link;
use crate::options::{Mode, Options, PeerSide};
use crate::plan::channel_number;
use crate::progress::Progress;
use crate::report::{ChurnRequest, ChurnResult, ServerCpu};
use crate::schedule::Schedule;
use crate::sys::{self, interrupted, monotonic};

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;
/// How long the last lives may take to end.
const CLOSING: u64 = 8 * SECOND;
/// A failure that is none.
const PORT_TAKEN: &str = "437 Allocation Mismatch (port reused too soon, not a failure)";
/// The order in which results list requests.
const KINDS: [Kind; 5] =
    [Kind::Allocate, Kind::Permission, Kind::Channel, Kind::Refresh, Kind::Delete];

/// What lives are like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Lives begun a second; `None`: as many as there are slots for.
    pub rate: Option<f64>,
    /// For how long lives are begun.
    pub duration: Duration,
    /// Channels or permissions of each.
    pub channels: usize,
    /// Refreshes of each.
    pub refreshes: usize,
}

/// What came of it.
pub struct Churned {
    /// The result.
    pub result: ChurnResult,
    /// Ctrl-C.
    pub interrupted: bool,
    /// The first failure, and how many there were.
    pub failure: Option<(ControlError, u64)>,
}

/// What is known of one kind of request.
struct Tally {
    succeeded: u64,
    failed: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { succeeded: 0, failed: BTreeMap::new(), latency: latency::histogram() }
    }
}

/// Lives under way.
pub struct Churn {
    options: Options,
    plan: Plan,
    engine: Engine,
    pump: Pump,
    /// The peer that channels are bound to; it hears nothing.
    peer: SocketAddr,
    _peer: Link,
    free: Vec<usize>,
    /// When the life in each slot was due.
    due: Vec<u64>,
    tallies: BTreeMap<Kind, Tally>,
    lives: Tally,
    first_failure: Option<ControlError>,
    port_taken: u64,
}

impl Churn {
    /// Nothing lives yet.
    ///
    /// # Errors
    /// This host has no socket or no address for it.
    pub fn new(options: Options, plan: Plan) -> Result<Churn> {
        sys::raise_open_files();
        let engine = Engine::new(EngineSettings {
            login: options.login.clone(),
            server: options.server,
            transport: options.transport,
            in_flight: options.in_flight,
            each: 1,
        });
        let ip = match options.peer {
            PeerSide::Own(Some(ip)) => ip,
            _ => connect(&options)?.local()?.ip(),
        };
        let peer = Link::peer(SocketAddr::new(ip, 0)).with_context(|| format!("a peer at {ip}"))?;
        Ok(Churn {
            pump: Pump::new()?,
            peer: peer.local()?,
            _peer: peer,
            free: Vec::new(),
            due: Vec::new(),
            tallies: BTreeMap::new(),
            lives: Tally::default(),
            first_failure: None,
            port_taken: 0,
            options,
            plan,
            engine,
        })
    }

    /// Lives for as long as planned.
    ///
    /// # Errors
    /// This host has no more sockets.
    pub fn run(mut self, progress: &mut Progress) -> Result<Churned> {
        let server = self
            .options
            .server_pid
            .or_else(|| cpu::listener_of(self.options.server, self.options.transport));
        let before = server.and_then(cpu::process_secs);
        let start = monotonic();
        let end = start + self.plan.duration.as_nanos() as u64;
        let schedule = Schedule { start, end, rate: self.plan.rate };
        let mut begun = 0;
        loop {
            let now = monotonic();
            if schedule.is_over(begun, now) || interrupted() || self.is_hopeless() {
                break;
            }
            let due = schedule.due(now).unwrap_or(u64::MAX);
            while begun < due && self.begin(schedule.due_at(begun, now))? {
                begun += 1;
            }
            self.carry(now + 2 * MILLISECOND);
            if progress.is_due() {
                let of = schedule.total().map_or(0, |total| total as usize);
                progress.setup("lives", self.lives.succeeded as usize, of.max(begun as usize));
            }
            if self.engine.is_idle() {
                sys::sleep_until(schedule.due_at(begun, now).min(monotonic() + MILLISECOND));
            }
        }
        let secs = (monotonic() - start) as f64 / SECOND as f64;
        let lives = self.lives.succeeded;
        let closing = monotonic() + CLOSING;
        while !self.engine.is_idle() && monotonic() < closing && !self.is_hopeless() {
            self.carry(monotonic() + 10 * MILLISECOND);
        }
        let after = server.and_then(cpu::process_secs);
        delete_all(&mut self.engine, &mut self.pump, monotonic() + SECOND);
        let server_cpu = server.zip(after.zip(before)).map(|(pid, (after, before))| ServerCpu {
            pid,
            secs: after - before,
            secs_per_million: None,
        });
        Ok(self.finish(secs, lives, server_cpu))
    }

    /// Nothing has succeeded and something has failed: more of it will not help.
    fn is_hopeless(&self) -> bool {
        let nothing = self.tallies.values().all(|tally| tally.succeeded == 0);
        let gone =
            matches!(&self.first_failure, Some(ControlError { why: Why::Unreachable(_), .. }));
        self.first_failure.is_some() && (nothing || gone)
    }

    /// Begins a life, if a slot is free.
    fn begin(&mut self, due: u64) -> Result<bool> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.due.len() < self.options.in_flight => {
                let link = Arc::new(connect(&self.options)?);
                self.due.push(due);
                let slot = self.engine.add(link.clone());
                self.pump.watch(slot, link)?;
                self.live(slot, due);
                return Ok(true);
            }
            None => return Ok(false),
        };
        let link = Arc::new(connect(&self.options)?);
        self.engine.replace(slot, link.clone());
        self.pump.watch(slot, link)?;
        self.live(slot, due);
        Ok(true)
    }

    fn live(&mut self, slot: usize, due: u64) {
        self.due[slot] = due;
        let mut peer = self.peer;
        let mut requests = vec![Request::Allocate(Allocate {
            family: peer.is_ipv6().then_some(turn::attribute::Family::V6),
            ..Allocate::default()
        })];
        for channel in 0..self.plan.channels {
            // Other ports of the same host; nothing is ever sent there.
            peer.set_port(self.peer.port().wrapping_add(channel as u16).max(1));
            requests.push(match self.options.mode {
                Mode::Channel => Request::ChannelBind { channel: channel_number(channel), peer },
                Mode::Send => Request::CreatePermission { peers: vec![peer] },
            });
        }
        let refresh = Request::Refresh { lifetime_secs: None, family: None };
        requests.extend(std::iter::repeat_n(refresh, self.plan.refreshes));
        requests.push(Request::delete());
        self.engine.enqueue(slot, requests);
    }

    fn carry(&mut self, until: u64) {
        let Churn { engine, pump, free, due, tallies, lives, first_failure, port_taken, .. } = self;
        pump.run_to_the_end(engine, until, &mut |engine, pump, outcome| {
            let Outcome { session, kind, took, result } = outcome;
            let tally = tallies.entry(kind).or_default();
            let failed = result.is_err();
            match result {
                Ok(()) => {
                    tally.succeeded += 1;
                    tally.latency.saturating_record(took);
                }
                // Whoever had this port before is still remembered: RFC 8656 section 7.4 wants
                // another port, and the next life has one. It is counted, but no failure.
                Err(error) if error.is_port_taken() => {
                    *tally.failed.entry(PORT_TAKEN.to_owned()).or_default() += 1;
                    *port_taken += 1;
                }
                Err(error) => {
                    *tally.failed.entry(cause(&error)).or_default() += 1;
                    first_failure.get_or_insert(error);
                }
            }
            if failed && kind != Kind::Delete && engine.sessions()[session].relayed.is_some() {
                // The rest of this life makes no sense, but what there is of it is deleted.
                engine.skip_to_delete(session);
            } else if failed || kind == Kind::Delete {
                if !failed {
                    lives.succeeded += 1;
                    lives.latency.saturating_record(monotonic().saturating_sub(due[session]));
                }
                engine.give_up(session);
                pump.forget(session);
                free.push(session);
            }
            true
        });
    }

    fn finish(self, secs: f64, lives: u64, server_cpu: Option<ServerCpu>) -> Churned {
        let request = |kind: &str, tally: &Tally| ChurnRequest {
            kind: kind.to_owned(),
            succeeded: tally.succeeded,
            per_sec: tally.succeeded as f64 / secs,
            failed: tally.failed.clone(),
            latency: Latency::of(&tally.latency),
            latency_histogram: latency::encode(&tally.latency),
        };
        let mut requests: Vec<ChurnRequest> = KINDS
            .iter()
            .filter_map(|kind| Some(request(kind.name(), self.tallies.get(kind)?)))
            .collect();
        requests.push(request("life", &self.lives));
        let failures: u64 = self.tallies.values().flat_map(|tally| tally.failed.values()).sum();
        let failures = failures - self.port_taken;
        Churned {
            result: ChurnResult {
                secs,
                lives_per_sec: lives as f64 / secs,
                asked_per_sec: self.plan.rate,
                in_flight: self.options.in_flight,
                requests,
                server_cpu,
            },
            interrupted: interrupted(),
            failure: self.first_failure.map(|error| (error, failures)),
        }
    }
}

/// A failure without what differs from one to the next.
fn cause(error: &ControlError) -> String {
    match &error.why {
        Why::Refused(code) => code.to_string(),
        Why::Silence => "no answer".to_owned(),
        Why::Unreachable(text) => text.clone(),
        Why::Closed => "connection closed".to_owned(),
        Why::Integrity => "answers not signed with this password".to_owned(),
        Why::Other(text) => text.clone(),
    }
}
