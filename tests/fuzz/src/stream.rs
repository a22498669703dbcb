//! A client's byte stream: the same messages come out of it wherever it is cut, each as soon as it
//! is whole; no more is held than one message may have; a refusal comes with the first byte that
//! is wrong, and stays. Behind the ConnectionBind of a spliced connection (RFC 6062) no byte is lost.
//!
//! ```text
//!   | spliced 1 | pieces 1 | size of a piece 1 ... | part | part | ...
//!   part:  0 | length 2 | bytes               as they are
//!          1 | type 2 | length 2 | filler 1   STUN, with as many bytes as it says
//!          2 | channel 2 | length 2 | filler 1   ChannelData, padded
//! ```

use dataplane::session::Ending;
use dataplane::session::framing::{Cut, FRAME_MAX, STUN_MAX, cut, datagram};
use turn::message::{ChannelData, Message};

use crate::input::{Input, chunk};

/// Longest stream of one input, bytes: the longest message, and several others.
const STREAM_MAX: usize = 100_000;

const CONNECTION_BIND: [u8; 2] = [0, 11];

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let spliced = input.byte() % 2 == 1;
    let count = input.below(16);
    let sizes: Vec<usize> = input.take(count).iter().map(|size| piece_size(*size)).collect();
    let stream = stream(&mut input);
    let expected = plain(&stream, spliced);
    check_datagrams(&stream, &expected);
    let mut receiver = Receiver { spliced, ..Receiver::default() };
    let (mut at, mut sizes) = (0, sizes.iter().cycle());
    while at < stream.len() {
        let end = stream.len().min(at + sizes.next().copied().unwrap_or(usize::MAX - at));
        let before = (receiver.messages.len(), receiver.raw.as_ref().map_or(0, Vec::len));
        receiver.take(&stream[at..end]);
        at = end;
        agree(&receiver, before, &expected, &stream[..at]);
        if receiver.refused.is_some() {
            return stays(&receiver, &stream[at..]);
        }
    }
}

/// One byte up to 128, or some kilobytes.
pub(crate) fn piece_size(size: u8) -> usize {
    if size < 128 { 1 + usize::from(size) } else { 256 * (usize::from(size) - 127) }
}

pub(crate) fn stream(input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < STREAM_MAX {
        let kind = input.below(3);
        if kind == 0 {
            stream.extend(input.chunk());
            continue;
        }
        let (number, length, filler) = (input.u16(), input.u16(), input.byte());
        let (head, body) = match kind {
            1 => (number & 0x3ff, 16 + usize::from(length)),
            _ => (0x4000 | number & 0xfff, usize::from(length).next_multiple_of(4)),
        };
        stream.extend([head.to_be_bytes(), length.to_be_bytes()].concat());
        let start = stream.len();
        stream.resize(start + body, filler);
        if kind == 1 {
            stream[start..start + 4].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        }
    }
    stream.truncate(STREAM_MAX);
    stream
}

/// One side of a connection, as the relay is: it holds what is no whole message yet.
#[derive(Default)]
struct Receiver {
    /// The first ConnectionBind will be answered by a splice.
    spliced: bool,
    held: Vec<u8>,
    opened: bool,
    messages: Vec<(Cut, Vec<u8>)>,
    /// Everything behind the ConnectionBind.
    raw: Option<Vec<u8>>,
    refused: Option<Ending>,
}

impl Receiver {
    fn take(&mut self, piece: &[u8]) {
        self.held.extend(piece);
        while self.raw.is_none() {
            let told = cut(&self.held, self.opened);
            let (Cut::Stun { size } | Cut::Channel { size, .. }) = told else {
                return self.wait(told);
            };
            let message: Vec<u8> = self.held.drain(..size).collect();
            assert!(size > 0 && message.len() == size);
            self.opened |= matches!(told, Cut::Stun { .. });
            if self.spliced && message.starts_with(&CONNECTION_BIND) {
                self.raw = Some(Vec::new());
            }
            self.messages.push((told, message));
        }
        self.raw.get_or_insert_default().append(&mut self.held);
    }

