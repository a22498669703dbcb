//! One stream client without a thread or a connection: bytes in, and out what the control thread
//! is told. For tests/fuzz.

use super::desk::Desk;
use super::doors::Census;
use super::incoming::{self, Tools};
use super::member::{Core, Flow, Phase, Takes};
use super::relay::Relay;
use super::stream::Stream;
use super::{Ending, SessionCounters};
use crate::batch::Batch;
use crate::config::SessionLimits;
use crate::link::socket::{Bound, SocketLink};
use crate::mailbox::{Bell, ControlEnd, mailbox};
use crate::route::{Client, Transport};
use crate::stats::Counters;
use mio::Poll;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1000);

/// A client whose stream is open, as `session::incoming` sees it.
pub struct Fed {
    core: Core,
    flow: Flow,
    desk: Desk,
    relay: Relay,
    census: Census,
    counters: SessionCounters,
    plain: Vec<u8>,
    control: ControlEnd<Bound>,
}

impl Fed {
    /// A client, and a ring to the control thread of at least `ring_size` bytes.
    ///
    /// # Errors
    /// As socket(2) and epoll_create(2).
    pub fn new(ring_size: usize) -> io::Result<Self> {
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let client = Client { transport: Transport::Tcp, local: address, remote: address };
        // never connected: nothing here reads or writes
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let stream = Stream::new(mio::net::TcpStream::from_std(socket.into()));
        let silent = || Arc::new(Bell::silent());
        let (control, mail) = mailbox(ring_size, silent(), silent());
        let link = SocketLink::new(Poll::new()?, Vec::new());
        Ok(Self {
            core: Core::new(client, NOW),
            flow: Flow::new(stream, Takes { plain: true, tls: false }, Phase::Open),
            desk: Desk::new(mail),
            relay: Relay::new(link, Batch::new(1, 2000), Arc::new(Counters::default())),
            census: Census::new(&SessionLimits::default(), Arc::default()),
            counters: SessionCounters::default(),
            plain: Vec::new(),
            control,
        })
    }

    /// Bytes that were read; none are while the client is [paused](Self::is_paused).
    ///
    /// # Errors
    /// Why the connection ends.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        self.step(|core, flow, tools| incoming::feed(core, flow, bytes, tools))
    }

    /// The control thread has taken what was told, or has refused a ConnectionBind request.
    ///
    /// # Errors
    /// Why the connection ends.
    pub fn resume(&mut self) -> Result<(), Ending> {
        self.flow.held = false;
        self.step(incoming::resume)
    }

    /// True while nothing is read: the ring was full, or a ConnectionBind request has no answer.
    pub fn is_paused(&self) -> bool {
        self.flow.is_paused()
    }

    /// True behind a ConnectionBind request.
    pub fn is_held(&self) -> bool {
        self.flow.held
    }

    /// Bytes that are kept until a message is whole, or may be dealt with.
    pub fn waiting(&self) -> usize {
        self.flow.partial.len()
    }

    /// The messages that the control thread is told of, taken out: ChannelData without padding.
    pub fn told(&mut self) -> Vec<Vec<u8>> {
        let mut told = Vec::new();
        while self.control.events.take(|_, bytes| told.push(bytes.to_vec())).is_some() {}
        told
    }

    fn step(
        &mut self,
        work: impl FnOnce(&mut Core, &mut Flow, &mut Tools<'_>) -> Result<(), Ending>,
    ) -> Result<(), Ending> {
        let Self { core, flow, desk, relay, census, counters, plain, .. } = self;
        let (identity, input, now) = (None, &mut [][..], NOW);
        work(core, flow, &mut Tools { desk, relay, census, counters, identity, input, plain, now })
    }
}
