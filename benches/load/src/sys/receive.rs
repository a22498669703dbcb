//! `recvmmsg` into memory that is allocated once. A train that UDP_GRO joined comes apart again.
#![allow(unsafe_code, reason = "recvmmsg takes pointers to pointers")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// Room for a sockaddr_in6.
const NAME_LEN: usize = 28;
/// cmsghdr, an int and its padding.
const CONTROL_LEN: usize = 24;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Aligned<const N: usize>([u8; N]);

/// Datagrams that were received together.
pub struct ReceiveBatch {
    memory: Vec<u8>,
    stride: usize,
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Box<[Aligned<32>]>,
    controls: Box<[Aligned<CONTROL_LEN>]>,
    received: usize,
}

impl ReceiveBatch {
    /// Room for `capacity` datagrams, or trains, of at most `stride` bytes; longer ones are cut.
    pub fn new(capacity: usize, stride: usize) -> ReceiveBatch {
        // SAFETY: both are plain C structures for which all bytes zero is a valid value.
        let (header, vector) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        ReceiveBatch {
            memory: vec![0; capacity * stride],
            stride,
            headers: vec![header; capacity].into(),
            vectors: vec![vector; capacity].into(),
            names: vec![Aligned([0; 32]); capacity].into(),
            controls: vec![Aligned([0; CONTROL_LEN]); capacity].into(),
            received: 0,
        }
    }

    /// Receives without waiting; how many messages there were.
    ///
    /// # Errors
    /// As recvmmsg(2): `WouldBlock` when there was nothing.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.received = 0;
        let count = self.headers.len();
        for at in 0..count {
            let base = self.memory[at * self.stride..].as_mut_ptr().cast();
            self.vectors[at] = libc::iovec { iov_base: base, iov_len: self.stride };
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = self.names[at].0.as_mut_ptr().cast();
            header.msg_namelen = NAME_LEN as u32;
            header.msg_iov = &raw mut self.vectors[at];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[at].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_LEN as _;
        }
        // SAFETY: each header points at its own name, vector and control buffer, all of which
        // outlive the call, with their true sizes. A null timeout is allowed.
        let received = unsafe {
            let (socket, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_DONTWAIT as _);
            let headers = self.headers.as_mut_ptr();
            libc::recvmmsg(socket, headers, count as u32, flags, ptr::null_mut())
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.received)
    }

    /// Whether the last call found as much as it has room for.
    pub fn is_full(&self) -> bool {
        self.received == self.headers.len()
    }

    /// The datagrams of message `at`: one, or the train's.
    pub fn datagrams(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        let len = (self.headers[at].msg_len as usize).min(self.stride);
        let bytes = &self.memory[at * self.stride..][..len];
        let segment = self.segment(at).unwrap_or(len).max(1);
        // an empty datagram is a datagram too
        let empty = bytes.is_empty().then_some(bytes);
        bytes.chunks(segment).chain(empty)
    }

    /// The size of a train's datagrams.
    fn segment(&self, at: usize) -> Option<usize> {
        if self.headers[at].msg_hdr.msg_controllen == 0 {
            return None;
        }
        let Aligned(control) = &self.controls[at];
        let number = |from: usize| i32::from_ne_bytes([0, 1, 2, 3].map(|i| control[from + i]));
        (number(8) == libc::SOL_UDP && number(12) == libc::UDP_GRO)
            .then(|| usize::try_from(number(16)).unwrap_or(0))
            .filter(|size| *size > 0)
    }

    /// Who sent message `at`.
    pub fn from(&self, at: usize) -> Option<SocketAddr> {
        let Aligned(name) = &self.names[at];
        let port = u16::from_be_bytes([name[2], name[3]]);
        match i32::from(u16::from_ne_bytes([name[0], name[1]])) {
            libc::AF_INET => Some(([name[4], name[5], name[6], name[7]], port).into()),
            libc::AF_INET6 => {
                let octets: [u8; 16] = name[8..24].try_into().ok()?;
                Some((octets, port).into())
            }
            _ => None,
        }
    }
}
