//! The checksum's arithmetic at its edges, where carries make carries.

use wire::Sum;
use zerocopy::network_endian::U16;

/// RFC 1071, plainly: all words added up, carries folded in for as long as there are some.
fn plainly(words: &[u16]) -> u16 {
    let mut sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn sum(words: &[u16]) -> Sum {
    words.iter().fold(Sum::default(), |sum, word| sum.with(U16::new(*word)))
}

/// As a number: a sum is kept in memory order.
fn number(sum: Sum) -> u16 {
    u16::from_be_bytes(sum.fold().to_ne_bytes())
}

#[test]
fn a_carry_out_of_a_carry_is_folded_in() {
    for words in [
        &[0xffff, 0xffff, 1][..],
        &[0xffff, 0xffff, 0x0100],
        &[0xffff; 3],
        &[0x8000, 0x8000, 0xffff],
        &[0xff00, 0x00ff, 0xff00, 0x00ff, 0x0101],
        &[],
    ] {
        assert_eq!(number(sum(words)), plainly(words), "{words:04x?}");
        assert_eq!(sum(words).checksum().get(), !plainly(words), "{words:04x?}");
    }
}

#[test]
fn what_is_taken_away_leaves_what_was_there() {
    for (base, word) in [(0x1234, 0xabcd), (0xffff, 1), (1, 0xffff), (0xabcd, 0xabcc), (7, 0)] {
        let before = sum(&[base]);
        let after = before.with(word.into()).without(word.into());
        assert_eq!(after.fold() % 0xffff, before.fold() % 0xffff, "{base:#x}, {word:#x}");
        let after = before.with(word.into()).plus(sum(&[word]).negated());
        assert_eq!(after.fold() % 0xffff, before.fold() % 0xffff, "{base:#x}, {word:#x}");
    }
}
