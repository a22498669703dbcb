//! What a run leaves: `results.json`. Its schema is these types, with no other field.
//!
//! Rates are packets a second, times seconds or as the name says. A figure that was not taken is
//! null. Results are written again after every round, so that what was measured is there whatever
//! happens next.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::search::Limit;

/// Name and version of the schema.
pub(crate) const SCHEMA: &str = "turnwire-bench/1";

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Results {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// When it began, UTC, as RFC 3339 has it.
    pub(crate) started: String,
    /// How long it took.
    pub(crate) seconds: f64,
    /// As it was called.
    pub(crate) command: String,
    /// `full` or `quick`, or what was asked for in their place.
    pub(crate) effort: String,
    /// How long each trial sent.
    pub(crate) trial_seconds: f64,
    /// Ended early, by a signal.
    pub(crate) interrupted: bool,
    /// Scenarios that were asked for, measured or not.
    #[serde(default)]
    pub(crate) planned: Vec<String>,
    pub(crate) machine: Machine,
    pub(crate) subjects: Vec<Subject>,
    /// The program's own cost, if that part was run.
    pub(crate) cost: Option<Cost>,
    /// What the comparison of AF_XDP rings with those of the crate `xdp` printed (benches/xsk).
    #[serde(default)]
    pub(crate) rings: Vec<String>,
    pub(crate) scenarios: Vec<Scenario>,
}

/// Where it was measured, and how that is set up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// 1: programs are compiled.
    pub(crate) bpf_jit: String,
    /// What the processor is vulnerable to, and how the kernel mitigates it.
    pub(crate) mitigations: BTreeMap<String, String>,
    /// /proc/loadavg when it began and when it ended.
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    /// Interfaces and their offloads.
    pub(crate) devices: String,
    /// `ethtool -k` of the relay's interface: what is on.
    pub(crate) offloads: Vec<String>,
    /// Which core does what.
    pub(crate) placement: String,
    /// The commit that was measured, "+" when files differ from it.
    pub(crate) commit: String,
}

/// Somebody who takes part, or would have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) version: String,
    /// As it was started.
    pub(crate) command: String,
    /// Why it was left out altogether.
    pub(crate) skipped: Option<String>,
}

/// The program alone: nanoseconds a packet, net of an empty program, by name, a value a round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cost {
    pub(crate) rows: Vec<CostRow>,
}

/// One figure of the program's cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CostRow {
    pub(crate) name: String,
    pub(crate) nanoseconds: Vec<f64>,
    /// What it should be at most.
    pub(crate) wanted: Option<f64>,
}

/// One point, and what was measured there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// In words.
    pub(crate) title: String,
    pub(crate) channels: u16,
    pub(crate) payload_bytes: u16,
    /// `to-peer`, `to-client`, `both` or `relay-to-relay`.
    pub(crate) direction: String,
    /// Data are wrapped in Send and Data indications, else in ChannelData.
    #[serde(default)]
    pub(crate) indications: bool,
    /// 4 or 6.
    pub(crate) client_family: u8,
    pub(crate) peer_family: u8,
    /// Interfaces of the relay.
    pub(crate) interfaces: u8,
    pub(crate) entries: Vec<Entry>,
}

/// One subject at one point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) subject: String,
    /// Why it was not measured here.
    pub(crate) skipped: Option<String>,
    /// What went wrong; the rounds before are kept.
    pub(crate) failure: Option<String>,
    /// The rounds that count.
    pub(crate) rounds: Vec<Round>,
}

