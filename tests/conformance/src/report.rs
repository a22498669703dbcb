//! A run's result, for people and for machines.

mod table;

use std::fmt::Write as _;

use serde::Serialize;

use crate::check::Severity;
use crate::runner::Outcome;
pub use table::table;

/// The whole result. Its JSON is `{server, transport, seed, counts, checks: [...]}`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// As it was asked for.
    pub server: String,
    /// `udp`, `tcp`, `tls` or `dtls`.
    pub transport: &'static str,
    /// What repeats the run's choices.
    pub seed: u64,
    /// How many checks ended how.
    pub counts: Counts,
    /// In order.
    pub checks: Vec<Outcome>,
}

/// How many checks ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The rule is kept.
    pub pass: usize,
    /// It is not.
    pub fail: usize,
    /// It cannot be judged.
    pub skip: usize,
    /// Failures of a rule with MUST.
    pub must_fail: usize,
}

impl Report {
    /// Counts what came out.
    pub fn new(server: String, transport: &'static str, seed: u64, checks: Vec<Outcome>) -> Self {
        let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
        let must = |check: &&Outcome| check.verdict == "fail" && check.severity == Severity::Must;
        let counts = Counts {
            pass: count("pass"),
            fail: count("fail"),
            skip: count("skip"),
            must_fail: checks.iter().filter(must).count(),
        };
        Self { server, transport, seed, counts, checks }
    }

    /// What failed with all that is known, what was skipped with the reason, and the counts.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let t = &mut text;
        for check in self.checks.iter().filter(|check| check.verdict == "fail") {
            let Outcome { id, name, rule, severity, .. } = check;
            let _ = writeln!(t, "\nFAIL {id}\n  rule      {name} ({rule}; {})", severity.name());
            let _ = writeln!(t, "  expected  {}", check.expected.as_deref().unwrap_or_default());
            let _ = writeln!(t, "  came      {}", check.came.as_deref().unwrap_or_default());
            for line in &check.record {
                let _ = writeln!(t, "    {line}");
            }
        }
        let skipped = self.checks.iter().filter(|check| check.verdict == "skip");
        for (at, check) in skipped.enumerate() {
            let heading = if at == 0 { "\n" } else { "" };
            let why = check.why.as_deref().unwrap_or_default();
            let _ = writeln!(t, "{heading}skip {:32} {why}", check.id);
        }
        let Counts { pass, fail, skip, must_fail } = self.counts;
        let _ = writeln!(
            t,
            "\n{} over {}: {pass} passed, {fail} failed ({must_fail} of them a MUST), {skip} skipped; \
             seed {}",
            self.server, self.transport, self.seed
        );
        text
    }
}
