//! `turnwire-bench`: what Turnwire's packet path costs, and what it carries beside other relays.
//! `scripts/bench` runs it.

mod cli;
mod cost;
mod echo;
mod machine;
mod publish;
mod report;
mod suite;
mod summary;
mod sys;

use std::path::Path;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Command, Run};
use suite::Suite;
use suite::record::Cost;
use suite::server::Paths;
use suite::site::RELAY_CORE;

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(options) if options.list => options.print_list(),
        Command::Run(options) => run(&options),
        Command::Echo(echo) => echo.serve(),
        Command::Publish { folder, documents } => {
            documents.iter().try_for_each(|document| publish::publish(&folder, document))
        }
    }
}

fn run(options: &Run) -> Result<()> {
    let (effort, scenarios, subjects) =
        (options.effort(), options.scenarios()?, options.subjects()?);
    let logs = options.out.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    let paths = Paths {
        turnwire: absolute(&options.turnwire)?,
        contenders: std::path::absolute(&options.contenders)?,
        bench: std::env::current_exe()?,
        logs: absolute(&logs)?,
    };
    sys::prefer(0).context("benchmarks need root")?;
    sys::end_on_request()?;
    let mut suite = Suite::new(&options.out, paths, effort, subjects, &scenarios)?;
    if options.wants("cost") {
        progress("the program's own cost");
        suite.keep_cost(cost(options)?)?;
    }
    if let Some(program) = options.wanted_rings() {
        progress("AF_XDP rings");
        suite.keep_rings(rings(program))?;
    }
    for scenario in &scenarios {
        suite.run(scenario)?;
    }
    println!("{}", suite.finish()?);
    progress(&format!("results: {}", options.out.display()));
    Ok(())
}

/// What the comparison of AF_XDP rings says, or why it says nothing.
fn rings(program: &Path) -> Vec<String> {
    let words = ["--rounds", "61", "--seconds", "0.25"];
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
    };
    match std::process::Command::new(program).args(words).output() {
        Ok(output) if output.status.success() => lines(&output.stdout),
        Ok(output) => [vec!["it failed:".to_owned()], lines(&output.stderr)].concat(),
        Err(error) => vec![format!("it does not start: {error}")],
    }
}

fn cost(options: &Run) -> Result<Cost> {
    let (rounds, repeat) = options.effort().cost;
    let mut objects = vec![None];
    objects.extend(options.against.iter().map(|path| Some(path.as_path())));
    let costs = std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            sys::pin(0, RELAY_CORE)?;
            cost::measure(cost::Effort { rounds, repeat }, &objects)
        });
        pinned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let rows = costs.iter().zip(&objects).flat_map(|(costs, object)| costs.rows(*object));
    Ok(Cost { rows: rows.collect() })
}

fn absolute(path: &Path) -> Result<std::path::PathBuf> {
    std::fs::canonicalize(path).with_context(|| path.display().to_string())
}

/// Tells whoever waits.
fn progress(line: &str) {
    eprintln!("{line}");
}
