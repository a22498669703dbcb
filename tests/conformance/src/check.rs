//! What a check is, and what can come of it.

use serde::Serialize;

use crate::trial::Trial;

/// How binding the rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// MUST, SHALL.
    Must,
    /// SHOULD, RECOMMENDED.
    Should,
    /// MAY, OPTIONAL.
    May,
    /// A rule of Turnwire's own, made of other servers' mishaps.
    Turnwire,
}

impl Severity {
    /// As in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Must => "must",
            Severity::Should => "should",
            Severity::May => "may",
            Severity::Turnwire => "Turnwire's rule",
        }
    }
}

/// The transports that a check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// All.
    Any,
    /// UDP.
    Udp,
    /// UDP and DTLS: what is sent arrives as one piece, or not at all.
    Datagrams,
    /// TCP and TLS.
    Streams,
    /// TLS and DTLS.
    Secure,
}

impl Over {
    /// Whether a transport is among them.
    pub fn includes(self, transport: dial::Transport) -> bool {
        match self {
            Over::Any => true,
            Over::Udp => transport == dial::Transport::Udp,
            Over::Datagrams => !transport.is_stream(),
            Over::Streams => transport.is_stream(),
            Over::Secure => transport.is_secure(),
        }
    }
}

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The server did something else.
    Fail {
        /// What the rule demands.
        expected: String,
        /// What was seen.
        came: String,
    },
    /// This cannot be judged here, and why.
    Skip(String),
}

/// What a check returns.
pub type Verdict = Result<(), Stop>;

/// A failure.
pub fn fail(expected: impl Into<String>, came: impl Into<String>) -> Stop {
    Stop::Fail { expected: expected.into(), came: came.into() }
}

/// A check that cannot be judged.
pub fn skip(why: impl Into<String>) -> Stop {
    Stop::Skip(why.into())
}

/// Passes when `right`.
///
/// # Errors
/// The failure otherwise.
pub fn want(right: bool, expected: &str, came: impl FnOnce() -> String) -> Verdict {
    if right { Ok(()) } else { Err(fail(expected, came())) }
}

/// When a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// By itself, before the others: it asks for what a server may count out.
    First,
    /// Side by side with others.
    Together,
    /// By itself, after the others: it sends so much.
    Alone,
}

/// One rule, and how to see whether it is kept.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name for machines: `group.rule`.
    pub id: &'static str,
    /// The rule, in words.
    pub name: &'static str,
    /// Where the rule is written.
    pub rule: &'static str,
    /// How binding it is.
    pub severity: Severity,
    /// Where it applies.
    pub over: Over,
    /// Takes longer than a few seconds: only with `--slow`.
    pub slow: bool,
    /// Which others may run beside it.
    pub turn: Turn,
    /// The check.
    pub run: fn(&Trial<'_>) -> Verdict,
}

const fn check(
    id: &'static str,
    name: &'static str,
    rule: &'static str,
    severity: Severity,
    run: fn(&Trial<'_>) -> Verdict,
) -> Check {
    Check { id, name, rule, severity, over: Over::Any, slow: false, turn: Turn::Together, run }
}

type Run = fn(&Trial<'_>) -> Verdict;

/// A rule with MUST in it.
pub(crate) const fn must(
    id: &'static str,
    name: &'static str,
    rule: &'static str,
    run: Run,
) -> Check {
    check(id, name, rule, Severity::Must, run)
}

/// A rule with SHOULD in it.
pub(crate) const fn should(
    id: &'static str,
    name: &'static str,
    rule: &'static str,
    run: Run,
) -> Check {
    check(id, name, rule, Severity::Should, run)
}

/// Something optional.
pub(crate) const fn may(
    id: &'static str,
    name: &'static str,
    rule: &'static str,
    run: Run,
) -> Check {
    check(id, name, rule, Severity::May, run)
}

/// A rule of Turnwire's own.
pub(crate) const fn house(id: &'static str, name: &'static str, run: Run) -> Check {
    check(id, name, "a rule of Turnwire's own", Severity::Turnwire, run)
}

impl Check {
    /// Only over these transports.
    pub(crate) const fn over(mut self, over: Over) -> Self {
        self.over = over;
        self
    }

    /// Only with `--slow`.
    pub(crate) const fn slow(mut self) -> Self {
        self.slow = true;
        self
    }

    /// By itself, before the others.
    pub(crate) const fn first(mut self) -> Self {
        self.turn = Turn::First;
        self
    }

    /// By itself, after the others.
    pub(crate) const fn alone(mut self) -> Self {
        self.turn = Turn::Alone;
        self
    }
}
