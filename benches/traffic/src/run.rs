//! One run of the generator.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};

use crate::traffic::{ARRIVALS_WORDS, FLOW_SENT, FLOW_WORDS, Traffic, word};
use crate::{abi, sys};

/// How long a test run takes to be set up, and more.
const SET_UP: Duration = Duration::from_millis(60);
/// How long after its end a run may still send what was due before.
const GRACE: u64 = 200_000_000;
/// How often a run that is about to end is looked at.
const TICK: Duration = Duration::from_millis(2);
/// How often before: whoever looks wakes on a core that may be the relay's.
const PAUSE: Duration = Duration::from_millis(20);
/// Frames that the kernel makes at a time.
const BATCH: u32 = 64;

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Offer {
    /// Evenly, packets a second: open loop.
    Rate(f64),
    /// As fast as the generator can.
    Most,
}

/// Where the generator's thread runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The core that it is kept on.
    pub core: Option<usize>,
    /// Its rank among real-time threads, 1 to 99; `None`: it is none. Needs CAP_SYS_NICE.
    pub rank: Option<i32>,
}

/// What the generator did.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// To peers, and to clients.
    pub packets: [u64; 2],
    /// Due, but too late.
    pub skipped: u64,
    /// From the first to the last.
    pub time: Duration,
}

/// A run that is about to begin.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// How fast.
    pub offer: Offer,
    /// For how long; [`Traffic::prepare`] refuses more than three days.
    pub time: Duration,
    /// When: CLOCK_MONOTONIC in nanoseconds; `None`: as soon as the generator is ready.
    pub start: Option<u64>,
    /// Tells its datagrams from other runs'; 7 bits count.
    pub tag: u8,
    /// Length of the parts that are counted apart, in nanoseconds; there are [`abi::SLOTS`].
    pub slot: u64,
}

impl Place {
    /// Moves the calling thread there.
    ///
    /// # Errors
    /// This process may not run there, or not so.
    pub fn take(self) -> Result<()> {
        if let Some(core) = self.core {
            sys::pin(0, core).with_context(|| format!("core {core} for the generator"))?;
        }
        if let Some(rank) = self.rank {
            sys::at_once(0, rank).context("a real-time thread for the generator")?;
        }
        Ok(())
    }
}

impl Traffic {
    /// Sends for `time`; returns when all has been sent.
    ///
    /// # Errors
    /// The kernel refuses the test run, or ends it early.
    pub fn send(&self, offer: Offer, time: Duration, place: Place) -> Result<Sent> {
        let order = Order { offer, time, start: None, tag: 0, slot: u64::MAX };
        self.prepare(&order)?;
        self.generate(place, &AtomicBool::new(false))?;
        Ok(self.sent())
    }

    /// Forgets the last run's counts of flows, times and latencies, and sets the next one's. Of
    /// what the sink has [`Traffic::seen`] nothing is forgotten. Gives the time of its start.
    ///
    /// # Errors
    /// It is too long.
    pub fn prepare(&self, order: &Order) -> Result<u64> {
        let maps = &self.maps;
        let limit = Duration::from_secs(3 * 86_400);
        anyhow::ensure!(order.time <= limit, "a run lasts at most three days");
        for word in word::SENT..word::COUNT {
            self.set(word, 0);
        }
        for flow in maps.flows.chunks(FLOW_WORDS) {
            flow[FLOW_SENT].store(0, Relaxed);
        }
        let counts = [maps.arrivals, maps.sent, maps.received];
        let times = [maps.lateness, maps.latency, maps.latency_by_slot];
        let all = counts.into_iter().chain(times).flatten();
        all.for_each(|word| word.store(0, Relaxed));
        let start = order.start.unwrap_or_else(|| sys::monotonic() + SET_UP.as_nanos() as u64);
        let interval = match order.offer {
            Offer::Rate(rate) => (1e9 / rate * f64::from(1u32 << abi::FRACTION)).ceil() as u64,
            Offer::Most => 0,
        };
        self.set(word::INTERVAL, interval);
        self.set(word::START, start);
        self.set(word::END, start + order.time.as_nanos() as u64);
        self.set(word::SLOT, order.slot);
        self.set(word::TAG, u64::from(order.tag | 0x80));
        Ok(start)
    }

    pub(crate) fn set(&self, word: usize, value: u64) {
        self.maps.run[word].store(value, Relaxed);
    }

    pub(crate) fn word(&self, word: usize) -> u64 {
        self.maps.run[word].load(Relaxed)
    }

    /// Whether all that was due has been sent, or it is too late.
    pub fn is_over(&self) -> bool {
        let (now, end, interval) =
            (sys::monotonic(), self.word(word::END), self.word(word::INTERVAL));
        let next = self.word(word::START) + (self.word(word::NEXT) >> abi::FRACTION);
        now >= end && (interval == 0 || next >= end || now >= end + GRACE)
    }

    /// Runs the generator from the prepared start to the end, or until `stop`.
    ///
    /// # Errors
    /// The kernel refuses the test run, or ends it early.
    pub fn generate(&self, place: Place, stop: &AtomicBool) -> Result<()> {
        let (ready, thread) = mpsc::channel();
        thread::scope(|scope| {
            let generator = scope.spawn(move || {
                place.take()?;
                ready.send(sys::thread_id())?;
                self.test_run()
            });
            let thread = thread.recv();
            while !generator.is_finished() && !self.is_over() && !stop.load(Relaxed) {
                let left =
                    Duration::from_nanos(self.word(word::END).saturating_sub(sys::monotonic()));
                thread::sleep(if left > 2 * PAUSE { PAUSE } else { TICK });
            }
            if let Ok(thread) = thread {
                while !generator.is_finished() {
                    sys::interrupt(thread)?;
                    thread::sleep(TICK);
                }
            }
            let result = generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match result? {
                Some(error) if error.contains("EINTR") || error.contains("Interrupted") => Ok(()),
                error => bail!("the kernel ended the generator: {}", error.unwrap_or_default()),
            }
        })
    }

    /// The test run: never ends by itself in time, but is interrupted. How it ended.
    fn test_run(&self) -> Result<Option<String>> {
        let program: &Xdp = self.ebpf.program("generate").context("generate")?.try_into()?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&self.frame);
        options.repeat = u32::MAX;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        Ok(program.test_run(options).err().map(|error| format!("{error:?}")))
    }

    /// What the generator has done in this run so far.
    pub fn sent(&self) -> Sent {
        let elapsed = self.word(word::NOW).saturating_sub(self.word(word::START));
        Sent {
            packets: [self.word(word::SENT), self.word(word::SENT + 1)],
            skipped: self.word(word::SKIPPED),
            time: Duration::from_nanos(elapsed),
        }
    }

    /// The words of a flow's arrivals.
    pub(crate) fn arrivals_words(&self, flow: usize) -> Option<&[std::sync::atomic::AtomicU64]> {
        self.maps.arrivals.chunks(ARRIVALS_WORDS).nth(flow)
    }
}
