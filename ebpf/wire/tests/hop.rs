//! Next hops in shared memory.

use wire::{Hop, HopCell};

#[test]
fn a_hop_is_read_as_it_was_stored_until_it_is_cleared() {
    let cell = HopCell::default();
    assert_eq!(cell.load(), None, "nothing was stored");
    let hop = Hop {
        dst: [2, 3, 4, 5, 6, 7],
        src: [8, 9, 10, 11, 12, 13],
        ifindex: u32::MAX,
        mtu: 1400,
        vlan: 0x0abc.into(),
    };
    let other = Hop { dst: [14; 6], src: [15; 6], ifindex: 2, mtu: 9000, vlan: 0.into() };
    for hop in [hop, other] {
        cell.store(&hop);
        assert_eq!(cell.load(), Some(hop));
    }
    cell.clear();
    assert_eq!(cell.load(), None, "cleared");
    cell.store(&hop);
    assert_eq!(cell.load(), Some(hop), "and usable again");
}