    fn wait(&mut self, told: Cut) {
        match told {
            Cut::Partial { size } => {
                let is_stun = self.held.first().is_some_and(|first| *first < 4);
                let limit = if is_stun { STUN_MAX } else { FRAME_MAX };
                assert!(size > self.held.len(), "waits for {size}, and has {}", self.held.len());
                assert!(size <= limit, "waits for {size} bytes");
            }
            Cut::Refused(ending) => self.refused = Some(ending),
            whole => panic!("{whole:?} is a message"),
        }
    }
}

/// What a stream holds.
pub(crate) struct Expected {
    /// Where each message begins, and what it is.
    pub(crate) messages: Vec<(usize, Cut)>,
    /// Where the bytes of a splice begin.
    raw: Option<usize>,
    /// How many bytes are enough for a refusal, and for what.
    pub(crate) refused: Vec<(usize, Ending)>,
}

/// A stream by arithmetic alone (RFC 8489 section 6.2.2, RFC 8656 section 12.5).
pub(crate) fn plain(stream: &[u8], spliced: bool) -> Expected {
    let mut expected = Expected { messages: Vec::new(), raw: None, refused: Vec::new() };
    let (mut at, mut opened) = (0, false);
    while at < stream.len() {
        let rest = &stream[at..];
        let (is_stun, is_channel) = (rest[0] < 4, opened && rest[0] >> 4 == 4);
        expected.refused =
            faults(rest, is_stun, is_channel).map(|(n, why)| (at + n, why)).collect();
        if !expected.refused.is_empty() || rest.len() < 4 {
            return expected;
        }
        let (kind, data) = (256 * u16::from(rest[0]) + u16::from(rest[1]), size_of(rest));
        let message = match is_stun {
            true => Cut::Stun { size: 20 + data },
            false => Cut::Channel { channel: kind, data, size: 4 + data.div_ceil(4) * 4 },
        };
        let (Cut::Stun { size } | Cut::Channel { size, .. }) = message else { return expected };
        if rest.len() < size {
            return expected;
        }
        expected.messages.push((at, message));
        (at, opened) = (at + size, opened || is_stun);
        if spliced && rest.starts_with(&CONNECTION_BIND) {
            expected.raw = Some(at);
            return expected;
        }
    }
    expected
}

fn size_of(message: &[u8]) -> usize {
    256 * usize::from(message[2]) + usize::from(message[3])
}

/// Everything that is wrong with a message's beginning: after how many bytes, and what. More than
/// one thing may be, and which is told then depends on how much is there.
fn faults(
    rest: &[u8],
    is_stun: bool,
    is_channel: bool,
) -> impl Iterator<Item = (usize, Ending)> + use<> {
    let kind = (!is_stun && !is_channel).then_some((1, Ending::NotStun));
    let length = (is_stun && rest.len() >= 4).then(|| size_of(rest));
    let length = length.and_then(|length| match length {
        _ if length % 4 > 0 => Some((4, Ending::BadLength)),
        _ if 20 + length > STUN_MAX => Some((4, Ending::TooLong)),
        _ => None,
    });
    let cookie = [0x21, 0x12, 0xa4, 0x42];
    let other = rest.iter().skip(4).zip(cookie).position(|(byte, right)| *byte != right);
    let cookie = other.filter(|_| is_stun).map(|at| (4 + at + 1, Ending::NotStun));
    [kind, length, cookie].into_iter().flatten()
}

