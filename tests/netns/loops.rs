//! Clients of one relay that are each other's peers, or their own: one datagram in, at most one out
//! (RULES: D3), whatever carries it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::Wires;
use turnwire_tests::client::{Client, channel_data};
use turnwire_tests::frame::Packet;
use turnwire_tests::lab::{Family, Lab, Topology, in_lab};
use turnwire_tests::packet_socket::PacketSocket;
use turnwire_tests::relay::{Direction, Launch};
use turnwire_tests::stun::{Builder, attribute, kind};
use turnwire_tests::wait::{Deadline, SOON};

use crate::af_xdp::{every_tier, started};

/// Triggers of each kind: the first while the way is still being found, by whatever tier.
const COUNT: u32 = 32;
/// More than one would come right behind.
const QUIET: Duration = Duration::from_millis(100);
const CHANNEL: u16 = 0x4001;

#[test]
fn one_datagram_goes_round_once_at_most() {
    for launch in every_tier() {
        in_lab(Topology::TwoArmed, |lab| goes_round_once(lab, &launch));
    }
}

/// Who is whose peer.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Its own, by a channel.
    Itself,
    /// Each other's, by channels.
    Pair,
    /// Each other's, by permissions.
    Permitted,
    /// The next one's, of three, which permits the one before.
    Ring,
}

const SHAPES: [Shape; 4] = [Shape::Itself, Shape::Pair, Shape::Permitted, Shape::Ring];

fn goes_round_once(lab: &Lab, launch: &Launch) -> Result<()> {
    let relay = started(lab, launch)?;
    let wires = Wires::open(lab)?;
    for family in Family::ALL {
        for shape in SHAPES {
            let what = || format!("{:?}, {family:?}, {shape:?}", launch.tier);
            let mut clients = set_up(lab, family, shape).with_context(what)?;
            let wanted = clients[1 % clients.len()].0.address()?;
            let came = comes_out(&wires, &mut clients, family, shape).with_context(what)?;
            for number in 0..COUNT {
                let came = came.get(&number).map_or(&[][..], Vec::as_slice);
                ensure!(came == [wanted], "{}: {number} came to {came:?}", what());
            }
        }
    }
    drop(relay);
    Ok(())
}

fn set_up(lab: &Lab, family: Family, shape: Shape) -> Result<Vec<(Client, SocketAddr)>> {
    let count = match shape {
        Shape::Itself => 1,
        Shape::Pair | Shape::Permitted => 2,
        Shape::Ring => 3,
    };
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::new(lab, family)?;
        let relayed = client.allocate(family)?;
        clients.push((client, relayed));
    }
    let relayed: Vec<SocketAddr> = clients.iter().map(|(_, relayed)| *relayed).collect();
    for (at, (client, _)) in clients.iter_mut().enumerate() {
        let (next, before) = (relayed[(at + 1) % count], relayed[(at + count - 1) % count]);
        match shape {
            Shape::Permitted => client.permit(next)?,
            _ => client.bind(CHANNEL, next)?,
        }
        client.permit(before)?;
    }
    Ok(clients)
}

/// Whom each trigger, by its number, came to: whatever left the relay for anybody.
fn comes_out(
    wires: &Wires,
    clients: &mut [(Client, SocketAddr)],
    family: Family,
    shape: Shape,
) -> Result<BTreeMap<u32, Vec<SocketAddr>>> {
    let peer = clients[1 % clients.len()].1;
    let mut came = BTreeMap::<u32, Vec<SocketAddr>>::new();
    Direction::ALL.into_iter().try_for_each(|direction| wires.far(direction).forget())?;
    for number in 0..COUNT {
        let data = [b"trigger ".as_slice(), &number.to_be_bytes()].concat();
        let message = match shape {
            Shape::Permitted => Builder::new(kind::SEND_INDICATION, *b"round and ro")
                .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
                .with(attribute::DATA, &data)
                .bytes(),
            _ => channel_data(CHANNEL, &data),
        };
        clients[0].0.send_bytes(&message)?;
        let deadline = Deadline::after(SOON);
        while !came.contains_key(&number) {
            let left = deadline.left().with_context(|| format!("{number} never came"))?;
            take(wires.far(Direction::ToClient), Deadline::after(left), family, &mut came, 1)?;
        }
    }
    for direction in Direction::ALL {
        take(wires.far(direction), Deadline::after(QUIET), family, &mut came, usize::MAX)?;
    }
    Ok(came)
}

/// Notes what comes, so many at most.
fn take(
    end: &PacketSocket,
    deadline: Deadline,
    family: Family,
    came: &mut BTreeMap<u32, Vec<SocketAddr>>,
    most: usize,
) -> Result<()> {
    let mut count = 0;
    while count < most
        && let Some(seen) = end.next(deadline)?
    {
        let packet = Packet::parse(&seen.bytes).filter(|_| !seen.sent_here);
        let Some(packet) = packet else { continue };
        let at = packet.payload.windows(8).position(|bytes| bytes == b"trigger ");
        let Some(number) = at.and_then(|at| packet.payload.get(at + 8..at + 12)) else { continue };
        ensure!(packet.source == family.listener(), "left the relay: {}", packet.summary());
        let number = u32::from_be_bytes(number.try_into()?);
        came.entry(number).or_default().push(packet.destination);
        count += 1;
    }
    Ok(())
}
