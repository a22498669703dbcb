//! What may be asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use wire::Family;

use crate::suite::plan::{self, Direction, Effort, Figures, Mode, Scenario};
use crate::suite::subject::{self, Subject};

/// Benchmarks of Turnwire's packet path, beside other TURN relays.
#[derive(Debug, Parser)]
#[command(bin_name = "scripts/bench")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measures, and leaves results.json, index.html and table.md in a folder
    Run(Box<Run>),
    /// The ceiling for relays on sockets: see src/echo.rs
    #[command(hide = true)]
    Echo(crate::echo::Echo),
    /// Puts the report of a result between the marks of documents
    Publish {
        /// Where results.json is
        folder: PathBuf,
        /// Markdown with <!-- bench-report --> ... <!-- /bench-report -->, bench-ratios or bench-headline
        #[arg(required = true)]
        documents: Vec<PathBuf>,
    },
}

/// Without options: the whole suite, under 25 minutes.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Fewer scenarios, fewer and shorter rounds: under five minutes
    #[arg(long)]
    quick: bool,
    /// Only these parts: cost (the program alone), rings (AF_XDP beside the crate xdp), or names of
    /// scenarios (see --list)
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    only: Vec<String>,
    /// Only these subjects (see --list)
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    subjects: Vec<String>,
    /// Another relay, started by COMMAND, with {listen4}, {relay4}, {user}, ... filled in
    /// (benches/README.md); repeatable
    #[arg(long = "subject", value_name = "NAME=COMMAND")]
    others: Vec<String>,
    /// Rounds that count, at every point
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each trial sends
    #[arg(long, value_name = "MS")]
    trial_ms: Option<u64>,
    /// Names scenarios and subjects
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    point: Point,
    /// Another build of ebpf/object/measure.o, timed in the same rounds; repeatable
    #[arg(long, value_name = "OBJECT")]
    pub(crate) against: Vec<PathBuf>,
    /// The turnwire program
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) turnwire: PathBuf,
    /// Where benches/contenders/build put its programs
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub(crate) contenders: PathBuf,
    /// The program that compares AF_XDP rings (benches/xsk)
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) rings: Option<PathBuf>,
    /// Folder for results and logs [default: out/bench-DATE-TIME]
    #[arg(long, value_name = "FOLDER", default_value = "out/bench")]
    pub(crate) out: PathBuf,
}

/// A point of one's own in place of the scenarios; what is not given is as at the base.
#[derive(Debug, Args)]
#[command(next_help_heading = "A point of one's own, in place of the scenarios")]
struct Point {
    /// Channels, 1 to 64000
    #[arg(long, value_name = "N")]
    channels: Option<u16>,
    /// Application data, 20 to 1400 bytes
    #[arg(long, value_name = "BYTES")]
    payload: Option<u16>,
    /// Where packets go
    #[arg(long, value_name = "to-peer|to-client|both|relay-to-relay")]
    direction: Option<String>,
    /// Families of clients and peers
    #[arg(long, value_name = "4|6|46|64")]
    families: Option<String>,
    /// How clients wrap their data
    #[arg(long, value_name = "channel|send")]
    mode: Option<String>,
    /// Interfaces of the relay: sent back by one, or on by the other
    #[arg(long, value_name = "1|2")]
    interfaces: Option<u8>,
    /// Only delay, at these offered rates, packets a second: the same for all subjects
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    rates: Vec<f64>,
}

