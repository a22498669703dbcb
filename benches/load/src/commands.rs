//! The subcommands: from flags to a result, written out whatever happened.

mod churn;
mod run;
mod search;
mod sink;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::cli::{Cli, Command, CompareArgs, OutputArgs, redacted};
use crate::compare;
use crate::control::ControlError;
use crate::html;
use crate::lab::SetupError;
use crate::options::Options;
use crate::report::{self, Ended, Failure, Machine, Report, SCHEMA, Setup, summary};
use crate::sys::{on_interrupt, wall_clock};

/// Does what the command line says.
pub fn main(cli: &Cli) -> ExitCode {
    let done = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Search(args) => search::search(args),
        Command::Churn(args) => churn::churn(args),
        Command::Sink(args) => sink::sink(args),
        Command::Compare(args) => compare(args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("turnwire-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A result that says nothing yet.
fn begin(kind: &str, options: &Options, direction: &str, output: &OutputArgs) -> Report {
    on_interrupt();
    Report {
        schema: SCHEMA.to_owned(),
        kind: kind.to_owned(),
        label: output.label.clone().unwrap_or_else(|| options.uri.clone()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: redacted(std::env::args()),
        started_unix_secs: wall_clock().as_secs(),
        machine: Machine::look(),
        settings: report::Settings {
            server: options.uri.clone(),
            address: options.server.to_string(),
            transport: options.transport.to_string(),
            allocations: options.shape.allocations,
            channels_per_allocation: options.shape.channels,
            payload: options.mix.to_string(),
            direction: direction.to_owned(),
            mode: options.mode.to_string(),
            peer: options.peer.name().to_owned(),
            generator: options.generator.to_string(),
            interfaces: options.interfaces.clone(),
            offload: options.offload,
            threads: [options.senders, options.receivers],
            cores: options.cores.clone(),
        },
        setup: None,
        ended: Ended::Complete,
        failure: None,
        run: None,
        search: None,
        churn: None,
    }
}

impl Report {
    /// Something failed; the first failure is the one to tell.
    fn fail(&mut self, message: String, stun_code: Option<u16>) {
        self.ended = Ended::Failed;
        self.failure.get_or_insert(Failure { message, stun_code });
    }

    fn fail_control(&mut self, error: &ControlError) {
        self.fail(error.to_string(), error.code());
    }

    fn interrupt(&mut self) {
        if self.ended == Ended::Complete {
            self.ended = Ended::Interrupted;
        }
    }

    /// How far the setup came, and why no further.
    fn note_setup(&mut self, setup: Setup, error: &SetupError) {
        self.setup = Some(setup);
        match error {
            SetupError::Control(error) => self.fail_control(error),
            SetupError::Host(error) => self.fail(format!("{error:#}"), None),
            SetupError::Interrupted => self.interrupt(),
        }
    }
}

fn compare(args: &CompareArgs) -> Result<ExitCode> {
    let reports = args.files.iter().map(|path| compare::read(path)).collect::<Result<Vec<_>>>()?;
    print!("{}", compare::text(&compare::entries(reports.clone())?));
    if let Some(path) = &args.html {
        write_html(path, reports)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_html(path: &Path, reports: Vec<Report>) -> Result<()> {
    let page = html::page(&compare::entries(reports)?);
    fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

/// Writes the result to all places that were asked for.
fn write(report: &Report, output: &OutputArgs) -> Result<ExitCode> {
    let mut failed = report.ended == Ended::Failed;
    let to_stdout = output.output.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let json = serde_json::to_string_pretty(report).context("writing JSON")?;
    if to_stdout {
        println!("{json}");
    } else {
        print!("{}", summary(report));
    }
    if let Some(path) = output.output.as_ref().filter(|_| !to_stdout)
        && let Err(error) = fs::write(path, json + "\n")
    {
        eprintln!("turnwire-load: writing {}: {error}", path.display());
        failed = true;
    }
    if let Some(path) = &output.html
        && let Err(error) = write_html(path, vec![report.clone()])
    {
        eprintln!("turnwire-load: {error:#}");
        failed = true;
    }
    if report.ended == Ended::Interrupted {
        eprintln!("turnwire-load: ended early");
    }
    if let Some(failure) = &report.failure {
        eprintln!("turnwire-load: {}", failure.message);
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
