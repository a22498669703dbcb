//! One question at a time to the kernel, and its whole answer.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use socket2::SockRef;

/// The kernel answers within the call that asks, however long that takes. This is for an answer that got
/// lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A dump that changed while it was read is read again, so many times.
const DUMPS_MAX: usize = 8;
/// The kernel fills at most 32 KiB a datagram; room for that and for one large link.
pub(super) const DATAGRAM_MAX: usize = 64 * 1024;

/// A blocking socket for questions.
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    /// Opens the socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Requests> {
        let socket = socket_for_questions(NETLINK_ROUTE)?;
        // The driver's own words on a refusal, and not our question repeated in front of them.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Requests { socket, sequence: 0, buffer: vec![0; DATAGRAM_MAX] })
    }

    /// Asks, and hands over each message of the answer.
    ///
    /// # Errors
    ///
    /// The kernel's refusal as an error number, or the socket's failure.
    pub(super) fn ask(
        &mut self,
        question: RouteNetlinkMessage,
        flags: u16,
        answer: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> Result<(), Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let datagram = receive_whole(&self.socket, &mut self.buffer)?;
            if read_answer(datagram, self.sequence, answer)? == Answer::Whole {
                return Ok(());
            }
        }
    }

    /// As [`Requests::ask`], for a table: read again while it changes under the reader.
    pub(super) fn dump<T>(
        &mut self,
        question: &RouteNetlinkMessage,
        read: &mut dyn FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        let mut last = Refusal::from(io::Error::from_raw_os_error(libc::EINTR));
        for _ in 0..DUMPS_MAX {
            let mut table = Vec::new();
            let flags = netlink_packet_core::NLM_F_DUMP;
            match self.ask(question.clone(), flags, &mut |one| table.extend(read(one))) {
                Ok(()) => return Ok(table),
                Err(refusal) if refusal.errno() == Some(libc::EINTR) => last = refusal,
                Err(refusal) => return Err(refusal),
            }
        }
        Err(last)
    }
}

/// Why the kernel did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: io::Error,
    /// The words of the subsystem or driver that refused, where it had any.
    pub(crate) words: Option<String>,
}

impl Refusal {
    pub(crate) fn errno(&self) -> Option<i32> {
        self.error.raw_os_error()
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal { error, words: None }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{} ({words})", self.error),
            None => self.error.fmt(f),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Answer {
    Whole,
    More,
}

/// Reads one datagram of the answer to `sequence`; anything else in it is a leftover of a question
/// that timed out.
fn read_answer(
    datagram: &[u8],
    sequence: u32,
    answer: &mut dyn FnMut(RouteNetlinkMessage),
) -> Result<Answer, Refusal> {
    for bytes in Messages(datagram) {
        let buffer = NetlinkBuffer::new(bytes);
        if buffer.sequence_number() != sequence {
            continue;
        }
        if buffer.flags() & NLM_F_DUMP_INTR != 0 {
            return Err(io::Error::from_raw_os_error(libc::EINTR).into());
        }
        // One link or neighbour of a kind that the message crate cannot read hides no other.
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
            continue;
        };
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(Answer::Whole),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(Answer::Whole),
            NetlinkPayload::Error(error) => {
                return Err(Refusal { error: error.to_io(), words: words(&error.header) });
            }
            NetlinkPayload::InnerMessage(inner) => {
                let several = message.header.flags & netlink_packet_core::NLM_F_MULTIPART != 0;
                answer(inner);
                if !several {
                    return Ok(Answer::Whole);
                }
            }
            _ => {}
        }
    }
    Ok(Answer::More)
}

/// `NLMSGERR_ATTR_MSG` behind the 16 bytes of the question's header (`NETLINK_CAP_ACK`).
fn words(error: &[u8]) -> Option<String> {
    const ATTRIBUTE_WORDS: u16 = 1;
    netlink_packet_core::NlasIterator::new(error.get(16..)?)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == ATTRIBUTE_WORDS)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned()
        })
}

/// A blocking socket that asks the kernel, in the calling thread's network namespace.
pub(super) fn socket_for_questions(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(socket)
}

/// Receives one datagram, none of it cut off (else `EMSGSIZE`).
pub(super) fn receive_whole<'b>(socket: &Socket, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let len = receive(socket, buffer)?;
    buffer.get(..len).ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))
}

/// Receives one datagram. A length beyond the buffer's means that it was cut off.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv_from(&mut &mut buffer[..], libc::MSG_TRUNC) {
            // Only the kernel (port 0) is believed.
            Ok((_, from)) if from.port_number() != 0 => {}
            Ok((len, _)) => return Ok(len),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The messages of a datagram, each starting on a multiple of 4 bytes:
///
/// ```text
/// | length(4) type(2) flags(2) sequence(4) port(4) | body ... | 0 to 3 bytes | length(4) ...
/// ```
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = NetlinkBuffer::new_checked(self.0).ok()?.length() as usize;
        let message = self.0.get(..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// `4` or `6` as the kernel counts families, and the length of a whole address in bits.
pub(super) fn family(address: IpAddr) -> (netlink_packet_route::AddressFamily, u8) {
    match address {
        IpAddr::V4(_) => (netlink_packet_route::AddressFamily::Inet, 32),
        IpAddr::V6(_) => (netlink_packet_route::AddressFamily::Inet6, 128),
    }
}
