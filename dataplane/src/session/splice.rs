//! A client's data connection joined with its peer's (RFC 6062): raw bytes, both ways.
//!
//! ```text
//!   client ── read, decrypt ──> to_peer ──────────────> peer        a full buffer stops the reading
//!   client <── (records) ────── the stream's queue <─── peer
//!   an end of one direction is passed on once all before it has gone; both ended: over
//! ```

use super::Ending;
use super::member::Flow;
use super::queue::Queue;
use super::stream::{Flushed, Got, read};
use crate::session::SessionCounters;
use mio::net::TcpStream;
use std::io::{self, Write};
use std::net::Shutdown;
use std::time::Duration;

/// Bytes that wait in one direction before the reading stops; one read more may be added.
const BUFFER: usize = 64 << 10;

/// Rounds of one turn.
const ROUNDS_MAX: usize = 8;

/// The peer's connection, and what waits for it.
pub(crate) struct Splice {
    pub(crate) peer: TcpStream,
    pub(crate) to_peer: Queue,
    /// When a byte last went either way.
    pub(crate) moved: Duration,
    pub(crate) peer_readable: bool,
    client_ended: bool,
    peer_ended: bool,
    peer_shut: bool,
    client_shut: bool,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Nothing can be done before something is ready.
    Idle,
    /// There may be more.
    More,
    /// The pair has come to its end.
    Over(Ending),
}

/// The buffers that a turn reads into, and what counts it.
pub(crate) struct Pump<'a> {
    pub(crate) input: &'a mut [u8],
    pub(crate) plain: &'a mut Vec<u8>,
    pub(crate) counters: &'a SessionCounters,
    pub(crate) now: Duration,
}

impl Splice {
    pub(crate) fn new(peer: TcpStream, now: Duration) -> Self {
        Self {
            peer,
            to_peer: Queue::default(),
            moved: now,
            peer_readable: true,
            client_ended: false,
            peer_ended: false,
            peer_shut: false,
            client_shut: false,
        }
    }
}

/// Moves what can be moved.
pub(crate) fn pump(flow: &mut Flow, pump: &mut Pump<'_>) -> Pumped {
    // taken out while both are worked on
    let Some(mut splice) = flow.splice.take() else { return Pumped::Idle };
    let pumped =
        (0..ROUNDS_MAX).map(|_| step(flow, &mut splice, pump)).find_map(|step| match step {
            Ok(0) => Some(Pumped::Idle),
            Ok(_) => None,
            Err(ending) => Some(Pumped::Over(ending)),
        });
    if splice.peer_shut && splice.client_shut {
        return Pumped::Over(Ending::SpliceDone);
    }
    flow.splice = Some(splice);
    pumped.unwrap_or(Pumped::More)
}

/// One read and one write in each direction; how many bytes moved.
fn step(flow: &mut Flow, splice: &mut Splice, pump: &mut Pump<'_>) -> Result<usize, Ending> {
    let mut moved = from_client(flow, splice, pump)?;
    let sent = write_peer(splice)?;
    pump.counters.splice_bytes[0].add(sent as u64);
    moved += sent;
    moved += from_peer(flow, splice, pump)?;
    let before = flow.stream.written;
    if flow.stream.flush() == Flushed::Broken {
        return Err(Ending::Failed);
    }
    let sent = flow.stream.written - before;
    pump.counters.splice_bytes[1].add(sent);
    pump.counters.bytes_out.add(sent);
    moved += sent as usize;
    pass_ends(flow, splice);
    if moved > 0 {
        splice.moved = pump.now;
    }
    Ok(moved)
}

fn from_client(flow: &mut Flow, splice: &mut Splice, pump: &mut Pump<'_>) -> Result<usize, Ending> {
    if !flow.readable || splice.client_ended || splice.to_peer.len() >= BUFFER {
        return Ok(0);
    }
    let size = match flow.stream.read(pump.input) {
        Got::Bytes(size) => size,
        Got::Nothing => {
            flow.readable = false;
            return Ok(0);
        }
        Got::End => {
            splice.client_ended = true;
            return Ok(0);
        }
        Got::Broken => return Err(Ending::Failed),
    };
    pump.counters.bytes_in.add(size as u64);
    if flow.stream.is_secure() {
        pump.plain.clear();
        let done =
            flow.stream.decrypt(&pump.input[..size], pump.plain).map_err(|()| Ending::Tls)?;
        splice.client_ended |= done.ended;
        if !pump.plain.is_empty() {
            splice.to_peer.push_raw(pump.plain);
        }
    } else {
        splice.to_peer.push_raw(&pump.input[..size]);
    }
    Ok(size)
}

fn from_peer(flow: &mut Flow, splice: &mut Splice, pump: &mut Pump<'_>) -> Result<usize, Ending> {
    if !splice.peer_readable || splice.peer_ended || flow.stream.queue.len() >= BUFFER {
        return Ok(0);
    }
    match read(&mut splice.peer, pump.input) {
        Got::Bytes(size) => {
            flow.stream.queue.push_raw(&pump.input[..size]);
            return Ok(size);
        }
        Got::Nothing => splice.peer_readable = false,
        Got::End => splice.peer_ended = true,
        Got::Broken => return Err(Ending::Failed),
    }
    Ok(0)
}

fn write_peer(splice: &mut Splice) -> Result<usize, Ending> {
    if splice.to_peer.is_empty() {
        return Ok(0);
    }
    match splice.peer.write_vectored(&splice.to_peer.pieces()) {
        Ok(size) => {
            splice.to_peer.advance(size);
            Ok(size)
        }
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
        {
            Ok(0)
        }
        Err(_) => Err(Ending::Failed),
    }
}

/// Passes on the ends of directions that are empty.
fn pass_ends(flow: &mut Flow, splice: &mut Splice) {
    if splice.client_ended && !splice.peer_shut && splice.to_peer.is_empty() {
        // an error means that it has ended already
        let _ = splice.peer.shutdown(Shutdown::Write);
        splice.peer_shut = true;
    }
    if splice.peer_ended && !splice.client_shut && flow.stream.is_drained() {
        flow.stream.notify_close();
        // a few bytes, behind nothing: where the kernel does not take them, the end alone must do
        let _ = flow.stream.flush();
        flow.stream.shut_write();
        splice.client_shut = true;
    }
}
