//! A call: a client with one channel, and its peer, ready to speak both ways.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Client, Received, channel_data, receive};
use crate::frame::{Datagram, Mac};
use crate::lab::{Family, Host, Lab};
use crate::packet_socket::PacketSocket;
use crate::relay::{Direction, RelayUnderTest, Tier};
use crate::traffic::{self, Outcome};
use crate::wait::{self, Deadline, SOON};

/// The channel that a call's client binds.
pub const CHANNEL: u16 = 0x4abc;
/// Datagrams that traffic never sends, each with a number of its own: one that comes late, after the
/// next was sent, tells nothing of that one.
const PROBE: &str = "is there a way?";
static PROBES: AtomicU32 = AtomicU32::new(0);
const PROBE_LIMIT: Duration = Duration::from_millis(300);

/// A client with one channel, and its peer.
#[derive(Debug)]
pub struct Call {
    /// The client, with an allocation and a channel.
    pub client: Client,
    /// The peer's socket, connected to the relayed address.
    pub peer: UdpSocket,
    /// The relayed address.
    pub relayed: SocketAddr,
    /// Where the client speaks to the relay.
    pub listener: SocketAddr,
}

impl Call {
    /// Allocates and binds: the client speaks `outer` to the relay, the peer `inner`.
    ///
    /// # Errors
    /// The relay refused something, or did not answer.
    pub fn set_up(lab: &Lab, outer: Family, inner: Family) -> Result<Self> {
        let peer = lab.udp(Host::Peer, SocketAddr::new(inner.peer(), 0))?;
        Self::with_peer(lab, outer, inner, peer)
    }

    /// The same with a peer's socket of one's own, which is connected here.
    ///
    /// # Errors
    /// As for `set_up`.
    pub fn with_peer(lab: &Lab, outer: Family, inner: Family, peer: UdpSocket) -> Result<Self> {
        Self::between(Client::new(lab, outer)?, outer, inner, peer)
    }

    /// The same with a client of one's own, that speaks `outer` to the relay and has no allocation.
    ///
    /// # Errors
    /// As for `set_up`.
    pub fn between(
        mut client: Client,
        outer: Family,
        inner: Family,
        peer: UdpSocket,
    ) -> Result<Self> {
        let relayed = client.allocate(inner).context("allocating")?;
        peer.connect(relayed)?;
        client.bind(CHANNEL, peer.local_addr()?).context("binding a channel")?;
        Ok(Self { client, peer, relayed, listener: outer.listener() })
    }

    /// Sends application data.
    ///
    /// # Errors
    /// As send(2).
    pub fn send(&self, direction: Direction, data: &[u8]) -> Result<()> {
        match direction {
            Direction::ToPeer => self.client.send(CHANNEL, data),
            Direction::ToClient => Ok(self.peer.send(data).map(|_| ())?),
        }
    }

    /// The next application data that arrives; `None` when none does.
    ///
    /// # Errors
    /// As recv(2), or something other than this call's channel data arrived.
    pub fn receive(&mut self, direction: Direction, deadline: Deadline) -> Result<Option<Vec<u8>>> {
        match direction {
            Direction::ToPeer => receive(&self.peer, deadline),
            Direction::ToClient => {
                let Some(limit) = deadline.left() else { return Ok(None) };
                match self.client.receive(limit)? {
                    None => Ok(None),
                    Some(Received::Channel(CHANNEL, data)) => Ok(Some(data)),
                    Some(other) => bail!("unexpected: {other:?}"),
                }
            }
        }
    }

    /// Sends `count` datagrams one way and tells what became of them.
    ///
    /// # Errors
    /// As for `send` and `receive`.
    pub fn traffic(&mut self, direction: Direction, count: u32) -> Result<Outcome> {
        // What an earlier attempt left under way is nobody's loss.
        while self.receive(direction, Deadline::after(Duration::from_millis(1)))?.is_some() {}
        let call = std::cell::RefCell::new(self);
        traffic::run(
            count,
            |data| call.borrow().send(direction, data),
            |deadline| call.borrow_mut().receive(direction, deadline),
        )
    }

