//! epoll, level-triggered: which of thousands of sockets have something to read.
#![allow(unsafe_code, reason = "epoll_wait fills an array by pointer")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Most sockets that one wait reports.
const EVENTS_MAX: usize = 256;

/// A set of sockets, each known by a number of the caller's.
pub struct Poller {
    epoll: OwnedFd,
    events: Box<[libc::epoll_event]>,
    ready: usize,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// As epoll_create1(2).
    pub fn new() -> io::Result<Poller> {
        // SAFETY: takes a flag; the result is checked before it is owned.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX].into();
        Ok(Poller { epoll, events, ready: 0 })
    }

    /// Adds a socket. It leaves the set when it is closed.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn add(&self, socket: &impl AsFd, number: usize) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number as u64 };
        let socket = socket.as_fd().as_raw_fd();
        let (epoll, add) = (self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
        // SAFETY: both descriptors are open; `event` is ours.
        let done = unsafe { libc::epoll_ctl(epoll, add, socket, &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Takes a socket out.
    pub fn remove(&self, socket: &impl AsFd) {
        let socket = socket.as_fd().as_raw_fd();
        // SAFETY: both descriptors are open; removal looks at no event.
        unsafe {
            let (epoll, delete) = (self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL);
            libc::epoll_ctl(epoll, delete, socket, std::ptr::null_mut());
        }
    }

    /// Waits for at most so many milliseconds; how many sockets are readable. A signal ends it.
    pub fn wait(&mut self, timeout_ms: i32) -> usize {
        let (epoll, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: the array has EVENTS_MAX elements and outlives the call.
        let ready = unsafe { libc::epoll_wait(epoll, events, EVENTS_MAX as i32, timeout_ms) };
        self.ready = usize::try_from(ready).unwrap_or(0);
        self.ready
    }

    /// The number of the socket at this place of the last wait.
    pub fn ready(&self, at: usize) -> usize {
        self.events[..self.ready][at].u64 as usize
    }
}
