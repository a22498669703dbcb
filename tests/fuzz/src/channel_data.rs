//! ChannelData: the server's parser, the packet path's and a plain reader of RFC 8656 section 12.4
//! agree on every datagram.

use turn::message::ChannelData;
use wire::table::{Entry, Geometry, Table};
use wire::{Address, Datagram, LISTENER, PortUse, Reason, Tables, decide};

pub(crate) fn run(bytes: &[u8]) {
    let expected = plain(bytes);
    let server = ChannelData::parse(bytes).map(|m| (m.channel.number(), m.data));
    assert_eq!(server, expected);
    if let Some((_, data)) = expected {
        written(bytes, data);
    }
    let (Ok(size), Err(reason)) = (u16::try_from(bytes.len()), forwarded(bytes)) else { return };
    let right = match bytes.first() {
        // found nothing, but understood the header
        _ if expected.is_some() => reason == Reason::NoRoute,
        Some(0x40..=0x4f) if size >= 4 => reason == Reason::BadChannelData,
        Some(0..=0x3f) if size >= 20 => reason == Reason::Stun,
        _ => matches!(reason, Reason::NotStun | Reason::BadChannelData),
    };
    assert!(right, "{reason:?} for {bytes:02x?}");
}

/// Channel and data, by RFC 8656 sections 12.4 and 12.5.
fn plain(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let channel = u16::from(*bytes.first()?) << 8 | u16::from(*bytes.get(1)?);
    let size = usize::from(*bytes.get(2)?) << 8 | usize::from(*bytes.get(3)?);
    let padding = (bytes.len() - 4).checked_sub(size)?;
    ((0x4000..=0x4fff).contains(&channel) && padding <= 3).then(|| (channel, &bytes[4..4 + size]))
}

/// Written again, it is the same up to its padding, and zero in it.
fn written(bytes: &[u8], data: &[u8]) {
    let message = ChannelData::parse(bytes).expect("the caller parsed it");
    let mut out = vec![0xee; 9];
    for padded in [false, true] {
        let again = message.write(&mut out, padded).expect("it came in a datagram");
        assert_eq!(again[..4 + data.len()], bytes[..4 + data.len()]);
        assert!(again[4 + data.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(ChannelData::parse(again), Some(message));
        assert!(!padded || again.len().is_multiple_of(4));
    }
}

/// What the packet path says with an empty table.
fn forwarded(bytes: &[u8]) -> Result<(), Reason> {
    let datagram = Datagram {
        remote: Address::v4([192, 0, 2, 1]),
        local: Address::v4([192, 0, 2, 2]),
        remote_port: 5000.into(),
        local_port: 3478.into(),
        size: bytes.len() as u16,
        head: bytes.first_chunk().copied().unwrap_or_default(),
        ttl: 64,
    };
    decide(&datagram, PortUse(LISTENER), &Empty).map(|_| ())
}

struct Empty;

impl Table for Empty {
    fn geometry(&self) -> Geometry {
        Geometry { secret: [1; wire::table::HASH_WORDS], buckets: 1 }
    }
    fn bucket(&self, _number: u32) -> [u64; 2] {
        [0; 2]
    }
    fn entry(&self, _number: u32) -> Option<&Entry> {
        None
    }
}

impl Tables for Empty {
    fn port(&self, _number: u16) -> PortUse {
        PortUse(LISTENER)
    }
    fn now(&self) -> u64 {
        0
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 7] = [
        b"\x40\0\0\x04data",
        b"\x4f\xff\0\x03odd\0",
        b"\x40\0\0\0",
        b"\x40\0\0\x05data",
        b"\x50\0\0\0",
        b"\0\x01\0\0\x21\x12\xa4\x42aaaaaaaaaaaa",
        b"\x80rtp",
    ];
    texts.map(<[u8]>::to_vec).into()
}
