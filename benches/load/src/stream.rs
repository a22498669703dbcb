//! A client's stream to the server, plain or TLS, cut into messages (RFC 8656 section 12.5).
//!
//! ```text
//! | ChannelData header | data | 0 to 3 zeros | STUN message | ChannelData header | ...
//! ```
//!
//! A stream that is full takes nothing: what it does not take was not sent. Only the rest of a
//! message that was begun waits here, at most.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard};

use rustls::ClientConnection;
use turn::message::MAGIC_COOKIE;

/// Bytes read at once.
const READ: usize = 65_536;
/// Longest message: a STUN header and the most that its length can say.
const MESSAGE_MAX: usize = 20 + 65_535;

/// A connection to the server.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    tls: Option<Mutex<ClientConnection>>,
    /// What is left of a message that was begun.
    rest: Mutex<Vec<u8>>,
    input: Mutex<Input>,
}

/// Bytes that were read and are no message yet.
#[derive(Debug, Default)]
struct Input {
    bytes: Vec<u8>,
    start: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What stands at the beginning of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// Not all of it is there.
    Partial,
    /// A message of so many bytes, and so many with its padding.
    Whole(usize, usize),
    /// Neither STUN nor ChannelData.
    Foreign,
}

fn frame(bytes: &[u8]) -> Frame {
    let Some(&[first, _, high, low]) = bytes.first_chunk::<4>() else { return Frame::Partial };
    let len = usize::from(u16::from_be_bytes([high, low]));
    let (message, whole) = match first {
        0x40..=0x4f => (4 + len, 4 + len.next_multiple_of(4)),
        0x00..=0x3f if len.is_multiple_of(4) => (20 + len, 20 + len),
        _ => return Frame::Foreign,
    };
    let cookie = &bytes[4..bytes.len().min(8)];
    if first < 0x40 && !MAGIC_COOKIE.starts_with(cookie) {
        return Frame::Foreign;
    }
    if bytes.len() < whole { Frame::Partial } else { Frame::Whole(message, whole) }
}

