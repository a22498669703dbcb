//! Paths that a router further on says are narrower than the interface that leads there.
//!
//! Of IPv6 nobody but the sender fragments. A router's "packet too big" (ICMPv6 type 2) is about what
//! the program sent as well, and the kernel heeds it for the sockets; but of the MTU that it keeps for
//! that destination it sends no news. It counts those messages, though:
//!
//! ```text
//!   /proc/thread-self/net/snmp6     Icmp6InPktTooBigs    17    more than before: look paths up again
//! ```
//!
//! With the smaller MTU in its hop, what no longer fits goes by the sockets, which fragment it. Of IPv4
//! routers fragment what may be, and DF is the sender's own wish.

use std::fs::File;
use std::os::unix::fs::FileExt;

const COUNTS: &str = "/proc/thread-self/net/snmp6";
const NAME: &str = "Icmp6InPktTooBigs";
/// Its line is among the first 2 KiB, and about the fortieth of a hundred.
const ENOUGH: usize = 8192;

/// Ticks, of about a second, between two rounds of looking paths up: anyone can send such messages, and
/// each round asks for all IPv6 paths.
const REST_TICKS: u32 = 10;

/// The count of messages, as far as it has been heeded.
#[derive(Debug)]
pub(crate) struct Narrowed {
    /// `None` where IPv6 is off, or there is no /proc.
    counts: Option<File>,
    heeded: u64,
    rest: u32,
}

impl Narrowed {
    /// From now on, in the calling thread's network namespace.
    pub(crate) fn open() -> Narrowed {
        let mut narrowed = Narrowed { counts: File::open(COUNTS).ok(), heeded: 0, rest: 0 };
        narrowed.heeded = narrowed.count().unwrap_or(0);
        narrowed
    }

    /// Once a tick: true when there were messages, and the last round is long enough ago.
    pub(crate) fn tick(&mut self) -> bool {
        self.rest = self.rest.saturating_sub(1);
        if self.rest > 0 {
            return false;
        }
        let Some(count) = self.count().filter(|count| *count != self.heeded) else { return false };
        (self.heeded, self.rest) = (count, REST_TICKS);
        true
    }

    fn count(&self) -> Option<u64> {
        let mut text = [0; ENOUGH];
        let size = self.counts.as_ref()?.read_at(&mut text, 0).ok()?;
        too_bigs(std::str::from_utf8(&text[..size]).ok()?)
    }
}

fn too_bigs(text: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some(NAME))?;
    line.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_the_others() {
        let text = "Icmp6InErrors\t5\nIcmp6InPktTooBigsX\t4\nIcmp6InPktTooBigs   \t17\nLast\t1\n";
        assert_eq!(too_bigs(text), Some(17));
        assert_eq!(too_bigs("Icmp6InErrors\t5\n"), None);
        assert_eq!(too_bigs("Icmp6InPktTooBigs\t\n"), None);
    }

    #[test]
    fn this_kernel_counts_them_and_there_is_nothing_to_look_up_until_one_comes() {
        let mut narrowed = Narrowed::open();
        if narrowed.counts.is_some() {
            assert!(narrowed.count().is_some(), "no {NAME} in {COUNTS}");
        }
        // given that one came since
        narrowed.heeded = narrowed.heeded.wrapping_sub(1);
        // then it is told of once, and nothing more for a while
        assert_eq!(narrowed.tick(), narrowed.counts.is_some());
        narrowed.heeded = narrowed.heeded.wrapping_sub(1);
        for _ in 1..REST_TICKS {
            assert!(!narrowed.tick());
        }
        assert_eq!(narrowed.tick(), narrowed.counts.is_some());
    }
}
