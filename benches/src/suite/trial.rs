//! One trial: send, count at four points, and void what does not add up.
//!
//! ```text
//!  generator --sent--> [ring] --entered--> relay --left--> [ring] --received--> sink
//! ```
//!
//! Packets enter and leave by the counters of the relay's interfaces: `left` is what they were given
//! to send, also what the far ring had no room for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use traffic::sys::monotonic;
use traffic::{Offer, Order, Place, Traffic};

use super::calls::Calls;
use super::record::Trial;
use super::search::{Limit, Verdict};
use super::server::{Server, Threads, cpu_of};
use super::site::{FAR_CORE, Side, kernel_threads};

/// Frames that are not ours: answers to clients, neighbour discovery.
const STRAYS: u64 = 100;
/// Share of what was due that the generator may skip, having come too late.
const SKIPPED_MAX: f64 = 0.1;
/// Nothing more is to come out of emptied sockets after so many nanoseconds.
const EMPTIED_AFTER: u64 = 50_000_000;
/// Where the counts are settled, the queues having run empty.
const SETTLED_AFTER: Duration = Duration::from_millis(15);

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// For the record.
    pub(crate) trial: Trial,
    /// CPU time of the relay's process, and of its interfaces' NAPI threads.
    pub(crate) process_seconds: f64,
    pub(crate) napi_seconds: f64,
    /// Of the process's busiest thread: on a core, and ready but waiting for one.
    pub(crate) busiest_seconds: [f64; 2],
    /// One-way latency: nanoseconds, and packets that took so long.
    pub(crate) latency: Vec<(u64, u64)>,
    /// The part of it that the generator was late itself.
    pub(crate) lateness: Vec<(u64, u64)>,
}

impl Trial {
    /// Packets a second that arrived.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.received as f64 / self.seconds } else { 0.0 }
    }

    /// Share of what was sent that did not arrive.
    pub(crate) fn loss(&self) -> f64 {
        1.0 - self.received as f64 / self.sent.max(1) as f64
    }

    /// Share of what was due that was never sent.
    fn late(&self) -> f64 {
        self.skipped as f64 / (self.sent + self.skipped).max(1) as f64
    }

    /// Who kept it from more.
    pub(crate) fn limit(&self) -> Limit {
        let before = self.sent.saturating_sub(self.left);
        let after = self.left.saturating_sub(self.received);
        if self.loss() <= 0.001 || self.late() > SKIPPED_MAX {
            Limit::Generator
        } else if after > before {
            Limit::Sink
        } else {
            Limit::Subject
        }
    }

    /// What it says about its rate, and why it is void if it is.
    pub(crate) fn judge(&self) -> (Verdict, Option<String>) {
        let points = [self.sent, self.entered, self.left, self.received];
        // `left` may be too small: it was seen to count messages where the kernel cuts them
        let pairs = [(points[1], points[0]), (points[2], points[1]), (points[3], points[1])];
        if pairs.iter().any(|(later, before)| *later > before + STRAYS) {
            let why = format!("the counts do not add up: {points:?}");
            return (Verdict::Void, Some(why));
        }
        if self.asked_pps.is_some() && (self.sent == 0 || self.late() > SKIPPED_MAX) {
            let due = self.sent + self.skipped;
            let why = format!("the generator came too late for {} of {due}", self.skipped);
            return (Verdict::Late, Some(why));
        }
        let by = match self.limit() {
            Limit::Generator => Limit::Subject,
            other => other,
        };
        (Verdict::Counts { delivered: self.rate(), loss: self.loss(), by }, None)
    }
}

/// What can be read at any time.
struct Reading {
    received: u64,
    /// Damaged, not to be read, at another's port.
    wrong: [u64; 3],
    entered: u64,
    left: u64,
    threads: Threads,
    napi: u64,
    talk: [u64; 2],
}

/// Where trials are made.
pub(crate) struct Bench {
    pub(crate) traffic: Traffic,
    /// The process, if the subject is one.
    pub(crate) server: Option<Server>,
    /// Its clients.
    pub(crate) calls: Option<Calls>,
    /// Tells a trial's packets from those of the one before.
    pub(crate) tag: u8,
}

