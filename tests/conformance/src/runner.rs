//! Runs checks: most side by side, what asks for much one by one before or after them.

#![allow(clippy::disallowed_methods, reason = "a check's duration is reported")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde::Serialize;

use crate::check::{Check, Severity, Stop, Turn, Verdict};
use crate::options::Options;
use crate::trial::{Facts, Lint, Trial};

/// Checks that run side by side. Most of the time they wait.
const SIDE_BY_SIDE: usize = 8;

/// What came of a check.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The check's name for machines.
    pub id: &'static str,
    /// The rule.
    pub name: &'static str,
    /// Where it is written.
    pub rule: &'static str,
    /// How binding it is.
    pub severity: Severity,
    /// `pass`, `fail` or `skip`.
    pub verdict: &'static str,
    /// Why it was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the rule demands, of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was seen, of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub came: Option<String>,
    /// The last messages, of a failure: `->` sent, `<-` received, in hexadecimal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub record: Vec<String>,
    /// How long it took.
    pub milliseconds: u64,
}

/// What all checks have seen of faults in messages.
type Lints = Vec<(Lint, String)>;

/// Runs the checks; `progress` is called after each. The outcomes are in the order of the checks,
/// with those of the lints at the end.
pub fn run(
    checks: &[Check],
    options: &Options,
    facts: &Facts,
    progress: &(dyn Fn(&Outcome) + Sync),
) -> Vec<Outcome> {
    let done: Mutex<Vec<(usize, Outcome)>> = Mutex::default();
    let lints: Mutex<Lints> = Mutex::default();
    let run_one = |at: usize| {
        let (outcome, found) = run_check(&checks[at], options, facts, at);
        progress(&outcome);
        let poisoned = "no check panics while it holds the list";
        lints.lock().expect(poisoned).extend(found);
        done.lock().expect(poisoned).push((at, outcome));
    };
    let of = |turn| (0..checks.len()).filter(move |&at| checks[at].turn == turn);
    of(Turn::First).for_each(run_one);
    let together: Vec<usize> = of(Turn::Together).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE.min(together.len()) {
            scope.spawn(|| {
                while let Some(&at) = together.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run_one(at);
                }
            });
        }
    });
    of(Turn::Alone).for_each(run_one);
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(at, _)| *at);
    let mut outcomes: Vec<Outcome> = done.into_iter().map(|(_, outcome)| outcome).collect();
    let lints = lints.into_inner().unwrap_or_default();
    for outcome in LINTS.iter().map(|lint| lint_outcome(lint, &lints)) {
        progress(&outcome);
        outcomes.push(outcome);
    }
    outcomes
}

fn run_check(check: &Check, options: &Options, facts: &Facts, at: usize) -> (Outcome, Lints) {
    let start = Instant::now();
    let trial = Trial::new(options, facts, options.seed.wrapping_add(at as u64));
    let verdict = if check.slow && !options.slow {
        Err(Stop::Skip("takes long: give --slow".into()))
    } else {
        (check.run)(&trial)
    };
    let milliseconds = start.elapsed().as_millis() as u64;
    let (record, lints) = trial.into_record();
    (outcome(check, verdict, record, milliseconds), lints)
}

fn outcome(check: &Check, verdict: Verdict, record: Vec<String>, milliseconds: u64) -> Outcome {
    let mut outcome = Outcome {
        id: check.id,
        name: check.name,
        rule: check.rule,
        severity: check.severity,
        verdict: "pass",
        why: None,
        expected: None,
        came: None,
        record: Vec::new(),
        milliseconds,
    };
    match verdict {
        Ok(()) => {}
        Err(Stop::Skip(why)) => {
            outcome.verdict = "skip";
            outcome.why = Some(why);
        }
        Err(Stop::Fail { expected, came }) => {
            outcome.verdict = "fail";
            outcome.expected = Some(expected);
            outcome.came = Some(came);
            outcome.record = record;
        }
    }
    outcome
}

/// What every message that came has to keep to, in any check.
struct LintCheck {
    lint: Lint,
    id: &'static str,
    name: &'static str,
    rule: &'static str,
    severity: Severity,
}

const LINTS: [LintCheck; 4] = [
    LintCheck {
        lint: Lint::Format,
        id: "every-message.format",
        name: "Every message of the server is well-formed: cookie, lengths, attributes",
        rule: "RFC 8489 section 5",
        severity: Severity::Must,
    },
    LintCheck {
        lint: Lint::Padding,
        id: "every-message.padding",
        name: "Padding is zero: no bytes of reused buffers leave the server",
        rule: "RFC 8489 section 14",
        severity: Severity::Must,
    },
    LintCheck {
        lint: Lint::Fingerprint,
        id: "every-message.fingerprint",
        name: "FINGERPRINT, where it is sent, is last and right",
        rule: "RFC 8489 section 14.7",
        severity: Severity::Must,
    },
    LintCheck {
        lint: Lint::Integrity,
        id: "every-message.integrity",
        name: "Responses to authenticated requests carry a right integrity of the request's kind",
        rule: "RFC 8489 section 9.2.4",
        severity: Severity::Must,
    },
];

fn lint_outcome(lint: &LintCheck, found: &Lints) -> Outcome {
    let faults: Vec<&str> = found
        .iter()
        .filter(|(kind, _)| *kind == lint.lint)
        .map(|(_, what)| what.as_str())
        .collect();
    let check = Check {
        id: lint.id,
        name: lint.name,
        rule: lint.rule,
        severity: lint.severity,
        over: crate::check::Over::Any,
        slow: false,
        turn: Turn::Together,
        run: |_| Ok(()),
    };
    let verdict = match faults.first() {
        None => Ok(()),
        Some(first) => Err(crate::check::fail(
            "no such fault in any message",
            format!("{} messages; the first: {first}", faults.len()),
        )),
    };
    outcome(&check, verdict, Vec::new(), 0)
}
