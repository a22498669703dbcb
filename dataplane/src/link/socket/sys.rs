//! The system calls of batched UDP, each behind a safe wrapper.
//!
//! Everything that the kernel reads or writes by pointer is allocated once, here, next to the
//! headers that point to it:
//!
//! ```text
//! headers[i] ──> names[i]     sockaddr in or out          32 bytes
//!            ├─> vectors[i] ──> packet memory of a batch
//!            └─> controls[i]  control messages in or out  128 bytes
//! ```
//!
//! Only plain bytes cross: names and control messages are written and read by `cmsg` and `name`
//! without any pointer.
#![expect(unsafe_code, reason = "recvmmsg, sendmmsg, recvmsg and setsockopt take pointers")]

use super::cmsg::{self, CONTROL_MAX};
use super::name::{self, NAME_MAX};
use crate::batch::{BATCH_MAX, Departure, HEADROOM, Rooms};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// A socket address as the kernel lays it out.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Name(pub(super) [u8; NAME_MAX]);

/// Room for control messages, aligned as `struct cmsghdr` is.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control(pub(super) [u8; CONTROL_MAX]);

/// The arrays behind one `recvmmsg` or `sendmmsg`.
struct Arrays {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
}

impl Arrays {
    fn new() -> Self {
        // SAFETY: both are plain C structures for which all bytes zero is a valid value.
        let (header, vector) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            headers: vec![header; BATCH_MAX].into_boxed_slice(),
            vectors: vec![vector; BATCH_MAX].into_boxed_slice(),
            names: vec![Name([0; NAME_MAX]); BATCH_MAX].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_MAX]); BATCH_MAX].into_boxed_slice(),
        }
    }

    /// Points header `index` at its name, its control messages and `size` bytes at `payload`.
    fn point(&mut self, index: usize, payload: *mut u8, size: usize, name: usize, control: usize) {
        self.vectors[index] = libc::iovec { iov_base: payload.cast(), iov_len: size };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = self.names[index].0.as_mut_ptr().cast();
        header.msg_namelen = name as u32;
        header.msg_iov = &raw mut self.vectors[index];
        header.msg_iovlen = 1;
        header.msg_control =
            if control == 0 { ptr::null_mut() } else { self.controls[index].0.as_mut_ptr().cast() };
        header.msg_controllen = control as _;
        header.msg_flags = 0;
    }
}

/// One received datagram, but for its payload, which lies in the batch.
pub(super) struct Message<'r> {
    pub(super) size: usize,
    pub(super) truncated: bool,
    pub(super) name: &'r [u8],
    pub(super) control: &'r [u8],
}

/// `recvmmsg` into a batch's rooms.
pub(super) struct Receiver {
    arrays: Arrays,
    /// What the headers point at, and how many of them the last call used up.
    armed: Option<(*mut u8, Rooms)>,
    used: usize,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { arrays: Arrays::new(), armed: None, used: 0 }
    }

    /// Receives up to `rooms.count` datagrams without waiting; how many there were.
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        memory: &mut [u8],
        rooms: Rooms,
    ) -> io::Result<usize> {
        let Rooms { stride, room, count } = rooms;
        assert!(count <= BATCH_MAX && HEADROOM + room <= stride && count * stride <= memory.len());
        let base = memory.as_mut_ptr();
        let stale = if self.armed == Some((base, rooms)) { 0..self.used } else { 0..count };
        for index in stale {
            // SAFETY: index < count, and the assertion above keeps every room inside `memory`.
            let payload = unsafe { base.add(index * stride + HEADROOM) };
            self.arrays.point(index, payload, room, NAME_MAX, CONTROL_MAX);
        }
        self.armed = Some((base, rooms));
        self.used = 0;
        // SAFETY: each of the first `count` headers points at its own name, vector and control
        // buffer, which live as long as `self`, with their true sizes; each vector points at a room
        // of `memory`, borrowed for this call. A null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.arrays.headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        // the kernel may write to a header whose datagram then fails
        self.used = usize::try_from(received).map_or(count.min(1), |n| (n + 1).min(count));
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// What was received as datagram `index` of the last call.
    pub(super) fn message(&self, index: usize) -> Message<'_> {
        let header = &self.arrays.headers[index];
        let name = (header.msg_hdr.msg_namelen as usize).min(NAME_MAX);
        let control = header.msg_hdr.msg_controllen.min(CONTROL_MAX);
        Message {
            size: header.msg_len as usize,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            name: &self.arrays.names[index].0[..name],
            control: &self.arrays.controls[index].0[..control],
        }
    }
}

/// One datagram for `sendmmsg`.
pub(super) struct Outgoing<'b> {
    pub(super) payload: &'b [u8],
    pub(super) departure: &'b Departure,
}

/// `sendmmsg` out of a batch.
pub(super) struct Sender {
    arrays: Arrays,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self { arrays: Arrays::new() }
    }

    /// Sends at most [`BATCH_MAX`] datagrams without waiting. How many of the first ones the kernel
    /// took; the error, if it took not even the first.
    pub(super) fn send<'b>(
        &mut self,
        socket: BorrowedFd<'_>,
        outgoing: impl Iterator<Item = Outgoing<'b>>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for Outgoing { payload, departure: Departure { to, from, marks, .. } } in
            outgoing.take(BATCH_MAX)
        {
            let name = name::encode(&mut self.arrays.names[count], to);
            let control = &mut self.arrays.controls[count];
            let control = cmsg::departing(control, *from, *marks, to.is_ipv4());
            let start = payload.as_ptr().cast_mut();
            self.arrays.point(count, start, payload.len(), name, control);
            count += 1;
        }
        // SAFETY: as in `receive`; the payloads are borrowed ('b) beyond this call, and sending
        // only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.arrays.headers.as_mut_ptr(),
                count as u32,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Takes one message off a socket's error queue: its destination's name and its control messages.
/// `None` when the queue is empty.
pub(super) fn receive_error(
    socket: BorrowedFd<'_>,
    name: &mut Name,
    control: &mut Control,
) -> Option<(usize, usize)> {
    // SAFETY: a plain C structure for which all bytes zero is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.0.as_mut_ptr().cast();
    header.msg_namelen = NAME_MAX as u32;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_MAX as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the header points at `name` and `control`, borrowed for this call, with their sizes.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    (received >= 0).then(|| {
        let name = (header.msg_namelen as usize).min(NAME_MAX);
        (name, header.msg_controllen.min(CONTROL_MAX))
    })
}

/// Sets a socket option that is an `int`.
pub(super) fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: i32,
) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` is an int and `size` is its size.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// CLOCK_MONOTONIC: the time that routes expire by.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec of ours; CLOCK_MONOTONIC always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
