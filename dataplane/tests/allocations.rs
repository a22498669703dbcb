//! The packet path allocates nothing and waits for no lock once it is warm: counted in every thread but
//! the test's own.

#[path = "support/counting.rs"]
mod counting;
#[path = "support/futexes.rs"]
mod futexes;
#[path = "support/rig.rs"]
mod rig;

use rig::{Host, PATIENCE, Rig, channel_data};

/// One round of everything that a warm worker does: both directions, several channels, indications
/// with a stranger, who has a permission and no channel, messages to the control thread, its answers,
/// and refusals.
fn round(
    rig: &mut Rig,
    client: &mut Host,
    stranger: &mut Host,
    peers: &mut [Host],
    relays: &[std::net::SocketAddr],
) {
    let listener = rig.listener(0);
    for channel in 0..peers.len() as u16 {
        for _ in 0..8 {
            client.put(listener, &channel_data(0x4000 + channel, &[7; 160], 3), None);
        }
    }
    client.flush();
    for (peer, relay) in peers.iter_mut().zip(relays) {
        assert_eq!(peer.each(8, PATIENCE, |_, _| ()), 8);
        (0..8).for_each(|_| peer.put(*relay, &[7; 160], None));
        peer.flush();
        assert_eq!(client.each(8, PATIENCE, |_, _| ()), 8);
    }
    // merged, and with padding
    let send = rig::send_indication(stranger.address, &[7; 161]);
    (0..8).for_each(|_| client.put(listener, &send, None));
    client.flush();
    assert_eq!(stranger.each(8, PATIENCE, |_, _| ()), 8);
    (0..8).for_each(|_| stranger.put(relays[0], &[7; 161], None));
    stranger.flush();
    assert_eq!(client.each(8, PATIENCE, |_, bytes| assert_eq!(bytes[1], 0x17)), 8);
    client.put(listener, &rig::stun(20), None);
    client.put(listener, &[0xff; 40], None);
    client.flush();
    assert_eq!(rig.told(1, PATIENCE).len(), 1);
    rig.plane.to_client(0, rig::udp(listener, client.address), &[9; 100]);
    rig.plane.flush();
    assert_eq!(client.each(1, PATIENCE, |_, _| ()), 1);
}

#[test]
fn a_warm_worker_allocates_nothing_and_waits_for_no_lock() {
    counting::leave_out_this_thread();
    // given four channels, warm
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let mut client = Host::new("127.0.0.1");
    let mut peers: Vec<_> = ["127.0.0.1", "::1", "127.0.0.1", "::1"].map(Host::new).into();
    let (mut stranger, mut relays) = (Host::new("127.0.0.1"), Vec::new());
    for (channel, peer) in (0x4000..).zip(&peers) {
        let ip = peer.address.ip().to_string();
        let (port, relay) = rig.open(0, &ip);
        let route = dataplane::Route {
            transport: dataplane::Transport::Udp,
            client: client.address,
            listener: rig.listener(0),
            channel,
            relay,
            port,
            peer: peer.address,
            expires: dataplane::monotonic() + std::time::Duration::from_secs(600),
            inner: false,
        };
        rig.plane.add_route(&route).unwrap();
        let (client, listener, peer) = (client.address, rig.listener(0), peer.address.ip());
        let relayed = dataplane::Relayed { client, listener, relay, port };
        let permission =
            dataplane::Permission { client, listener, relay, peer, expires: route.expires };
        // one relayed address of a client for each family: here the first
        if relays.len() < 2 {
            rig.plane.add_relayed(&relayed).unwrap();
            rig.plane.add_permission(&permission).unwrap();
        }
        relays.push(relay);
    }
    let mut round = |rig: &mut Rig| round(rig, &mut client, &mut stranger, &mut peers, &relays);
    (0..20).for_each(|_| round(&mut rig));
    assert!(counting::counted() > 0, "the worker's own start was counted");
    // when
    futexes::count();
    let before = (counting::counted(), futexes::counted());
    (0..500).for_each(|_| round(&mut rig));
    // then
    let after = (counting::counted(), futexes::counted());
    assert_eq!(after, before, "allocations and futex calls in {} datagrams", 500 * 82);
}
