//! `sendmmsg` out of memory that is allocated once, with UDP_SEGMENT where asked for.
//!
//! ```text
//! slots     | datagram 0 | datagram 1 | datagram 2 | ...     STRIDE bytes each
//!                 ^             ^            ^
//! headers   [ to name 0, one vector    ] [ to name 1, ...    one message each, or
//!           [ to name 0, three vectors, UDP_SEGMENT size ]   one message for a train
//! ```
#![allow(unsafe_code, reason = "sendmmsg takes pointers to pointers")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// Most datagrams of one train: the kernel's UDP_MAX_SEGMENTS of old.
const TRAIN_MAX: usize = 64;
/// Most bytes of one train: an IP packet's.
const TRAIN_BYTES_MAX: usize = 65_000;
/// cmsghdr, an u16 and its padding.
const CONTROL_LEN: usize = 24;

/// A socket address as sendmsg(2) takes it.
#[derive(Clone)]
pub struct Name(socket2::SockAddr);

impl From<SocketAddr> for Name {
    fn from(address: SocketAddr) -> Name {
        Name(address.into())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0 == other.0
    }
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_LEN]);

/// Datagrams that wait to be sent together.
pub struct SendBatch {
    memory: Vec<u8>,
    stride: usize,
    lens: Vec<usize>,
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    controls: Box<[Control]>,
    /// Datagrams in each message of the last call.
    trains: Vec<usize>,
}

impl SendBatch {
    /// Room for `capacity` datagrams of at most `stride` bytes.
    pub fn new(capacity: usize, stride: usize) -> SendBatch {
        // SAFETY: both are plain C structures for which all bytes zero is a valid value.
        let (header, vector) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        SendBatch {
            memory: vec![0; capacity * stride],
            stride,
            lens: Vec::with_capacity(capacity),
            headers: vec![header; capacity].into(),
            vectors: vec![vector; capacity].into(),
            controls: vec![Control([0; CONTROL_LEN]); capacity].into(),
            trains: Vec::with_capacity(capacity),
        }
    }

    /// Datagrams in the batch.
    pub fn len(&self) -> usize {
        self.lens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.lens.len() == self.headers.len()
    }

    /// Forgets all datagrams.
    pub fn clear(&mut self) {
        self.lens.clear();
    }

    /// Adds a datagram: `write` fills the given memory and says how many bytes it used.
    pub fn push(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let start = self.lens.len() * self.stride;
        let len = write(&mut self.memory[start..start + self.stride]);
        assert!(len <= self.stride, "a datagram outgrew its slot");
        self.lens.push(len);
    }

    /// The bytes of datagram `at`.
    pub fn datagram(&self, at: usize) -> &[u8] {
        &self.memory[at * self.stride..][..self.lens[at]]
    }

    /// Sends the datagrams from `first` on without waiting, `name(i)` being where datagram `i`
    /// goes (`None` on a connected socket); how many the kernel took.
    ///
    /// # Errors
    /// The kernel took none.
    pub fn send<'n>(
        &mut self,
        socket: &impl AsFd,
        first: usize,
        name: impl Fn(usize) -> Option<&'n Name>,
        offload: bool,
    ) -> io::Result<usize> {
        self.trains.clear();
        let (mut at, mut messages) = (first, 0);
        while at < self.lens.len() {
            let to = name(at);
            let train = if offload { self.train(at, to, &name) } else { 1 };
            self.point(messages, at, train, to);
            self.trains.push(train);
            (at, messages) = (at + train, messages + 1);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: each of the first `messages` headers points at its own name, vectors and control
        // buffer, all of which outlive the call; the vectors lie inside `memory`.
        let sent = unsafe {
            let socket = socket.as_fd().as_raw_fd();
            libc::sendmmsg(socket, self.headers.as_mut_ptr(), messages as u32, flags as _)
        };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        Ok(self.trains[..sent].iter().sum())
    }

    /// How many datagrams from `at` on can be one train: same place, same size (the last may be
    /// shorter, which is left alone here).
    fn train<'n>(
        &self,
        at: usize,
        to: Option<&Name>,
        name: &impl Fn(usize) -> Option<&'n Name>,
    ) -> usize {
        let len = self.lens[at];
        let most = (TRAIN_BYTES_MAX / len.max(1)).min(TRAIN_MAX).min(self.lens.len() - at);
        (1..most).find(|next| self.lens[at + next] != len || name(at + next) != to).unwrap_or(most)
    }

    fn point(&mut self, message: usize, first: usize, train: usize, to: Option<&Name>) {
        for at in first..first + train {
            let base = self.memory[at * self.stride..].as_mut_ptr().cast();
            self.vectors[at] = libc::iovec { iov_base: base, iov_len: self.lens[at] };
        }
        let header = &mut self.headers[message].msg_hdr;
        header.msg_name = to.map_or(ptr::null_mut(), |to| to.0.as_ptr().cast_mut().cast());
        header.msg_namelen = to.map_or(0, |to| to.0.len());
        header.msg_iov = &raw mut self.vectors[first];
        header.msg_iovlen = train as _;
        header.msg_control = ptr::null_mut();
        header.msg_controllen = 0;
        if train > 1 {
            let Control(control) = &mut self.controls[message];
            // length of header and data, level, type, the segment's size
            control[..8].copy_from_slice(&18_u64.to_ne_bytes());
            control[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
            control[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
            control[16..18].copy_from_slice(&(self.lens[first] as u16).to_ne_bytes());
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_LEN as _;
        }
    }
}
