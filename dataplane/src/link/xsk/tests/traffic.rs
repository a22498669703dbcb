//! Frames through the kernel, both ways.

use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::lab::*;
use crate::kernel::testing::{Host, ethtool, monotonic};

/// Sends `count` datagrams of all sizes from the far host, at most 64 at a time on their way, and
/// sees that each comes back once, behind `front` bytes of 0xda. Their order is not the rings' alone:
/// what a veth receives waits in the backlog of the core that the sender happens to run on.
fn exchange(far: &Arc<Host>, net: u8, count: u32, front: usize) -> std::thread::JoinHandle<()> {
    let far = Arc::clone(far);
    std::thread::spawn(move || {
        far.run(move || {
            let socket = far_socket(net, 5000);
            let mut buffer = [0; 2048];
            let mut seen = vec![false; count as usize];
            let mut sent = 0;
            for received in 0..count {
                while sent < count.min(received + 64) {
                    socket.send(&datagram(sent)).expect("the far host sends");
                    sent += 1;
                }
                let len = socket.recv(&mut buffer).expect("an answer");
                let (head, back) = buffer[..len].split_at(front);
                assert!(head.iter().all(|byte| *byte == 0xda), "{head:?}");
                let number = back.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
                let number = number.filter(|number| *number < sent).expect("one that was sent");
                assert_eq!(*back, datagram(number), "datagram {number}");
                assert!(!std::mem::replace(&mut seen[number as usize], true), "{number}, twice");
            }
        });
    })
}

