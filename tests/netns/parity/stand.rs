//! A relay in a lab with all calls set up, and every flow known to it.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::Wires;
use turnwire_tests::client::Client;
use turnwire_tests::frame::{Datagram, Mac};
use turnwire_tests::lab::{Family, Host, Lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest};
use turnwire_tests::wait::{self, SOON};

use super::generated::{Call, Checksum, Role, Sent, Shape};
use super::seen::{self, Out};

/// Four "no operation" options.
const IPV4_OPTIONS: [u8; 4] = [1, 1, 1, 1];
/// A destination options header: UDP follows, 8 bytes, six of padding.
const IPV6_OPTIONS: [u8; 8] = [17, 0, 1, 4, 0, 0, 0, 0];
/// Bytes of UDP in a first fragment.
const FIRST_FRAGMENT: usize = 16;

/// A relay in a lab, with its calls.
pub(crate) struct Stand<'a> {
    pub(crate) relay: RelayUnderTest<'a>,
    pub(crate) wires: Wires,
    /// By call.
    pub(crate) relayed: Vec<SocketAddr>,
    /// So that nobody answers with ICMP what goes to clients and peers; what they get they drop.
    _ends: (Vec<Client>, Vec<UdpSocket>),
}

impl<'a> Stand<'a> {
    pub(crate) fn set_up(lab: &'a Lab, launch: &Launch<'_>) -> Result<Self> {
        neighbours_stay(lab)?;
        let relay = RelayUnderTest::launch(lab, launch)?;
        let calls = Call::all();
        let (mut clients, mut relayed, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for call in &calls {
            let mut client = Client::over(lab.udp(Host::Client, call.client())?, call.outer)?;
            relayed.push(client.allocate(call.inner).with_context(|| format!("{call:?}"))?);
            clients.push(client);
        }
        for (call, client) in calls.iter().zip(&mut clients) {
            match call.role {
                Role::Inner(other) => client.bind(call.channel(), relayed[other])?,
                Role::Usual | Role::Gone => client.bind(call.channel(), call.peer())?,
            }
            if call.role == Role::Gone {
                client.refresh(0)?;
            }
            if call.role == Role::Usual {
                for peer in [call.peer(), call.permitted(), call.permitted_plainly()] {
                    peers.push(lab.udp(Host::Peer, peer)?);
                }
            }
        }
        let wires = Wires::open(lab)?;
        let stand = Self { relay, wires, relayed, _ends: (clients, peers) };
        stand.warm_up(&calls)?;
        Ok(stand)
    }

    /// Until the relay's own tier carries every call each way. The first that the host's stack gives to
    /// a worker that has not the relay port goes by the control thread, and keeps its TTL as well.
    fn warm_up(&self, calls: &[Call]) -> Result<()> {
        for call in calls.iter().filter(|call| call.role != Role::Gone) {
            for direction in Direction::ALL {
                let inner = matches!(call.role, Role::Inner(_));
                if inner && direction == Direction::ToClient {
                    continue;
                }
                let plain = call.plain(direction);
                wait::until(&format!("{call:?} is carried {direction:?}"), SOON, || {
                    let before = self.relay.forwarded(direction)?;
                    self.there_and_out(&plain)?;
                    Ok((self.relay.forwarded(direction)? > before).then_some(()))
                })?;
                let odd = Sent { shape: Shape::Options, ..plain.clone() };
                let ttl = self.there_and_out(&odd)?.ttl();
                ensure!(ttl == plain.ttl - 1, "{call:?} {direction:?}: TTL {ttl}");
            }
        }
        Ok(())
    }

    /// Sends it and takes what comes out.
    fn there_and_out(&self, sent: &Sent) -> Result<Out> {
        for frame in self.frames(sent) {
            self.wires.near(sent.direction).send(&frame)?;
        }
        let mut outs = Vec::new();
        seen::take(self, sent.out.context("it is to come out")?, 1, &mut outs)?;
        outs.pop().context("one was taken")
    }

    /// As it comes to this relay.
    pub(crate) fn frames(&self, sent: &Sent) -> Vec<Vec<u8>> {
        let (macs, destination): ((Mac, Mac), _) = match sent.direction {
            Direction::ToPeer => (self.wires.client, sent.call.outer.listener()),
            Direction::ToClient => (self.wires.peer, self.relayed[sent.call.number]),
        };
        let mut datagram = Datagram::new(macs, sent.source, destination).carrying(&sent.payload);
        (datagram.ttl, datagram.traffic_class) = (sent.ttl, sent.class);
        datagram.dont_fragment = sent.dont_fragment && sent.shape != Shape::Fragments;
        datagram.checksum = sent.checksum != Checksum::None;
        if sent.shape == Shape::Options {
            let v4 = sent.source.is_ipv4();
            datagram.options = if v4 { IPV4_OPTIONS.into() } else { IPV6_OPTIONS.into() };
        }
        if sent.shape == Shape::Fragments {
            return datagram.fragments(FIRST_FRAGMENT).into();
        }
        let mut frame = datagram.frame();
        if sent.checksum == Checksum::Wrong {
            frame.last_mut().into_iter().for_each(|last| *last ^= 1);
        }
        if let Shape::Trailing(count) = sent.shape {
            frame.resize(frame.len() + count, 0xdb);
        }
        vec![frame]
    }
}

/// Else the relay asks for them again and again, and on a machine that is too busy to answer in time
/// another tier has a turn.
fn neighbours_stay(lab: &Lab) -> Result<()> {
    for (device, host) in [(lab.towards_client(), Host::Client), (lab.towards_peer(), Host::Peer)] {
        let mac = lab.mac(host, "eth0")?.map(|byte| format!("{byte:02x}")).join(":");
        for family in Family::ALL {
            let ip = if host == Host::Client { family.client() } else { family.peer() };
            let words = format!("ip neigh replace {ip} lladdr {mac} dev {device} nud permanent");
            lab.run(Host::Relay, &words.split(' ').collect::<Vec<_>>())?;
        }
    }
    Ok(())
}
