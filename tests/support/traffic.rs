//! Numbered datagrams of all sizes, sent in small windows: the next window leaves when the last has
//! arrived, so that what is lost was lost by the relay and not by a full socket buffer.

use std::time::Duration;

use anyhow::Result;

use crate::wait::Deadline;

const WINDOW: u32 = 16;
const WINDOW_LIMIT: Duration = Duration::from_secs(2);
const PAYLOAD_MAX: u32 = 1200;

/// What became of the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Arrived, each counted once, and every byte right.
    pub whole: u32,
    /// Never arrived.
    pub lost: u32,
    /// Arrived again, or with a byte changed.
    pub wrong: u32,
}

impl Outcome {
    /// All of `count` arrived as they were sent.
    pub fn perfect(count: u32) -> Self {
        Self { whole: count, ..Self::default() }
    }
}

/// Sends `count` datagrams and looks at what arrives.
///
/// `receive` gives the next datagram, or `None` when none comes by the deadline.
///
/// # Errors
/// Those of `send` and `receive`.
pub fn run(
    count: u32,
    mut send: impl FnMut(&[u8]) -> Result<()>,
    mut receive: impl FnMut(Deadline) -> Result<Option<Vec<u8>>>,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for first in (0..count).step_by(WINDOW as usize) {
        let window = first..count.min(first + WINDOW);
        let mut missing: Vec<u32> = window.clone().collect();
        for number in window {
            send(&payload(number))?;
        }
        let deadline = Deadline::after(WINDOW_LIMIT);
        while !missing.is_empty() {
            let Some(bytes) = receive(deadline)? else { break };
            match missing.iter().position(|number| payload(*number) == bytes) {
                Some(at) => {
                    missing.swap_remove(at);
                    outcome.whole += 1;
                }
                None => outcome.wrong += 1,
            }
        }
        outcome.lost += missing.len() as u32;
    }
    Ok(outcome)
}

/// The datagram of a number: 4 bytes that tell the number, then noise; 4 to 1,200 bytes, every
/// remainder by four.
pub fn payload(number: u32) -> Vec<u8> {
    let mut noise = number.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        noise
    };
    let length = 4 + next() % (PAYLOAD_MAX - 3);
    let mut bytes = Vec::from(number.to_be_bytes());
    bytes.resize_with(length as usize, || next() as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn what_a_bad_relay_does_is_told() {
        let mut relay: VecDeque<Vec<u8>> = VecDeque::new();
        let queue = std::cell::RefCell::new(&mut relay);
        let mut number = 0;
        let send = |bytes: &[u8]| {
            number += 1;
            match number {
                3 => (),
                4 => queue.borrow_mut().push_back([bytes, b"tail"].concat()),
                5 => queue.borrow_mut().extend([bytes.to_vec(), bytes.to_vec()]),
                _ => queue.borrow_mut().push_back(bytes.to_vec()),
            }
            Ok(())
        };
        let outcome = run(16, send, |_| Ok(queue.borrow_mut().pop_front())).unwrap();
        assert_eq!(outcome, Outcome { whole: 14, lost: 2, wrong: 2 });
    }
}
