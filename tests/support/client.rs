//! A TURN client over UDP, for tests that must hold every datagram in their own hands.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::{Family, Host, Lab};
use crate::relay::{PASSWORD, USER};
use crate::stun::{Builder, Message, Transaction, attribute, kind, long_term_key};
use crate::wait::{Deadline, SOON};

const RETRANSMIT: Duration = Duration::from_millis(500);
const UDP: [u8; 4] = [17, 0, 0, 0];

/// What a relay sent, apart from answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// ChannelData.
    Channel(u16, Vec<u8>),
    /// A Data indication.
    Data(SocketAddr, Vec<u8>),
}

/// A client of a relay; one allocation at most.
#[derive(Debug)]
pub struct Client {
    socket: UdpSocket,
    transactions: u32,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: Vec<u8>,
    early: VecDeque<Received>,
}

impl Client {
    /// A client on the lab's client host that speaks to the relay over `family`.
    ///
    /// # Errors
    /// No socket could be made.
    pub fn new(lab: &Lab, family: Family) -> Result<Self> {
        Self::over(lab.udp(Host::Client, SocketAddr::new(family.client(), 0))?, family)
    }

    /// The same over a socket that is there already.
    ///
    /// # Errors
    /// As connect(2).
    pub fn over(socket: UdpSocket, family: Family) -> Result<Self> {
        socket.connect(family.listener())?;
        Ok(Self {
            socket,
            transactions: 0,
            realm: Vec::new(),
            nonce: Vec::new(),
            key: Vec::new(),
            early: VecDeque::new(),
        })
    }

    /// This client's own address.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Its socket, connected to the relay.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Asks for this client's address as the relay sees it.
    ///
    /// # Errors
    /// No answer within `limit`, or not the right one.
    pub fn binding(&mut self, limit: Duration) -> Result<SocketAddr> {
        let answer = self.transact(kind::BINDING, limit, |request| request)?;
        answer
            .xor_address(attribute::XOR_MAPPED_ADDRESS)
            .context("a Binding success has an address")
    }