impl Point {
    fn scenario(&self) -> Result<Option<Scenario>> {
        let Point { channels, payload, direction, families, mode, interfaces, rates } = self;
        let nothing = channels.is_none()
            && payload.is_none()
            && direction.is_none()
            && families.is_none()
            && mode.is_none()
            && interfaces.is_none()
            && rates.is_empty();
        if nothing {
            return Ok(None);
        }
        let mut point = Scenario { name: "custom", ..plan::base() };
        point.channels = channels.unwrap_or(point.channels);
        point.payload = payload.unwrap_or(point.payload);
        point.arms = interfaces.unwrap_or(point.arms);
        point.direction = match direction.as_deref() {
            None | Some("both") => Direction::Both,
            Some("to-peer") => Direction::ToPeers,
            Some("to-client") => Direction::ToClients,
            Some("relay-to-relay") => Direction::RelayToRelay,
            Some(other) => {
                bail!("--direction is to-peer, to-client, both or relay-to-relay, not {other:?}")
            }
        };
        point.families = match families.as_deref() {
            None | Some("4") => (Family::V4, Family::V4),
            Some("6") => (Family::V6, Family::V6),
            Some("46") => (Family::V4, Family::V6),
            Some("64") => (Family::V6, Family::V4),
            Some(other) => bail!("--families is 4, 6, 46 or 64, not {other:?}"),
        };
        point.mode = match mode.as_deref() {
            None | Some("channel") => Mode::Channels,
            Some("send") => Mode::Indications,
            Some(other) => bail!("--mode is channel or send, not {other:?}"),
        };
        if !rates.is_empty() {
            (point.figures, point.rates) = (Figures::Delays, rates.clone());
        }
        ensure!(
            rates.iter().all(|rate| (1e3..=1e7).contains(rate)),
            "--rates are 1000 to 10000000"
        );
        ensure!((20..=1400).contains(&point.payload), "--payload is 20 to 1400 bytes");
        ensure!((1..=64_000).contains(&point.channels), "--channels is 1 to 64000");
        ensure!((1..=2).contains(&point.arms), "--interfaces is 1 or 2");
        let between = point.direction == Direction::RelayToRelay;
        ensure!(!between || point.channels <= 4096, "relay to relay: 4096 channels at most");
        let indications = point.mode == Mode::Indications;
        ensure!(!indications || point.payload.is_multiple_of(4), "send: payloads of 4 n bytes");
        ensure!(!indications || !between, "send: not from relay to relay");
        Ok(Some(point))
    }
}

impl Run {
    /// Names what there is.
    pub(crate) fn print_list(&self) -> Result<()> {
        println!("scenarios (* with --quick):\n    * cost: the program alone");
        println!("      rings: AF_XDP rings beside those of the crate xdp");
        for one in plan::scenarios() {
            let mark = if one.quick { '*' } else { ' ' };
            println!("    {mark} {}: {}", one.name, one.title());
        }
        println!("subjects:");
        for one in self.subjects()? {
            println!("      {}: {}", one.name, one.label);
        }
        Ok(())
    }

    /// Whether a part was asked for.
    pub(crate) fn wants(&self, part: &str) -> bool {
        let custom = matches!(self.point.scenario(), Ok(Some(_)));
        if self.only.is_empty() { !custom } else { self.only.iter().any(|one| one == part) }
    }

    /// The program that compares rings, if that part was asked for and it is there.
    pub(crate) fn wanted_rings(&self) -> Option<&Path> {
        let wanted = self.wants("rings") && (!self.quick || !self.only.is_empty());
        self.rings.as_deref().filter(|program| wanted && program.is_file())
    }

    /// How thorough it is to be.
    pub(crate) fn effort(&self) -> Effort {
        let mut effort = if self.quick { plan::QUICK } else { plan::FULL };
        if let Some(rounds) = self.rounds {
            (effort.rounds, effort.cost.0) = ((rounds, rounds), rounds);
        }
        if let Some(ms) = self.trial_ms {
            effort.trial = Duration::from_millis(ms);
        }
        effort
    }

    /// The points.
    ///
    /// # Errors
    /// One of those asked for does not exist.
    pub(crate) fn scenarios(&self) -> Result<Vec<Scenario>> {
        if let Some(point) = self.point.scenario()? {
            ensure!(self.only.iter().all(|one| !is_point(one)), "--only names other points");
            return Ok(vec![point]);
        }
        let all = plan::scenarios();
        for name in self.only.iter().filter(|name| is_point(name)) {
            let names: Vec<_> = all.iter().map(|one| one.name).collect();
            ensure!(names.contains(&name.as_str()), "{name:?} is none of cost, rings, {names:?}");
        }
        let asked = |one: &Scenario| {
            if self.only.is_empty() { one.quick || !self.quick } else { self.wants(one.name) }
        };
        Ok(all.into_iter().filter(asked).collect())
    }

