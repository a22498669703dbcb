//! Those whom the relay never answers: responses and indications, other protocols, and whatever comes
//! from where no host is, or from itself (RULES section 2), whatever it comes by.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::frame::{Datagram, Packet};
use turnwire_tests::lab::{Family, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch};
use turnwire_tests::stun::{Builder, Message, kind};
use turnwire_tests::wait::SOON;

use crate::af_xdp::{every_tier, started};

const QUIET: Duration = Duration::from_millis(200);
const SOFTWARE: u16 = 0x8022;
/// None of them is one host elsewhere, or they have no port. Of the lab's client network, .255 is
/// everybody.
const IPV4: [&str; 13] = [
    "44.128.1.2:0",
    "0.0.0.0:5000",
    "0.1.2.3:5000",
    "127.0.0.1:5000",
    "224.0.0.1:5000",
    "239.1.2.3:5000",
    "240.0.0.1:5000",
    "255.255.255.255:5000",
    "44.128.1.255:5000",
    "44.128.1.1:3478",
    "44.128.1.1:5000",
    "44.128.2.1:3478",
    "44.128.2.1:5000",
];
const IPV6: [&str; 10] = [
    "[2e00:44:1::2]:0",
    "[::]:5000",
    "[::1]:5000",
    "[::ffff:44.128.1.2]:5000",
    "[ff02::1]:5000",
    "[ff0e::1]:5000",
    "[2e00:44:1::1]:3478",
    "[2e00:44:1::1]:5000",
    "[2e00:44:2::1]:3478",
    "[2e00:44:2::1]:5000",
];

#[test]
fn who_must_not_be_answered_is_not() {
    for launch in every_tier() {
        in_lab(Topology::TwoArmed, |lab| is_not_answered(lab, &launch));
    }
}

fn is_not_answered(lab: &Lab, launch: &Launch) -> Result<()> {
    let relay = started(lab, launch)?;
    let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
    call.warm_up(&relay)?;
    let wires = Wires::open(lab)?;
    for family in Family::ALL {
        let sources = if family == Family::V4 { &IPV4[..] } else { &IPV6[..] };
        let mut bad = Vec::new();
        for source in sources {
            let source: SocketAddr = source.parse()?;
            for request in [kind::BINDING, kind::ALLOCATE, kind::REFRESH] {
                bad.push((source, Builder::new(request, *b"unanswerable").bytes()));
            }
        }
        // one of the relay's own ports, seen from outside
        if family == Family::V4 {
            bad.push((call.relayed, Builder::new(kind::BINDING, *b"unanswerable").bytes()));
        }
        let good = SocketAddr::new(family.client(), 5000);
        bad.extend(not_requests().into_iter().map(|message| (good, message)));
        for direction in Direction::ALL {
            wires.far(direction).forget()?;
        }
        for (source, message) in bad {
            let sent = Datagram::new(wires.client, source, family.listener()).carrying(&message);
            wires.near(Direction::ToPeer).send(&sent.frame())?;
        }
        only_this_is_answered(&wires, family, good)
            .with_context(|| format!("{:?}, {family:?}", launch.tier))?;
    }
    call.loses_nothing(&relay, 16)
}

/// What is no request, from somebody who might ask.
fn not_requests() -> Vec<Vec<u8>> {
    let message = |kind: u16| Builder::new(kind, *b"unanswerable").with(SOFTWARE, b"x").bytes();
    let mut all = Vec::new();
    for method in [kind::BINDING, kind::ALLOCATE, kind::REFRESH, kind::CHANNEL_BIND] {
        // an indication, a success, an error
        all.extend([0x0010, kind::SUCCESS, kind::ERROR].map(|class| message(method + class)));
    }
    let whole = message(kind::BINDING);
    // cut short, with bytes behind, of another cookie, of no length
    all.push(whole[..whole.len() - 4].to_vec());
    all.push([&whole[..], &[0; 4]].concat());
    all.push([&whole[..4], &[0x21, 0x12, 0xa4, 0x43], &whole[8..]].concat());
    all.extend([
        vec![],
        vec![0],
        vec![0; 20],
        vec![0x80; 40],
        vec![0x16; 40],
        b"GET / HTTP".into(),
    ]);
    all.push([&[0x4f, 0xff, 0, 4][..], b"data"].concat());
    all
}

/// One request is sent, and its answer is all that has left the relay since.
fn only_this_is_answered(wires: &Wires, family: Family, good: SocketAddr) -> Result<()> {
    let request = Builder::new(kind::BINDING, *b"this one may").bytes();
    let sent = Datagram::new(wires.client, good, family.listener()).carrying(&request);
    wires.near(Direction::ToPeer).send(&sent.frame())?;
    let ours = [Family::V4, Family::V6].map(|family| [family.listener().ip(), family.relayed()]);
    let left = |packet: &Packet| ours.as_flattened().contains(&packet.source.ip());
    let (_, packet) = wires.far(Direction::ToClient).find("an answer", SOON, left)?;
    let answer = Message::parse(&packet.payload);
    let right = answer.is_some_and(|answer| answer.transaction() == b"this one may");
    ensure!(right, "left the relay: {packet:02x?}");
    for direction in Direction::ALL {
        let more = wires.far(direction).collect(QUIET, left)?;
        ensure!(more.is_empty(), "left the relay: {more:02x?}");
    }
    Ok(())
}
