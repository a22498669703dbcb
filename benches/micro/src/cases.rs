//! What is counted: each case prepares, and then does the same thing a fixed number of times.

use std::hint::black_box;

use dataplane::Stepped;
use turn::integrity::Hash;
use turn::message::Message;
use wire::{LISTENER, PortUse, Reason, decide};

use crate::flows::{Flow, Relay, many};
use crate::frames::Shuttle;
use crate::messages::{Desk, signed_refresh};
use crate::timers::Deadlines;

/// A case, ready to be counted.
pub struct Prepared {
    /// How often the work is done.
    pub times: u64,
    /// All of it.
    pub work: Box<dyn FnMut()>,
}

/// A case by its name.
pub struct Case {
    /// Its name in the baseline.
    pub name: &'static str,
    /// Builds what it works on: not counted.
    pub prepare: fn() -> Prepared,
}

const TIMES: u64 = 1000;
/// Application data of a packet, bytes: 20 ms of speech.
const DATA: u16 = 160;

fn times(times: u64, mut once: impl FnMut() + 'static) -> Prepared {
    Prepared { times, work: Box::new(move || (0..times).for_each(|_| once())) }
}

macro_rules! relay {
    ($name:literal, $client_v6:literal, $peer_v6:literal, $from_client:literal) => {
        Case {
            name: $name,
            prepare: || {
                let flow = Flow::new(5, $client_v6, $peer_v6);
                let relay = Relay::new(&[flow]);
                let mut shuttle = Shuttle::new(&flow, $from_client, DATA);
                times(TIMES, move || {
                    let done = black_box(&mut shuttle).relay(&relay);
                    assert_eq!(black_box(done), Ok(()));
                })
            },
        }
    };
}

/// A message to a server with an allocation and a channel.
fn answered(message: fn(&Desk) -> Vec<u8>) -> Prepared {
    let mut desk = Desk::allocated();
    let bytes = message(&desk);
    desk.handle(&bytes);
    times(TIMES, move || _ = black_box(desk.handle(black_box(&bytes))))
}

/// A worker's rounds with a full batch each.
fn worker(from_client: usize, from_peer: usize) -> Prepared {
    rounds(Stepped::new(DATA), from_client, from_peer)
}

/// The same, with indications.
fn indications(from_client: usize, from_peer: usize) -> Prepared {
    rounds(Stepped::indications(DATA), from_client, from_peer)
}

fn rounds(mut stepped: Stepped, from_client: usize, from_peer: usize) -> Prepared {
    const ROUNDS: u64 = 20;
    stepped.round(from_client, from_peer);
    let times = ROUNDS * (from_client + from_peer) as u64;
    let work =
        move || (0..ROUNDS).for_each(|_| _ = black_box(stepped.round(from_client, from_peer)));
    Prepared { times, work: Box::new(work) }
}

/// All cases: per packet first, then per message.
pub const CASES: &[Case] = &[
    relay!("frame 4-4, to the peer", false, false, true),
    relay!("frame 4-4, to the client", false, false, false),
    relay!("frame 6-6, to the peer", true, true, true),
    relay!("frame 6-6, to the client", true, true, false),
    relay!("frame 4-6, to the peer", false, true, true),
    relay!("frame 4-6, to the client", false, true, false),
    relay!("frame 6-4, to the peer", true, false, true),
    relay!("frame 6-4, to the client", true, false, false),
    Case {
        name: "decide, hit in 1,000 flows",
        prepare: || {
            let (relay, datagrams) = many(1000);
            let mut next = datagrams.into_iter().cycle();
            times(TIMES, move || {
                let datagram = next.next().expect("a cycle has no end");
                let forward = decide(black_box(&datagram), PortUse(LISTENER), &relay);
                assert!(black_box(forward).is_ok());
            })
        },
    },
    Case {
        name: "decide, miss in 1,000 flows",
        prepare: || {
            let (relay, datagrams) = many(1000);
            let mut next = datagrams.into_iter().cycle();
            times(TIMES, move || {
                let mut datagram = next.next().expect("a cycle has no end");
                datagram.remote_port = 9.into();
                let forward = decide(black_box(&datagram), PortUse(LISTENER), &relay);
                assert_eq!(black_box(forward).err(), Some(Reason::NoRoute));
            })
        },
    },
    Case { name: "worker, ChannelData to the peer", prepare: || worker(64, 0) },
    Case { name: "worker, datagram to the client", prepare: || worker(0, 64) },
    Case { name: "worker, Send to the peer", prepare: || indications(64, 0) },
    Case { name: "worker, datagram as Data to the client", prepare: || indications(0, 64) },
    Case { name: "server, Binding", prepare: || answered(Desk::binding) },
    Case { name: "server, Refresh", prepare: || answered(Desk::refresh) },
    Case { name: "server, ChannelBind", prepare: || answered(Desk::channel_bind) },
    Case { name: "server, Send indication", prepare: || answered(Desk::send) },
    Case {
        name: "parse a signed Refresh",
        prepare: || {
            let (bytes, _) = signed_refresh(Hash::Sha1);
            times(TIMES, move || {
                let message = Message::parse(black_box(&bytes));
                assert!(black_box(message).is_ok());
            })
        },
    },
    Case {
        name: "timer, moved among 10,000",
        prepare: || {
            let mut deadlines = Deadlines::new(10_000);
            times(TIMES, move || deadlines.refresh())
        },
    },
    Case {
        name: "timer, expired and set among 10,000",
        prepare: || {
            let mut deadlines = Deadlines::new(10_000);
            times(TIMES, move || deadlines.expire())
        },
    },
];

/// The case of this name.
pub fn case(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_can_be_run_and_has_a_name_of_its_own() {
        for (at, case) in CASES.iter().enumerate() {
            let mut prepared = (case.prepare)();
            (prepared.work)();
            assert!(prepared.times > 0);
            assert!(CASES[..at].iter().all(|earlier| earlier.name != case.name));
        }
    }
}