/// One round of one subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Round {
    /// From 1; 0 was dropped.
    pub(crate) number: usize,
    /// Everything that the generator can, on one core for generator, relay and sink.
    pub(crate) one_core: Option<Rate>,
    /// The most that arrived in any trial, however much was lost; the relay has its own core.
    pub(crate) delivered: Rate,
    /// CPU time of the threads of its interfaces' NAPI for each packet that arrived, nanoseconds, with
    /// all that the generator can offered; where the kernel forwards.
    pub(crate) saturated_napi_ns: Option<f64>,
    /// The highest rate with at most 0.1 % lost (offered: 0 where it was not looked for), and with
    /// none.
    pub(crate) pdr: Rate,
    pub(crate) lossless: Option<Rate>,
    /// What full sockets were emptied at, after the generator had ended: while every worker had
    /// something to do, and until the last of them was done.
    pub(crate) drained: Option<Rate>,
    pub(crate) drained_wholly: Option<Rate>,
    /// At an equal offered rate.
    pub(crate) cpu: Option<Cpu>,
    /// At 10, 50 and 90 % of `pdr`.
    pub(crate) latency: Vec<Latency>,
    /// At the rates that were asked for.
    #[serde(default)]
    pub(crate) delays: Vec<Delay>,
    /// Every trial of the round, void ones included.
    pub(crate) trials: Vec<Trial>,
}

/// A rate that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    /// Offered.
    pub(crate) offered_pps: f64,
    /// Arrived whole.
    pub(crate) pps: f64,
    /// Why it is not higher: `subject`, or `generator` or `sink`: then it is a lower bound.
    pub(crate) limit: Limit,
}

/// CPU time for each packet that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cpu {
    /// Arrived, packets a second.
    pub(crate) pps: f64,
    /// Of the relay's process, user and system.
    pub(crate) process_ns: f64,
    /// Of the threads that do its interfaces' NAPI: what softirqs do elsewhere.
    pub(crate) napi_ns: f64,
}

/// One way, from the time when each packet was due, microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Latency {
    /// Of `pdr`.
    pub(crate) share: f64,
    pub(crate) offered_pps: f64,
    pub(crate) packets: u64,
    pub(crate) loss: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// Nanoseconds (in steps of 5 %), and packets that took so long.
    pub(crate) histogram: Vec<(u64, u64)>,
}

/// How long packets took at a rate that all subjects were offered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delay {
    /// Share: 0.
    pub(crate) latency: Latency,
    /// Arrived whole, packets a second.
    pub(crate) pps: f64,
    /// Of the process's busiest thread, shares of the time: on a core, and ready but waiting for one.
    pub(crate) busy: f64,
    pub(crate) waiting: f64,
    /// How late the generator was itself, which is part of the latency.
    pub(crate) late_p99_us: f64,
    pub(crate) late_p999_us: f64,
}

/// One trial: the four points, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trial {
    /// Null: as much as the generator can.
    pub(crate) asked_pps: Option<f64>,
    /// From the first to the last; where full sockets were emptied, what all would have taken as the
    /// first three quarters did.
    pub(crate) seconds: f64,
    /// Where full sockets were emptied: until the last datagram was out.
    pub(crate) emptied_seconds: Option<f64>,
    pub(crate) sent: u64,
    /// Taken by the relay's interfaces.
    pub(crate) entered: u64,
    /// Sent by them.
    pub(crate) left: u64,
    /// By the sink, with the right bytes.
    pub(crate) received: u64,
    /// Due but not sent, the generator having come too late.
    pub(crate) skipped: u64,
    /// Binding requests beside the traffic, and their answers.
    pub(crate) requests: u64,
    pub(crate) answers: u64,
    /// Why it does not count.
    pub(crate) void: Option<String>,
}

impl Results {
    /// Reads them back.
    ///
    /// # Errors
    /// The text does not follow the schema.
    pub(crate) fn parse(text: &str) -> Result<Results> {
        let results: Results = serde_json::from_str(text).context("not this schema")?;
        ensure!(results.schema == SCHEMA, "schema {:?}, not {SCHEMA:?}", results.schema);
        Ok(results)
    }

    /// All trials, and those that were void.
    pub(crate) fn trials(&self) -> (usize, usize) {
        let entries = self.scenarios.iter().flat_map(|one| &one.entries);
        let trials = || entries.clone().flat_map(|one| &one.rounds).flat_map(|one| &one.trials);
        (trials().count(), trials().filter(|one| one.void.is_some()).count())
    }
}
