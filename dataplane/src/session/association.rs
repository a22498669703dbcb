//! One DTLS client: a small adapter between datagrams and the library's state machine.
//!
//! ```text
//!   datagram ──> handle_packet ──> poll_output ──┬─> records to send
//!                                                ├─> the client's messages, one a record
//!                                                └─> when to look again
//! ```
//!
//! The library keeps its cookie in each instance, so that every first ClientHello costs memory
//! until its association is half-open for too long or makes room for a newer one. Before the cookie
//! came back, and so from anyone who can write somebody else's address, no more is answered than
//! three times what came.

use super::identity::DtlsIdentity;
use super::members::Key;
use super::relay::Relay;
use dimpl::{Dtls, Output};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes sent for each byte received before the client has shown its address.
const AMPLIFICATION_MAX: usize = 3;

/// Room for one record's plaintext or ciphertext.
pub(crate) const RECORD_ROOM: usize = 20 << 10;

/// Outputs that one datagram may cause.
const OUTPUTS_MAX: usize = 256;

/// The clock that the library counts by.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    at: Duration,
}

impl Clock {
    pub(crate) fn new(now: Duration) -> Self {
        #[allow(clippy::disallowed_methods, reason = "one fixed point; time itself is an argument")]
        let start = Instant::now();
        Self { start, at: now }
    }

    fn instant(&self, now: Duration) -> Instant {
        self.start + now.saturating_sub(self.at)
    }

    fn duration(&self, instant: Instant) -> Duration {
        self.at + instant.saturating_duration_since(self.start)
    }
}

/// A DTLS client's own.
pub(crate) struct Association {
    dtls: Dtls,
    /// The socket that it came by, and the address to answer from where that is bound to all.
    listener: usize,
    from: Option<IpAddr>,
    /// The handshake is complete.
    pub(crate) connected: bool,
    /// Datagrams and bytes that came, and bytes that went, while it was not.
    packets: usize,
    received: usize,
    sent: usize,
    /// When the library wants to be asked again.
    pub(crate) wake: Option<Duration>,
    /// What it is counted under in the limits.
    pub(crate) source: u128,
}

/// The association has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The client has said so.
    Closed,
    /// The library gives up.
    Failed,
}

/// Where records come from and go to.
pub(crate) struct Wire<'a> {
    pub(crate) relay: &'a mut Relay,
    pub(crate) room: &'a mut [u8],
    pub(crate) clock: Clock,
    pub(crate) now: Duration,
    pub(crate) remote: SocketAddr,
}

impl Association {
    pub(crate) fn new(
        identity: &DtlsIdentity,
        listener: usize,
        from: Option<IpAddr>,
        source: u128,
        now: Instant,
    ) -> Self {
        let config = Arc::clone(&identity.config);
        let dtls = Dtls::new_auto(config, identity.certificate.clone(), now);
        Self {
            dtls,
            listener,
            from,
            connected: false,
            packets: 0,
            received: 0,
            sent: 0,
            wake: None,
            source,
        }
    }

    /// A datagram from the client; `on_message` gets each plaintext.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        wire: &mut Wire<'_>,
        on_message: &mut dyn FnMut(&[u8], &mut Relay),
    ) -> Result<(), Over> {
        self.packets += 1;
        self.received += bytes.len();
        let done = self.dtls.handle_timeout(wire.clock.instant(wire.now));
        done.and_then(|()| self.dtls.handle_packet(bytes)).map_err(|_| Over::Failed)?;
        self.drive(wire, on_message)
    }

    /// Time has passed.
    pub(crate) fn wake_up(&mut self, wire: &mut Wire<'_>) -> Result<(), Over> {
        self.dtls.handle_timeout(wire.clock.instant(wire.now)).map_err(|_| Over::Failed)?;
        self.drive(wire, &mut |_, _| ())
    }

    /// Sends a message to the client. Dropped where the handshake is not over.
    pub(crate) fn send(&mut self, bytes: &[u8], wire: &mut Wire<'_>) -> Result<bool, Over> {
        if !self.connected {
            return Ok(false);
        }
        let taken = self.dtls.send_application_data(bytes).map_err(|_| Over::Failed)?;
        self.drive(wire, &mut |_, _| ())?;
        Ok(taken == bytes.len())
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self, wire: &mut Wire<'_>) {
        if self.connected && self.dtls.close().is_ok() {
            // it ends either way
            let _ = self.drive(wire, &mut |_, _| ());
        }
    }

    /// Takes out everything that the library has to give.
    fn drive(
        &mut self,
        wire: &mut Wire<'_>,
        on_message: &mut dyn FnMut(&[u8], &mut Relay),
    ) -> Result<(), Over> {
        for _ in 0..OUTPUTS_MAX {
            match self.dtls.poll_output(wire.room) {
                Output::Packet(record) => {
                    let shown = self.connected || self.packets > 1;
                    let allowed = AMPLIFICATION_MAX * self.received;
                    if shown || self.sent + record.len() <= allowed {
                        self.sent += record.len();
                        wire.relay.record(self.listener, self.from, wire.remote, record);
                    }
                }
                Output::ApplicationData(bytes) => on_message(bytes, wire.relay),
                Output::Connected => self.connected = true,
                Output::CloseNotify => return Err(Over::Closed),
                Output::Timeout(at) => {
                    self.wake = Some(wire.clock.duration(at));
                    return Ok(());
                }
                // a record that no datagram holds
                Output::BufferTooSmall { .. } => return Err(Over::Failed),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Clock {
    /// For a new association.
    pub(crate) fn start_of(&self, now: Duration) -> Instant {
        self.instant(now)
    }
}

/// True for a datagram that may begin a handshake: a record with the start of a ClientHello.
pub(crate) fn is_client_hello(bytes: &[u8]) -> bool {
    let record = bytes.first_chunk::<26>();
    record.is_some_and(|head| {
        let length = usize::from(u16::from_be_bytes([head[11], head[12]]));
        let first_fragment = head[19..22] == [0; 3];
        // handshake; DTLS 1.0 or 1.2 in the record, epoch 0; ClientHello
        head[0] == 22
            && head[1] == 0xFE
            && head[3..5] == [0; 2]
            && head[13] == 1
            && first_fragment
            && bytes.len() >= 13 + length
    })
}

/// Associations whose handshake is not over, oldest first, so that a flood makes room for itself.
pub(crate) struct HalfOpen {
    waiting: std::collections::VecDeque<Key>,
    per_source: std::collections::HashMap<u128, usize>,
}

impl HalfOpen {
    pub(crate) fn new() -> Self {
        Self { waiting: Default::default(), per_source: Default::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.per_source.values().sum()
    }

    /// How many a source has.
    pub(crate) fn of(&self, source: u128) -> usize {
        self.per_source.get(&source).copied().unwrap_or(0)
    }

    pub(crate) fn enter(&mut self, key: Key, source: u128) {
        self.waiting.push_back(key);
        *self.per_source.entry(source).or_default() += 1;
    }

    /// One of a source's has ended, or is complete.
    pub(crate) fn leave(&mut self, source: u128) {
        if let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
    }

    /// The oldest that was entered; it may have left since.
    pub(crate) fn oldest(&mut self) -> Option<Key> {
        self.waiting.pop_front()
    }

    /// Entries, also of those that have left.
    pub(crate) fn entries(&self) -> usize {
        self.waiting.len()
    }
}
