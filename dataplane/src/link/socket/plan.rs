//! Which datagrams leave in one message, cut again by the kernel (UDP_SEGMENT).
//!
//! ```text
//!   in the batch   A1200 B300 A1200 A1200 A80 A1200 B300        A, B: socket, destination, marks
//!   in order       A1200 A1200 A1200 A80 | A1200 | B300 B300
//!                  one message: all of one size, the last may be shorter
//! ```
//!
//! Datagrams from one socket to one destination keep their order; others may change places.

use super::sys::Outgoing;
use crate::batch::{BATCH_MAX, Batch, SocketId};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Fewest datagrams that are worth cutting: two cost 2.1 us each as one message and 2.7 us one by
/// one, whatever their size; 8 cost 0.9, 32 cost 0.7 (sendmmsg over veth, cut in software).
pub(super) const SEGMENTS_MIN: usize = 2;

/// Most datagrams in one message: what every kernel since Linux 4.18 takes.
const SEGMENTS_MAX: usize = 64;

/// Most bytes of them together: what an IPv6 packet holds, less more headers than there are.
const BYTES_MAX: usize = 65_000;

/// Groups sent by a socket that refused, until its kernel is asked again.
const PATIENCE: u16 = 1000;

/// What a socket takes as the size of the datagrams to cut a message into. A kernel refuses what is
/// longer than the path's MTU, or all of it where the device cannot (Linux before 6.11).
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments {
    longest: u16,
    /// Groups left until the limit is forgotten; a path's MTU is one destination's, and it changes.
    patience: u16,
}

impl Segments {
    pub(super) fn new(allowed: bool) -> Self {
        Self { longest: if allowed { u16::MAX } else { 0 }, patience: 0 }
    }

    /// The kernel refused to make datagrams of `size`.
    pub(super) fn refuse(&mut self, size: u16, all: bool) {
        self.longest = if all { 0 } else { size.saturating_sub(1) };
        self.patience = PATIENCE;
    }

    /// The longest datagrams to be tried with the next group.
    fn longest(&mut self) -> usize {
        if self.patience > 0 {
            self.patience -= 1;
            if self.patience == 0 {
                self.longest = u16::MAX;
            }
        }
        self.longest.into()
    }
}

/// Datagrams next to each other that leave in the same way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    by: SocketId,
    /// Of the destination: keeps its datagrams together. Two with one value are told apart later.
    mixed: u32,
    first: u32,
    count: u32,
}

/// The order in which a batch's datagrams leave, and in which messages.
pub(super) struct Plan {
    runs: Vec<Run>,
    order: Vec<u32>,
    messages: Vec<Outgoing>,
}

impl Plan {
    /// For batches of so many datagrams.
    pub(super) fn new(datagrams: usize) -> Self {
        Self {
            runs: Vec::with_capacity(datagrams),
            order: Vec::with_capacity(datagrams),
            messages: Vec::with_capacity(BATCH_MAX),
        }
    }

    /// Puts the datagrams that leave in order.
    pub(super) fn arrange(&mut self, batch: &Batch) {
        self.runs.clear();
        let mut last = None;
        for index in 0..batch.len() {
            let departure = batch.departure(index);
            let Some(leaving) = departure else {
                last = None;
                continue;
            };
            if last == departure
                && let Some(run) = self.runs.last_mut()
            {
                run.count += 1;
                continue;
            }
            last = departure;
            let (by, mixed) = (leaving.by, mixed(&leaving.to));
            self.runs.push(Run { by, mixed, first: index as u32, count: 1 });
        }
        // where they lie is part of what is sorted
        self.runs.sort_unstable();
        self.order.clear();
        for run in &self.runs {
            self.order.extend(run.first..run.first + run.count);
        }
    }

    /// Datagrams that leave.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The datagram in this place of the order.
    pub(super) fn datagram(&self, place: usize) -> usize {
        self.order[place] as usize
    }

    /// The end of the datagrams that leave by the same socket as the one at `first`.
    pub(super) fn group(&self, batch: &Batch, first: usize) -> (SocketId, usize) {
        let by = |place: &u32| batch.departure(*place as usize).map(|departure| departure.by);
        let same = by(&self.order[first]);
        let count = self.order[first..].partition_point(|place| by(place) == same);
        // `arrange` only took datagrams with a departure
        (same.unwrap_or(SocketId::port(0)), first + count)
    }

    /// Makes messages of the datagrams at `places`, all of one socket: as many as one call sends,
    /// and all with DF or all without, as the first. Says which.
    pub(super) fn messages(
        &mut self,
        batch: &Batch,
        places: Range<usize>,
        segments: &mut Segments,
    ) -> (&[u32], &[Outgoing], bool) {
        let order = &self.order[places];
        let whole = |index: u32| batch.departure(index as usize).is_some_and(|d| d.dont_fragment);
        let dont_fragment = order.first().is_some_and(|index| whole(*index));
        let longest = segments.longest();
        self.messages.clear();
        let mut at = 0;
        while at < order.len()
            && self.messages.len() < BATCH_MAX
            && whole(order[at]) == dont_fragment
        {
            let (count, size) = alike(batch, &order[at..], longest);
            let several = count >= SEGMENTS_MIN;
            let count = if several { count } else { 1 };
            self.messages.push(Outgoing { count, segment: if several { size as u16 } else { 0 } });
            at += count;
        }
        (order, &self.messages, dont_fragment)
    }
}

