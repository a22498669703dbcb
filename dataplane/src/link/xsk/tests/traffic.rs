//! Frames through the kernel, both ways.

use std::sync::Arc;

use super::super::*;
use super::lab::*;
use crate::kernel::testing::Host;

/// Sends `count` datagrams of all sizes from the far host, at most 64 at a time on their way, and
/// sees that each comes back as `back` says.
fn exchange(
    far: &Arc<Host>,
    net: u8,
    count: u32,
    back: fn(&[u8]) -> Vec<u8>,
) -> std::thread::JoinHandle<()> {
    let far = Arc::clone(far);
    std::thread::spawn(move || {
        far.run(move || {
            let socket = far_socket(net, 5000);
            let mut buffer = [0; 2048];
            let mut received = 0;
            for number in 0..count {
                socket.send(&datagram(number)).expect("the far host sends");
                if number >= received + 63 || number + 1 == count {
                    let until = if number + 1 == count { count } else { received + 32 };
                    while received < until {
                        let len = socket.recv(&mut buffer).expect("an answer");
                        let sent = datagram(received);
                        assert_eq!(buffer[..len], back(&sent), "datagram {received}");
                        received += 1;
                    }
                }
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
fn reflector(lab: &Lab, frames: u32, entries: u32) -> (Punt, Reflector) {
    let mut punt = Punt::attach(&lab.near);
    let mut umem = Umem::new(frames, FrameSize::Bytes2048).expect("memory");
    let open = |number| {
        let queue = open(&lab.near, number, &mut umem, entries);
        punt.add(&queue);
        queue
    };
    let queues = (0..queues(&lab.near).expect("it is there")).map(open).collect();
    (punt, Reflector::new(umem, queues))
}

#[test]
fn frames_come_in_and_go_back_by_queues_that_share_their_memory() {
    in_lab(|lab| {
        let (_punt, mut reflector) = reflector(lab, 4096, 1024);
        assert_eq!(reflector.queues.len(), 2);
        let modes: Vec<_> = reflector.queues.iter().map(|queue| queue.mode().shared).collect();
        assert_eq!(modes, [false, true]);

        let exchange = exchange(&lab.far, 2, 5_000, <[u8]>::to_vec);
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
    let sum = (sum & 0xffff) + (sum >> 16);
    bytes[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn a_frame_grows_in_front_without_its_payload_being_moved() {
    in_lab(|lab| {
        let (_punt, mut reflector) = reflector(lab, 2048, 512);
        reflector.change = grow;
        let grown = |sent: &[u8]| [&[0xda; GROWTH][..], sent].concat();
        let exchange = exchange(&lab.far, 2, 1_000, grown);
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
        let mut punt = Punt::attach(&lab.near);
        let mut umem = Umem::new(2048, FrameSize::Bytes4096).expect("memory");
        let mut inward = [0, 1].map(|number| open(&lab.near, number, &mut umem, 256));
        inward.iter().for_each(|queue| punt.add(queue));
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
