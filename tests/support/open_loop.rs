//! Datagrams both ways at once over many flows, each at its time whatever comes back, or so many at a
//! time on their way; every byte of what arrives is looked at.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::call::{CHANNEL, Call};
use crate::client::channel_data;
use crate::relay::Direction;
use crate::traffic::Outcome;
use crate::wait::Stopwatch;

/// Application data of one datagram: 4 bytes of number, then noise; every remainder by four.
const SIZES: std::ops::RangeInclusive<usize> = 20..=1200;
/// How much more than what is due at the moment a generator that was late sends in one turn.
const CATCH_UP_MAX: u32 = 32;
/// A pause between two turns of the generator.
const PAUSE: Duration = Duration::from_micros(500);
/// Turns in which nothing moved, after which nothing will: some seconds. Turns, and not time, so that
/// a machine that stands still loses nothing.
const IDLE_TURNS_MAX: u32 = 3_000;
/// How long a datagram that should not come is waited for.
const LINGER: Duration = Duration::from_millis(50);
/// Bytes of noise that all datagrams of one way are cut from.
const NOISE: usize = 4096;

/// When the next datagram is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At its time: so many a second each way, whatever has come back.
    Open(u32),
    /// As soon as no more than so many of one way are missing.
    Closed(u32),
}

/// What is sent each way.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Datagrams.
    pub count: u32,
    /// When each is sent.
    pub pace: Pace,
}

/// What became of the datagrams of one way.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// By number.
    pub outcome: Outcome,
    /// Sent a second, from the first to the last.
    pub per_second: f64,
}

/// One way through the relay.
#[derive(Debug)]
pub struct Flow<'a> {
    sender: &'a UdpSocket,
    receiver: &'a UdpSocket,
    /// The channel in front of what is sent.
    channel_out: Option<u16>,
    /// The channel in front of what arrives.
    channel_in: Option<u16>,
}

impl<'a> Flow<'a> {
    /// A call's.
    pub fn of(call: &'a Call, direction: Direction) -> Self {
        let (client, peer) = (call.client.socket(), &call.peer);
        let channel = Some(CHANNEL);
        match direction {
            Direction::ToPeer => {
                Flow { sender: client, receiver: peer, channel_out: channel, channel_in: None }
            }
            Direction::ToClient => {
                Flow { sender: peer, receiver: client, channel_out: None, channel_in: channel }
            }
        }
    }
}

/// Sends `load` over the flows of each way in turn, and looks at what arrives. The sockets stay
/// non-blocking.
///
/// # Errors
/// A socket fails, otherwise than for want of room.
pub fn run<const WAYS: usize>(ways: &[Vec<Flow<'_>>; WAYS], load: Load) -> Result<[Passed; WAYS]> {
    let mut all: Vec<Way<'_>> = Vec::with_capacity(WAYS);
    for flows in ways {
        for flow in flows {
            flow.sender.set_nonblocking(true)?;
            flow.receiver.set_nonblocking(true)?;
        }
        all.push(Way::new(flows, load.count, all.len() as u32));
    }
    for way in &all {
        way.discard()?;
    }
    let clock = Stopwatch::start();
    let mut idle = 0;
    while idle < IDLE_TURNS_MAX && all.iter().any(|way| !way.is_complete()) {
        let now = clock.elapsed();
        idle += 1;
        for way in &mut all {
            let sent = way.send(load.pace, now).context("sending")?;
            let heard = way.hear().context("receiving")?;
            if sent || heard {
                idle = 0;
            }
        }
        std::thread::sleep(PAUSE);
    }
    // what comes twice comes now
    std::thread::sleep(LINGER);
    for way in &mut all {
        way.hear().context("receiving")?;
    }
    let passed: Vec<Passed> = all.iter().map(Way::passed).collect();
    Ok(std::array::from_fn(|way| passed[way]))
}

struct Way<'a> {
    flows: &'a [Flow<'a>],
    noise: Vec<u8>,
    seen: Vec<bool>,
    sent: u32,
    whole: u32,
    wrong: u32,
    count: u32,
    /// When the last one was sent.
    last: Duration,
}