impl Bench {
    /// Sends for `time`, lets the queues run empty, and counts.
    ///
    /// # Errors
    /// A frame arrived with wrong bytes; the relay has ended; the kernel refuses.
    pub(crate) fn trial(&mut self, offer: Offer, time: Duration) -> Result<Outcome> {
        self.tag = self.tag.wrapping_add(1);
        let order = Order { offer, time, start: None, tag: self.tag, slot: u64::MAX };
        let before = self.read()?;
        let place = Place { core: Some(FAR_CORE), rank: Some(1) };
        let traffic = &self.traffic;
        Side::Far.inside(|| {
            traffic.prepare(&order)?;
            traffic.generate(place, &AtomicBool::new(false))
        })?;
        let sent = self.traffic.sent();
        let after = self.settled()?;
        ensure!(
            after.wrong == before.wrong,
            "wrong frames arrived (damaged, not to be read, at another's port): {:?} before, {:?} \
             after",
            before.wrong,
            after.wrong
        );
        let mut trial = Trial {
            asked_pps: match offer {
                Offer::Rate(rate) => Some(rate),
                Offer::Most => None,
            },
            seconds: sent.time.as_secs_f64(),
            emptied_seconds: None,
            sent: sent.packets.iter().sum(),
            entered: after.entered - before.entered,
            left: after.left - before.left,
            received: after.received - before.received,
            skipped: sent.skipped,
            requests: after.talk[0] - before.talk[0],
            answers: after.talk[1] - before.talk[1],
            void: None,
        };
        trial.void = trial.judge().1;
        let spent: Vec<_> = after.threads.iter().map(|one| spent(one, &before.threads)).collect();
        Ok(Outcome {
            trial,
            process_seconds: spent.iter().map(|one| one[0]).sum(),
            busiest_seconds: spent
                .iter()
                .copied()
                .max_by(|a, b| a[0].total_cmp(&b[0]))
                .unwrap_or_default(),
            napi_seconds: (after.napi - before.napi) as f64 / 1e9,
            latency: self.latency(),
            lateness: self.traffic.lateness(),
        })
    }

    /// Fills the sockets of the stopped relay, and counts how fast it empties them: the generator
    /// has no part in that. Packets that found their socket full are lost before the time counts. The
    /// rate is that of the first three quarters, when every worker still has something to do; the
    /// time until the last datagram is out stands beside it.
    ///
    /// # Errors
    /// As [`Bench::trial`].
    pub(crate) fn drain(&mut self, offer: Offer, time: Duration) -> Result<Outcome> {
        let server = self.server.as_mut().context("only a process has sockets")?;
        server.set_stopped(true)?;
        let filled = self.trial(offer, time);
        let server = self.server.as_mut().context("only a process has sockets")?;
        let (mut outcome, before) = match filled {
            Ok(outcome) => (outcome, self.read()?),
            Err(error) => {
                server.set_stopped(false)?;
                return Err(error);
            }
        };
        let server = self.server.as_mut().context("only a process has sockets")?;
        let start = monotonic();
        server.set_stopped(false)?;
        let (mut last, mut last_at) = (before.received, start);
        let mut seen_at = Vec::new();
        while monotonic() - last_at < EMPTIED_AFTER {
            std::thread::sleep(Duration::from_micros(500));
            let seen = self.traffic.received()?.right.iter().sum();
            if seen > last {
                (last, last_at) = (seen, monotonic());
                seen_at.push((last, last_at));
            }
        }
        let after = self.read()?;
        ensure!(
            after.wrong == before.wrong,
            "wrong frames arrived: {:?} before, {:?} after",
            before.wrong,
            after.wrong
        );
        outcome.trial.received = last - before.received;
        outcome.trial.left = outcome.trial.received;
        let most = before.received + outcome.trial.received * 3 / 4;
        let (count, at) =
            seen_at.into_iter().find(|(count, _)| *count >= most).unwrap_or((last, last_at));
        let share = outcome.trial.received as f64 / (count - before.received).max(1) as f64;
        outcome.trial.seconds = Duration::from_nanos(at - start).as_secs_f64() * share;
        outcome.trial.emptied_seconds = Some(Duration::from_nanos(last_at - start).as_secs_f64());
        // how late the sockets were filled does not matter
        outcome.trial.void = None;
        Ok(outcome)
    }

    /// Of the last trial, both directions; nothing where flows are not tracked.
    fn latency(&self) -> Vec<(u64, u64)> {
        let mut both = BTreeMap::new();
        for to_client in [false, true] {
            for (nanoseconds, packets) in self.traffic.latency(to_client) {
                *both.entry(nanoseconds).or_default() += packets;
            }
        }
        both.into_iter().collect()
    }

