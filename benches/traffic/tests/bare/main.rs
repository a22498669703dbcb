//! Generator and sink against bare programs, which lose nothing by themselves.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use traffic::xsk::{Copying, Sender};
use traffic::{Bare, Flow, Leg, Offer, Order, Path, Place, Scheme, Seen, Traffic, Wrapper, net};
use turnwire_tests::cable::{Cable, MACS};
use turnwire_tests::namespace;

/// `None`, having said so, without privilege.
fn cable() -> Result<Option<Cable>> {
    if !namespace::is_root() {
        eprintln!("skipped: network namespaces need root (CAP_SYS_ADMIN)");
        return Ok(None);
    }
    Cable::new().map(Some)
}

fn scheme(cable: &Cable, addresses: [&str; 2], payloads: &[u16], tracked: bool) -> Scheme {
    let [src, dst] = addresses.map(|text| text.parse::<IpAddr>().expect("an address"));
    let path =
        Path { interface: cable.index[0], own: MACS[0], next: MACS[1], src, dst, peer: None };
    let payloads = payloads.to_vec();
    Scheme { paths: vec![path], flows: 2, payloads, tracked, arms: [0; 2] }
}

/// Flow 0 is ChannelData, flow 1 is not; both come back mirrored.
fn flows() -> [Flow; 2] {
    mirrored([Wrapper::Channel(0x4001), Wrapper::None])
}

fn mirrored(wrappers: [Wrapper; 2]) -> [Flow; 2] {
    [(20_000, 30_000), (20_001, 30_001)].map(|(near, far)| {
        let wrapper = wrappers[usize::from(near) - 20_000];
        let out = Leg { src: near, dst: far, wrapper };
        let arrive = Leg { src: far, dst: near, wrapper };
        Flow { path: 0, out, arrive, to_client: near == 20_000 }
    })
}

fn set_flows(traffic: &Traffic, flows: &[Flow]) {
    for (number, flow) in flows.iter().enumerate() {
        traffic.set_flow(number, flow);
    }
}

/// A sender at the near end, called inside it.
fn sender(cable: &Cable) -> Result<Sender> {
    let near = net::interfaces()?.into_iter().find(|one| one.index == cable.index[0]);
    Ok(Sender::open(&near.expect("the cable's end"), 0)?)
}

fn send(traffic: &Traffic, rate: f64, tag: u8, socket: Option<&mut Sender>) -> Result<()> {
    send_flows(traffic, rate, tag, &flows(), socket)
}

