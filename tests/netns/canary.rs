//! Nothing but the datagram leaves (RFC 8489 section 14: padding is zero; RULES: buffers are reused):
//! frames and buffers are filled with a canary, and then carry short datagrams with more of it behind
//! them, wherever there can be something behind.
//!
//! ```text
//!   | Ethernet | IP | UDP | data | padding | behind the datagram | filled up |
//!                                  ^ c5 c5   ^ c5 c5 c5            ^ c5 c5
//! ```

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{CHANNEL, Call, Wires};
use turnwire_tests::client::channel_data;
use turnwire_tests::frame::{Datagram, Packet};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::random::Random;
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::stun::{Builder, Message, attribute, kind};
use turnwire_tests::wait::{Deadline, SOON};

use crate::af_xdp::{PUNTING, started};

const CANARY: u8 = 0xc5;
const WINDOW: usize = 32;
/// Windows of the longest datagrams, of canary alone: more than a queue's ring holds, each way.
const FILLING: usize = 40;
const EXCHANGES: usize = 12_000;
/// Comprehension-optional: the control thread takes what has it.
const SOFTWARE: u16 = 0x8022;

#[test]
fn no_canary_leaves_by_sockets() {
    in_lab(Topology::TwoArmed, |lab| never_seen(lab, &Launch::of(Tier::Sockets)));
}

#[test]
fn no_canary_leaves_by_the_program_and_in_the_frames_of_indications() {
    in_lab(Topology::TwoArmed, |lab| never_seen(lab, &PUNTING));
}

#[test]
fn no_canary_leaves_in_the_frames_of_channels() {
    in_lab(Topology::TwoArmed, |lab| never_seen(lab, &Launch::of(Tier::AfXdp)));
}

/// A client with a channel to its peer, and a permission for another socket there.
struct Talk {
    call: Call,
    other: UdpSocket,
}

/// What leaves: from where, to where, and what. An answer's content is its own affair.
type Out = (SocketAddr, SocketAddr, Vec<u8>);

#[derive(Clone, Copy, Debug)]
enum What {
    Channel,
    Send,
    /// Carried by the control thread.
    OddSend,
    Binding,
}

fn never_seen(lab: &Lab, launch: &Launch<'_>) -> Result<()> {
    let mut random = Random::replayable(8);
    let relay = started(lab, launch)?;
    let mut talks = Vec::new();
    for outer in Family::ALL {
        for inner in Family::ALL {
            let mut call = Call::set_up(lab, outer, inner)?;
            call.warm_up(&relay)?;
            let other = lab.udp(Host::Peer, (inner.peer(), 0).into())?;
            other.connect(call.relayed)?;
            talks.push(Talk { call, other });
        }
    }
    let wires = Wires::open(lab)?;
    let mut stage = Stage { wires, talks, random: Random::new(0), answers: 0 };
    // given frames and buffers full of it
    for _ in 0..FILLING {
        stage.window(WINDOW, |stage, direction| stage.canary(direction))?;
    }
    // when, then
    stage.random = Random::new(random.next_u64());
    for _ in 0..EXCHANGES / WINDOW {
        stage.window(WINDOW, |stage, direction| stage.short(direction))?;
    }
    let answers = stage.answers;
    ensure!(answers >= 20, "only {answers} answers to Binding requests were seen");
    by_its_tiers(&relay, launch)
}

/// The frames that are to be looked at were really used.
fn by_its_tiers(relay: &RelayUnderTest<'_>, launch: &Launch<'_>) -> Result<()> {
    let metrics = relay.metrics()?;
    let indications = metrics.sum("turnwire_af_xdp_indications_total", &[]);
    let control = [("tier", "control")];
    let control = metrics.sum("turnwire_forwarded_packets_total", &control);
    let by_tier = relay.forwarded(Direction::ToPeer)? + relay.forwarded(Direction::ToClient)?;
    println!("{by_tier} by {:?}, {indications} as frames, {control} by control", launch.tier);
    let least = EXCHANGES as u64 / 8;
    ensure!(by_tier >= least && control >= least / 4, "{}", metrics.counted());
    ensure!(launch.tier == Tier::Sockets || indications >= least, "{}", metrics.counted());
    Ok(())
}

struct Stage {
    wires: Wires,
    talks: Vec<Talk>,
    random: Random,
    answers: usize,
}

impl Stage {
    /// So many datagrams each way, all of which come out, and nothing else does.
    fn window(
        &mut self,
        size: usize,
        mut make: impl FnMut(&mut Self, Direction) -> Result<(Vec<u8>, Option<Out>)>,
    ) -> Result<()> {
        for direction in Direction::ALL {
            let mut wanted = Vec::new();
            let mut frames = Vec::new();
            for _ in 0..size {
                let (frame, out) = make(self, direction)?;
                frames.push(frame);
                wanted.extend(out);
            }
            for frame in &frames {
                self.wires.near(direction).send(frame)?;
            }
            wanted.sort();
            let deadline = Deadline::after(SOON);
            while !wanted.is_empty() {
                let out = self.next(direction, deadline)?;
                let out = out.with_context(|| format!("{direction:?}, missing: {wanted:02x?}"))?;
                let at = wanted.iter().position(|wanted| *wanted == out);
                let at = at.with_context(|| format!("{direction:?}, came out: {out:02x?}"))?;
                wanted.swap_remove(at);
            }
        }
        Ok(())
    }

