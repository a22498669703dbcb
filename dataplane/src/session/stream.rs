//! One TCP connection of a client, with or without TLS: bytes in and out, and what waits to go out.
//!
//! ```text
//!   in:   read ──> (decrypt) ──> plaintext, to be cut into messages
//!   out:  queue ──────────────────> writev             plain
//!         queue ──> records ──> wire ──> write         TLS: no further record is made while one
//!                                                      waits, so that the queue alone is the bound
//! ```

use super::queue::Queue;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

/// Plaintext that goes into one TLS record.
const RECORD_MAX: usize = 16 << 10;

/// Writes of one flush; what is left then goes on in the next round.
const WRITES_MAX: usize = 16;

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// This many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The other side has ended its direction.
    End,
    /// The connection is broken.
    Broken,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Everything is with the kernel.
    All,
    /// The kernel takes no more for now.
    Blocked,
    /// There is more, and the kernel may take it.
    More,
    /// The connection is broken.
    Broken,
}

/// What decrypting met beside plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decrypted {
    /// The handshake is complete.
    pub(crate) open: bool,
    /// The client has said that nothing follows.
    pub(crate) ended: bool,
}

/// A connection's socket, its TLS state, and its queue.
pub(crate) struct Stream {
    pub(crate) socket: mio::net::TcpStream,
    tls: Option<Box<ServerConnection>>,
    pub(crate) queue: Queue,
    /// Records that wait, from `wired` on.
    wire: Vec<u8>,
    wired: usize,
    /// Bytes that the kernel has taken.
    pub(crate) written: u64,
}

impl Stream {
    pub(crate) fn new(socket: mio::net::TcpStream) -> Self {
        let (queue, wire) = (Queue::default(), Vec::new());
        Self { socket, tls: None, queue, wire, wired: 0, written: 0 }
    }

    /// Speaks TLS from here on.
    pub(crate) fn secure(&mut self, config: &Arc<ServerConfig>) -> Result<(), rustls::Error> {
        self.tls = Some(Box::new(ServerConnection::new(Arc::clone(config))?));
        Ok(())
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads what there is, as far as `buffer` goes.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Got {
        read(&mut self.socket, buffer)
    }

    /// Decrypts `input` and appends what comes out to `plain`. An alert that tells the client what
    /// went wrong waits to be sent, unless what it sent was not TLS at all.
    pub(crate) fn decrypt(
        &mut self,
        mut input: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<Decrypted, ()> {
        let Some(tls) = &mut self.tls else { return Err(()) };
        let mut ended = false;
        while !input.is_empty() {
            match tls.read_tls(&mut input) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return Err(()),
            }
            match tls.process_new_packets() {
                Ok(state) => {
                    let size = state.plaintext_bytes_to_read();
                    let start = plain.len();
                    plain.resize(start + size, 0);
                    tls.reader().read_exact(&mut plain[start..]).map_err(|_| ())?;
                    ended |= state.peer_has_closed();
                }
                Err(rustls::Error::InvalidMessage(_)) => return Err(()),
                Err(_) => {
                    self.make_records();
                    return Err(());
                }
            }
        }
        let open = !tls.is_handshaking();
        self.make_records();
        Ok(Decrypted { open, ended })
    }

    /// Moves what TLS wants to send into the wire.
    fn make_records(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                // a Vec takes everything
                if tls.write_tls(&mut self.wire).is_err() {
                    break;
                }
            }
        }
    }

    /// Says that nothing follows, for TLS.
    pub(crate) fn notify_close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            self.make_records();
        }
    }

    /// Ends the direction to the client; what was sent before goes first.
    pub(crate) fn shut_write(&self) {
        // an error means that it has ended already
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// True when nothing waits to be sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.wired == self.wire.len()
    }

    /// Sends as much as the kernel takes.
    pub(crate) fn flush(&mut self) -> Flushed {
        for _ in 0..WRITES_MAX {
            if self.is_drained() {
                self.wire.clear();
                self.wired = 0;
                return Flushed::All;
            }
            let sent = if self.tls.is_some() { self.write_records() } else { self.write_queue() };
            match sent {
                Ok(size) => self.written += size as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Broken,
            }
        }
        if self.is_drained() { Flushed::All } else { Flushed::More }
    }

    fn write_queue(&mut self) -> io::Result<usize> {
        let size = self.socket.write_vectored(&self.queue.pieces())?;
        self.queue.advance(size);
        Ok(size)
    }

    fn write_records(&mut self) -> io::Result<usize> {
        if self.wired == self.wire.len() {
            self.wire.clear();
            self.wired = 0;
            if let Some(tls) = &mut self.tls {
                let size = tls.writer().write(self.queue.front(RECORD_MAX))?;
                self.queue.advance(size);
            }
            self.make_records();
        }
        let size = self.socket.write(&self.wire[self.wired..])?;
        self.wired += size;
        Ok(size)
    }

    /// Gives back memory that a burst took.
    pub(crate) fn relax(&mut self) {
        self.queue.relax();
        if self.is_drained() {
            (self.wire, self.wired) = (Vec::new(), 0);
        }
    }
}

/// Reads what there is.
pub(crate) fn read(socket: &mut mio::net::TcpStream, buffer: &mut [u8]) -> Got {
    loop {
        return match socket.read(buffer) {
            Ok(0) => Got::End,
            Ok(size) => Got::Bytes(size),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Got::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => Got::Broken,
        };
    }
}
