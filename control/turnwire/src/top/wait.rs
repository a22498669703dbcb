//! Waits for a time, and for the signals that end it or that tell of another size.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::sys::{self, monotonic};

/// What waiting ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// The time has come.
    Time,
    /// The terminal has another size.
    Resized,
    /// SIGINT, SIGTERM or SIGHUP.
    End,
}

pub(super) struct Wait {
    poll: Poll,
    events: Events,
    signals: OwnedFd,
}

impl Wait {
    /// From now on signals are only seen here.
    pub(super) fn new() -> io::Result<Wait> {
        let of = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGWINCH];
        let signals = sys::signal_descriptor(&of)?;
        let poll = Poll::new()?;
        let fd = signals.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
        Ok(Wait { poll, events: Events::with_capacity(4), signals })
    }

    pub(super) fn until(&mut self, time: Duration) -> io::Result<Woken> {
        loop {
            let mut resized = false;
            while let Some(signal) = sys::next_signal(&self.signals) {
                match signal {
                    libc::SIGWINCH => resized = true,
                    _ => return Ok(Woken::End),
                }
            }
            if resized {
                return Ok(Woken::Resized);
            }
            let left = time.saturating_sub(monotonic());
            if left.is_zero() {
                return Ok(Woken::Time);
            }
            match self.poll.poll(&mut self.events, Some(left)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }
}
