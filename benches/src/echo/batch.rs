//! A batch of messages that the kernel merged: received, cut where they lie, sent cut by the kernel.
#![allow(unsafe_code, reason = "recvmmsg, sendmmsg and epoll take pointers")]

use std::io;
use std::mem::zeroed;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Messages in a batch.
const MESSAGES: usize = 64;
/// Bytes of the longest.
const ROOM: usize = 1 << 16;
/// Datagrams that the kernel cuts a message into, and bytes of them together.
const SEGMENTS: usize = 64;
const BYTES: usize = 65_000;
/// Pieces of all messages of a batch: header and data of each datagram.
const PIECES: usize = MESSAGES * SEGMENTS * 2;
/// Sockets that one look finds ready.
const EVENTS: usize = 256;
/// The header of channel 0x4000.
const HEADER: usize = 4;
/// Words of a control buffer: one message with an int.
type Control = [u64; 4];

/// What becomes of each datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Its header is left out.
    ToPeers,
    /// It gets one.
    ToClients,
}

/// One message, merged of datagrams of one size, the last of which may be shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    /// As `receive` was told.
    pub(super) socket: usize,
    /// Its source port.
    pub(super) port: u16,
    size: usize,
    segment: usize,
}

/// One that leaves: by which socket, to whom, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    by: RawFd,
    to: SocketAddrV4,
    start: usize,
    size: usize,
}

/// Messages that were received, in rooms of their own.
pub(super) struct Batch {
    way: Way,
    messages: Vec<Message>,
    memory: Vec<u8>,
    received: Arrays,
    leaving: Arrays,
    datagrams: Vec<Datagram>,
    /// By piece.
    headers: Vec<[u8; HEADER]>,
}

/// What headers point at.
struct Arrays {
    headers: Vec<libc::mmsghdr>,
    names: Vec<libc::sockaddr_in>,
    vectors: Vec<libc::iovec>,
    controls: Vec<Control>,
}

impl Arrays {
    fn new(messages: usize, pieces: usize) -> Arrays {
        // SAFETY: plain C structures, for which all bytes zero is a valid value.
        unsafe {
            Arrays {
                headers: vec![zeroed(); messages],
                names: vec![zeroed(); messages],
                vectors: vec![zeroed(); pieces],
                controls: vec![[0; 4]; messages],
            }
        }
    }