impl Stream {
    /// Takes over a connected socket, and the TLS connection on it whose handshake is done.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn new(socket: TcpStream, tls: Option<ClientConnection>) -> io::Result<Stream> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let tls = tls.map(|mut tls| {
            // What is given to it is bounded by the caller.
            tls.set_buffer_limit(None);
            Mutex::new(tls)
        });
        Ok(Stream { socket, tls, rest: Mutex::default(), input: Mutex::default() })
    }

    /// The address of this end.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends whole messages, as many as the stream takes; how many.
    ///
    /// # Errors
    /// The connection is over.
    pub fn send<'b>(&self, messages: impl Iterator<Item = &'b [u8]>) -> io::Result<usize> {
        match &self.tls {
            Some(tls) => self.send_tls(&mut lock(tls), messages),
            None => self.send_plain(&mut lock(&self.rest), messages),
        }
    }

    /// Sends what is left of a message; whether nothing is left.
    ///
    /// # Errors
    /// The connection is over.
    pub fn flush(&self) -> io::Result<bool> {
        match &self.tls {
            Some(tls) => flush_tls(&self.socket, &mut lock(tls)),
            None => self.flush_plain(&mut lock(&self.rest)),
        }
    }

    fn flush_plain(&self, rest: &mut Vec<u8>) -> io::Result<bool> {
        while !rest.is_empty() {
            match (&self.socket).write(rest) {
                Ok(written) => drop(rest.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn send_plain<'b>(
        &self,
        rest: &mut Vec<u8>,
        messages: impl Iterator<Item = &'b [u8]>,
    ) -> io::Result<usize> {
        if !self.flush_plain(rest)? {
            return Ok(0);
        }
        let mut ends = Vec::new();
        for message in messages {
            rest.extend_from_slice(message);
            ends.push(rest.len());
        }
        let all = rest.len();
        self.flush_plain(rest)?;
        let written = all - rest.len();
        // Of the messages that were not begun nothing stays here.
        let begun = ends.iter().filter(|end| **end <= written).count();
        let last = match ends.get(begun) {
            Some(end) if written > begun.checked_sub(1).map_or(0, |before| ends[before]) => {
                rest.truncate(end - written);
                begun + 1
            }
            _ => {
                rest.clear();
                begun
            }
        };
        Ok(last)
    }

    fn send_tls<'b>(
        &self,
        tls: &mut ClientConnection,
        messages: impl Iterator<Item = &'b [u8]>,
    ) -> io::Result<usize> {
        if !flush_tls(&self.socket, tls)? {
            return Ok(0);
        }
        // All of them become records, or none: a batch is at most what waits here.
        let mut taken = 0;
        for message in messages {
            tls.writer().write_all(message)?;
            taken += 1;
        }
        flush_tls(&self.socket, tls)?;
        Ok(taken)
    }

    /// Copies the next message, without its padding, into `buffer`; its length, or `None` when
    /// there is none now.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server has closed the connection, `InvalidData` when it does not
    /// speak TURN, and as read(2).
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let input = &mut *lock(&self.input);
        loop {
            match frame(&input.bytes[input.start..]) {
                Frame::Whole(len, whole) => {
                    let len = len.min(buffer.len());
                    buffer[..len].copy_from_slice(&input.bytes[input.start..][..len]);
                    input.start += whole;
                    return Ok(Some(len));
                }
                Frame::Foreign => return Err(io::ErrorKind::InvalidData.into()),
                Frame::Partial => {}
            }
            input.bytes.drain(..input.start);
            input.start = 0;
            debug_assert!(input.bytes.len() <= MESSAGE_MAX + 3, "a partial message is bounded");
            if !self.read_more(&mut input.bytes)? {
                return Ok(None);
            }
        }
    }

    /// Reads once; whether there was anything.
    fn read_more(&self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let start = bytes.len();
        bytes.resize(start + READ, 0);
        let read = match &self.tls {
            Some(tls) => read_tls(&self.socket, &mut lock(tls), &mut bytes[start..]),
            None => (&self.socket).read(&mut bytes[start..]),
        };
        bytes.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn flush_tls(mut socket: &TcpStream, tls: &mut ClientConnection) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn read_tls(
    mut socket: &TcpStream,
    tls: &mut ClientConnection,
    out: &mut [u8],
) -> io::Result<usize> {
    loop {
        match tls.reader().read(out) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        let closed = tls.read_tls(&mut socket)? == 0;
        tls.process_new_packets().map_err(io::Error::other)?;
        if closed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Stream::new(near, None).unwrap(), listener.accept().unwrap().0)
    }

    fn channel_data(len: u16) -> Vec<u8> {
        let mut bytes = vec![0x40, 0x01];
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.resize(4 + usize::from(len).next_multiple_of(4), 9);
        bytes
    }

    #[test]
    fn messages_are_cut_wherever_the_stream_was() {
        let mut bytes = channel_data(5);
        bytes.extend([0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42]);
        bytes.extend([7; 16]);
        bytes.extend(channel_data(8));
        for cut in 1..bytes.len() {
            let (stream, mut far) = pair();
            let (mut found, mut buffer) = (Vec::new(), [0; 1_500]);
            for part in [&bytes[..cut], &bytes[cut..]] {
                far.write_all(part).unwrap();
                crate::sys::wait_readable(&stream, 1_000);
                while let Some(len) = stream.receive(&mut buffer).unwrap() {
                    found.push(len);
                }
            }
            assert_eq!(found, [9, 24, 12], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_turn_and_what_is_over_are_errors() {
        let (stream, mut far) = pair();
        far.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        crate::sys::wait_readable(&stream, 1_000);
        let error = stream.receive(&mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (stream, far) = pair();
        drop(far);
        crate::sys::wait_readable(&stream, 1_000);
        let error = stream.receive(&mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_full_stream_takes_no_more_and_never_half_a_message() {
        // given
        let (stream, mut far) = pair();
        let message = channel_data(1_000);
        // when
        let mut taken = 0;
        while stream.send([&message[..]; 7].into_iter()).unwrap() == 7 {
            taken += 7;
        }
        assert_eq!(stream.send([&message[..]].into_iter()).unwrap(), 0, "it is full");
        // then: what was taken arrives, whole
        far.set_nonblocking(true).unwrap();
        let mut arrived = Vec::new();
        for _ in 0..20_000 {
            let mut part = vec![0; 65_536];
            match far.read(&mut part) {
                Ok(len) => arrived.extend_from_slice(&part[..len]),
                Err(_) if stream.flush().unwrap() => std::thread::yield_now(),
                Err(_) => {}
            }
        }
        assert_eq!(arrived.len() % message.len(), 0);
        let whole = arrived.len() / message.len();
        assert!((taken..taken + 7).contains(&whole), "{whole} of {taken}");
    }
}
