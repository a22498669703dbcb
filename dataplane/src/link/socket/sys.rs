//! The system calls of batched UDP, each behind a safe wrapper.
//!
//! Everything that the kernel reads or writes by pointer is allocated once, here, next to the
//! headers that point to it:
//!
//! ```text
//! headers[i] ──> names[i]      sockaddr in or out          32 bytes
//!            ├─> vectors[...] ──> packet memory of a batch: one room in, many pieces out
//!            └─> controls[i]   control messages in or out  192 bytes
//! ```
//!
//! Only plain bytes cross: names and control messages are written and read by `cmsg` and `name`
//! without any pointer.
#![expect(unsafe_code, reason = "recvmmsg, sendmmsg, recvmsg and setsockopt take pointers")]

use super::bind::Defaults;
use super::cmsg::{self, CONTROL_MAX, Manner};
use super::name::{self, NAME_MAX};
use super::ttl::Ttl;
use crate::batch::{BATCH_MAX, Batch, HEADROOM, Rooms};
use std::io;
use std::mem::size_of;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
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
    fn new(vectors: usize) -> Self {
        // SAFETY: both are plain C structures for which all bytes zero is a valid value.
        let (header, vector) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            headers: vec![header; BATCH_MAX].into_boxed_slice(),
            vectors: vec![vector; vectors].into_boxed_slice(),
            names: vec![Name([0; NAME_MAX]); BATCH_MAX].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_MAX]); BATCH_MAX].into_boxed_slice(),
        }
    }

    /// Points header `index` at its name, its control messages and the vectors of its payload.
    fn point(&mut self, index: usize, vectors: Range<usize>, name: usize, control: usize) {
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = self.names[index].0.as_mut_ptr().cast();
        header.msg_namelen = name as u32;
        header.msg_iovlen = vectors.len() as _;
        header.msg_iov = self.vectors[vectors].as_mut_ptr();
        header.msg_control =
            if control == 0 { ptr::null_mut() } else { self.controls[index].0.as_mut_ptr().cast() };
        header.msg_controllen = control as _;
        header.msg_flags = 0;
    }
}

/// One received message, but for its payload, which lies in the batch.
pub(super) struct Message<'r> {
    pub(super) size: usize,
    pub(super) truncated: bool,
    pub(super) name: &'r [u8],
    pub(super) control: &'r [u8],
}

/// `recvmmsg` into a batch's rooms: header `i` serves room `i`.
pub(super) struct Receiver {
    arrays: Arrays,
    /// What the headers point at: memory and its bytes, distance and size of its rooms.
    armed: Option<(*mut u8, usize, usize, usize)>,
    /// The headers that the last call used up.
    used: Range<usize>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { arrays: Arrays::new(BATCH_MAX), armed: None, used: 0..0 }
    }

    /// Receives up to `rooms.count` messages without waiting; how many there were.
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        memory: &mut [u8],
        rooms: Rooms,
    ) -> io::Result<usize> {
        let Rooms { stride, room, first, count } = rooms;
        let end = first + count;
        assert!(end <= BATCH_MAX && HEADROOM + room <= stride && end * stride <= memory.len());
        let base = memory.as_mut_ptr();
        let whole = (base, memory.len(), stride, room);
        let stale = if self.armed == Some(whole) {
            self.used.clone()
        } else {
            0..BATCH_MAX.min(memory.len() / stride)
        };
        for index in stale {
            // SAFETY: `stale` ends where the memory's last room does, and a room with its headroom
            // is no longer than the distance between two.
            let payload = unsafe { base.add(index * stride + HEADROOM) };
            self.arrays.vectors[index] = libc::iovec { iov_base: payload.cast(), iov_len: room };
            self.arrays.point(index, index..index + 1, NAME_MAX, CONTROL_MAX);
        }
        self.armed = Some(whole);
        self.used = 0..0;
        // SAFETY: each of the headers from `first` to `end` points at its own name, vector and
        // control buffer, which live as long as `self`, with their true sizes; each vector points
        // at a room of `memory`, borrowed for this call. A null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.arrays.headers[first..end].as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        // the kernel may write to a header whose message then fails
        let written = usize::try_from(received).map_or(1, |received| received + 1);
        self.used = first..(first + written).min(end);
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// What the last call received into room `index`.
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

/// One message for `sendmmsg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    /// How many of the datagrams to send it takes.
    pub(super) count: usize,
    /// The size of each but the last, where it is several; 0 for a single one.
    pub(super) segment: u16,
}

/// Most pieces that one call gathers: as many as one message may have.
pub(super) const PIECES_MAX: usize = libc::UIO_MAXIOV as usize;