    /// Whether one datagram gets through.
    ///
    /// # Errors
    /// As for `send` and `receive`.
    pub fn gets_through(&mut self, direction: Direction) -> Result<bool> {
        let probe = format!("{PROBE} {}", PROBES.fetch_add(1, Ordering::Relaxed)).into_bytes();
        // A port that the far end's host refused shows as an error of the next send: try again.
        self.send(direction, &probe).or_else(|_| self.send(direction, &probe))?;
        let deadline = Deadline::after(PROBE_LIMIT);
        while let Some(data) = self.receive(direction, deadline)? {
            if data == probe {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends until the relay's own tier carries both ways: until its next hops are known.
    ///
    /// # Errors
    /// It never does.
    pub fn warm_up(&mut self, relay: &RelayUnderTest) -> Result<()> {
        for direction in Direction::ALL {
            wait::until(&format!("{:?} carries {direction:?}", relay.tier()), SOON, || {
                let before = relay.forwarded(direction)?;
                let through = self.gets_through(direction)?;
                let carried = relay.tier() == Tier::Oracle || relay.forwarded(direction)? > before;
                Ok((through && carried).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Sends `count` datagrams each way, and wants all of them whole, and all by the relay's tier.
    ///
    /// # Errors
    /// One is missing or wrong, or took another way.
    pub fn loses_nothing(&mut self, relay: &RelayUnderTest, count: u32) -> Result<()> {
        for direction in Direction::ALL {
            let before = relay.forwarded(direction)?;
            let outcome = self.traffic(direction, count)?;
            ensure!(outcome == Outcome::perfect(count), "{direction:?}: {outcome:?}");
            let by_tier = relay.forwarded_since(before, direction, count.into())?;
            ensure!(
                relay.tier() == Tier::Oracle || by_tier == u64::from(count),
                "{direction:?}: {by_tier} of {count} by {:?}",
                relay.tier()
            );
        }
        Ok(())
    }

    /// `count` Send indications to a socket of the peer's host that has no channel, and as many Data
    /// indications back, one after the other: all arrive whole.
    ///
    /// # Errors
    /// One does not.
    pub fn exchanges_indications(&mut self, lab: &Lab, count: u8) -> Result<()> {
        let other = lab.udp(Host::Peer, (self.peer.local_addr()?.ip(), 0).into())?;
        other.connect(self.relayed)?;
        let address = other.local_addr()?;
        for round in 0..count {
            self.client.send_indication(address, &[round; 33])?;
            let came = receive(&other, Deadline::after(SOON))?;
            ensure!(came.as_deref() == Some(&[round; 33][..]), "to the peer: {came:?}");
            other.send(&[round; 34])?;
            let came = self.client.receive(SOON)?;
            let wanted = Received::Data(address, vec![round; 34]);
            ensure!(came.as_ref() == Some(&wanted), "to the client: {came:?}");
        }
        Ok(())
    }

    /// Application data in a datagram as it would come to the relay, to be sent as a frame.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn datagram(&self, wires: &Wires, direction: Direction, data: &[u8]) -> Result<Datagram> {
        Ok(match direction {
            Direction::ToPeer => Datagram::new(wires.client, self.client.address()?, self.listener)
                .carrying(&channel_data(CHANNEL, data)),
            Direction::ToClient => {
                Datagram::new(wires.peer, self.peer.local_addr()?, self.relayed).carrying(data)
            }
        })
    }

    /// From where and to where the relay sends what it forwards.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn leaves_as(&self, direction: Direction) -> Result<(SocketAddr, SocketAddr)> {
        Ok(match direction {
            Direction::ToPeer => (self.relayed, self.peer.local_addr()?),
            Direction::ToClient => (self.listener, self.client.address()?),
        })
    }

    /// What the relay's payload is for application data.
    pub fn arrives_as(&self, direction: Direction, data: &[u8]) -> Vec<u8> {
        match direction {
            Direction::ToPeer => data.into(),
            Direction::ToClient => channel_data(CHANNEL, data),
        }
    }
}

/// Eyes and hands on the client's and the peer's interface, and eyes on the relay's.
#[derive(Debug)]
pub struct Wires {
    client_end: PacketSocket,
    peer_end: PacketSocket,
    relay_to_client: PacketSocket,
    relay_to_peer: PacketSocket,
    /// The client's Ethernet address, and the relay's towards it.
    pub client: (Mac, Mac),
    /// The peer's Ethernet address, and the relay's towards it.
    pub peer: (Mac, Mac),
}

impl Wires {
    /// Opens both ends.
    ///
    /// # Errors
    /// As `PacketSocket::open`.
    pub fn open(lab: &Lab) -> Result<Self> {
        Ok(Self {
            client_end: PacketSocket::open(lab, Host::Client, "eth0")?,
            peer_end: PacketSocket::open(lab, Host::Peer, "eth0")?,
            relay_to_client: PacketSocket::open(lab, Host::Relay, lab.towards_client())?,
            relay_to_peer: PacketSocket::open(lab, Host::Relay, lab.towards_peer())?,
            client: (lab.mac(Host::Client, "eth0")?, lab.mac(Host::Relay, lab.towards_client())?),
            peer: (lab.mac(Host::Peer, "eth0")?, lab.mac(Host::Relay, lab.towards_peer())?),
        })
    }

    /// The end where what goes this way starts.
    pub fn near(&self, direction: Direction) -> &PacketSocket {
        match direction {
            Direction::ToPeer => &self.client_end,
            Direction::ToClient => &self.peer_end,
        }
    }

    /// What the relay's kernel gets of what goes this way: nothing that XDP has taken.
    pub fn relays_kernel(&self, direction: Direction) -> &PacketSocket {
        match direction {
            Direction::ToPeer => &self.relay_to_client,
            Direction::ToClient => &self.relay_to_peer,
        }
    }

    /// The end where what goes this way arrives.
    pub fn far(&self, direction: Direction) -> &PacketSocket {
        match direction {
            Direction::ToPeer => &self.peer_end,
            Direction::ToClient => &self.client_end,
        }
    }

    /// The relay's Ethernet address at the far end, and the far end's own.
    pub fn far_macs(&self, direction: Direction) -> (Mac, Mac) {
        let (host, relay) = match direction {
            Direction::ToPeer => self.peer,
            Direction::ToClient => self.client,
        };
        (relay, host)
    }
}
