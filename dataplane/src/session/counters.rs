//! What one session thread counts beside its datagrams.

use super::Ending;
use crate::route::Transport;
use crate::stats::Counter;

const TRANSPORTS: usize = Transport::ALL.len();

/// What one session thread counts.
#[derive(Debug, Default)]
pub(crate) struct SessionCounters {
    pub(crate) open: [Counter; TRANSPORTS],
    pub(crate) begun: [Counter; TRANSPORTS],
    pub(crate) handshaking: Counter,
    pub(crate) handshakes_ok: [Counter; TRANSPORTS],
    pub(crate) handshakes_failed: [Counter; TRANSPORTS],
    pub(crate) endings: [Counter; Ending::COUNT],
    pub(crate) frames_in: Counter,
    pub(crate) frames_out: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) queue_drops: Counter,
    pub(crate) accept_pauses: Counter,
    pub(crate) splices: Counter,
    pub(crate) splice_bytes: [Counter; 2],
    pub(crate) routes: Counter,
    pub(crate) unknown_client: Counter,
}

impl SessionCounters {
    pub(crate) fn end(&self, ending: Ending) {
        self.endings[ending as usize].add(1);
    }

    pub(crate) fn snapshot(&self, worker: usize) -> SessionSnapshot {
        let by_transport =
            |counters: &[Counter; TRANSPORTS]| std::array::from_fn(|at| counters[at].value());
        SessionSnapshot {
            worker,
            open: by_transport(&self.open),
            begun: by_transport(&self.begun),
            handshaking: self.handshaking.value(),
            handshakes_ok: by_transport(&self.handshakes_ok),
            handshakes_failed: by_transport(&self.handshakes_failed),
            endings: std::array::from_fn(|ending| self.endings[ending].value()),
            frames_in: self.frames_in.value(),
            frames_out: self.frames_out.value(),
            bytes_in: self.bytes_in.value(),
            bytes_out: self.bytes_out.value(),
            queue_drops: self.queue_drops.value(),
            accept_pauses: self.accept_pauses.value(),
            splices: self.splices.value(),
            splice_bytes: std::array::from_fn(|way| self.splice_bytes[way].value()),
            routes: self.routes.value(),
            unknown_client: self.unknown_client.value(),
        }
    }
}

/// One session thread's counters at one moment; the datagrams of its relay ports are in
/// [`WorkerSnapshot`](crate::stats::WorkerSnapshot) of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSnapshot {
    /// The number of the thread among the workers.
    pub worker: usize,
    /// Connections and associations now, by [`Transport`]; TLS counts from its first byte on.
    pub open: [u64; TRANSPORTS],
    /// Connections and associations begun, by [`Transport`].
    pub begun: [u64; TRANSPORTS],
    /// DTLS handshakes that have not ended.
    pub handshaking: u64,
    /// Handshakes that succeeded, by [`Transport`].
    pub handshakes_ok: [u64; TRANSPORTS],
    /// Handshakes that failed, by [`Transport`].
    pub handshakes_failed: [u64; TRANSPORTS],
    /// Ended or refused, by [`Ending`].
    pub endings: [u64; Ending::COUNT],
    /// Messages from clients: STUN and ChannelData.
    pub frames_in: u64,
    /// Messages to clients that were queued.
    pub frames_out: u64,
    /// Bytes from clients, as they came from the kernel: with TLS.
    pub bytes_in: u64,
    /// Bytes to clients that the kernel took: with TLS.
    pub bytes_out: u64,
    /// Messages to clients that were dropped because their queue was full.
    pub queue_drops: u64,
    /// Times that accepting paused because no descriptor was left.
    pub accept_pauses: u64,
    /// Spliced pairs now.
    pub splices: u64,
    /// Bytes that spliced pairs carried: from clients to peers, and from peers to clients.
    pub splice_bytes: [u64; 2],
    /// Channels published here now.
    pub routes: u64,
    /// Messages and commands for clients that are not here any more.
    pub unknown_client: u64,
}

impl SessionSnapshot {
    /// Ended or refused for this.
    pub fn ended(&self, ending: Ending) -> u64 {
        self.endings[ending as usize]
    }
}