    /// Asks for a relayed address of `family`.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub fn allocate(&mut self, family: Family) -> Result<SocketAddr> {
        let family = [if family == Family::V4 { 1 } else { 2 }, 0, 0, 0];
        let answer = self.request(kind::ALLOCATE, |request| {
            request
                .with(attribute::REQUESTED_TRANSPORT, &UDP)
                .with(attribute::REQUESTED_ADDRESS_FAMILY, &family)
        })?;
        answer.xor_address(attribute::XOR_RELAYED_ADDRESS).context("an allocation has an address")
    }

    /// Asks for another lifetime in seconds; gives the one that was granted. Zero ends the
    /// allocation.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub fn refresh(&mut self, lifetime: u32) -> Result<u32> {
        let answer = self.request(kind::REFRESH, |request| {
            request.with(attribute::LIFETIME, &lifetime.to_be_bytes())
        })?;
        answer.number(attribute::LIFETIME).context("a Refresh success has a lifetime")
    }

    /// Permits a peer's IP address.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub fn permit(&mut self, peer: SocketAddr) -> Result<()> {
        self.request(kind::CREATE_PERMISSION, |request| {
            request.with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
        })?;
        Ok(())
    }

    /// Binds a channel to a peer.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub fn bind(&mut self, channel: u16, peer: SocketAddr) -> Result<()> {
        let [high, low] = channel.to_be_bytes();
        self.request(kind::CHANNEL_BIND, |request| {
            request
                .with(attribute::CHANNEL_NUMBER, &[high, low, 0, 0])
                .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
        })?;
        Ok(())
    }

    /// Sends ChannelData, unpadded.
    ///
    /// # Errors
    /// As send(2).
    pub fn send(&self, channel: u16, data: &[u8]) -> Result<()> {
        self.socket.send(&channel_data(channel, data))?;
        Ok(())
    }

    /// Sends bytes to the relay as they are.
    ///
    /// # Errors
    /// As send(2).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.socket.send(bytes)?;
        Ok(())
    }

    /// Sends a Send indication.
    ///
    /// # Errors
    /// As send(2).
    pub fn send_indication(&mut self, peer: SocketAddr, data: &[u8]) -> Result<()> {
        let indication = Builder::new(kind::SEND_INDICATION, self.transaction())
            .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
            .with(attribute::DATA, data);
        self.send_bytes(&indication.bytes())
    }

    /// The next ChannelData or Data indication; `None` when none came within `limit`.
    ///
    /// # Errors
    /// Something came that is neither, nor a late answer.
    pub fn receive(&mut self, limit: Duration) -> Result<Option<Received>> {
        if let Some(early) = self.early.pop_front() {
            return Ok(Some(early));
        }
        let deadline = Deadline::after(limit);
        while let Some(bytes) = receive(&self.socket, deadline)? {
            if let Some(received) = parse(&bytes)? {
                return Ok(Some(received));
            }
        }
        Ok(None)
    }

    /// One authenticated request and its success; learns realm and nonce on the way.
    fn request(&mut self, request: u16, fill: impl Fn(Builder) -> Builder) -> Result<Message> {
        // At most twice anew: unauthenticated at first, and once more when the nonce is stale.
        for _ in 0..3 {
            let (realm, nonce, key) = (self.realm.clone(), self.nonce.clone(), self.key.clone());
            let answer = self.transact(request, SOON, |message| {
                let message = fill(message);
                if key.is_empty() {
                    return message;
                }
                message
                    .with(attribute::USERNAME, USER.as_bytes())
                    .with(attribute::REALM, &realm)
                    .with(attribute::NONCE, &nonce)
                    .with_integrity(&key)
            })?;
            match answer.error_code() {
                None if answer.kind() == request + kind::SUCCESS => return Ok(answer),
                Some(401) if self.key.is_empty() => self.learn(&answer)?,
                Some(438) => self.learn(&answer)?,
                other => bail!("request {request:#06x} was refused: {other:?}"),
            }
        }
        bail!("request {request:#06x}: the relay wants ever new nonces")
    }

    fn learn(&mut self, answer: &Message) -> Result<()> {
        self.realm = answer.attribute(attribute::REALM).context("a realm is wanted")?.into();
        self.nonce = answer.attribute(attribute::NONCE).context("a nonce is wanted")?.into();
        self.key = long_term_key(USER, std::str::from_utf8(&self.realm)?, PASSWORD);
        Ok(())
    }

    /// Sends a request, again and again, until its answer comes.
    fn transact(
        &mut self,
        request: u16,
        limit: Duration,
        fill: impl FnOnce(Builder) -> Builder,
    ) -> Result<Message> {
        let transaction = self.transaction();
        let bytes = fill(Builder::new(request, transaction)).bytes();
        let deadline = Deadline::after(limit);
        while deadline.left().is_some() {
            // A refused port shows here when the relay does not listen yet: try again.
            if self.socket.send(&bytes).is_err() {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            let retransmission = Deadline::after(RETRANSMIT.min(limit));
            while let Ok(Some(bytes)) = receive(&self.socket, retransmission) {
                match Message::parse(&bytes) {
                    Some(answer) if answer.transaction() == transaction => return Ok(answer),
                    _ => self.early.extend(parse(&bytes)?),
                }
            }
        }
        bail!("no answer to request {request:#06x} within {limit:?}")
    }

    fn transaction(&mut self) -> Transaction {
        self.transactions += 1;
        let port = self.socket.local_addr().map_or(0, |address| address.port());
        let mut transaction = *b"lab client..";
        transaction[4..8].copy_from_slice(&self.transactions.to_be_bytes());
        transaction[10..].copy_from_slice(&port.to_be_bytes());
        transaction
    }
}

/// ChannelData without padding.
pub fn channel_data(channel: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(channel.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The next datagram; `None` when none comes in time.
///
/// # Errors
/// As recv(2), a timeout excepted.
pub fn receive(socket: &UdpSocket, deadline: Deadline) -> Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 65_535];
    loop {
        let Some(left) = deadline.left() else { return Ok(None) };
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("receiving"),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Received>> {
    if let [high @ 0x40..=0x4f, low, l0, l1, data @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let Some(data) = data.get(..length) else { bail!("ChannelData cut short: {bytes:02x?}") };
        return Ok(Some(Received::Channel(u16::from_be_bytes([*high, *low]), data.into())));
    }
    let Some(message) = Message::parse(bytes) else { bail!("not ours: {bytes:02x?}") };
    if message.kind() != kind::DATA_INDICATION {
        return Ok(None);
    }
    let peer = message.xor_address(attribute::XOR_PEER_ADDRESS).context("whose data is it?")?;
    let data = message.attribute(attribute::DATA).context("a Data indication has data")?;
    Ok(Some(Received::Data(peer, data.into())))
}
