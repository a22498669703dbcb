//! Waking a sleeper once for any number of things put into its rings.

use mio::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};

/// A waker that makes one system call for many rings, until it is heard.
///
/// The writer puts something in and rings; the reader hears, and only then looks. Whatever was put
/// in before a ring that found the bell still rung is seen by that look.
pub(crate) struct Bell {
    rung: AtomicBool,
    waker: Option<Arc<Waker>>,
}

impl Bell {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self { waker: Some(waker), ..Self::silent() }
    }

    /// A bell that nobody sleeps by.
    pub(crate) fn silent() -> Self {
        Self { rung: AtomicBool::new(false), waker: None }
    }

    /// Wakes the sleeper, if nobody has done so since it last heard.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, AcqRel)
            && let Some(waker) = &self.waker
        {
            // An eventfd refuses only when its counter is full, and then it is readable anyway.
            let _ = waker.wake();
        }
    }

    /// The sleeper is awake and about to look. True when it was rung since the last time.
    pub(crate) fn hear(&self) -> bool {
        self.rung.swap(false, AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    #[test]
    fn no_ring_is_lost_between_two_threads_that_sleep_by_each_other() {
        const MANY: u64 = 100_000;
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let bell = Arc::new(Bell::new(waker));
        let (mut producer, mut consumer) = rtrb::RingBuffer::<u64>::new(8);
        let ringer = Arc::clone(&bell);
        let ringing = std::thread::spawn(move || {
            for number in 0..MANY {
                while producer.push(number).is_err() {
                    std::thread::yield_now();
                }
                ringer.ring();
            }
        });
        let mut events = Events::with_capacity(4);
        let mut expected = 0;
        while expected < MANY {
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "asleep with {} numbers to come", MANY - expected);
            bell.hear();
            while let Ok(number) = consumer.pop() {
                assert_eq!(number, expected);
                expected += 1;
            }
        }
        ringing.join().unwrap();
    }
}
