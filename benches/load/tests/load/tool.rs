//! The program under test.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use turnwire_load::report::{Counts, Report, RunResult, SCHEMA};

/// One call of the program.
pub(crate) struct Done {
    pub(crate) report: Option<Report>,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn report(&self) -> &Report {
        self.report.as_ref().unwrap_or_else(|| panic!("no result: {}{}", self.stdout, self.stderr))
    }

    /// The result of `run`, after a run that went well.
    pub(crate) fn run(&self) -> &RunResult {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.report().run.as_ref().expect("a run")
    }
}

/// A file that nobody else uses.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{}-{number}-{name}", std::process::id()))
}

/// The program with these words.
pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnwire-load"));
    command.args(words).stdin(Stdio::null()).env_remove("TURNWIRE_LOAD_PASSWORD");
    command
}

/// Runs the program to its end, and reads the JSON that it wrote.
pub(crate) fn call(words: &[&str]) -> Done {
    let path = scratch("result.json");
    let mut command = command(words);
    command.args(["--output", path.to_str().expect("a path in UTF-8")]);
    finish(command.output().expect("the program starts"), path)
}

pub(crate) fn finish(output: Output, path: PathBuf) -> Done {
    let json = std::fs::read_to_string(&path).ok();
    let report = json.map(|json| {
        let report: Report = serde_json::from_str(&json).expect("the schema");
        assert_eq!(report.schema, SCHEMA);
        // What was read is what was written: the schema loses nothing.
        let again: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(serde_json::to_value(&report).expect("JSON"), again);
        report
    });
    let _ = std::fs::remove_file(path);
    Done {
        report,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Nothing was miscounted: what was sent is accounted for.
pub(crate) fn assert_adds_up(run: &RunResult) {
    let add = |c: &Counts| c.received + c.lost + c.corrupted + c.misrouted;
    assert_eq!(run.totals.sent, add(&run.totals), "{:?}", run.totals);
    for one in &run.directions {
        assert_eq!(one.counts.sent, add(&one.counts), "{:?}", one.counts);
    }
    let sum = |of: fn(&Counts) -> u64| run.flows.iter().map(|flow| of(&flow.counts)).sum::<u64>();
    if run.flows.len() == run.flows_total {
        assert_eq!(sum(|c| c.offered), run.totals.offered);
        assert_eq!(sum(|c| c.sent), run.totals.sent);
        assert_eq!(sum(|c| c.received), run.totals.received);
        assert_eq!(sum(|c| c.reordered), run.totals.reordered);
    }
    assert_eq!(run.slots.iter().map(|slot| slot.sent).sum::<u64>(), run.totals.sent);
    let latency = run.latency.as_ref().map_or(0, |latency| latency.count);
    assert_eq!(latency, run.totals.received);
}