/// How many of the first datagrams of `order` can be one message, and the size of each but the last.
fn alike(batch: &Batch, order: &[u32], longest: usize) -> (usize, usize) {
    let first = order[0] as usize;
    let size = batch.size(first);
    if size == 0 || size > longest {
        return (1, size);
    }
    let most = SEGMENTS_MAX.min(BYTES_MAX / size).min(order.len());
    let mut count = 1;
    while count < most {
        let next = order[count] as usize;
        let next_size = batch.size(next);
        if next_size == 0 || next_size > size || batch.departure(next) != batch.departure(first) {
            break;
        }
        count += 1;
        if next_size < size {
            break;
        }
    }
    (count, size)
}

/// A number that is the same for the same destination and seldom for another.
fn mixed(to: &SocketAddr) -> u32 {
    let ip = match to.ip() {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            (bits ^ bits >> 32 ^ bits >> 64 ^ bits >> 96) as u32
        }
    };
    ip.wrapping_add(u32::from(to.port()).wrapping_mul(0x9e37_79b9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Arrival, Departure, Marks};

    fn batch(datagrams: &[(u32, &str, usize, u8)]) -> Batch {
        let mut batch = Batch::new(64, 2000);
        let address: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let arrival = Arrival { remote: address, local: address, ttl: 9, tos: 0, truncated: false };
        for (index, (slot, to, size, tos)) in datagrams.iter().enumerate() {
            assert!(batch.push(&vec![7; *size], arrival));
            if *to == STAYS {
                continue;
            }
            let marks = Some(Marks { ttl: 9, tos: *tos });
            let (by, to) = (SocketId::port(*slot), to.parse().unwrap());
            let departure = Departure { by, to, from: None, marks, dont_fragment: *tos == 0xff };
            batch.depart(index, departure);
        }
        batch
    }

    /// Datagrams by message, of each socket.
    fn planned(datagrams: &[(u32, &str, usize, u8)], longest: Option<u16>) -> Vec<Vec<Vec<usize>>> {
        let batch = batch(datagrams);
        let mut plan = Plan::new(64);
        plan.arrange(&batch);
        let (mut at, mut groups) = (0, Vec::new());
        while at < plan.len() {
            let (_, end) = plan.group(&batch, at);
            let mut segments = Segments::new(true);
            if let Some(longest) = longest {
                segments.refuse(longest + 1, false);
            }
            let mut group = Vec::new();
            while at < end {
                let (order, messages, _) = plan.messages(&batch, at..end, &mut segments);
                let mut rest = order;
                for message in messages {
                    let (these, others) = rest.split_at(message.count);
                    group.push(these.iter().map(|index| *index as usize).collect());
                    rest = others;
                }
                at += order.len() - rest.len();
            }
            groups.push(group);
        }
        groups
    }

    const A: &str = "192.0.2.7:5000";
    const B: &str = "[2001:db8::1]:5000";
    /// In place of a destination: it was refused, or is the control thread's.
    const STAYS: &str = "";

    #[test]
    fn what_is_alike_leaves_together_and_keeps_its_order() {
        let datagrams = [
            (1, A, 1200, 0),
            (2, A, 300, 0),
            (1, A, 1200, 0),
            (1, A, 80, 0),
            (2, A, 300, 0),
            (1, A, 1200, 0),
            (1, A, 1201, 0),
        ];
        let expected = vec![vec![vec![0, 2, 3], vec![5], vec![6]], vec![vec![1, 4]]];
        assert_eq!(planned(&datagrams, None), expected);
    }

    #[test]
    fn destinations_and_marks_are_never_mixed() {
        let datagrams = [(1, A, 9, 0), (1, B, 9, 0), (1, A, 9, 0), (1, B, 9, 0), (1, A, 9, 1)];
        let mut groups = planned(&datagrams, None);
        groups[0].sort();
        assert_eq!(groups, [vec![vec![0, 2], vec![1, 3], vec![4]]]);
    }

    #[test]
    fn what_stays_is_never_sent_in_place_of_its_neighbours() {
        let datagrams = [(1, A, 9, 0), (1, STAYS, 9, 0), (1, A, 9, 0), (1, STAYS, 9, 0)];
        assert_eq!(planned(&datagrams, None), [vec![vec![0, 2]]]);
        assert_eq!(planned(&[(1, STAYS, 9, 0); 3], None), Vec::<Vec<Vec<usize>>>::new());
    }

    #[test]
    fn empty_datagrams_and_those_with_df_go_apart_from_the_others() {
        let datagrams =
            [(1, A, 0, 0), (1, A, 0, 0), (1, A, 5, 0xff), (1, A, 5, 0xff), (1, A, 5, 0)];
        assert_eq!(planned(&datagrams, None), [vec![vec![0], vec![1], vec![2, 3], vec![4]]]);
    }

    #[test]
    fn sizes_that_a_kernel_refused_go_one_by_one_and_shorter_ones_together() {
        let datagrams = [(1, A, 1000, 0), (1, A, 1000, 0), (1, A, 999, 0), (1, A, 999, 0)];
        assert_eq!(planned(&datagrams, Some(999)), [vec![vec![0], vec![1], vec![2, 3]]]);
        assert_eq!(planned(&datagrams, Some(0)), [vec![vec![0], vec![1], vec![2], vec![3]]]);
        // and after a while they are tried again
        let mut segments = Segments::new(true);
        segments.refuse(1000, false);
        let tried = (0..PATIENCE).map(|_| segments.longest()).collect::<Vec<_>>();
        assert_eq!((tried[0], tried.last()), (999, Some(&usize::from(u16::MAX))));
    }

    #[test]
    fn no_message_is_longer_than_a_packet_or_has_more_datagrams_than_a_kernel_cuts() {
        let many = vec![(1, A, 2000, 0); 64];
        let lengths: Vec<_> = planned(&many, None)[0].iter().map(Vec::len).collect();
        assert_eq!(lengths, [32, 32]);
        let many = vec![(1, A, 1, 0); 64];
        assert_eq!(planned(&many, None)[0][0].len(), 64);
    }
}
