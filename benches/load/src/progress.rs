//! What a person sees while it runs: a line that is rewritten on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};

use crate::latency::Latency;
use crate::report;
use crate::sys::monotonic;

const SECOND: u64 = 1_000_000_000;
/// Between two lines on a terminal.
const TERMINAL: u64 = SECOND / 4;
/// Between two lines elsewhere.
const PLAIN: u64 = 2 * SECOND;

/// How a running measurement stands.
#[derive(Clone, Debug)]
pub struct Live {
    /// Sent and received a second, since the last time.
    pub rates: [f64; 2],
    /// Sent and received, from the start.
    pub counts: [u64; 2],
    /// Since the last time.
    pub latency: Option<Latency>,
    /// Seconds to go.
    pub left: f64,
}

/// Tells a person, on standard error.
pub struct Progress {
    quiet: bool,
    terminal: bool,
    next: u64,
    /// Whether a line stands on the terminal that the next one overwrites.
    open: bool,
}

impl Progress {
    /// Says nothing if `quiet`.
    pub fn new(quiet: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress { quiet, terminal, next: 0, open: false }
    }

    /// Whether it is time for another line.
    pub fn is_due(&self) -> bool {
        !self.quiet && monotonic() >= self.next
    }

    /// So many of so many are done.
    pub fn setup(&mut self, what: &str, done: usize, of: usize) {
        if self.is_due() {
            self.show(&format!("{what}: {done} of {of}"));
        }
    }

    /// The measurement goes on.
    pub fn live(&mut self, live: &Live) {
        let [sent, received] = live.rates.map(report::rate);
        let missing = live.counts[0].saturating_sub(live.counts[1]);
        let missing = missing as f64 / live.counts[0].max(1) as f64;
        let latency = live.latency.as_ref().map_or_else(String::new, |latency| {
            format!(", p50 {:.0} us, p99 {:.0} us", latency.p50_us, latency.p99_us)
        });
        self.show(&format!(
            "sent {sent}/s, received {received}/s, missing {}{latency}, {:.0} s left",
            report::percent(missing),
            live.left
        ));
    }

    fn show(&mut self, text: &str) {
        let mut out = std::io::stderr().lock();
        // A terminal that is gone is no reason to end.
        let _ = match self.terminal {
            true => write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()),
            false => writeln!(out, "{text}"),
        };
        self.open = self.terminal;
        self.next = monotonic() + if self.terminal { TERMINAL } else { PLAIN };
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        self.clear();
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Counts as a line: the next one has its time again.
    pub fn told(&mut self) {
        self.next = monotonic() + PLAIN;
    }

    /// Takes the live line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.open) {
            eprint!("\r\x1b[K");
        }
    }
}