fn send_flows(
    traffic: &Traffic,
    rate: f64,
    tag: u8,
    flows: &[Flow],
    socket: Option<&mut Sender>,
) -> Result<()> {
    let time = Duration::from_millis(300);
    let order = Order { offer: Offer::Rate(rate), time, start: None, tag, slot: 100_000_000 };
    traffic.prepare(&order)?;
    match socket {
        Some(socket) => {
            let senders = std::slice::from_mut(socket);
            traffic.transmit(flows, senders, Place::default(), &false.into())?;
        }
        None => traffic.generate(Place::default(), &false.into())?,
    }
    let mut last = None;
    while last != Some(traffic.seen()?) {
        last = Some(traffic.seen()?);
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn everything_that_is_sent_comes_back_and_is_counted_once() -> Result<()> {
    for addresses in [["10.7.0.1", "10.7.0.2"], ["fd07::1", "fd07::2"]] {
        for (payloads, tracked) in
            [(&[160][..], true), (&[20, 21, 27, 28, 29, 1_160, 1_440], true), (&[20, 1_160], false)]
        {
            let Some(cable) = cable()? else { return Ok(()) };
            let mut traffic = Traffic::open(&scheme(&cable, addresses, payloads, tracked))?;
            set_flows(&traffic, &flows());
            cable.inside(1, || traffic.attach_bare(Bare::Tx, &[cable.index[1]]).map(drop))?;
            cable.inside(0, || traffic.attach_sink(&[cable.index[0]]))?;
            for tag in [1, 2] {
                let before = traffic.seen()?;
                cable.inside(0, || send(&traffic, 5_000.0, tag, None))?;
                let (sent, seen) = (traffic.sent(), traffic.seen()?);
                let context = format!("{addresses:?} {payloads:?} {sent:?} {seen:?}");
                let right: Vec<u64> =
                    (0..2).map(|way| seen.right[way] - before.right[way]).collect();
                assert_eq!(right, sent.packets, "{context}");
                let total = sent.packets.iter().sum::<u64>();
                assert_eq!(total + sent.skipped, 1_500, "{context}");
                assert!(total > 500, "{context}");
                let wrong = Seen { right: [0; 2], other: 0, ..seen };
                assert_eq!(wrong, Seen::default(), "{context}");
                if tracked {
                    check_tracked(&traffic, total);
                }
            }
        }
    }
    Ok(())
}

fn check_tracked(traffic: &Traffic, total: u64) {
    for flow in [0, 1] {
        let arrivals = traffic.arrivals_of(flow);
        assert_eq!(arrivals.received, traffic.sent_of(flow));
        assert_eq!((arrivals.reordered, arrivals.duplicated, arrivals.damaged), (0, 0, 0));
    }
    let count = |histogram: Vec<(u64, u64)>| histogram.iter().map(|(_, count)| count).sum::<u64>();
    assert_eq!(count(traffic.latency(true)) + count(traffic.latency(false)), total);
    assert_eq!(count(traffic.lateness()), total);
    assert_eq!(traffic.sent_by_slot().iter().sum::<u64>(), total);
    assert_eq!(traffic.sent_by_slot(), traffic.received_by_slot());
    let slots = (0..3).map(|slot| count(traffic.latency_of_slot(slot)));
    assert!(slots.clone().all(|count| count > 0));
    assert_eq!(slots.sum::<u64>(), total);
}

#[test]
fn af_xdp_sends_the_same_frames() -> Result<()> {
    for addresses in [["10.7.0.1", "10.7.0.2"], ["fd07::1", "fd07::2"]] {
        let Some(cable) = cable()? else { return Ok(()) };
        let mut traffic = Traffic::open(&scheme(&cable, addresses, &[20, 21, 160, 1_440], true))?;
        set_flows(&traffic, &flows());
        cable.inside(1, || traffic.attach_bare(Bare::Tx, &[cable.index[1]]).map(drop))?;
        cable.inside(0, || traffic.attach_sink(&[cable.index[0]]))?;
        let mut socket = cable.inside(0, || sender(&cable))?;
        assert_eq!(socket.copying(), Copying::Copy, "a veth has no zero copy");
        // more than there are chunks, so that all of them come back
        for tag in [1, 2] {
            let before = traffic.seen()?;
            cable.inside(0, || send(&traffic, 12_000.0, tag, Some(&mut socket)))?;
            let (sent, seen) = (traffic.sent(), traffic.seen()?);
            let context = format!("{addresses:?} {sent:?} {seen:?}");
            assert_eq!(sent.packets, [1_800, 1_800], "{context}");
            let right: Vec<u64> = (0..2).map(|way| seen.right[way] - before.right[way]).collect();
            assert_eq!(right, sent.packets, "{context}");
            let wrong = Seen { right: [0; 2], other: 0, ..seen };
            assert_eq!(wrong, Seen::default(), "{context}");
            check_tracked(&traffic, 3_600);
        }
    }
    Ok(())
}

/// What is there to send, and whether by the program or by AF_XDP.
const INDICATIONS: [([&str; 2], &str, bool, bool); 4] = [
    (["10.7.0.1", "10.7.0.2"], "192.0.2.7", false, false),
    (["fd07::1", "fd07::2"], "2001:db8::7", true, false),
    (["10.7.0.1", "10.7.0.2"], "2001:db8::7", true, true),
    (["fd07::1", "fd07::2"], "192.0.2.7", false, true),
];

#[test]
fn send_indications_come_back_whole_and_one_of_another_peer_is_seen() -> Result<()> {
    for (addresses, peer, tracked, by_socket) in INDICATIONS {
        let Some(cable) = cable()? else { return Ok(()) };
        let mut scheme = scheme(&cable, addresses, &[20, 160, 1_160], tracked);
        scheme.paths[0].peer = Some(peer.parse()?);
        // given a client that sends by indications, and one by channel
        let flows = mirrored([Wrapper::Indication(0x7531), Wrapper::Channel(0x4001)]);
        let mut traffic = Traffic::open(&scheme)?;
        set_flows(&traffic, &flows);
        cable.inside(1, || traffic.attach_bare(Bare::Tx, &[cable.index[1]]).map(drop))?;
        cable.inside(0, || traffic.attach_sink(&[cable.index[0]]))?;
        // when
        cable.inside(0, || {
            let mut socket = None;
            if by_socket {
                socket = Some(sender(&cable)?);
            }
            send_flows(&traffic, 5_000.0, 1, &flows, socket.as_mut())
        })?;
        // then
        let (sent, seen) = (traffic.sent(), traffic.seen()?);
        let context = format!("{addresses:?} {peer} {tracked} {by_socket} {sent:?} {seen:?}");
        assert_eq!(seen.right, sent.packets, "{context}");
        assert!(sent.packets.iter().all(|packets| *packets > 200), "{context}");
        let wrong = Seen { right: [0; 2], other: 0, ..seen };
        assert_eq!(wrong, Seen::default(), "{context}");
        // and when the sink expects another port of the peer
        let elsewhere = mirrored([Wrapper::Indication(0x7532), Wrapper::Channel(0x4001)]);
        set_flows(&traffic, &[Flow { out: flows[0].out, ..elsewhere[0] }, flows[1]]);
        cable.inside(0, || send_flows(&traffic, 5_000.0, 2, &flows, None))?;
        let after = traffic.seen()?;
        assert_eq!(after.right[1], seen.right[1], "{context} {after:?}");
        assert_eq!(after.misrouted[1], traffic.sent().packets[1], "{context} {after:?}");
    }
    Ok(())
}

/// Not a test: prints what generator, bare XDP_TX and sink do together on one core.
///
/// cargo test --release -p turnwire-traffic --test bare -- --ignored --nocapture how_fast
#[test]
#[ignore = "a measurement, for a quiet machine"]
fn how_fast() -> Result<()> {
    for tracked in [false, true] {
        let Some(cable) = cable()? else { return Ok(()) };
        let mut traffic =
            Traffic::open(&scheme(&cable, ["10.7.0.1", "10.7.0.2"], &[160], tracked))?;
        set_flows(&traffic, &flows());
        cable.inside(1, || traffic.attach_bare(Bare::Tx, &[cable.index[1]]).map(drop))?;
        cable.inside(0, || traffic.attach_sink(&[cable.index[0]]))?;
        for _ in 0..5 {
            let place = Place { core: Some(0), rank: Some(1) };
            let before = traffic.seen()?.right.iter().sum::<u64>();
            let time = Duration::from_secs(1);
            let sent = cable.inside(0, || traffic.send(Offer::Most, time, place))?;
            let right = traffic.seen()?.right.iter().sum::<u64>() - before;
            let packets = sent.packets.iter().sum::<u64>();
            let rate = packets as f64 / sent.time.as_secs_f64();
            println!("tracked {tracked}: sent {rate:.0} a second, {right} of {packets} came back");
        }
    }
    Ok(())
}
