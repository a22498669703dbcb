//! The relay's own reading of a client's stream, by `session::incoming`: wherever the bytes are cut,
//! and while the control thread is slow or has not answered a ConnectionBind request (RFC 6062), it
//! is told the same messages in the same order, and what is kept is the rest.
//!
//! An input is one of `stream`; its first byte's lowest bit makes the ring narrow.

use dataplane::session::{Ending, Fed, framing::Cut, framing::FRAME_MAX};

use crate::input::Input;
use crate::stream::{Expected, piece_size, plain, stream};

/// Holds a longest stream of shortest messages, twice: ChannelData leaves half of it free.
const WIDE: usize = 8 << 20;

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let narrow = input.byte() % 2 == 1;
    let count = input.below(16);
    let sizes: Vec<usize> = input.take(count).iter().map(|size| piece_size(*size)).collect();
    let stream = stream(&mut input);
    let expected = plain(&stream, false);
    let mut fed = Fed::new(if narrow { 0 } else { WIDE }).unwrap();
    let (mut told, mut at, mut sizes) = (Vec::new(), 0, sizes.iter().cycle());
    while at < stream.len() {
        let end = stream.len().min(at + sizes.next().copied().unwrap_or(usize::MAX - at));
        let mut done = fed.feed(&stream[at..end]);
        at = end;
        told.append(&mut fed.told());
        while done.is_ok() && fed.is_paused() {
            let binds = told.last().is_some_and(|last: &Vec<u8>| last.starts_with(&[0, 11]));
            assert!(!fed.is_held() || binds, "held, and not by a ConnectionBind");
            done = fed.resume();
            told.append(&mut fed.told());
        }
        agree(&told, &expected, &stream[..at], narrow);
        if !refusal(done, &expected, at) {
            return;
        }
        let (whole, rest) = whole(&expected, at);
        assert_eq!(fed.waiting(), rest, "kept behind {whole} messages of {at} bytes");
        assert!(rest < FRAME_MAX);
    }
}

/// How many messages are whole, and how many bytes are behind them.
fn whole(expected: &Expected, so_far: usize) -> (usize, usize) {
    let ends = expected.messages.iter().map(|(at, message)| at + size(message).0);
    let ends: Vec<usize> = ends.take_while(|end| *end <= so_far).collect();
    (ends.len(), so_far - ends.last().copied().unwrap_or(0))
}

/// Bytes in the stream, and bytes told.
fn size(message: &Cut) -> (usize, usize) {
    match *message {
        Cut::Stun { size } => (size, size),
        Cut::Channel { size, data, .. } => (size, 4 + data),
        other => panic!("{other:?} is no message"),
    }
}

fn agree(told: &[Vec<u8>], expected: &Expected, so_far: &[u8], narrow: bool) {
    let whole = &expected.messages[..whole(expected, so_far.len()).0];
    let right = whole.iter().map(|(at, message)| &so_far[*at..at + size(message).1]);
    // ChannelData that finds no room is dropped, as a datagram would be; and what no UDP datagram to
    // the peer could hold
    let counts =
        |message: &&[u8]| message[0] < 4 || !narrow && message.len() <= usize::from(u16::MAX);
    let told = told.iter().map(Vec::as_slice).filter(counts);
    assert!(told.eq(right.filter(counts)), "after {} bytes", so_far.len());
}

/// False where the stream has come to its end, for one of the reasons that there are.
fn refusal(done: Result<(), Ending>, expected: &Expected, so_far: usize) -> bool {
    let due = expected.refused.iter().filter(|(size, _)| *size <= so_far);
    let due: Vec<_> = due.map(|(_, ending)| *ending).collect();
    match done {
        Err(ending) => assert!(due.contains(&ending), "{ending:?}, and not {due:?}"),
        Ok(()) => assert!(due.is_empty(), "{due:?} is not refused"),
    }
    done.is_ok()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let bind = [1, 0, 11, 0, 8, 0];
    let (stun, data) = ([1, 0, 3, 0, 8, 0], [2, 0, 7, 0, 5, 0x61]);
    // more shortest messages than a narrow ring holds, in one piece
    let many = [2, 0, 7, 0, 0, 0].repeat(300);
    let small = [1, 0, 1, 0, 0, 0].repeat(3000);
    let mut seeds = crate::stream::seeds();
    seeds.push([&[0, 1, 5][..], &bind, &stun, &data, &bind, &bind, &stun].concat());
    seeds.push([&[0, 0][..], &stun, &bind, &data, &data, &stun].concat());
    seeds.push([&[1, 1, 255][..], &stun, &many, &stun].concat());
    seeds.push([&[1, 0][..], &small].concat());
    seeds
}
