//! Whole frames, as they come and go on one interface of a host (packet(7)).
//!
//! A packet socket sees a received frame after native XDP has passed it on: what the relay's own
//! interface shows has reached the kernel, what it does not show was relayed or dropped before.
//!
//! The kernel takes an outer VLAN tag out of a received frame; it is put back here, from
//! PACKET_AUXDATA, so that a frame reads as it was on the wire.
#![allow(unsafe_code, reason = "packet sockets have no safe wrapper in the standard library")]

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::frame::Packet;
use crate::lab::{Host, Lab};
use crate::wait::Deadline;

const RECEIVE_BUFFER_BYTES: libc::c_int = 64 << 20;
const FRAME_MAX: usize = 65_600;

/// A frame that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The frame, from its Ethernet header on.
    pub bytes: Vec<u8>,
    /// True when this host sent it, false when it received it.
    pub sent_here: bool,
}

/// A socket that sees, and can send, every frame of one interface.
#[derive(Debug)]
pub struct PacketSocket {
    descriptor: OwnedFd,
}

impl PacketSocket {
    /// Opens an interface of a host. Frames are kept from now on.
    ///
    /// # Errors
    /// No such interface, or no CAP_NET_RAW.
    pub fn open(lab: &Lab, host: Host, device: &str) -> Result<Self> {
        lab.inside(host, || {
            Self::open_here(device).with_context(|| format!("watching {device} on {host:?}"))
        })
    }

    fn open_here(device: &str) -> Result<Self> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let device = CString::new(device)?;
        // SAFETY: `device` is a string with its final zero and outlives the call.
        let index = unsafe { libc::if_nametoindex(device.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error().into());
        }
        // Protocol 0 keeps it deaf until it is bound to its one interface.
        // SAFETY: socket takes three numbers and touches no memory of ours.
        let number =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if number < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: `number` was just made by socket and nobody else knows it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        let socket = Self { descriptor };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER_BYTES)?;
        socket.set::<libc::c_int>(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1)?;
        // SAFETY: sockaddr_ll is plain numbers, for which zeroes are valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the pointer and the length are those of `address`, which outlives the call.
        let bound = unsafe {
            libc::bind(
                socket.descriptor.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound != 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(socket)
    }

    fn set<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: the pointer and the length are those of `value`, which outlives the call.
        let done = unsafe {
            libc::setsockopt(
                self.descriptor.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends a frame, from its Ethernet header on.
    ///
    /// # Errors
    /// As send(2).
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the pointer and the length are those of `frame`, which outlives the call.
        let sent = unsafe {
            libc::send(self.descriptor.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0)
        };
        if sent == frame.len().cast_signed() {
            return Ok(());
        }
        Err(io::Error::last_os_error()).with_context(|| format!("a frame of {}", frame.len()))
    }

    /// The next frame; `None` when none comes by `deadline`.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn next(&self, deadline: Deadline) -> Result<Option<Seen>> {
        loop {
            if let Some(seen) = self.receive_now()? {
                return Ok(Some(seen));
            }
            let Some(left) = deadline.left() else { return Ok(None) };
            self.wait_readable(left)?;
        }
    }

    /// The next received packet that is `wanted`; others are skipped.
    ///
    /// # Errors
    /// None came within `limit`; the error names what did come.
    pub fn find(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Packet) -> bool,
    ) -> Result<(Seen, Packet)> {
        let deadline = Deadline::after(limit);
        let mut others = Vec::new();
        while let Some(seen) = self.next(deadline)? {
            let Some(packet) = Packet::parse(&seen.bytes) else { continue };
            if !seen.sent_here && wanted(&packet) {
                return Ok((seen, packet));
            }
            others.push(packet.summary());
        }
        others.truncate(20);
        bail!("{what}: not seen within {limit:?}; seen were {others:#?}")
    }

    /// All received packets that are `wanted`, until `quiet` passes without one.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn collect(
        &self,
        quiet: Duration,
        wanted: impl Fn(&Packet) -> bool,
    ) -> Result<Vec<Packet>> {
        let mut found = Vec::new();
        let mut deadline = Deadline::after(quiet);
        while let Some(seen) = self.next(deadline)? {
            if let Some(packet) = Packet::parse(&seen.bytes).filter(|_| !seen.sent_here)
                && wanted(&packet)
            {
                found.push(packet);
                deadline = Deadline::after(quiet);
            }
        }
        Ok(found)
    }

    /// How many received packets that are `wanted` were seen up to now.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn so_far(&self, wanted: impl Fn(&Packet) -> bool) -> Result<usize> {
        let mut count = 0;
        while let Some(seen) = self.receive_now()? {
            let packet = Packet::parse(&seen.bytes).filter(|_| !seen.sent_here);
            count += usize::from(packet.is_some_and(|packet| wanted(&packet)));
        }
        Ok(count)
    }

    /// Forgets what was seen so far.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn forget(&self) -> Result<()> {
        while self.receive_now()?.is_some() {}
        Ok(())
    }

    fn wait_readable(&self, limit: Duration) -> Result<()> {
        let mut poll =
            libc::pollfd { fd: self.descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = libc::c_int::try_from(limit.as_millis().max(1)).unwrap_or(libc::c_int::MAX);
        // SAFETY: one pollfd is given and one is counted.
        let ready = unsafe { libc::poll(&raw mut poll, 1, limit) };
        let error = io::Error::last_os_error();
        if ready < 0 && error.kind() != io::ErrorKind::Interrupted {
            return Err(error.into());
        }
        Ok(())
    }

    fn receive_now(&self) -> Result<Option<Seen>> {
        let mut bytes = vec![0_u8; FRAME_MAX];
        let mut control = [0_u64; 16];
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: both are plain numbers and pointers, for which zeroes are valid.
        let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) =
            unsafe { (zeroed(), zeroed()) };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: every pointer in `message` is to a local that outlives the call, with its size.
        let length = unsafe {
            libc::recvmsg(self.descriptor.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT)
        };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error.into()),
            };
        };
        bytes.truncate(length);
        if let Some(tag) = vlan_tag(&message) {
            bytes.splice(12..12, tag);
        }
        Ok(Some(Seen { bytes, sent_here: from.sll_pkttype == libc::PACKET_OUTGOING }))
    }
}

/// The four bytes of the tag that the kernel took out of the frame.
fn vlan_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: recvmsg has filled `message`, whose control buffer is still alive in the caller.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header inside the control buffer.
    while let Some(control) = unsafe { header.as_ref() } {
        if control.cmsg_level == libc::SOL_PACKET && control.cmsg_type == libc::PACKET_AUXDATA {
            // SAFETY: the kernel puts a whole tpacket_auxdata behind this header.
            let data: libc::tpacket_auxdata =
                unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
            if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
                return None;
            }
            let [t0, t1] = data.tp_vlan_tpid.to_be_bytes();
            let [v0, v1] = data.tp_vlan_tci.to_be_bytes();
            return Some([t0, t1, v0, v1]);
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}
