//! A flood from 65,536 sources that have proved nothing (RULES: D1, D2): no source gets more than one
//! answer, none more than its request may bring; nothing grows, and a client is served all the while.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::client::channel_data;
use turnwire_tests::frame::{Datagram, Packet};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest};
use turnwire_tests::stun::{Builder, Message, attribute, kind, long_term_key};
use turnwire_tests::wait::SOON;

use crate::af_xdp::{every_tier, started};

/// Sources that have the client for a router: 44.129/16.
const SOURCES: u32 = 65_536;
/// Under way at a time: half of what a veth holds.
const BURST: u32 = 128;
/// Turns after which nothing is to grow any more.
const WARM: u32 = 16_384;
const GROWTH_KIB_MAX: u64 = 4096;
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn a_flood_by_sockets_grows_nothing_and_a_client_is_served() {
    let [sockets, ..] = every_tier();
    in_lab(Topology::TwoArmed, |lab| is_borne(lab, &sockets));
}

#[test]
fn a_flood_beside_the_program_grows_nothing_and_a_client_is_served() {
    let [_, punting, _] = every_tier();
    in_lab(Topology::TwoArmed, |lab| is_borne(lab, &punting));
}

fn is_borne(lab: &Lab, launch: &Launch) -> Result<()> {
    let route = ["ip", "route", "add", "44.129.0.0/16", "via", "44.128.1.2"];
    lab.run(Host::Relay, &route)?;
    // the client's host knows nothing of them, and says nothing
    let relay = started(lab, launch)?;
    let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
    call.warm_up(&relay)?;
    let wires = Wires::open(lab)?;
    let state = || -> Result<_> {
        let metrics = relay.metrics()?;
        let gauges = ["turnwire_allocations", "turnwire_permissions", "turnwire_channels"];
        Ok(gauges.map(|name| metrics.sum(name, &[])))
    };
    let (before, mut resident) = (state()?, 0);
    let mut answers = Answers::default();
    for first in (0..SOURCES).step_by(BURST as usize) {
        for number in first..first + BURST {
            let (source, kind) = (source(number), Kind::of(number));
            let sent =
                Datagram::new(wires.client, source, call.listener).carrying(&kind.message(number));
            wires.near(Direction::ToPeer).send(&sent.frame())?;
        }
        let served = call.client.binding(SOON).context("in the flood")?;
        ensure!(served == call.client.address()?, "{served}");
        if first.is_multiple_of(BURST * 32) {
            call.traffic(Direction::ToClient, 4)?;
            answers.take(&wires, Duration::ZERO)?;
        }
        if first == WARM {
            resident = resident_kib(&relay)?;
        }
    }
    answers.take(&wires, QUIET)?;
    answers.are_bounded()?;
    let grown = resident_kib(&relay)?.saturating_sub(resident);
    println!("{:?}: {} answers, {grown} KiB more", launch.tier, answers.0.len());
    ensure!(grown <= GROWTH_KIB_MAX, "{grown} KiB more");
    ensure!(state()? == before, "{:?} were {before:?}", state()?);
    call.loses_nothing(&relay, 32)
}

/// What the flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Binding,
    Allocate,
    Forged,
    Garbage,
    Channel,
}

impl Kind {
    fn of(number: u32) -> Kind {
        match number % 8 {
            0 | 1 => Kind::Binding,
            2..5 => Kind::Allocate,
            5 => Kind::Forged,
            6 => Kind::Garbage,
            _ => Kind::Channel,
        }
    }

    fn message(self, number: u32) -> Vec<u8> {
        let mut id = *b"flood 0000..";
        id[6..10].copy_from_slice(&number.to_be_bytes());
        let allocate = Builder::new(kind::ALLOCATE, id);
        match self {
            Kind::Binding => Builder::new(kind::BINDING, id).bytes(),
            Kind::Allocate => allocate.bytes(),
            Kind::Forged => allocate
                .with(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .with(attribute::USERNAME, b"alice")
                .with(attribute::REALM, b"lab.test")
                .with(attribute::NONCE, b"obMatJos2AAAAA and so on")
                .with_integrity(&long_term_key("alice", "lab.test", "a guess"))
                .bytes(),
            Kind::Garbage => id.repeat(9),
            Kind::Channel => channel_data(0x4000 + (number % 0x1000) as u16, &id),
        }
    }

    /// Bytes of its answer: RULES section 4.
    fn answer_max(self, size: usize) -> usize {
        match self {
            Kind::Binding => size * 16 / 10,
            Kind::Allocate => 4 * 20,
            // a nonce that was never given out: 438, no larger than its request
            Kind::Forged => size,
            Kind::Garbage | Kind::Channel => 0,
        }
    }
}

/// Every number once, from every address of 44.129/16.
fn source(number: u32) -> SocketAddr {
    let [.., high, low] = number.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 129, high, low)), 1024 + (number % 50_000) as u16)
}

/// Sizes of what each source got.
#[derive(Default)]
struct Answers(BTreeMap<u32, Vec<usize>>);

impl Answers {
    fn take(&mut self, wires: &Wires, quiet: Duration) -> Result<()> {
        let flood = |packet: &Packet| match packet.destination.ip() {
            IpAddr::V4(ip) => ip.octets()[..2] == [44, 129],
            IpAddr::V6(_) => false,
        };
        for packet in wires.far(Direction::ToClient).collect(quiet, flood)? {
            let IpAddr::V4(ip) = packet.destination.ip() else { continue };
            let [.., high, low] = ip.octets();
            let number = u32::from_be_bytes([0, 0, high, low]);
            ensure!(packet.destination == source(number), "{}", packet.summary());
            ensure!(Message::parse(&packet.payload).is_some(), "{packet:02x?}");
            self.0.entry(number).or_default().push(packet.payload.len());
        }
        Ok(())
    }

    fn are_bounded(&self) -> Result<()> {
        let mut by_kind = [0; 3];
        for (number, sizes) in &self.0 {
            let kind = Kind::of(*number);
            let most = kind.answer_max(kind.message(*number).len());
            ensure!(sizes.len() == 1 && sizes[0] <= most, "{kind:?}: {sizes:?}, at most {most}");
            by_kind[match kind {
                Kind::Binding => 0,
                Kind::Allocate => 1,
                _ => 2,
            }] += 1;
        }
        println!("answers to Binding, Allocate, others: {by_kind:?}");
        ensure!(by_kind[0] > 100 && by_kind[1] > 100, "too few to tell anything: {by_kind:?}");
        Ok(())
    }
}

/// What the process has of memory (VmRSS of proc(5)).
fn resident_kib(relay: &RelayUnderTest) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("VmRSS is told")?;
    Ok(kib.parse()?)
}
