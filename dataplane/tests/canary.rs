//! Nothing beyond a datagram's length ever leaves: buffers full of a canary, then 100,000
//! exchanges of shorter datagrams in the same buffers.

#[path = "support/rig.rs"]
mod rig;

use rig::{Host, PATIENCE, Rig, Told, channel_data, stun};
use turnwire_tests::random::Random;

const CANARY: u8 = 0xc5;
const EXCHANGES: usize = 100_000;
const WINDOW: usize = 50;

#[test]
fn the_canary_is_never_seen_in_100_000_exchanges() {
    let mut random = Random::replayable(8);
    let mut rig = Rig::start(1, &["127.0.0.1:0", "[::1]:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("::1"));
    let listener = rig.listener(0);
    let route = rig.channel(client.address, listener, "::1", peer.address);
    // given the canary in every buffer, from both sides and in the rings
    for _ in 0..4 {
        (0..64).for_each(|_| client.put(listener, &channel_data(0x4000, &[CANARY; 1400], 0), None));
        client.flush();
        assert_eq!(peer.each(64, PATIENCE, |_, _| ()), 64);
        (0..64).for_each(|_| peer.put(route.relay, &[CANARY; 1400], None));
        peer.flush();
        assert_eq!(client.each(64, PATIENCE, |_, _| ()), 64);
        let mut stranger = Host::new("::1");
        (0..10).for_each(|_| stranger.put(route.relay, &[CANARY; 1400], None));
        stranger.flush();
        assert_eq!(rig.told(10, PATIENCE).len(), 10);
        for _ in 0..10 {
            rig.plane.to_client(0, rig::udp(listener, client.address), &[CANARY; 1400]);
        }
        rig.plane.flush();
        assert_eq!(client.each(10, PATIENCE, |_, _| ()), 10);
    }
    // when, then
    let mut pattern: Vec<u8> = (0..2000).map(|at| at as u8).collect();
    pattern.iter_mut().filter(|byte| **byte == CANARY).for_each(|byte| *byte = 0);
    for round in 0..EXCHANGES / WINDOW {
        let data: Vec<&[u8]> = (0..WINDOW).map(|_| piece(&pattern, &mut random)).collect();
        for data in &data {
            client.put(listener, &channel_data(0x4000, data, random.below(4)), None);
        }
        client.flush();
        let mut expected = data.iter();
        peer.each(WINDOW, PATIENCE, |_, bytes| assert_eq!(Some(&bytes), expected.next()));
        assert_eq!(expected.count(), 0, "round {round}");
        data.iter().for_each(|data| peer.put(route.relay, data, None));
        peer.flush();
        let mut expected = data.iter();
        client.each(WINDOW, PATIENCE, |_, bytes| {
            let data = expected.next().unwrap();
            assert!(bytes[..4] == channel_data(0x4000, data, 0)[..4] && bytes[4..] == **data);
        });
        assert_eq!(expected.count(), 0, "round {round}");
        // and through the rings, both ways
        let message = stun(random.below(200));
        client.send(listener, &message);
        match &rig.told(1, PATIENCE)[..] {
            [Told::Client { bytes, .. }] => assert_eq!(*bytes, message),
            other => panic!("{other:?}"),
        }
        rig.plane.to_client(0, rig::udp(listener, client.address), &message);
        rig.plane.flush();
        assert_eq!(client.receive_one().bytes, message);
    }
}

fn piece<'p>(pattern: &'p [u8], random: &mut Random) -> &'p [u8] {
    let start = random.below(800);
    &pattern[start..start + random.below(1200)]
}
