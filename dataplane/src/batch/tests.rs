//! Datagrams that come in by a room and leave from it, changed.

use super::*;

fn arrival() -> Arrival {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    Arrival { remote: address, local: address, ttl: 64, tos: 0, truncated: false }
}

#[test]
fn a_header_goes_in_front_without_moving_the_payload() {
    let mut batch = Batch::new(2, 100);
    assert!(batch.push(b"first", arrival()) && batch.push(b"second", arrival()));
    let before = batch.payload(1).as_ptr();
    assert!(batch.prepend(1, &[0x40, 0, 0, 6]));
    assert_eq!(batch.payload(1), b"\x40\0\0\x06second");
    assert_eq!(batch.payload(1)[4..].as_ptr(), before);
    assert_eq!(batch.payload(0), b"first");
}

#[test]
fn headers_beyond_the_headroom_go_beside_the_payload_and_then_nowhere() {
    let mut batch = Batch::new(2, 100);
    assert!(batch.push(b"first", arrival()) && batch.push(b"x", arrival()));
    for _ in 0..HEADROOM / 4 {
        assert!(batch.prepend(1, &[7; 4]));
    }
    assert!(!batch.prepend(1, &[8; HEADER_MAX + 1]));
    assert!(batch.prepend(1, &[8; 4]));
    assert_eq!((batch.pieces(1)[0], batch.size(1)), (&[8; 4][..], HEADROOM + 5));
    assert!(!batch.prepend(1, &[9; 4]) && !batch.narrow(1, 0, 1));
    assert_eq!(batch.payload(0), b"first");
}

#[test]
fn a_merged_message_is_split_into_its_datagrams_and_none_writes_over_another() {
    let (mut batch, by) = (Batch::new(2, 100), SocketId::port(5));
    assert!(batch.push_from(by, b"aaaabbbbccccd", Some(4), arrival()));
    assert!(batch.push_from(SocketId::port(6), b"alone", Some(5), arrival()));
    assert_eq!((batch.len(), batch.messages(), batch.is_full()), (5, 2, true));
    for (index, letter) in [b"aaaa", b"bbbb", b"cccc"].into_iter().enumerate() {
        assert_eq!((batch.payload(index), batch.by(index)), (&letter[..], by));
        assert!(batch.prepend(index, &[b'0' + index as u8; 4]));
    }
    assert!(batch.narrow(3, 0, 1) && batch.prepend(3, b"last"));
    assert_eq!(batch.pieces(0), [&b""[..], b"0000aaaa", b""]);
    assert_eq!(batch.pieces(1), [&b"1111"[..], b"bbbb", b""]);
    assert_eq!(batch.pieces(2), [&b"2222"[..], b"cccc", b""]);
    assert_eq!(batch.pieces(3), [&b"last"[..], b"d", b""]);
    assert_eq!((batch.payload(4), batch.by(4)), (&b"alone"[..], SocketId::port(6)));
    // what was cut off a datagram's front is room for its new header
    batch.clear();
    assert!(batch.push_from(by, b"hdr1datahdr2more", Some(8), arrival()));
    assert!(batch.narrow(1, 4, 4) && batch.prepend(1, b"HDR3"));
    assert_eq!(batch.pieces(1), [&b""[..], b"HDR3more", b""]);
    assert_eq!(batch.payload(0), b"hdr1data");
}

#[test]
fn padding_is_zero_and_goes_behind_the_payload_and_over_nobody() {
    let mut batch = Batch::new(2, 12);
    let by = SocketId::port(5);
    assert!(batch.push(&[0xaa; 12], arrival()) && batch.push(&[0xaa; 12], arrival()));
    batch.clear();
    // given two of one message, and one whose room ends too early
    assert!(batch.push_from(by, b"aaaaabbbbb", Some(5), arrival()));
    assert!(batch.push(b"cccccccccc", arrival()));
    // when
    assert!(!batch.pad(0, PADDING_MAX + 1));
    (0..3).for_each(|index| assert!(batch.pad(index, [3, 2, 3][index])));
    // then
    assert_eq!(batch.pieces(0), [&b""[..], b"aaaaa", &[0; 3]]);
    assert_eq!(batch.pieces(1), [&b""[..], b"bbbbb\0\0", b""]);
    assert_eq!(batch.pieces(2), [&b""[..], b"cccccccccc", &[0; 3]]);
    assert_eq!([0, 1, 2].map(|index| batch.size(index)), [8, 7, 13]);
    assert!(!batch.pad(0, 1) && !batch.narrow(0, 0, 1) && batch.pad(1, 0));
}

#[test]
fn segments_that_cannot_be_leave_the_message_whole() {
    let mut batch = Batch::new(64, 1000);
    for segment in [0, 1, 7, 1000, 1001] {
        batch.clear();
        assert!(batch.push_from(SocketId::port(0), &[1; 1000], Some(segment), arrival()));
        assert_eq!(batch.len(), 1, "{segment}");
    }
    batch.clear();
    assert!(batch.push_from(SocketId::port(0), &[1; 1000], Some(8), arrival()));
    assert_eq!(batch.len(), 125);
}

#[test]
fn nothing_beyond_the_datagram_can_be_kept() {
    let mut batch = Batch::new(1, 100);
    assert!(batch.push(&[0xaa; 100], arrival()));
    batch.clear();
    assert!(batch.push(b"12345678", arrival()));
    assert!(!batch.narrow(0, 4, 5));
    assert!(!batch.narrow(0, usize::MAX, 2));
    assert!(batch.narrow(0, 4, 3));
    assert_eq!(batch.payload(0), b"567");
}

#[test]
fn a_full_batch_and_a_long_datagram_are_refused() {
    let mut batch = Batch::new(1, 4);
    assert!(!batch.push(b"12345", arrival()));
    assert!(batch.push(b"1234", arrival()));
    assert!(batch.is_full() && !batch.push(b"1", arrival()));
}

#[test]
fn socket_ids_tell_listeners_from_ports() {
    assert_eq!(SocketId::listener(3).kind(), SocketKind::Listener(3));
    assert_eq!(SocketId::port(70_000).kind(), SocketKind::Port(70_000));
    assert_eq!(SocketId::loan(70_000).kind(), SocketKind::Loan(70_000));
}
