//! Generator and sink against bare programs, which lose nothing by themselves.

mod cable;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use cable::{Cable, MACS};
use traffic::xsk::{Copying, Sender};
use traffic::{Bare, Flow, Leg, Offer, Order, Path, Place, Scheme, Seen, Traffic};

fn scheme(cable: &Cable, addresses: [&str; 2], payloads: &[u16], tracked: bool) -> Scheme {
    let [src, dst] = addresses.map(|text| text.parse::<IpAddr>().expect("an address"));
    let path = Path { interface: cable.index[0], own: MACS[0], next: MACS[1], src, dst };
    let payloads = payloads.to_vec();
    Scheme { paths: vec![path], flows: 2, payloads, tracked, arms: [0; 2] }
}

/// Flow 0 is ChannelData, flow 1 is not; both come back mirrored.
fn flows() -> [Flow; 2] {
    [Some(0x4001), None].map(|channel| {
        let (near, far) = if channel.is_some() { (20_000, 30_000) } else { (20_001, 30_001) };
        let out = Leg { src: near, dst: far, channel };
        let arrive = Leg { src: far, dst: near, channel };
        Flow { path: 0, out, arrive, to_client: channel.is_some() }
    })
}

fn set_flows(traffic: &Traffic) {
    for (number, flow) in flows().iter().enumerate() {
        traffic.set_flow(number, flow);
    }
}

fn send(traffic: &Traffic, rate: f64, tag: u8, socket: Option<&mut Sender>) -> Result<()> {
    let time = Duration::from_millis(300);
    let order = Order { offer: Offer::Rate(rate), time, start: None, tag, slot: 100_000_000 };
    traffic.prepare(&order)?;
    match socket {
        Some(socket) => {
            let senders = std::slice::from_mut(socket);
            traffic.transmit(&flows(), senders, Place::default(), &false.into())?;
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
            let Some(cable) = Cable::new()? else { return Ok(()) };
            let mut traffic = Traffic::open(&scheme(&cable, addresses, payloads, tracked))?;
            set_flows(&traffic);
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
        let Some(cable) = Cable::new()? else { return Ok(()) };
        let mut traffic = Traffic::open(&scheme(&cable, addresses, &[20, 21, 160, 1_440], true))?;
        set_flows(&traffic);
        cable.inside(1, || traffic.attach_bare(Bare::Tx, &[cable.index[1]]).map(drop))?;
        cable.inside(0, || traffic.attach_sink(&[cable.index[0]]))?;
        let mut socket = cable.inside(0, || Ok(Sender::open(cable.index[0], 0)?))?;
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

/// Not a test: prints what generator, bare XDP_TX and sink do together on one core.
///
/// cargo test --release -p turnwire-traffic --test bare -- --ignored --nocapture how_fast
#[test]
#[ignore = "a measurement, for a quiet machine"]
fn how_fast() -> Result<()> {
    for tracked in [false, true] {
        let Some(cable) = Cable::new()? else { return Ok(()) };
        let mut traffic =
            Traffic::open(&scheme(&cable, ["10.7.0.1", "10.7.0.2"], &[160], tracked))?;
        set_flows(&traffic);
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
