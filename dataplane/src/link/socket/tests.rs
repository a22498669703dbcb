//! What a kernel does that refuses.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use super::sys::set_option;
use super::*;
use crate::batch::{Departure, Marks};
use std::net::{SocketAddr, UdpSocket};

const SIZES: BufferSizes = BufferSizes { receive: 1 << 20, send: 1 << 20 };

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn what_the_kernel_refuses_to_cut_is_sent_one_by_one_and_not_tried_again_at_once() {
    // given a socket without UDP checksums, for which the kernel cuts nothing
    let bound = bind_listener(address("127.0.0.1:0"), false, SIZES).unwrap();
    set_option(bound.descriptor(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let offload = Offload { receive: false, send: true };
    let mut link = SocketLink::with_offload(Poll::new().unwrap(), vec![bound], offload);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let to = receiver.local_addr().unwrap();
    for round in 1..=3_u64 {
        // when
        let mut batch = Batch::new(64, 100);
        for index in 0..20 {
            let arrival = Arrival { remote: to, local: to, ttl: 0, tos: 0, truncated: false };
            assert!(batch.push(&[index; 50], arrival));
            let (by, marks) = (SocketId::listener(0), Some(Marks { ttl: 9, tos: 0 }));
            let departure = Departure { by, to, from: None, marks, dont_fragment: false };
            batch.depart(index.into(), departure);
        }
        link.send(&mut batch);
        // then all arrive, in order
        for index in 0..20 {
            assert_eq!(batch.outcome(index.into()), Outcome::Sent);
            let mut bytes = [0; 100];
            let size = receiver.recv(&mut bytes).unwrap();
            assert_eq!(bytes[..size], [index; 50]);
        }
        let Oddities { messages_sent, segmentation_refused, .. } = link.oddities();
        assert_eq!((messages_sent, segmentation_refused), (20 * round, 1));
    }
}