    /// Points header `at` at its name and these pieces.
    fn point(&mut self, at: usize, pieces: std::ops::Range<usize>, control: usize) {
        let header = &mut self.headers[at].msg_hdr;
        header.msg_name = (&raw mut self.names[at]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        header.msg_iovlen = pieces.len() as _;
        header.msg_iov = self.vectors[pieces].as_mut_ptr();
        header.msg_control = (&raw mut self.controls[at]).cast();
        header.msg_controllen = control as _;
        header.msg_flags = 0;
    }
}

impl Batch {
    pub(super) fn new(way: Way) -> Batch {
        Batch {
            way,
            messages: Vec::with_capacity(MESSAGES),
            memory: vec![0; MESSAGES * ROOM],
            received: Arrays::new(MESSAGES, MESSAGES),
            leaving: Arrays::new(MESSAGES, PIECES),
            datagrams: Vec::with_capacity(MESSAGES * SEGMENTS),
            headers: vec![[0; HEADER]; PIECES],
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() == MESSAGES
    }

    /// Receives into the rooms that are left, without waiting.
    ///
    /// # Errors
    /// As recvmmsg(2); what has not come is none, nor is an ICMP error about what was sent.
    pub(super) fn receive(&mut self, from: BorrowedFd<'_>, socket: usize) -> io::Result<()> {
        let first = self.messages.len();
        for at in first..MESSAGES {
            let iov_base = self.memory[at * ROOM..][..ROOM].as_mut_ptr().cast();
            self.received.vectors[at] = libc::iovec { iov_base, iov_len: ROOM };
            self.received.point(at, at..at + 1, size_of::<Control>());
        }
        let headers = &mut self.received.headers[first..];
        // SAFETY: each header points at its own name, vector, room and control buffer of `self`,
        // with their true sizes. A null timeout is allowed.
        let count = unsafe {
            libc::recvmmsg(
                from.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            let nothing = [libc::EAGAIN, libc::EINTR, libc::ECONNREFUSED, libc::EHOSTUNREACH];
            let nothing = error.raw_os_error().is_some_and(|number| nothing.contains(&number));
            return if nothing { Ok(()) } else { Err(error) };
        };
        for at in first..first + count {
            let size = self.received.headers[at].msg_len as usize;
            let segment = self.merged(at).unwrap_or(size).max(1);
            let port = u16::from_be(self.received.names[at].sin_port);
            self.messages.push(Message { socket, port, size, segment });
        }
        Ok(())
    }

    /// Bytes of each datagram, if several were merged.
    fn merged(&self, at: usize) -> Option<usize> {
        let header = &self.received.headers[at].msg_hdr;
        // SAFETY: the kernel has filled the control buffer that the header points at, and the
        // macros stay within the length that it gave.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const *header);
            let is_size = !first.is_null()
                && (*first).cmsg_level == libc::SOL_UDP
                && (*first).cmsg_type == libc::UDP_GRO;
            is_size.then(|| libc::CMSG_DATA(first).cast::<i32>().read_unaligned() as usize)
        }
    }

    /// Sends all on: `to` says by which socket and to whom; `None` drops the message. What the
    /// kernel does not take is lost. What one socket sends leaves in one call, and what it sends to
    /// one address in as few messages as can be, in order.
    pub(super) fn send<'s>(
        &mut self,
        to: impl Fn(&Message) -> Option<(BorrowedFd<'s>, SocketAddrV4)>,
    ) {
        let mut datagrams = std::mem::take(&mut self.datagrams);
        for (at, message) in self.messages.iter().enumerate() {
            let Some((by, to)) = to(message) else { continue };
            let first = at * ROOM;
            for start in (0..message.size).step_by(message.segment) {
                let size = message.segment.min(message.size - start);
                let (by, start) = (by.as_raw_fd(), first + start);
                datagrams.push(Datagram { by, to, start, size });
            }
        }
        // where they lie is part of what is sorted, so each flow keeps its order
        datagrams.sort_unstable();
        let mut rest = &datagrams[..];
        while let Some(first) = rest.first() {
            let by = first.by;
            let (mut count, mut pieces) = (0, 0);
            while count < MESSAGES && rest.first().is_some_and(|next| next.by == by) {
                let alike = self.alike(rest);
                if pieces + 2 * alike > PIECES {
                    break;
                }
                pieces = self.put(&rest[..alike], count, pieces);
                (count, rest) = (count + 1, &rest[alike..]);
            }
            self.flush(by, count);
        }
        datagrams.clear();
        self.datagrams = datagrams;
        self.messages.clear();
    }

    /// Bytes that leave for so many of data.
    fn leaving(&self, size: usize) -> usize {
        match self.way {
            Way::ToPeers => size.saturating_sub(HEADER),
            Way::ToClients => size + HEADER,
        }
    }

    /// How many of the first can be one message.
    fn alike(&self, datagrams: &[Datagram]) -> usize {
        let first = &datagrams[0];
        let most = (BYTES / self.leaving(first.size).max(1)).clamp(1, SEGMENTS);
        let same = |next: &&Datagram| (next.by, next.to) == (first.by, first.to);
        let mut run = datagrams.iter().take(most).take_while(same);
        let whole = run.clone().take_while(|next| next.size == first.size).count();
        // the last may be shorter
        whole + usize::from(run.nth(whole).is_some_and(|next| next.size < first.size))
    }

    /// Makes message `count` of these; pieces so far.
    fn put(&mut self, datagrams: &[Datagram], count: usize, first: usize) -> usize {
        let mut pieces = first;
        for datagram in datagrams {
            let data = &self.memory[datagram.start..][..datagram.size];
            let data = match self.way {
                Way::ToPeers => data.get(HEADER..).unwrap_or_default(),
                Way::ToClients => {
                    let header = &mut self.headers[pieces];
                    header[..2].copy_from_slice(&[0x40, 0]);
                    header[2..].copy_from_slice(&(data.len() as u16).to_be_bytes());
                    let iov_base = header.as_mut_ptr().cast();
                    self.leaving.vectors[pieces] = libc::iovec { iov_base, iov_len: HEADER };
                    pieces += 1;
                    data
                }
            };
            let iov_base = data.as_ptr().cast_mut().cast();
            self.leaving.vectors[pieces] = libc::iovec { iov_base, iov_len: data.len() };
            pieces += 1;
        }
        let (to, size) = (datagrams[0].to, self.leaving(datagrams[0].size));
        let name = &mut self.leaving.names[count];
        name.sin_family = libc::AF_INET as _;
        name.sin_port = to.port().to_be();
        name.sin_addr.s_addr = u32::from(*to.ip()).to_be();
        let cut = datagrams.len() > 1;
        let control = if cut { cut_into(&mut self.leaving.controls[count], size) } else { 0 };
        self.leaving.point(count, first..pieces, control);
        pieces
    }

    fn flush(&mut self, by: RawFd, count: usize) {
        let mut done = 0;
        while done < count {
            let headers = &mut self.leaving.headers[done..count];
            // SAFETY: each header points at its own name, vectors and control buffer of `self`, with
            // their true sizes; the vectors at rooms and headers of `self`, which are only read.
            let sent = unsafe {
                libc::sendmmsg(by, headers.as_mut_ptr(), headers.len() as u32, libc::MSG_DONTWAIT)
            };
            // one that the kernel refuses is lost, as on any full path
            done += usize::try_from(sent).unwrap_or(1).max(1);
        }
    }
}

/// UDP_SEGMENT; bytes of it.
fn cut_into(control: &mut Control, size: usize) -> usize {
    let header = control.as_mut_ptr().cast::<libc::cmsghdr>();
    // SAFETY: the buffer is aligned as a control message and longer than one with two bytes.
    unsafe {
        (*header).cmsg_len = libc::CMSG_LEN(2) as _;
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size as u16);
        libc::CMSG_SPACE(2) as usize
    }
}

/// Sets a socket option that is an `int`.
///
/// # Errors
/// As setsockopt(2).
pub(super) fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` is an int, and `size` its size.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Which sockets are ready.
pub(super) struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    ready: Vec<u64>,
}

impl Poll {
    /// # Errors
    /// As epoll_create1(2).
    pub(super) fn new() -> io::Result<Poll> {
        // SAFETY: takes no pointer.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, for nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        Ok(Poll { epoll, events, ready: Vec::with_capacity(EVENTS) })
    }

    /// Adds a socket under a name.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(super) fn add(&mut self, socket: BorrowedFd<'_>, name: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: name };
        let (epoll, socket) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: `event` is read during the call only.
        let done = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits; the names of those that have something.
    ///
    /// # Errors
    /// As epoll_wait(2).
    pub(super) fn wait(&mut self) -> io::Result<&[u64]> {
        // SAFETY: `events` has room for as many as are asked for.
        let count = unsafe {
            let (epoll, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
            libc::epoll_wait(epoll, events, EVENTS as i32, -1)
        };
        self.ready.clear();
        match usize::try_from(count) {
            Ok(count) => self.ready.extend(self.events[..count].iter().map(|event| event.u64)),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
        Ok(&self.ready)
    }
}
