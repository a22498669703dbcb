//! Datagrams that the kernel merges and cuts are the same datagrams: the same bytes, the same marks,
//! in the same order, as one by one.

#[path = "support/rig.rs"]
mod rig;

use dataplane::Tuning;
use dataplane::batch::Marks;
use dataplane::link::Offload;
use dataplane::stats::WorkerSnapshot;
use rig::{Host, PATIENCE, Rig, channel_data, config};
use turnwire_tests::random::Random;

const MIXES: [(&str, &str); 4] =
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.0.0.1", "::1"), ("::1", "127.0.0.1")];

/// What one side receives.
type Flow = Vec<(Vec<u8>, Marks)>;

/// A burst of up to 60 datagrams: runs of one size, then of others, some empty, some marked.
fn burst(random: &mut Random) -> Vec<(Vec<u8>, Marks)> {
    let mut burst = Vec::new();
    while burst.len() < 40 {
        let size = [0, 1, 20, 160, 160, 1160, 1160][random.below(7)];
        let tos = [0, 0, 0xb8, 0x01, 0x03][random.below(5)];
        let marks = Marks { ttl: 60 + random.below(2) as u8, tos };
        for _ in 0..=random.below(20) {
            burst.push(((0..size).map(|_| random.next_u64() as u8).collect(), marks));
        }
        // and one that is shorter than those before it
        burst.push((vec![0x5a; size / 2], marks));
    }
    burst.truncate(60);
    burst
}

/// Sends the same bursts both ways through a relay with `offload`, and collects what arrives.
fn relayed(offload: Offload, mix: (&str, &str)) -> ([Flow; 2], WorkerSnapshot) {
    let tuning = Tuning { offload, ..Tuning::default() };
    let mut rig = Rig::tuned(config(1, &["127.0.0.1:0", "[::1]:0"]), tuning);
    let (mut client, mut peer) = (Host::new(mix.0), Host::new(mix.1));
    let listener = rig.listener(usize::from(client.address.is_ipv6()));
    let route = rig.channel(client.address, listener, mix.1, peer.address);
    let mut random = Random::replayable(19);
    let mut flows: [Flow; 2] = Default::default();
    for _ in 0..20 {
        let burst = burst(&mut random);
        for (data, marks) in &burst {
            let padding = random.below(4);
            client.put(listener, &channel_data(0x4000, data, padding), Some(*marks));
        }
        client.flush();
        let got = peer.receive(burst.len(), PATIENCE);
        flows[0].extend(got.into_iter().map(|got| (got.bytes, got.marks)));
        for (data, marks) in &burst {
            peer.put(route.relay, data, Some(*marks));
        }
        peer.flush();
        let got = client.receive(burst.len(), PATIENCE);
        flows[1].extend(got.into_iter().map(|got| (got.bytes, got.marks)));
    }
    rig.until("all are settled", |stats| stats.workers[0].settled() == stats.workers[0].received);
    let stats = rig.plane.stats().workers.remove(0);
    (flows, stats)
}

#[test]
fn merged_or_one_by_one_the_same_datagrams_leave() {
    for mix in MIXES {
        let (expected, plain) = relayed(Offload::default(), mix);
        assert_eq!(plain.messages_received, plain.received, "nothing is merged");
        assert_eq!(plain.messages_sent, plain.received, "nothing is to be cut");
        for (receive, send) in [(true, false), (false, true), (true, true)] {
            let (flows, stats) = relayed(Offload { receive, send }, mix);
            println!(
                "{mix:?}, receive {receive}, send {send}: {} in {} messages, out in {}",
                stats.received, stats.messages_received, stats.messages_sent
            );
            for (flow, expected) in flows.iter().zip(&expected) {
                assert_eq!(flow.len(), expected.len());
                assert!(flow == expected, "other bytes, marks or order");
            }
            // the marks were kept: see the bursts; and the kernel did its part
            assert_eq!(stats.received, plain.received);
            assert_eq!(stats.messages_received * 2 < stats.received, receive);
            assert_eq!(stats.messages_sent * 2 < stats.received, send);
            assert_eq!(stats.segmentation_refused, 0);
        }
    }
}

#[test]
fn messages_among_merged_channel_data_reach_the_control_thread_each_for_itself() {
    // given datagrams of one size, every third of them not for a channel
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    rig.channel(client.address, listener, "127.0.0.1", peer.address);
    // and a worker that has come to its sockets: before that the kernel merges nothing for it
    client.send(listener, &rig::stun(0));
    assert_eq!(rig.told(1, PATIENCE).len(), 1);
    for index in 0..60_u8 {
        let bytes = match index % 3 {
            0 => channel_data(0x4000, &[index; 36], 0),
            1 => rig::stun(20),
            _ => channel_data(0x4FFF, &[index; 36], 0),
        };
        client.put(listener, &bytes, None);
    }
    client.flush();
    // then each goes its own way
    let got = peer.receive(20, PATIENCE);
    let expected: Vec<_> = (0..60).step_by(3).map(|index| vec![index; 36]).collect();
    assert_eq!(got.into_iter().map(|got| got.bytes).collect::<Vec<_>>(), expected);
    assert_eq!(rig.told(40, PATIENCE).len(), 40);
    let stats = rig.plane.stats();
    assert!(stats.workers[0].messages_received < 60, "they came merged");
}
