//! The suite: what crosses a relay end to end. Each scenario's subjects take turns in every round, in
//! the same namespaces, with the same generator and sink.

pub(crate) mod calls;
pub(crate) mod flows;
pub(crate) mod plan;
pub(crate) mod record;
pub(crate) mod round;
pub(crate) mod search;
pub(crate) mod server;
pub(crate) mod site;
pub(crate) mod subject;
pub(crate) mod trial;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use turnwire_tests::wait::Stopwatch;
use wire::Family;

use crate::{machine, progress, report, sys};
use plan::{Effort, Figures, Mode, Scenario};
use record::{Cost, Entry, Results};
use round::Turn;
use server::Paths;
use site::Site;
use subject::Subject;

/// A run under way: results are in its folder from the first round on.
pub(crate) struct Suite {
    pub(crate) paths: Paths,
    pub(crate) effort: Effort,
    subjects: Vec<Subject>,
    results: Results,
    folder: PathBuf,
    watch: Stopwatch,
}

impl Suite {
    /// Looks who can take part.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn new(
        folder: &Path,
        paths: Paths,
        effort: Effort,
        subjects: Vec<Subject>,
        planned: &[Scenario],
    ) -> Result<Suite> {
        paths.prepare()?;
        let words = paths.words(None);
        let look = |subject: &Subject| {
            let available = subject.available(&words);
            record::Subject {
                name: subject.name.clone(),
                label: subject.label.clone(),
                version: available.clone().unwrap_or_default(),
                command: shown(&words.fill(&subject.command), &paths),
                skipped: available.err(),
            }
        };
        let looked: Vec<record::Subject> = subjects.iter().map(look).collect();
        for one in &looked {
            if let Some(why) = &one.skipped {
                progress(&format!("{} is left out: {why}", one.label));
            }
        }
        let here = |subject: &Subject| {
            looked.iter().any(|one| one.name == subject.name && one.skipped.is_none())
        };
        let subjects = subjects.into_iter().filter(here).collect();
        let results = Results {
            schema: record::SCHEMA.to_owned(),
            started: machine::now(),
            seconds: 0.0,
            command: machine::command(),
            effort: effort.name.to_owned(),
            trial_seconds: effort.trial.as_secs_f64(),
            interrupted: false,
            planned: planned.iter().map(|one| one.name.to_owned()).collect(),
            machine: machine::look(),
            subjects: looked,
            cost: None,
            rings: Vec::new(),
            scenarios: Vec::new(),
        };
        let (folder, watch) = (folder.to_owned(), Stopwatch::start());
        Ok(Suite { paths, effort, subjects, results, folder, watch })
    }

    /// Keeps the program's cost.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn keep_cost(&mut self, cost: Cost) -> Result<()> {
        self.results.cost = Some(cost);
        self.save()
    }

    /// Keeps what was said about AF_XDP rings.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn keep_rings(&mut self, lines: Vec<String>) -> Result<()> {
        self.results.rings = lines;
        self.save()
    }

    /// Measures a scenario, round by round, until it is done or a signal comes.
    ///
    /// # Errors
    /// Namespaces cannot be made, or results not written. What goes wrong with a subject stands in
    /// the results.
    pub(crate) fn run(&mut self, scenario: &Scenario) -> Result<()> {
        if sys::stopping() {
            return Ok(());
        }
        progress(&format!("{}: {}", scenario.name, scenario.title()));
        // as a network card has a queue for each core
        let queues = if scenario.figures == Figures::Drained { 2 } else { 1 };
        let site = Site::new(usize::from(scenario.arms), queues)?;
        if self.results.machine.offloads.is_empty() {
            self.results.machine.offloads = site.offloads()?;
        }
        let mut record = blank(scenario);
        let mut taking_part = Vec::new();
        for subject in &self.subjects {
            let wanted = if scenario.subjects.is_empty() {
                !subject.special
            } else {
                scenario.subjects.contains(&subject.name.as_str())
            };
            let skipped = subject.suits(scenario).err();
            if wanted && skipped.is_none() {
                taking_part.push(subject.clone());
            }
            if wanted {
                let subject = subject.name.clone();
                record.entries.push(Entry { subject, skipped, ..Entry::default() });
            }
        }
        self.results.scenarios.push(record);
        let rounds = match scenario.figures {
            _ if self.watch.elapsed() > self.effort.limit => 1,
            Figures::All => self.effort.rounds.0,
            _ => self.effort.rounds.1,
        };
        let mut seeds = HashMap::new();
        for number in 0..=rounds {
            for subject in &taking_part {
                if sys::stopping() {
                    self.results.interrupted = true;
                    return self.save();
                }
                self.turn(scenario, &site, subject, number, &mut seeds);
                self.save()?;
            }
        }
        Ok(())
    }

    /// One subject's turn in one round.
    fn turn(
        &mut self,
        scenario: &Scenario,
        site: &Site,
        subject: &Subject,
        number: usize,
        seeds: &mut HashMap<String, f64>,
    ) {
        let Some(record) = self.results.scenarios.last_mut() else { return };
        let entry = record.entries.iter_mut().find(|entry| entry.subject == subject.name);
        let Some(entry) = entry.filter(|entry| entry.failure.is_none()) else { return };
        let seed = seeds.get(&subject.name).copied();
        let turn = Turn { subject, scenario, site, paths: &self.paths, effort: self.effort, seed };
        match turn.take(number) {
            Ok(round) => {
                progress(&format!("  round {number}: {}: {}", subject.label, round.in_words()));
                if round.pdr.offered_pps > 0.0 {
                    seeds.insert(subject.name.clone(), round.pdr.offered_pps);
                }
                // the first only finds out where to look
                if number > 0 {
                    entry.rounds.push(round);
                }
            }
            Err(_) if sys::stopping() => {}
            Err(error) => {
                progress(&format!("  round {number}: {}: {error:#}", subject.label));
                entry.failure = Some(format!("round {number}: {error:#}"));
            }
        }
    }

    /// Writes the three files, and returns the report.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn finish(mut self) -> Result<String> {
        self.results.interrupted |= sys::stopping();
        self.results.machine.load_after = machine::load();
        self.save()?;
        Ok(report::markdown(&self.results))
    }

    fn save(&mut self) -> Result<()> {
        self.results.seconds = self.watch.elapsed().as_secs_f64();
        let json = serde_json::to_string(&self.results)?;
        write(&self.folder.join("results.json"), &json)?;
        write(&self.folder.join("table.md"), &report::markdown(&self.results))?;
        write(&self.folder.join("index.html"), &report::page(&self.results))
    }
}

/// A command as a reader needs it: without this machine's folders.
fn shown(words: &[String], paths: &Paths) -> String {
    let mut line = words.join(" ");
    for (folder, name) in
        [(paths.turnwire.parent(), ""), (Some(&*paths.contenders), ""), (paths.bench.parent(), "")]
    {
        if let Some(folder) = folder {
            line = line.replace(&format!("{}/", folder.display()), name);
        }
    }
    line.replace(&paths.logs.display().to_string(), "LOGS")
}

fn blank(scenario: &Scenario) -> record::Scenario {
    let digit = |family| if family == Family::V4 { 4 } else { 6 };
    record::Scenario {
        name: scenario.name.to_owned(),
        title: scenario.title(),
        channels: scenario.channels,
        payload_bytes: scenario.payload,
        direction: scenario.direction.name().to_owned(),
        indications: scenario.mode == Mode::Indications,
        client_family: digit(scenario.families.0),
        peer_family: digit(scenario.families.1),
        interfaces: scenario.arms,
        entries: Vec::new(),
    }
}

/// Whole, or not at all.
fn write(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("writing {}", path.display()))
}