    /// A reading once nothing moves any more.
    fn settled(&mut self) -> Result<Reading> {
        let mut last = self.read()?;
        for _ in 0..20 {
            std::thread::sleep(SETTLED_AFTER);
            let next = self.read()?;
            if next.received == last.received {
                return Ok(next);
            }
            last = next;
        }
        Ok(last)
    }

    fn read(&mut self) -> Result<Reading> {
        let seen = self.traffic.seen()?;
        let (entered, left) = Side::Relay.inside(interfaces)?;
        let task = |pid| PathBuf::from(format!("/proc/{pid}"));
        let napi = kernel_threads("napi/arm")?.into_iter().map(|pid| cpu_of(&task(pid))).sum();
        Ok(Reading {
            received: seen.right.iter().sum(),
            wrong: [seen.damaged, seen.unreadable, seen.misrouted].map(|both| both.iter().sum()),
            entered,
            left,
            threads: self.server.as_mut().map_or(Ok(Threads::new()), Server::threads)?,
            napi,
            talk: self.calls.as_ref().map_or([0; 2], |calls| calls.talk.counts()),
        })
    }
}

/// What a thread has spent since `before`, in seconds.
fn spent((number, now): (&OsString, &[u64; 2]), before: &Threads) -> [f64; 2] {
    let before = before.get(number).copied().unwrap_or_default();
    [0, 1].map(|at| now[at].saturating_sub(before[at]) as f64 / 1e9)
}

/// Frames that the relay's interfaces took from their rings, and were given to send.
fn interfaces() -> Result<(u64, u64)> {
    Ok(counted(&std::fs::read_to_string("/proc/thread-self/net/dev")?))
}

/// The same of what /proc/net/dev says.
fn counted(text: &str) -> (u64, u64) {
    let arms = text.lines().filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> =
            counters.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        // received: bytes, packets, ...; from the ninth on, sent: bytes, packets, errors, dropped
        let (received, sent, dropped) = (counters.get(1)?, counters.get(9)?, counters.get(11)?);
        name.trim().starts_with("arm").then_some((*received, sent + dropped))
    });
    arms.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(points: [u64; 4], skipped: u64) -> Trial {
        let [sent, entered, left, received] = points;
        let asked_pps = Some(1e6);
        Trial {
            asked_pps,
            seconds: 1.0,
            sent,
            entered,
            left,
            received,
            skipped,
            ..Trial::default()
        }
    }

    #[test]
    fn counts_that_rise_on_the_way_void_a_trial() {
        for points in [[1000, 1200, 1000, 1000], [1000, 900, 1100, 900], [1000, 800, 700, 1000]] {
            let (verdict, why) = trial(points, 0).judge();
            assert_eq!(verdict, Verdict::Void, "{points:?}");
            assert!(why.is_some_and(|why| why.contains("add up")));
        }
        // what was cut on its way out is no reason
        assert!(trial([1000, 1000, 700, 1000], 0).judge().1.is_none());
        // a few frames of others are no reason
        assert!(trial([1000, 1020, 1010, 1000], 0).judge().1.is_none());
    }

    #[test]
    fn a_late_generator_says_nothing_about_the_relay() {
        let (verdict, why) = trial([800, 800, 800, 800], 200).judge();
        assert_eq!(verdict, Verdict::Late);
        assert!(why.is_some_and(|why| why.contains("200 of 1000")));
        assert!(trial([950, 950, 950, 950], 50).judge().1.is_none());
    }

    #[test]
    fn loss_is_laid_at_the_door_where_it_happened() {
        let limit = |points| trial(points, 0).limit();
        assert_eq!(limit([10_000, 9_000, 9_000, 9_000]), Limit::Subject);
        assert_eq!(limit([10_000, 10_000, 9_000, 9_000]), Limit::Subject);
        assert_eq!(limit([10_000, 10_000, 10_000, 9_000]), Limit::Sink);
        assert_eq!(limit([10_000, 10_000, 10_000, 10_000]), Limit::Generator);
    }

    #[test]
    fn interface_counters_are_read_as_the_kernel_writes_them() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets \
                    errs drop fifo colls carrier compressed\n\
                      lo:     100       5    0    0    0     0          0         0      100       5 \
                       0    0    0     0       0          0\n\
                    arm0: 9000 70 0 1 0 0 0 0 8000 60 0 3 0 0 0 0\n\
                    arm1: 90 7 0 0 0 0 0 0 80 6 0 0 0 0 0 0\n";
        assert_eq!(counted(text), (77, 69));
    }
}
