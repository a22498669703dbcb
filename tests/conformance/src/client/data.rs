//! Application data at the client's end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Client;
use crate::call::Peer;
use crate::check::{Stop, Verdict, fail};
use crate::codec::{Answer, attribute, channel_data, kind};

/// How long data that must come may take.
const SOON: Duration = Duration::from_secs(2);
/// How often it is sent.
const TRIES: u32 = 3;

/// What came from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// ChannelData: number, data.
    Channel(u16, Vec<u8>),
    /// A Data indication: peer, data.
    Indication(SocketAddr, Vec<u8>),
    /// A Data indication with ICMP: peer, the attribute's value.
    Icmp(SocketAddr, Vec<u8>),
    /// Any other message.
    Other(Vec<u8>),
}

impl Data {
    /// The peer's bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Data::Channel(_, data) | Data::Indication(_, data) => data,
            Data::Icmp(_, _) | Data::Other(_) => &[],
        }
    }
}

impl Client<'_> {
    /// The next data, or other message that nobody waits for.
    ///
    /// # Errors
    /// The host fails.
    pub fn data(&mut self, limit: Duration) -> Result<Option<Data>, Stop> {
        let until = Instant::now() + limit;
        let bytes = loop {
            if let Some(bytes) = self.inbox.pop_front() {
                break bytes;
            }
            match self.receive(until.saturating_duration_since(Instant::now()))? {
                Some(bytes) => self.keep(bytes),
                None => return Ok(None),
            }
        };
        if bytes.len() >= 4 && bytes[0] >> 6 == 1 {
            let number = u16::from_be_bytes([bytes[0], bytes[1]]);
            let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            let Some(data) = bytes.get(4..4 + len) else {
                return Err(fail("ChannelData as long as it says", "a shorter one"));
            };
            return Ok(Some(Data::Channel(number, data.to_vec())));
        }
        Ok(Some(self.read(&bytes).map_or(Data::Other(bytes), indication)))
    }

    /// Sends a Send indication.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_data(&mut self, peer: SocketAddr, data: &[u8]) -> Verdict {
        let indication = self
            .write(kind::SEND)
            .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
            .with(attribute::DATA, data);
        self.send(&indication.bytes())
    }

    /// Sends ChannelData, padded where the transport is a stream.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_channel(&mut self, number: u16, data: &[u8]) -> Verdict {
        let mut bytes = channel_data(number, data);
        if self.trial.is_stream() {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        self.send(&bytes)
    }

    /// Sends data by a Send indication until the peer has it; gives the address it came from.
    ///
    /// # Errors
    /// It does not arrive.
    pub fn expect_relay(&mut self, peer: &Peer<'_>, data: &[u8]) -> Result<SocketAddr, Stop> {
        let address = peer.address();
        peer.expect(data, || self.send_data(address, data))
    }

    /// The same by a channel.
    ///
    /// # Errors
    /// It does not arrive.
    pub fn expect_channel(
        &mut self,
        number: u16,
        peer: &Peer<'_>,
        data: &[u8],
    ) -> Result<SocketAddr, Stop> {
        peer.expect(data, || self.send_channel(number, data))
    }

    /// Binds a channel, or binds it for longer.
    ///
    /// # Errors
    /// There is no response.
    pub fn bind(&mut self, number: u16, peer: SocketAddr) -> Result<Answer, Stop> {
        self.ask(kind::CHANNEL_BIND, |w| {
            w.with_u32(attribute::CHANNEL_NUMBER, u32::from(number) << 16)
                .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
        })
    }

    /// Lets `send` be called until this data comes, a few times.
    ///
    /// # Errors
    /// It does not come, or something else does.
    pub fn expect_data(&mut self, expected: &Data, mut send: impl FnMut() -> Verdict) -> Verdict {
        for _ in 0..TRIES {
            send()?;
            let until = Instant::now() + SOON / TRIES;
            while let Some(came) = self.data(until.saturating_duration_since(Instant::now()))? {
                if came == *expected {
                    self.past.push(came);
                    return Ok(());
                }
                // What was sent again comes again.
                if self.past.contains(&came) {
                    continue;
                }
                return Err(fail(format!("{expected:?}"), format!("{came:?}")));
            }
        }
        Err(fail(format!("{expected:?}"), "nothing"))
    }
}

fn indication(answer: Answer) -> Data {
    let peer = answer.xor_address(attribute::XOR_PEER_ADDRESS);
    let data = answer.value(attribute::DATA).map(<[u8]>::to_vec);
    let icmp = answer.value(attribute::ICMP).map(<[u8]>::to_vec);
    match (answer.kind, peer, data, icmp) {
        (kind::DATA, Some(peer), Some(data), None) => Data::Indication(peer, data),
        (kind::DATA, Some(peer), None, Some(icmp)) => Data::Icmp(peer, icmp),
        _ => Data::Other(answer.raw),
    }
}