/// Of 4 to 1,400 bytes, each telling which it is.
fn datagram(number: u32) -> Vec<u8> {
    let size = 4 + (number as usize * 31) % 1397;
    let mut bytes: Vec<u8> = (0..size).map(|at| (at as u32 ^ number) as u8).collect();
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn run_until_finished(reflector: &mut Reflector, exchange: std::thread::JoinHandle<()>) {
    reflector.turn_until("the end of the exchange", |_| exchange.is_finished());
    exchange.join().expect("every datagram came back");
}

/// Both queues of the near interface, in the program's map.
fn reflector(lab: &Lab, frames: u32, entries: u32) -> (Divert, Reflector) {
    let mut divert = Divert::attach(&lab.near);
    let mut umem = Umem::new(frames, FrameSize::Bytes2048).expect("memory");
    let open = |number| {
        let queue = open(&lab.near, number, &mut umem, entries);
        divert.add(&queue);
        queue
    };
    let queues = (0..queues(&lab.near).expect("it is there")).map(open).collect();
    (divert, Reflector::new(umem, queues))
}

#[test]
fn frames_come_in_and_go_back_by_queues_that_share_their_memory() {
    in_lab(|lab| {
        let (_divert, mut reflector) = reflector(lab, 4096, 1024);
        assert_eq!(reflector.queues.len(), 2);
        let modes: Vec<_> = reflector.queues.iter().map(|queue| queue.mode().shared).collect();
        assert_eq!(modes, [false, true]);

        let exchange = exchange(&lab.far, 2, 5_000, 0);
        run_until_finished(&mut reflector, exchange);

        let counts = reflector.queues.iter().map(Queue::counts);
        let (received, sent, strays) = counts.fold((0, 0, 0), |sum, counts| {
            (sum.0 + counts.received, sum.1 + counts.transmitted, sum.2 + counts.strays)
        });
        // and whatever else the far host says of its own accord
        assert!(received >= 5_000, "{reflector:?}");
        assert_eq!((sent, strays), (5_000, 0), "{reflector:?}");
        reflector.turn_until("the last completion", |reflector| reflector.umem.census().sent == 0);
        let census = reflector.umem.census();
        assert_eq!((census.total(), census.held), (4096, 0));
    });
}

/// Bytes that a Data indication and IPv6 put in front, at most.
const GROWTH: usize = 72;

/// Puts 72 bytes in front of the payload: the headers move, the payload stays where it is.
fn grow(umem: &mut Umem, frame: &mut Frame) {
    frame.move_start(-(GROWTH as i32)).expect("headroom");
    let bytes = umem.bytes_mut(frame);
    bytes.copy_within(GROWTH..GROWTH + 42, 0);
    bytes[42..42 + GROWTH].fill(0xda);
    for (at, sub) in [(16, 14), (38, 34)] {
        let len = (bytes.len() - sub) as u16;
        bytes[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }
    bytes[40..42].fill(0);
    bytes[24..26].fill(0);
    let words = bytes[14..34].chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let sum: u32 = words.sum();
    // a carry may bring another
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    bytes[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn a_frame_grows_in_front_without_its_payload_being_moved() {
    in_lab(|lab| {
        let (_divert, mut reflector) = reflector(lab, 2048, 512);
        reflector.change = grow;
        let exchange = exchange(&lab.far, 2, 1_000, GROWTH);
        run_until_finished(&mut reflector, exchange);
    });
}

/// To the far end of the second cable, by addresses that are as long as they were.
fn readdress(bytes: &mut [u8]) {
    bytes[..12].copy_from_slice(&[2, 0, 0, 0, 3, 2, 2, 0, 0, 0, 3, 1]);
    // 192.0.2 to 192.0.3, twice; the UDP checksum is left out
    (bytes[28], bytes[32]) = (3, 3);
    let sum = u16::from_be_bytes([bytes[24], bytes[25]]);
    let (sum, borrow) = sum.overflowing_sub(0x200);
    bytes[24..26].copy_from_slice(&(sum - u16::from(borrow)).to_be_bytes());
    bytes[40..42].fill(0);
}

#[test]
fn a_frame_that_came_by_one_interface_leaves_by_another() {
    in_lab(|lab| {
        // given a second cable
        crate::kernel::testing::ip(&cable_between("y0", "y1", lab.far.id));
        plug("y0", 3, 1, 2);
        lab.far.run(|| plug("y1", 3, 2, 1));
        let mut divert = Divert::attach(&lab.near);
        let mut umem = Umem::new(2048, FrameSize::Bytes4096).expect("memory");
        let mut inward = [0, 1].map(|number| open(&lab.near, number, &mut umem, 256));
        inward.iter().for_each(|queue| divert.add(queue));
        let mut outward = open("y0", 0, &mut umem, 256);

        // when what came by the first is addressed to the far end of the second
        let far = Arc::clone(&lab.far);
        let sending = std::thread::spawn(move || {
            far.run(|| {
                let (sender, receiver) = (far_socket(2, 5000), far_socket(3, 5000));
                let mut buffer = [0; 2048];
                for number in 0..200 {
                    sender.send(&datagram(number)).expect("it sends");
                    let len = receiver.recv(&mut buffer).expect("it came by the second cable");
                    assert_eq!(buffer[..len], datagram(number));
                }
            });
        });
        let mut frames = Vec::with_capacity(64);
        while !sending.is_finished() {
            for queue in &mut inward {
                queue.receive(&mut umem, &mut frames, 64);
                queue.refill(&mut umem);
                queue.flush().expect("it works");
            }
            for mut frame in frames.drain(..) {
                match swap(umem.bytes_mut(&mut frame)) {
                    true => readdress(umem.bytes_mut(&mut frame)),
                    false => {
                        umem.give(frame);
                        continue;
                    }
                }
                outward.transmit(&mut umem, frame).expect("room");
            }
            outward.flush().expect("it works");
            outward.reclaim(&mut umem);
        }
        sending.join().expect("each came by the second cable");
        assert_eq!(umem.census().total(), 2048);
        assert!(outward.counts().transmitted >= 200 && outward.counts().received == 0);
    });
}

/// What a guest's driver is to give, by TURNWIRE_XSK.
fn open_in_guest(lab: &Lab, number: u32, umem: &mut Umem) -> Queue {
    let ask = |copying, umem: &mut Umem| {
        let options = Options { copying, entries: 2048, busy_poll: None };
        Queue::open(&lab.near, number, umem, &options)
    };
    match std::env::var("TURNWIRE_XSK").as_deref() {
        Ok("zero") => {
            assert_eq!(zero_copy_advertised(&lab.near).expect("it is there"), Some(true));
            let queue = ask(Copying::Any, umem).unwrap_or_else(|error| panic!("{error}"));
            assert!(queue.mode().zero_copy, "{queue:?}");
            queue
        }
        Ok("copy") => {
            if umem.free() == umem.frames() as usize {
                let refused = ask(Copying::Zero, umem);
                assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
            }
            let queue = ask(Copying::Any, umem).unwrap_or_else(|error| panic!("{error}"));
            assert!(!queue.mode().zero_copy, "{queue:?}");
            queue
        }
        other => panic!("TURNWIRE_XSK is zero or copy, not {other:?}"),
    }
}

/// Datagrams, at 10,000 a second.
const ATTEMPT: u32 = 20_000;

/// Sends [`ATTEMPT`] datagrams of 172 bytes evenly, from a few ports. How many came back, and the rate.
fn attempt(far: &Arc<Host>) -> (u32, f64) {
    far.run(|| {
        let sockets: Vec<_> = (0..4).map(|port| far_socket(2, 6000 + port)).collect();
        for socket in &sockets {
            let options = socket2::SockRef::from(socket);
            options.set_recv_buffer_size(GUEST_BUFFER).expect("an option");
            socket.set_nonblocking(true).expect("an option");
        }
        let mut received = 0;
        let hear = |received: &mut u32| {
            let mut buffer = [0; 2048];
            for socket in &sockets {
                while let Ok(len) = socket.recv(&mut buffer) {
                    assert!(len == 172 && buffer[4..len].iter().all(|byte| *byte == 0x5a));
                    *received += 1;
                }
            }
        };
        let started = monotonic();
        let mut sent = 0u32;
        while sent < ATTEMPT {
            let due = (monotonic() - started).as_micros() as u32 / 100;
            // what was missed is made up for, but not at once
            let until = due.min(ATTEMPT).min(sent + 32);
            while sent < until {
                let mut bytes = [0x5a; 172];
                bytes[..4].copy_from_slice(&sent.to_be_bytes());
                if sockets[sent as usize % 4].send(&bytes).is_err() {
                    break;
                }
                sent += 1;
            }
            hear(&mut received);
            std::thread::sleep(Duration::from_micros(500));
        }
        let time = (monotonic() - started).as_secs_f64();
        let last = monotonic();
        while received < ATTEMPT && monotonic() - last < Duration::from_secs(5) {
            hear(&mut received);
            std::thread::sleep(Duration::from_millis(1));
        }
        (received, f64::from(ATTEMPT) / time)
    })
}

/// All queues of the near interface as TURNWIRE_XSK wants them, with the link up.
fn guest_reflector(lab: &Lab) -> (Divert, Reflector) {
    let mut divert = Divert::attach(&lab.near);
    let mut umem = Umem::new(16_384, FrameSize::Bytes4096).expect("memory");
    let open = |number| {
        let queue = open_in_guest(lab, number, &mut umem);
        divert.add(&queue);
        queue
    };
    let queues = (0..queues(&lab.near).expect("it is there")).map(open).collect();
    let mut reflector = Reflector::new(umem, queues);
    // an attached program or a bound socket may have taken it down for seconds
    let far = Arc::clone(&lab.far);
    let mut port = 5100;
    reflector.turn_until("the link", |reflector| {
        port += 1;
        let port = 5100 + port % 64;
        far.run(move || _ = far_socket(2, port).send(&[1; 60]));
        reflector.queues.iter().any(|queue| queue.counts().completed > 0)
    });
    (divert, reflector)
}

#[test]
#[ignore = "for guests with real drivers: scripts/test --kernels"]
fn nothing_is_lost_both_ways_at_ten_thousand_a_second() {
    in_lab(|lab| {
        let (_divert, mut reflector) = guest_reflector(lab);
        let far = Arc::clone(&lab.far);
        let sending = std::thread::spawn(move || attempt(&far));
        while !sending.is_finished() {
            if reflector.turn() == 0 {
                std::thread::yield_now();
            }
        }
        let (back, rate) = sending.join().expect("it sends");
        let told = format!("{back} of {ATTEMPT} came back, {rate:.0} sent a second: {reflector:?}");
        println!("{told}");
        // What the reflector did not lose, the far card did.
        let cards = [(None, &lab.near), (Some(&lab.far), &lab.far_end)].map(counted);
        assert!(back == ATTEMPT && rate > 9_800.0, "{told}{cards:#?}");
    });
}

/// What a card says of itself, where that is not 0.
fn counted((host, interface): (Option<&Arc<Host>>, &String)) -> Vec<String> {
    let ask = format!("-S {interface}");
    let all = match host {
        Some(host) => host.run(move || ethtool(&ask)),
        None => ethtool(&ask),
    };
    all.lines().filter(|line| !line.ends_with(": 0")).map(str::to_owned).collect()
}

#[test]
#[ignore = "for guests with real drivers: scripts/test --kernels"]
fn frames_are_exchanged_in_the_mode_that_the_driver_has() {
    in_lab(|lab| {
        let (_divert, mut reflector) = guest_reflector(lab);
        let exchange = exchange(&lab.far, 2, 2_000, 0);
        run_until_finished(&mut reflector, exchange);
        println!("{reflector:?}");
    });
}
