//! The error queues: ICMP errors that relay ports were told, on their way to the control thread.
//!
//! ```text
//!   ICMP ──> error queue of the socket ──drain──> kept, at most KEPT_MAX ──next──> the worker
//!            (also fails its next call)           over: counted
//! ```

use super::cmsg::{self, CONTROL_MAX};
use super::name::{self, NAME_MAX};
use super::sys::{self, Control, Name};
use crate::batch::SocketId;
use crate::link::{Oddities, Unreachable};
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use wire::Reason;

/// Entries taken off an error queue before going on with the datagrams.
const ENTRIES_MAX: usize = 64;

/// Errors that wait for the worker: a round takes them all.
const KEPT_MAX: usize = 256;

/// Errors taken off the queues.
pub(super) struct Errors {
    kept: VecDeque<Unreachable>,
}

impl Errors {
    pub(super) fn new() -> Self {
        Self { kept: VecDeque::with_capacity(KEPT_MAX) }
    }

    /// The oldest.
    pub(super) fn next(&mut self) -> Option<Unreachable> {
        self.kept.pop_front()
    }

    /// Takes errors off the queue of the socket `by`; how many.
    pub(super) fn drain(
        &mut self,
        socket: BorrowedFd<'_>,
        by: SocketId,
        oddities: &mut Oddities,
    ) -> usize {
        let (mut name, mut control) = (Name([0; NAME_MAX]), Control([0; CONTROL_MAX]));
        for taken in 0..ENTRIES_MAX {
            let entry = sys::receive_error(socket, &mut name, &mut control);
            let Some((named, size)) = entry else { return taken };
            let Some(error) = cmsg::icmp_error(&control.0[..size]) else { continue };
            oddities.icmp_errors += 1;
            // without its destination it is nobody's
            let Some(peer) = name::decode(&name.0[..named]).filter(|_| error.is_told) else {
                continue;
            };
            if self.kept.len() < KEPT_MAX {
                let cmsg::IcmpError { kind, code, data, .. } = error;
                self.kept.push_back(Unreachable { by, peer, kind, code, data });
            } else {
                oddities.icmp_dropped += 1;
            }
        }
        ENTRIES_MAX
    }

    /// True when an error of sending was an earlier datagram's ICMP error, which says nothing about this
    /// one: a path's MTU has the number of a datagram that is too long (EMSGSIZE), and a filter's
    /// "prohibited" of ICMPv6 that of a forbidden destination (EACCES). The error queue tells them apart.
    pub(super) fn explain(
        &mut self,
        error: &io::Error,
        (socket, by): (BorrowedFd<'_>, SocketId),
        oddities: &mut Oddities,
    ) -> bool {
        if !matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::EACCES)) {
            return false;
        }
        let before = oddities.icmp_errors;
        self.drain(socket, by, oddities);
        oddities.icmp_errors > before
    }
}

/// True for what a kernel says that cannot cut a message into these datagrams.
pub(super) fn is_about_segments(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}

/// What an error of sending says about the datagram; nothing when it may be another datagram's.
pub(super) fn refusal(error: &io::Error) -> Option<Reason> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Some(Reason::SocketFull),
        Some(libc::EMSGSIZE) => Some(Reason::TooBig),
        Some(libc::EINVAL | libc::EPERM | libc::EACCES | libc::EAFNOSUPPORT) => {
            Some(Reason::SendFailed)
        }
        _ => None,
    }
}
