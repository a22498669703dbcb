//! What a new route says beside its addresses.

use std::net::SocketAddr;
use wire::{Route, Tuple};

fn tuple(src: &str, dst: &str) -> Tuple {
    let at = |text: &str| text.parse::<SocketAddr>().expect("an address of the test").into();
    Tuple { src: at(src), dst: at(dst) }
}

fn route(port: u16) -> Route {
    let old = tuple("[2e00::10]:40000", "[2e00::1]:3478");
    Route::new(old, tuple("[2e00::2]:50001", &format!("[2e09::20]:{port}")), 0, 1)
}

#[test]
fn whoever_publishes_it_names_hops_and_socket() {
    let Route { hop, peer_hop, port_id, flags, .. } = route(1);
    assert_eq!((hop, peer_hop, port_id, flags), (0, 0, 0, 0));
}

/// RFC 6437 section 3: 20 bits, the same for all of a flow, and unlikely to be another's.
#[test]
fn flows_have_labels_of_their_own() {
    let labels: std::collections::HashSet<u32> =
        (1..=u16::MAX).map(|port| route(port).flow_label).collect();
    assert_eq!(labels.len(), usize::from(u16::MAX), "one for each peer's port");
    assert!(labels.iter().all(|label| *label < 1 << 20), "more than 20 bits");
    let ours = |port: u16| {
        let (old, src) = (tuple("[2e00::10]:1", "[2e00::1]:2"), format!("[2e00::2]:{port}"));
        Route::new(old, tuple(&src, "[2e09::20]:41000"), 0, 1).flow_label
    };
    let labels: std::collections::HashSet<u32> = (1..=u16::MAX).map(ours).collect();
    assert_eq!(labels.len(), usize::from(u16::MAX), "one for each relay port");
    assert_eq!(route(7).flow_label, route(7).flow_label);
}