/// After so much of the stream the receiver is where it must be. What it had before was compared
/// then.
fn agree(receiver: &Receiver, before: (usize, usize), expected: &Expected, so_far: &[u8]) {
    let end = |(at, message): &(usize, Cut)| match message {
        Cut::Stun { size } | Cut::Channel { size, .. } => at + size,
        other => panic!("{other:?} is no message"),
    };
    let whole = expected.messages.partition_point(|message| end(message) <= so_far.len());
    assert_eq!(receiver.messages.len(), whole, "messages after {} bytes", so_far.len());
    for (taken, right) in receiver.messages.iter().zip(&expected.messages).skip(before.0) {
        assert_eq!(taken.0, right.1);
        assert_eq!(taken.1, so_far[right.0..end(right)]);
    }
    let raw = expected.raw.and_then(|at| so_far.get(at..));
    assert_eq!(receiver.raw.is_some(), raw.is_some(), "spliced after {}", so_far.len());
    if let (Some(taken), Some(right)) = (&receiver.raw, raw) {
        assert_eq!(taken.len(), right.len(), "bytes are lost");
        assert_eq!(taken[before.1..], right[before.1..]);
    }
    let due = expected.refused.iter().filter(|(size, _)| *size <= so_far.len());
    let due: Vec<_> = due.map(|(_, ending)| *ending).collect();
    match receiver.refused {
        Some(ending) => assert!(due.contains(&ending), "{ending:?}, and not {due:?}"),
        None => assert!(due.is_empty(), "{due:?} is not refused"),
    }
}

/// More bytes make nothing good again.
fn stays(receiver: &Receiver, more: &[u8]) {
    for size in [1, 4, 20, more.len()] {
        let held = [&receiver.held[..], &more[..size.min(more.len())]].concat();
        let told = cut(&held, receiver.opened);
        assert!(matches!(told, Cut::Refused(_)), "{told:?} after {:?}", receiver.refused);
    }
}

/// What a stream carries, a datagram does too; and what comes as a datagram is what the server's
/// own parsers take it for.
fn check_datagrams(stream: &[u8], expected: &Expected) {
    for (at, message) in &expected.messages {
        let (size, unpadded) = match *message {
            Cut::Stun { size } => (size, size),
            Cut::Channel { size, data, .. } => (size, 4 + data),
            other => panic!("{other:?} is no message"),
        };
        assert_eq!(datagram(&stream[*at..at + size]), Some(*message));
        let bytes = &stream[*at..at + unpadded];
        let bare = match *message {
            Cut::Channel { channel, data, .. } => Cut::Channel { channel, data, size: unpadded },
            other => other,
        };
        assert_eq!(datagram(bytes), Some(bare));
    }
    let bytes = &stream[..stream.len().min(65_535)];
    let told = datagram(bytes);
    let channel = match told {
        Some(Cut::Channel { channel, data, size }) => {
            assert_eq!(size, bytes.len());
            Some((channel, &bytes[4..4 + data]))
        }
        _ => None,
    };
    let server = ChannelData::parse(bytes).map(|m| (m.channel.number(), m.data));
    assert_eq!(channel, server);
    if Message::parse(bytes).is_ok() {
        assert_eq!(told, Some(Cut::Stun { size: bytes.len() }));
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let stun = |kind: u8, length: u16| {
        let [high, low] = length.to_be_bytes();
        vec![1, 0, kind, high, low, 0]
    };
    let data = |length: u16| {
        let [high, low] = length.to_be_bytes();
        vec![2, 0, 7, high, low, 0x61]
    };
    let raw = |bytes: &[u8]| [&[0], &chunk(bytes)[..]].concat();
    let call = [stun(1, 0), stun(3, 8), data(5), data(0), data(160), stun(4, 20)].concat();
    vec![
        [&[0, 0], &call[..]].concat(),
        [&[0, 1, 0], &call[..]].concat(),
        [&[0, 3, 6, 20, 2], &call[..]].concat(),
        [&[0, 2, 135, 191], &stun(3, 0)[..], &data(0xffff), &data(1)].concat(),
        [&[1, 2, 4, 30], &stun(3, 0)[..], &stun(11, 8), &raw(b"\x99anything at all")].concat(),
        [&[0, 1, 3], &stun(1, 0)[..], &raw(b"GET / HTTP/1.1\r\n\r\n")].concat(),
        [&[0, 1, 1], &stun(1, 0)[..], &raw(b"\0\x01\0\0\x21\x13")].concat(),
        [&[0, 1, 1], &stun(1, 16_364)[..], &stun(1, 16_368)].concat(),
        [&[0, 1, 9], &stun(1, 3)[..]].concat(),
        [&[0, 1, 9], &data(4)[..]].concat(),
    ]
}