    /// Who takes part.
    ///
    /// # Errors
    /// One of those asked for is not known.
    pub(crate) fn subjects(&self) -> Result<Vec<Subject>> {
        let mut all = subject::builtin();
        for text in &self.others {
            let other = subject::custom(text)?;
            ensure!(all.iter().all(|one| one.name != other.name), "two are named {}", other.name);
            all.push(other);
        }
        for name in &self.subjects {
            let names: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
            ensure!(names.contains(&name.as_str()), "{name:?} is none of {names:?}");
        }
        let others: Vec<_> = self.others.iter().filter_map(|text| text.split_once('=')).collect();
        let asked = |one: &Subject| {
            self.subjects.is_empty()
                || self.subjects.contains(&one.name)
                || others.iter().any(|(name, _)| *name == one.name)
        };
        // one that has a special task takes part elsewhere when it is named
        let all = all.into_iter().map(|one| {
            let special = one.special && !self.subjects.contains(&one.name);
            Subject { special, ..one }
        });
        Ok(all.filter(asked).collect())
    }
}

/// Whether a part is a scenario.
fn is_point(name: &str) -> bool {
    !["cost", "rings"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Run {
        let always = ["scripts/bench", "run", "--turnwire", "x", "--contenders", "y"];
        let cli = Cli::try_parse_from(always.iter().chain(words)).unwrap();
        match cli.command {
            Command::Run(run) => *run,
            _ => unreachable!("`run` is what was asked for"),
        }
    }

    #[test]
    fn quick_is_a_part_of_the_whole() {
        let (quick, full) = (run(&["--quick"]), run(&[]));
        let names =
            |run: &Run| -> Vec<_> { run.scenarios().unwrap().iter().map(|one| one.name).collect() };
        assert!(names(&quick).len() < names(&full).len());
        assert!(names(&quick).iter().all(|name| names(&full).contains(name)));
        assert!(quick.wants("cost") && full.wants("cost"));
    }

    #[test]
    fn a_point_of_ones_own_takes_the_place_of_the_scenarios() {
        // given
        let run = run(&["--channels", "7", "--families", "46"]);
        // when
        let points = run.scenarios().unwrap();
        // then
        assert_eq!(points.len(), 1);
        assert_eq!((points[0].channels, points[0].payload), (7, 160));
        assert_eq!(points[0].families, (Family::V4, Family::V6));
        assert!(!run.wants("cost"));
    }

    #[test]
    fn rates_ask_for_delays_and_a_subject_with_a_special_task_comes_when_it_is_named() {
        // given
        let run = run(&["--rates", "40000,8e4", "--subjects", "two-workers,echo"]);
        // then
        let points = run.scenarios().unwrap();
        assert_eq!((points[0].figures, &*points[0].rates), (Figures::Delays, &[4e4, 8e4][..]));
        assert!(run.subjects().unwrap().iter().all(|one| !one.special));
    }

    #[test]
    fn what_does_not_exist_is_refused_by_name() {
        for words in [["--only", "nosuch"], ["--payload", "7"], ["--direction", "up"]] {
            let error = run(&words).scenarios().unwrap_err().to_string();
            assert!(error.contains(words[1].trim_start_matches('7')), "{error}");
        }
        assert!(run(&["--rates", "100"]).scenarios().is_err());
        assert!(run(&["--subjects", "nosuch"]).subjects().is_err());
        assert!(run(&["--subject", "coturn=x"]).subjects().is_err());
        assert_eq!(run(&["--subjects", "xdp", "--subject", "my=x"]).subjects().unwrap().len(), 2);
    }
}