/// `sendmmsg` out of a batch.
pub(super) struct Sender {
    arrays: Arrays,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self { arrays: Arrays::new(PIECES_MAX) }
    }

    /// Sends the datagrams `order` of `batch` in `messages` without waiting. How many of the first
    /// messages the kernel took; the error, if it took not even the first. At most [`BATCH_MAX`] and
    /// as many as have [`PIECES_MAX`] pieces are tried. `ttl` is what the socket sends by itself.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        batch: &Batch,
        (order, messages): (&[u32], &[Outgoing]),
        (ttl, defaults): (&Ttl, Defaults),
    ) -> io::Result<usize> {
        let (mut vectors, mut at) = (0, 0);
        let mut count = 0;
        for message in messages.iter().take(BATCH_MAX) {
            let datagrams = &order[at..at + message.count];
            let Some(departure) =
                datagrams.first().and_then(|&index| batch.departure(index as usize))
            else {
                break;
            };
            if vectors + 3 * message.count > PIECES_MAX {
                break;
            }
            let start = vectors;
            for index in datagrams {
                for piece in batch.pieces(*index as usize) {
                    if !piece.is_empty() {
                        let iov_base = piece.as_ptr().cast_mut().cast();
                        self.arrays.vectors[vectors] =
                            libc::iovec { iov_base, iov_len: piece.len() };
                        vectors += 1;
                    }
                }
            }
            let name = name::encode(&mut self.arrays.names[count], &departure.to);
            let control = &mut self.arrays.controls[count];
            let (marks, v4) = (departure.marks, departure.to.is_ipv4());
            let manner = Manner {
                from: departure.from,
                ttl: ttl.told(marks.map(|marks| marks.ttl), defaults.of(v4)),
                // 0 is every socket's own
                tos: marks.map(|marks| marks.tos).filter(|&tos| tos != 0),
                segment: message.segment,
            };
            let control = cmsg::departing(control, manner, v4);
            self.arrays.point(count, start..vectors, name, control);
            (count, at) = (count + 1, at + message.count);
        }
        if count == 1 {
            return self.send_one(socket);
        }
        // SAFETY: the first `count` headers point at their own names, vectors and control buffers,
        // which live as long as `self`, with their true sizes; the vectors point into `batch`,
        // borrowed beyond this call, and sending only reads.
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

impl Sender {
    /// Sends the first message: over many sockets each has but one, and what the kernel has to
    /// copy and check of a header is a good part of it.
    fn send_one(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let header = &self.arrays.headers[0].msg_hdr;
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let sent = if header.msg_controllen == 0 && header.msg_iovlen == 1 {
            let vector = self.arrays.vectors[0];
            // SAFETY: vector and name of the first header, see above; sending only reads.
            unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    vector.iov_base,
                    vector.iov_len,
                    flags,
                    header.msg_name.cast(),
                    header.msg_namelen,
                )
            }
        } else {
            // SAFETY: the first header points at its own name, vectors and control buffer, see above.
            unsafe { libc::sendmsg(socket.as_raw_fd(), header, flags) }
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(1) }
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

/// A further descriptor for what descriptor `number` of this process stands for.
pub(super) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; a number that is no descriptor is refused.
    let duplicate = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if duplicate < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
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

/// Reads a socket option that is an `int`.
pub(super) fn option(socket: BorrowedFd<'_>, level: i32, option: i32) -> io::Result<i32> {
    let (mut value, mut size) = (0_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: `value` is an int and `size` says so; the kernel writes no more than that.
    let done = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut size)
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Lets an epoll instance poll devices for so many microseconds before it sleeps, and be preferred to
/// their interrupts where the host defers those (`napi_defer_hard_irqs`, `gro_flush_timeout`).
pub(super) fn poll_busily(epoll: RawFd, micros: u32) -> io::Result<()> {
    /// `struct epoll_params` of linux/eventpoll.h.
    #[repr(C)]
    struct Params {
        busy_poll_usecs: u32,
        busy_poll_budget: u16,
        prefer_busy_poll: u8,
        zero: u8,
    }
    /// `_IOW(0x8A, 0x01, struct epoll_params)`.
    const EPIOCSPARAMS: u64 = 0x4008_8A01;
    /// As many as a device's queue gives at a time anyway (NAPI_POLL_WEIGHT); more takes a privilege.
    const BUDGET: u16 = 64;
    let params =
        Params { busy_poll_usecs: micros, busy_poll_budget: BUDGET, prefer_busy_poll: 1, zero: 0 };
    // SAFETY: the kernel reads one such structure, which is ours, or knows no such request.
    let done = unsafe { libc::ioctl(epoll, EPIOCSPARAMS as _, &raw const params) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many descriptors this process may have open at once: RLIMIT_NOFILE, as it is now.
pub fn descriptors_max() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit of ours; RLIMIT_NOFILE always exists, so the call cannot fail.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// CLOCK_MONOTONIC: the time that routes expire by.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec of ours; CLOCK_MONOTONIC always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
