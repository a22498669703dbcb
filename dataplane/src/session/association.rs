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
//!
//! A handshake that cannot succeed ends with an alert, so that the client need not wait for its own
//! timer: the library says nothing.

use super::identity::DtlsIdentity;
use super::members::Key;
use super::relay::Relay;
use dimpl::{Dtls, Error, Output, SecurityError};
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
    /// The client's random number, which tells one handshake from another.
    pub(crate) random: Random,
    /// The client has shown its address: its cookie came back.
    pub(crate) shown: bool,
    /// The handshake is complete.
    pub(crate) connected: bool,
    /// Bytes that came, and bytes that went, while it was not.
    received: usize,
    sent: usize,
    /// Number of the next record without encryption.
    plain_next: u64,
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
        (source, random): (u128, Random),
        now: Instant,
    ) -> Self {
        let config = Arc::clone(&identity.config);
        let dtls = Dtls::new_auto(config, identity.certificate.clone(), now);
        Self {
            dtls,
            listener,
            from,
            random,
            shown: false,
            connected: false,
            received: 0,
            sent: 0,
            plain_next: 0,
            wake: None,
            source,
        }
    }

    /// A datagram from the client; `on_message` gets each plaintext. Returns early at the moment
    /// when the handshake is complete: [`drive`](Self::drive) goes on.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        wire: &mut Wire<'_>,
        on_message: &mut dyn FnMut(&[u8], &mut Relay),
    ) -> Result<(), Over> {
        self.received += bytes.len();
        let done = self.dtls.handle_timeout(wire.clock.instant(wire.now));
        if let Err(error) = done.and_then(|()| self.dtls.handle_packet(bytes)) {
            self.refuse(&error, bytes, wire);
            return Err(Over::Failed);
        }
        self.drive(wire, on_message)
    }

    /// Time has passed. What asks for the cookie is not sent again by a timer (RFC 6347 section
    /// 4.2.1, RFC 9147 section 5.8.1), but when the ClientHello comes again: the address may be
    /// another client's by now, or forged, and the cookie would mislead that one.
    pub(crate) fn wake_up(&mut self, wire: &mut Wire<'_>) -> Result<(), Over> {
        if !self.shown {
            self.wake = None;
            return Ok(());
        }
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

    /// Tells a client whose handshake cannot succeed, in a record of the version that it speaks.
    fn refuse(&mut self, error: &Error, bytes: &[u8], wire: &mut Wire<'_>) {
        let version = bytes.get(1..3).filter(|version| version[0] == 0xFE);
        let Some(version) = version.filter(|_| !self.connected) else { return };
        let alert = alert(error, version, self.plain_next);
        if self.shown || self.sent + alert.len() <= AMPLIFICATION_MAX * self.received {
            wire.relay.record(self.listener, self.from, wire.remote, &alert);
        }
    }

    /// Takes out everything that the library has to give, up to the completion of the handshake.
    pub(crate) fn drive(
        &mut self,
        wire: &mut Wire<'_>,
        on_message: &mut dyn FnMut(&[u8], &mut Relay),
    ) -> Result<(), Over> {
        for _ in 0..OUTPUTS_MAX {
            match self.dtls.poll_output(wire.room) {
                Output::Packet(record) => {
                    self.shown |= is_server_hello(record);
                    self.plain_next = self.plain_next.max(after_plain(record));
                    let allowed = AMPLIFICATION_MAX * self.received;
                    if self.shown || self.sent + record.len() <= allowed {
                        self.sent += record.len();
                        wire.relay.record(self.listener, self.from, wire.remote, record);
                    }
                }
                Output::ApplicationData(bytes) => on_message(bytes, wire.relay),
                Output::Connected => {
                    self.connected = true;
                    return Ok(());
                }
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

/// The random number of a ClientHello.
pub(crate) type Random = [u8; 32];

/// What a datagram is to an association that is there, and to one that may take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datagram {
    /// The start of a ClientHello, which may begin a handshake.
    Hello(Random),
    /// A further piece of one.
    HelloPiece,
    /// Anything else.
    Other,
}

/// Sorts a datagram by its first record (RFC 6347 sections 4.1 and 4.2.2).
///
/// ```text
///   0      1         3       5          11       13     14       17    19       22       25   27
///   | type | version | epoch | sequence | length | type | length | seq | offset | length | .. | random
/// ```
pub(crate) fn sort(bytes: &[u8]) -> Datagram {
    let Some(head) = bytes.first_chunk::<25>() else { return Datagram::Other };
    let length = usize::from(u16::from_be_bytes([head[11], head[12]]));
    // handshake; DTLS 1.0 or 1.2 in the record, epoch 0; ClientHello
    let hello = head[0] == 22 && head[1] == 0xFE && head[3..5] == [0; 2] && head[13] == 1;
    if !hello || bytes.len() < 13 + length {
        return Datagram::Other;
    }
    if head[19..22] != [0; 3] {
        return Datagram::HelloPiece;
    }
    let random = bytes[27.min(bytes.len())..].first_chunk();
    random.map_or(Datagram::Other, |random| Datagram::Hello(*random))
}

/// The start of the random number by which a ServerHello of TLS 1.3 is a HelloRetryRequest (RFC
/// 8446 section 4.1.3).
const RETRY: [u8; 4] = [0xCF, 0x21, 0xAD, 0x74];

/// True for a record with a ServerHello: the library sends it to who returned the cookie.
fn is_server_hello(record: &[u8]) -> bool {
    record.first_chunk::<31>().is_some_and(|head| {
        head[0] == 22 && head[3..5] == [0; 2] && head[13] == 2 && head[27..31] != RETRY
    })
}

/// The number after the last record without encryption at the front of a datagram.
fn after_plain(mut records: &[u8]) -> u64 {
    let mut next = 0;
    while let Some(head) = records.first_chunk::<13>() {
        let plain = matches!(head[0], 20..=22) && head[3..5] == [0; 2];
        let length = usize::from(u16::from_be_bytes([head[11], head[12]]));
        let (true, Some(rest)) = (plain, records.get(13 + length..)) else { break };
        next = head[5..11].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) + 1;
        records = rest;
    }
    next
}

/// A fatal alert without encryption (RFC 5246 section 7.2).
fn alert(error: &Error, version: &[u8], number: u64) -> [u8; 15] {
    const FATAL: u8 = 2;
    // DTLS 1.0 is refused because nobody may negotiate it any more (RFC 8996 section 5)
    let description = match error {
        Error::SecurityError(
            SecurityError::UnsupportedClientVersion(_)
            | SecurityError::ClientHelloLegacyVersionNotDtls12,
        ) => 70,
        _ => 40,
    };
    let mut record = [0; 15];
    record[0] = 21;
    record[1..3].copy_from_slice(version);
    record[5..11].copy_from_slice(&number.to_be_bytes()[2..]);
    record[12..].copy_from_slice(&[2, FATAL, description]);
    record
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