    /// The next that comes out this way; answers on the way are looked at, and counted.
    fn next(&mut self, direction: Direction, deadline: Deadline) -> Result<Option<Out>> {
        while let Some(seen) = self.wires.far(direction).next(deadline)? {
            let Some(packet) = Packet::parse(&seen.bytes).filter(|_| !seen.sent_here) else {
                continue;
            };
            ensure!(packet.trailing_len == 0, "bytes behind the packet: {packet:02x?}");
            ensure!(packet.faults.is_empty(), "{}", packet.summary());
            self.answers += usize::from(is_answer(&packet)?);
            if !is_answer(&packet)? {
                let payload = without_transaction(packet.payload);
                return Ok(Some((packet.source, packet.destination, payload)));
            }
        }
        Ok(None)
    }

    /// The longest there can be, and nothing but canary: these may leave.
    fn canary(&mut self, direction: Direction) -> Result<(Vec<u8>, Option<Out>)> {
        let what = match self.random.below(4) {
            0 => What::OddSend,
            1 => What::Send,
            _ => What::Channel,
        };
        self.frame(direction, what, &[CANARY; 1380], [0; 3])
    }

    /// A few bytes, and canary behind them, in a place or several.
    fn short(&mut self, direction: Direction) -> Result<(Vec<u8>, Option<Out>)> {
        let random = &mut self.random;
        let what = match random.below(16) {
            0 => What::Binding,
            1 | 2 => What::OddSend,
            3..9 => What::Send,
            _ => What::Channel,
        };
        let size = if random.one_in(8) { random.below(200) } else { random.below(9) };
        let data: Vec<u8> = (0..size).map(|at| (at % 0xc0) as u8).collect();
        let mut some = |most: usize| if random.one_in(3) { 1 + random.below(most) } else { 0 };
        let lengths = [some(3), some(40), some(40)];
        self.frame(direction, what, &data, lengths)
    }

    /// A frame with these data, and what is to come of it. Lengths of canary: of ChannelData's padding,
    /// behind the UDP datagram, behind the IP packet.
    fn frame(
        &mut self,
        direction: Direction,
        what: What,
        data: &[u8],
        [padding, behind, trailing]: [usize; 3],
    ) -> Result<(Vec<u8>, Option<Out>)> {
        let talk = &self.talks[self.random.below(self.talks.len())];
        let Talk { call, other } = talk;
        let other = other.local_addr()?;
        let (mut datagram, out) = match (direction, what) {
            (_, What::Channel) => {
                let mut datagram = call.datagram(&self.wires, direction, data)?;
                if direction == Direction::ToPeer {
                    datagram.payload.resize(datagram.payload.len() + padding, CANARY);
                }
                let (source, destination) = call.leaves_as(direction)?;
                let payload = match direction {
                    Direction::ToPeer => data.to_vec(),
                    Direction::ToClient => channel_data(CHANNEL, data),
                };
                (datagram, Some((source, destination, payload)))
            }
            (Direction::ToPeer, _) => {
                let client = call.client.address()?;
                let message = message(what, other, data);
                let datagram = Datagram::new(self.wires.client, client, call.listener);
                let out = !matches!(what, What::Binding);
                let out = out.then(|| (call.relayed, other, data.to_vec()));
                (datagram.carrying(&message), out)
            }
            (Direction::ToClient, _) => {
                let datagram = Datagram::new(self.wires.peer, other, call.relayed);
                let payload = Builder::new(kind::DATA_INDICATION, [0; 12])
                    .with_xor_address(attribute::XOR_PEER_ADDRESS, other)
                    .with(attribute::DATA, data)
                    .bytes();
                let out = (call.listener, call.client.address()?, payload);
                (datagram.carrying(data), Some(out))
            }
        };
        datagram.behind = vec![CANARY; behind];
        let mut frame = datagram.frame();
        frame.resize(frame.len() + trailing, CANARY);
        Ok((frame, out))
    }
}

/// What a client says to the relay, with canary for padding.
fn message(what: What, peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let transaction = *b"canary canar";
    let odd = |message: Builder| message.with_padding(SOFTWARE, b"a", CANARY);
    match what {
        What::Binding => odd(Builder::new(kind::BINDING, transaction)).bytes(),
        What::Channel | What::Send | What::OddSend => {
            let send = Builder::new(kind::SEND_INDICATION, transaction)
                .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
                .with_padding(attribute::DATA, data, CANARY);
            if matches!(what, What::OddSend) { odd(send).bytes() } else { send.bytes() }
        }
    }
}

/// An answer of the relay's, which has no canary anywhere.
fn is_answer(packet: &Packet) -> Result<bool> {
    let answers = [kind::BINDING + kind::SUCCESS, kind::BINDING + kind::ERROR];
    let Some(message) = Message::parse(&packet.payload) else { return Ok(false) };
    if !answers.contains(&message.kind()) {
        return Ok(false);
    }
    ensure!(!packet.payload.contains(&CANARY), "in an answer: {packet:02x?}");
    Ok(true)
}

/// With zeros for a Data indication's transaction id.
fn without_transaction(mut payload: Vec<u8>) -> Vec<u8> {
    let data = Message::parse(&payload).is_some_and(|it| it.kind() == kind::DATA_INDICATION);
    if !data {
        return payload;
    }
    let message = Message::parse(&payload);
    let peer = message.and_then(|message| message.xor_address(attribute::XOR_PEER_ADDRESS));
    payload[8..20].fill(0);
    // the id masks an IPv6 address
    if let Some(peer) = peer {
        let clean = Builder::new(kind::DATA_INDICATION, [0; 12])
            .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
            .bytes();
        payload[20..clean.len()].copy_from_slice(&clean[20..]);
    }
    payload
}
