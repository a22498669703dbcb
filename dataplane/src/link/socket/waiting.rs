//! How long sockets wait for their turn, and dropping early what would wait too long.
//!
//! Beyond what a worker can carry every queue grows until it is full, and what gets through then is as
//! late as queues are long. So while clients are spread, a lane or a relay port whose turn came too
//! late is left a small receive buffer, and the kernel drops what does not fit, which costs the worker
//! nothing. As soon as turns come in time the buffer grows again: what is sent at once to one port of
//! a worker that keeps up is not dropped.
//!
//! ```text
//!   waited longer than the limit       full ──> 256 KiB ──> 128 KiB ──> 64 KiB      of a relay port;
//!   waited less than half as long      full <── 256 KiB <── 128 KiB <── 64 KiB      twice that of a lane
//! ```

use super::Bound;
use std::time::Duration;

/// Rounds that are remembered. Who waits longer has waited too long in any case.
const KEPT: usize = 256;

/// When the last rounds began.
#[derive(Debug)]
pub(super) struct Rounds {
    began: Box<[Duration; KEPT]>,
    number: u32,
}

impl Rounds {
    pub(super) fn new() -> Self {
        Self { began: Box::new([Duration::ZERO; KEPT]), number: 0 }
    }

    /// Another round begins.
    pub(super) fn begin(&mut self, now: Duration) {
        if self.number == 0 {
            self.began.fill(now);
        }
        self.number = self.number.wrapping_add(1);
        self.began[self.number as usize % KEPT] = now;
    }

    /// The one that goes on.
    pub(super) fn current(&self) -> u32 {
        self.number
    }

    /// The one that follows it.
    pub(super) fn next(&self) -> u32 {
        self.number.wrapping_add(1)
    }

    /// From the beginning of this round to that of the current one; for one that has not begun, no time.
    pub(super) fn since(&self, round: u32) -> Duration {
        let age = self.number.wrapping_sub(round);
        if age > u32::MAX / 2 {
            return Duration::ZERO;
        }
        let oldest = self.number.wrapping_sub(KEPT as u32 - 1);
        let round = if (age as usize) < KEPT { round } else { oldest };
        let [now, then] = [self.number, round].map(|round| self.began[round as usize % KEPT]);
        now.saturating_sub(then)
    }
}

/// What a socket's receive buffer may be made, in bytes as [`BufferSizes`](super::BufferSizes) has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Small {
    least: usize,
    most: usize,
}

/// One of a relay port: at least 30 datagrams of a page each, or 170 small ones. With fewer there is
/// less to gather than a worker that is behind lives by: with 8 KiB, 4 of them, it carried half as much.
pub(super) const PORT: Small = Small { least: 64 << 10, most: 256 << 10 };

/// One of a lane, of several clients.
pub(super) const LANE: Small = Small { least: 128 << 10, most: 512 << 10 };

/// A socket's receive buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// What it is, and what it was when it was full.
    small: Option<(usize, usize)>,
}

impl Room {
    /// Has it hold less, but not less than the least.
    pub(super) fn narrow(&mut self, bound: &Bound, small: Small) {
        let (size, full) = match self.small {
            Some((size, full)) => (size / 2, full),
            None => (small.most, bound.granted().receive),
        };
        if size >= small.least && size < full && bound.set_receive_buffer(size).is_ok() {
            self.small = Some((size, full));
        }
    }

    /// Has it hold more, if it is small.
    pub(super) fn widen(&mut self, bound: &Bound, small: Small) {
        let Some((size, full)) = self.small else { return };
        if size >= small.most {
            self.fill(bound);
        } else if bound.set_receive_buffer(size * 2).is_ok() {
            self.small = Some((size * 2, full));
        }
    }

    /// Has it hold as much as it ever did.
    pub(super) fn fill(&mut self, bound: &Bound) {
        if let Some((_, full)) = self.small.take() {
            // it was granted before, and is again
            let _ = bound.set_receive_buffer(full);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BufferSizes, bind_relay};
    use super::*;

    #[test]
    fn a_round_is_as_long_ago_as_it_began_or_the_oldest_that_is_remembered() {
        // given
        let mut rounds = Rounds::new();
        let at = |millis| Duration::from_secs(1000) + Duration::from_millis(millis);
        assert_eq!(rounds.since(rounds.next()), Duration::ZERO, "none has begun");
        let coming = rounds.next();
        rounds.begin(at(0));
        assert_eq!((rounds.current(), rounds.since(coming)), (coming, Duration::ZERO));
        // when
        for round in 1..=300 {
            rounds.begin(at(2 * round));
        }
        // then
        assert_eq!(rounds.since(rounds.current()), Duration::ZERO);
        assert_eq!(rounds.since(rounds.current() - 10), Duration::from_millis(20));
        assert_eq!(rounds.since(rounds.current() - 255), Duration::from_millis(510));
        assert_eq!(rounds.since(coming), Duration::from_millis(510));
        assert_eq!(rounds.since(rounds.next()), Duration::ZERO);
    }

    #[test]
    fn a_buffer_becomes_small_by_steps_and_as_large_as_it_was() {
        // given
        let sizes = BufferSizes { receive: 800 << 10, send: 800 << 10 };
        let bound = bind_relay("127.0.0.1:0".parse().unwrap(), sizes).unwrap();
        let mut room = Room::default();
        let mut seen = Vec::new();
        // when
        for _ in 0..4 {
            room.narrow(&bound, PORT);
            seen.push(bound.granted().receive >> 10);
        }
        for _ in 0..4 {
            room.widen(&bound, PORT);
            seen.push(bound.granted().receive >> 10);
        }
        // then
        assert_eq!(seen, [256, 128, 64, 64, 128, 256, 800, 800]);
        room.narrow(&bound, PORT);
        room.narrow(&bound, PORT);
        room.fill(&bound);
        assert_eq!(bound.granted().receive, 800 << 10);
        // and one that is smaller stays as it is
        room.narrow(&bound, Small { least: 1 << 20, most: 1 << 21 });
        assert_eq!(bound.granted().receive, 800 << 10);
    }
}