impl<'a> Way<'a> {
    fn new(flows: &'a [Flow<'a>], count: u32, seed: u32) -> Self {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        });
        let noise = noise.take(NOISE + SIZES.end()).collect();
        let seen = vec![false; count as usize];
        Way { flows, noise, seen, sent: 0, whole: 0, wrong: 0, count, last: Duration::ZERO }
    }

    /// What was under way before is nobody's.
    fn discard(&self) -> Result<()> {
        let mut buffer = [0; 2048];
        for flow in self.flows {
            while received(flow.receiver, &mut buffer)?.is_some() {}
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.sent == self.count && self.whole == self.count
    }

    fn payload(&self, number: u32) -> Vec<u8> {
        let size = SIZES.start() + number as usize * 31 % (SIZES.end() - SIZES.start() + 1);
        let start = number as usize * 7 % NOISE;
        let mut bytes = Vec::from(&self.noise[start..start + size]);
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    /// Sends what is due; true if anything was.
    fn send(&mut self, pace: Pace, now: Duration) -> Result<bool> {
        let before = self.sent;
        let due = match pace {
            Pace::Open(per_second) => (now.as_secs_f64() * f64::from(per_second)) as u32,
            Pace::Closed(window) => self.whole + self.wrong + window,
        };
        let until = due.min(self.count).min(self.sent + CATCH_UP_MAX);
        while self.sent < until {
            let flow = &self.flows[self.sent as usize % self.flows.len()];
            let mut bytes = self.payload(self.sent);
            if let Some(channel) = flow.channel_out {
                bytes = channel_data(channel, &bytes);
            }
            match flow.sender.send(&bytes) {
                Ok(_) => (),
                // there will be room
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => break,
                Err(error) => return Err(error.into()),
            }
            self.sent += 1;
            self.last = now;
        }
        Ok(self.sent > before)
    }

    /// Takes in what has arrived; true if anything had.
    fn hear(&mut self) -> Result<bool> {
        let mut buffer = [0; 2048];
        let mut any = false;
        for (at, flow) in self.flows.iter().enumerate() {
            while let Some(length) = received(flow.receiver, &mut buffer)? {
                any = true;
                match self.recognise(at, &buffer[..length]) {
                    Some(number) if !std::mem::replace(&mut self.seen[number], true) => {
                        self.whole += 1;
                    }
                    _ => self.wrong += 1,
                }
            }
        }
        Ok(any)
    }

    /// The number of a datagram that came by flow `at`, if it is whole and one that was sent there.
    fn recognise(&self, at: usize, bytes: &[u8]) -> Option<usize> {
        let flow = &self.flows[at];
        let head = if flow.channel_in.is_some() { 4 } else { 0 };
        let number = u32::from_be_bytes(*bytes.get(head..)?.first_chunk()?);
        if number >= self.sent || number as usize % self.flows.len() != at {
            return None;
        }
        let payload = self.payload(number);
        let whole = match flow.channel_in {
            Some(channel) => channel_data(channel, &payload) == bytes,
            None => payload == bytes,
        };
        whole.then_some(number as usize)
    }

    fn passed(&self) -> Passed {
        let lost = self.count - self.whole;
        let outcome = Outcome { whole: self.whole, lost, wrong: self.wrong };
        Passed { outcome, per_second: f64::from(self.sent) / self.last.as_secs_f64() }
    }
}

/// The next datagram, if there is one.
fn received(socket: &UdpSocket, buffer: &mut [u8]) -> Result<Option<usize>> {
    loop {
        match socket.recv(buffer) {
            Ok(length) => return Ok(Some(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay on the loopback that does `mischief` to each datagram; `None` when there is no more
    /// for a while.
    fn through(mischief: impl Fn(u32, &mut Vec<Vec<u8>>) + Send, pace: Pace) -> Outcome {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (sender, relay, receiver) = (bind(), bind(), bind());
        sender.connect(relay.local_addr().unwrap()).unwrap();
        receiver.connect(relay.local_addr().unwrap()).unwrap();
        let target = receiver.local_addr().unwrap();
        relay.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut buffer = [0; 2048];
                for number in 0..100 {
                    let length = relay.recv(&mut buffer).unwrap();
                    let mut out = vec![buffer[..length].to_vec()];
                    mischief(number, &mut out);
                    for bytes in out {
                        relay.send_to(&bytes, target).unwrap();
                    }
                }
            });
            let flow = Flow {
                sender: &sender,
                receiver: &receiver,
                channel_out: Some(0x4001),
                channel_in: Some(0x4001),
            };
            let load = Load { count: 100, pace };
            run(&[vec![flow]], load).unwrap()[0].outcome
        })
    }

    #[test]
    fn what_passes_whole_is_counted_whole() {
        assert_eq!(through(|_, _| (), Pace::Open(10_000)), Outcome::perfect(100));
        assert_eq!(through(|_, _| (), Pace::Closed(4)), Outcome::perfect(100));
    }

    #[test]
    fn what_a_bad_relay_does_is_told() {
        let mischief = |number, out: &mut Vec<Vec<u8>>| match number {
            3 => out.clear(),
            40 => out[0].push(0),
            50 => out[0][9] ^= 1,
            60 => out.push(out[0].clone()),
            70 => out[0][1] = 2,
            _ => (),
        };
        for pace in [Pace::Open(10_000), Pace::Closed(16)] {
            let outcome = through(mischief, pace);
            assert_eq!(outcome, Outcome { whole: 96, lost: 4, wrong: 4 });
        }
    }
}
