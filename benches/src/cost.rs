//! What the program costs by itself, by BPF_PROG_TEST_RUN.
//!
//! A test run does not give the frame back between its repetitions, so the programs of
//! `measure.rs` relay back and forth, and the tables are mirrored. Every figure is taken in every
//! round, right after an empty program, and all differences are taken within a round.

mod chase;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use wire::Family;

use crate::suite::record::CostRow;
use crate::summary::Samples;
use chase::Chase;
use tables::Tables;

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// Application data in the frames, bytes.
const PAYLOAD: usize = 172;
/// Working sets of the pointer chase, bytes: near cache, shared cache, the route table's size.
const CHASES: [(&str, usize); 3] = [("1 MB", 1 << 20), ("4 MB", 4 << 20), ("22 MB", 22 << 20)];

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// Repetitions of each program in a round.
    pub(crate) repeat: u32,
}

/// One table and one program over it.
struct Subject {
    name: &'static str,
    tables: usize,
    program: &'static str,
    action: u32,
}

const fn subject(name: &'static str, tables: usize, program: &'static str, action: u32) -> Subject {
    Subject { name, tables, program, action }
}

/// The tables: one flow in three mixes of families; 64,000, 1,000 and 16,000 flows.
const SUBJECTS: [Subject; 17] = [
    subject("empty", 0, "empty", XDP_PASS),
    subject("hot IPv4", 0, "relay_hot", XDP_TX),
    subject("hot IPv6", 1, "relay_hot", XDP_TX),
    subject("hot IPv4 and IPv6", 2, "relay_hot", XDP_TX),
    subject("empty again", 3, "empty", XDP_PASS),
    subject("hot IPv4 among 64,000", 3, "relay_hot", XDP_TX),
    subject("pick", 3, "pick", XDP_PASS),
    subject("random", 3, "relay_random", XDP_TX),
    subject("hash pick", 3, "hash_pick", XDP_PASS),
    subject("hash hot", 3, "hash_hot", XDP_PASS),
    subject("hash random", 3, "hash_random", XDP_PASS),
    subject("pick again", 3, "pick", XDP_PASS),
    subject("random again", 3, "relay_random", XDP_TX),
    subject("pick of 1,000", 4, "pick", XDP_PASS),
    subject("random of 1,000", 4, "relay_random", XDP_TX),
    subject("pick of 16,000", 5, "pick", XDP_PASS),
    subject("random of 16,000", 5, "relay_random", XDP_TX),
];

/// The figures of all rounds, by name: nanoseconds.
#[derive(Default)]
pub(crate) struct Costs(BTreeMap<&'static str, Vec<f64>>);

/// Takes the figures of each object (`None`: the committed one), round by round in turn.
pub(crate) fn measure(effort: Effort, objects: &[Option<&Path>]) -> Result<Vec<Costs>> {
    let mut loaded = Vec::new();
    for object in objects {
        let bytes = object.map(std::fs::read).transpose()?;
        let load =
            |flows, client, peer| Tables::load(bytes.as_deref(), flows, (client, peer), PAYLOAD);
        loaded.push([
            load(1, Family::V4, Family::V4)?,
            load(1, Family::V6, Family::V6)?,
            load(1, Family::V4, Family::V6)?,
            load(64_000, Family::V4, Family::V4)?,
            load(1000, Family::V4, Family::V4)?,
            load(16_000, Family::V4, Family::V4)?,
        ]);
    }
    let mut chases = Vec::new();
    for (name, bytes) in CHASES {
        chases.push((name, Chase::new(bytes)?));
    }
    let mut costs: Vec<Costs> = loaded.iter().map(|_| Costs::default()).collect();
    for round in 0..=effort.rounds {
        for (tables, costs) in loaded.iter_mut().zip(&mut costs) {
            let mut keep = |name, value| {
                if round > 0 {
                    costs.0.entry(name).or_default().push(value);
                }
            };
            for subject in &SUBJECTS {
                keep(subject.name, subject.time(tables, effort.repeat)?);
            }
            for (name, chase) in &mut chases {
                keep(*name, chase.run(effort.repeat as usize));
            }
        }
    }
    Ok(costs)
}

impl Subject {
    fn time(&self, tables: &mut [Tables], repeat: u32) -> Result<f64> {
        let tables = &mut tables[self.tables];
        let timing = tables.run(self.program, repeat)?;
        ensure!(timing.action == self.action, "{}: action {}", self.name, timing.action);
        // an even number of repetitions ends with the frame that it started with
        ensure!(timing.size == tables.frame_size(), "{}: {} bytes", self.name, timing.size);
        Ok(timing.nanoseconds)
    }
}

/// A figure that is reported: the difference of two, and what the issue wants of it.
struct Figure {
    name: &'static str,
    of: &'static str,
    less: &'static str,
    most: Option<f64>,
}

const fn figure(
    name: &'static str,
    of: &'static str,
    less: &'static str,
    most: Option<f64>,
) -> Figure {
    Figure { name, of, less, most }
}

const FIGURES: [Figure; 11] = [
    figure("relay, IPv4, hot", "hot IPv4", "empty", Some(60.0)),
    figure("relay, IPv6, hot", "hot IPv6", "empty", None),
    figure("relay, IPv4 to IPv6 and back, hot", "hot IPv4 and IPv6", "empty", None),
    figure("relay, IPv4, hot, table of 64,000", "hot IPv4 among 64,000", "empty again", None),
    figure(
        "relay, IPv4, 1,000 random flows, less picking",
        "random of 1,000",
        "pick of 1,000",
        None,
    ),
    figure(
        "relay, IPv4, 16,000 random flows, less picking",
        "random of 16,000",
        "pick of 16,000",
        None,
    ),
    figure("relay, IPv4, 64,000 random flows, less picking", "random", "pick", Some(150.0)),
    figure("relay, IPv4, 64,000 random flows, with picking", "random", "empty again", None),
    figure(
        "relay, IPv4, 64,000 random flows, less picking, once more",
        "random again",
        "pick again",
        None,
    ),
    figure("kernel HASH of 64,000 flows, one lookup, hot", "hash hot", "empty again", None),
    figure(
        "kernel HASH of 64,000 flows, one lookup, random, less picking",
        "hash random",
        "hash pick",
        None,
    ),
];

impl Costs {
    fn of(&self, name: &str) -> Samples {
        self.0.get(name).map(|values| Samples::numbered(values)).unwrap_or_default()
    }

    /// For the record, under the name of another object if it is one.
    pub(crate) fn rows(&self, object: Option<&Path>) -> Vec<CostRow> {
        let prefix = object.map_or_else(String::new, |path| format!("{}: ", path.display()));
        let row = |name: &str, samples: Samples, wanted| CostRow {
            name: format!("{prefix}{name}"),
            nanoseconds: samples.values(),
            wanted,
        };
        let net = |figure: &Figure| self.of(figure.of).minus(&self.of(figure.less));
        let figures = FIGURES.iter().map(|figure| row(figure.name, net(figure), figure.most));
        let empty = row("(an empty program)", self.of("empty"), None);
        let loads = CHASES
            .iter()
            .map(|(name, _)| row(&format!("(one dependent load in {name})"), self.of(name), None));
        figures.chain([empty]).chain(loads).collect()
    }
}
