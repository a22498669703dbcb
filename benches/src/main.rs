//! `turnwire-bench`: what Turnwire's packet path costs, and what it carries. `scripts/bench` runs it.

mod cost;
mod machine;
mod relay;
mod summary;
mod sys;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use traffic::Ways;
use wire::Family;

use relay::SUBJECTS;
use relay::mix::Mix;
use relay::site::{RELAY_CORE, Topology};

/// Benchmarks of Turnwire's packet path.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The program's cost, and bare XDP, Turnwire and coturn end to end
    Fastpath(Fastpath),
}

#[derive(Debug, Args)]
struct Fastpath {
    /// Fewer and shorter rounds, one topology: under three minutes
    #[arg(long)]
    quick: bool,
    /// Only one of the parts
    #[arg(long, value_name = "cost|relay")]
    only: Option<String>,
    /// Topologies of the relay part [default: one-armed, and two-armed without --quick]
    #[arg(long, value_name = "one-armed|two-armed")]
    topology: Option<String>,
    /// Subjects of the relay part: any of bare, xdp, sockets, coturn
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    subjects: Vec<String>,
    /// Rounds that count
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each trial sends
    #[arg(long, value_name = "MS")]
    trial_ms: Option<u64>,
    /// Channels
    #[arg(long, default_value_t = 1000)]
    flows: u16,
    /// Application data, bytes
    #[arg(long, default_value_t = 160)]
    payload: u16,
    /// Where packets go
    #[arg(long, value_name = "to-peers|to-clients|both", default_value = "both")]
    ways: String,
    /// Families of clients and peers
    #[arg(long, value_name = "4|6|46|64", default_value = "4")]
    families: String,
    /// Another build of ebpf/object/measure.o, timed in the same rounds
    #[arg(long, value_name = "OBJECT")]
    against: Vec<PathBuf>,
    /// The turnwire program
    #[arg(long, value_name = "FILE")]
    turnwire: PathBuf,
    /// Folder for results and logs
    #[arg(long, value_name = "FOLDER", default_value = "out")]
    out: PathBuf,
}

impl Fastpath {
    fn mix(&self) -> Result<Mix> {
        let ways = match self.ways.as_str() {
            "to-peers" => Ways::ToPeers,
            "to-clients" => Ways::ToClients,
            "both" => Ways::Both,
            other => bail!("--ways is to-peers, to-clients or both, not {other:?}"),
        };
        let (client, peer) = match self.families.as_str() {
            "4" => (Family::V4, Family::V4),
            "6" => (Family::V6, Family::V6),
            "46" => (Family::V4, Family::V6),
            "64" => (Family::V6, Family::V4),
            other => bail!("--families is 4, 6, 46 or 64, not {other:?}"),
        };
        ensure!((20..=1400).contains(&self.payload), "--payload is 20 to 1400 bytes");
        ensure!((1..=64_000).contains(&self.flows), "--flows is 1 to 64000");
        Ok(Mix { flows: self.flows, payload: self.payload, ways, client, peer })
    }

    fn topologies(&self) -> Result<Vec<Topology>> {
        Ok(match self.topology.as_deref() {
            Some("one-armed") => vec![Topology::OneArmed],
            Some("two-armed") => vec![Topology::TwoArmed],
            None if self.quick => vec![Topology::OneArmed],
            None => vec![Topology::OneArmed, Topology::TwoArmed],
            Some(other) => bail!("--topology is one-armed or two-armed, not {other:?}"),
        })
    }

    fn subjects(&self) -> Result<Vec<relay::Subject>> {
        const NAMES: [&str; 4] = ["bare", "xdp", "sockets", "coturn"];
        let named = |name: &String| {
            let at = NAMES.iter().position(|one| one == name);
            at.map(|at| SUBJECTS[at]).with_context(|| format!("{name:?} is none of {NAMES:?}"))
        };
        if self.subjects.is_empty() {
            Ok(SUBJECTS.to_vec())
        } else {
            self.subjects.iter().map(named).collect()
        }
    }
}

fn main() -> Result<()> {
    let Command::Fastpath(options) = Cli::parse().command;
    fastpath(&options)
}

fn fastpath(options: &Fastpath) -> Result<()> {
    let mix = options.mix()?;
    let (topologies, subjects) = (options.topologies()?, options.subjects()?);
    let wanted = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    let logs = options.out.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    let logs = std::fs::canonicalize(&logs)?;
    sys::prefer(0).context("benchmarks need root")?;

    let facts = machine::facts();
    let mut text = format!("`{}`\n\n{}\n", machine::command(), machine::describe(&facts));
    let mut record = json!({ "command": machine::command(), "machine": facts });
    if wanted("cost") {
        progress("the program's cost");
        let rounds = options.rounds.unwrap_or(if options.quick { 7 } else { 21 });
        let effort = cost::Effort { rounds, repeat: 200_000 };
        let mut objects = vec![None];
        objects.extend(options.against.iter().map(|path| Some(path.as_path())));
        let costs = std::thread::scope(|scope| {
            let pinned = scope.spawn(|| {
                sys::pin(0, RELAY_CORE)?;
                cost::measure(effort, &objects)
            });
            pinned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        for (costs, object) in costs.iter().zip(&objects) {
            let of = object.map_or(String::new(), |path| format!("{}:\n\n", path.display()));
            text += &format!("\n{of}{}", costs.table());
        }
        record["cost"] = costs[0].json();
    }
    if wanted("relay") {
        let effort = relay::Effort {
            rounds: options.rounds.unwrap_or(if options.quick { 2 } else { 7 }),
            trial: Duration::from_millis(options.trial_ms.unwrap_or(if options.quick {
                250
            } else {
                500
            })),
            steps: if options.quick { 4 } else { 6 },
        };
        let mut scenarios = Vec::new();
        for topology in topologies {
            progress(&format!("end to end, {}: {}", topology.name(), mix.describe()));
            let paths = (options.turnwire.as_path(), logs.as_path());
            let scenario = relay::measure(topology, mix, &subjects, effort, paths)?;
            text += &format!("\n{}", scenario.table());
            scenarios.push(scenario.json());
        }
        record["relay"] = scenarios.into();
    }
    println!("{text}");
    std::fs::write(options.out.join("fastpath.md"), &text)?;
    std::fs::write(options.out.join("fastpath.json"), serde_json::to_string_pretty(&record)?)?;
    Ok(())
}

/// Tells whoever waits.
fn progress(line: &str) {
    eprintln!("{line}");
}
