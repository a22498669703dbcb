//! A sans-IO TURN client, for tests and for the load generator.
//!
//! ```text
//!  request() --> | transactions | -- poll_transmit(now) --> datagram to the server
//!                |   session    | <- receive(now, bytes) -- datagram from the server
//!                | channels     | -- poll_event() --------> what became of the requests
//! ```
//!
//! A request that is answered with a challenge (401, 438) is signed and sent again without the
//! caller's help. Retransmission follows RFC 8489 section 6.2.1 under the caller's clock, any
//! monotonic one: call [`TurnClient::poll_transmit`] until it returns `None`, after each request,
//! after each datagram received, and at [`TurnClient::deadline`].
//!
//! Data does not pass through queues: [`TurnClient::receive`] hands it back borrowed, and the
//! send functions write into the caller's buffer. Refreshing in time is the caller's business.

mod channels;
mod event;
mod receive;
mod request;
mod session;
mod transaction;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

pub use event::{Allocated, Event, Failure, Ignored, Received};
pub use request::{Allocate, Discover, Request};
pub use session::Negotiation;
pub use transaction::Retransmission;

use crate::Random;
use crate::attribute::ChannelNumber;
use crate::message::{BuildError, Builder, ChannelData, Class, Method, TransactionId};
use channels::Channels;
use session::Session;
use transaction::{Due, Transaction};

/// Most requests that may be under way at once.
pub const TRANSACTIONS_MAX: usize = 64;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Prepared (RFC 8265).
    pub username: String,
    /// Prepared (RFC 8265).
    pub password: String,
    /// Which credentials mechanism the client knows.
    pub negotiation: Negotiation,
    /// When to send again.
    pub retransmission: Retransmission,
    /// Whether messages carry FINGERPRINT.
    pub fingerprint: bool,
    /// SOFTWARE, if any.
    pub software: Option<String>,
    /// Whether ChannelData is padded to a multiple of 4, as streams require.
    pub pad_channel_data: bool,
    /// Takes an unsigned error response to a signed request for what it says. RFC 8489
    /// section 9.2.5 discards it, so that the request runs into its timeout.
    pub trust_unsigned_errors: bool,
}

impl Settings {
    /// For UDP: RFC 8489 as the server offers it, no FINGERPRINT, no SOFTWARE.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Settings {
        Settings {
            username: username.into(),
            password: password.into(),
            negotiation: Negotiation::AsOffered,
            retransmission: Retransmission::UDP,
            fingerprint: false,
            software: None,
            pad_channel_data: false,
            trust_unsigned_errors: false,
        }
    }
}

/// Too many requests under way: [`TRANSACTIONS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {TRANSACTIONS_MAX} requests under way")]
pub struct Busy;

/// One client on one five-tuple.
pub struct TurnClient {
    settings: Settings,
    random: Box<dyn Random + Send>,
    session: Session,
    transactions: Vec<Transaction>,
    channels: Channels,
    events: VecDeque<Event>,
    /// Buffers of transactions that are over.
    spare: Vec<Vec<u8>>,
}

impl TurnClient {
    /// A client that has sent nothing yet. `random` gives the transaction ids.
    pub fn new(settings: Settings, random: Box<dyn Random + Send>) -> TurnClient {
        TurnClient {
            settings,
            random,
            session: Session::default(),
            transactions: Vec::new(),
            channels: Channels::default(),
            events: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// Starts a request; [`TurnClient::poll_transmit`] sends it, [`TurnClient::poll_event`]
    /// tells what became of it.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn request(&mut self, now: Duration, request: Request) -> Result<TransactionId, Busy> {
        if self.transactions.len() >= TRANSACTIONS_MAX {
            return Err(Busy);
        }
        if let Request::ChannelBind { channel, peer } = request {
            self.channels.bind(channel, peer);
        }
        Ok(self.start(now, request, 0))
    }

    /// Sends a request for the first time, or again after `challenges` challenges.
    fn start(&mut self, now: Duration, request: Request, challenges: u32) -> TransactionId {
        let id = self.transaction_id();
        let mut bytes = self.spare.pop().unwrap_or_default();
        let mut builder = Builder::new(&mut bytes, Class::Request, request.method(), id);
        if let Some(software) = &self.settings.software {
            builder.software(software);
        }
        request.write(&mut builder);
        self.session.sign(&mut builder, &self.settings);
        if self.settings.fingerprint {
            builder.fingerprint();
        }
        let signed = self.session.is_known();
        let retransmission = self.settings.retransmission;
        match builder.finish() {
            Ok(_) => {
                let transaction =
                    Transaction::new(id, request, bytes, challenges, signed, retransmission, now);
                self.transactions.push(transaction);
            }
            Err(error) => self.fail(request, Failure::Build(error)),
        }
        id
    }

    fn transaction_id(&mut self) -> TransactionId {
        let mut id = [0; 12];
        self.random.fill(&mut id);
        TransactionId(id)
    }

    fn fail(&mut self, request: Request, why: Failure) {
        if let Request::ChannelBind { channel, .. } = request {
            self.channels.unbind_pending(channel);
        }
        self.events.push_back(Event::Failed { request, why });
    }

    /// The next datagram that is due: a new request or a retransmission. Call until `None`.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<&[u8]> {
        let mut at = 0;
        while at < self.transactions.len() {
            match self.transactions[at].due(now) {
                Due::Later => at += 1,
                Due::Send => return Some(self.transactions[at].bytes()),
                Due::Never => {
                    let transaction = self.transactions.swap_remove(at);
                    let why = transaction.timeout();
                    let request = self.recycle(transaction);
                    self.fail(request, why);
                }
            }
        }
        None
    }

    /// When [`TurnClient::poll_transmit`] has something to do next; `None` while no request is
    /// under way.
    pub fn deadline(&self) -> Option<Duration> {
        self.transactions.iter().map(Transaction::deadline).min()
    }

    /// What became of the requests, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn recycle(&mut self, transaction: Transaction) -> Request {
        let (request, bytes) = transaction.into_parts();
        if self.spare.len() < TRANSACTIONS_MAX {
            self.spare.push(bytes);
        }
        request
    }

    /// Writes a Send indication into `out`, which is cleared.
    ///
    /// # Errors
    /// [`BuildError::TooLong`].
    pub fn send_indication<'b>(
        &mut self,
        out: &'b mut Vec<u8>,
        peer: SocketAddr,
        data: &[u8],
        dont_fragment: bool,
    ) -> Result<&'b [u8], BuildError> {
        let id = self.transaction_id();
        let mut builder = Builder::new(out, Class::Indication, Method::SEND, id);
        builder.xor_peer_address(peer);
        if dont_fragment {
            builder.dont_fragment();
        }
        builder.data(data);
        if self.settings.fingerprint {
            builder.fingerprint();
        }
        builder.finish()
    }

    /// Writes ChannelData into `out`, which is cleared; `None` above 65,535 bytes. Whether the
    /// channel is bound is not looked at.
    pub fn channel_data<'b>(
        &self,
        out: &'b mut Vec<u8>,
        channel: ChannelNumber,
        data: &[u8],
    ) -> Option<&'b [u8]> {
        ChannelData { channel, data }.write(out, self.settings.pad_channel_data)
    }

    /// The channel bound to this peer, if the server has confirmed it.
    pub fn channel_of(&self, peer: SocketAddr) -> Option<ChannelNumber> {
        self.channels.channel_of(peer)
    }

    /// The nonce that the next request will carry.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.session.nonce()
    }
}
