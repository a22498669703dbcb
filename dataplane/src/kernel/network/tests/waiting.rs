//! How long a way waits behind what else is asked.

use super::*;

#[test]
fn a_way_waits_for_one_neighbour_at_most_however_many_are_to_be_found_out() {
    in_namespace(|| {
        // given more neighbours to be found out than are asked about at a time
        let (mut network, paths) = behind_a_gateway(1);
        nudge_strangers(&mut network, 2 * ASKS_MAX);
        let line = network.line();
        let room = line.room();
        // when
        assert!(line.ask(paths[0]));
        line.work();
        // then
        let mut reports = std::iter::from_fn(|| line.next());
        assert!(reports.any(|report| matches!(report, Report::Way(_, Some(_)))));
        assert_eq!(line.room(), room + 1, "one was found out meanwhile");
    });
}

/// Has so many neighbours found out, who are not there.
fn nudge_strangers(network: &mut Network, count: usize) {
    let link = index(network, "eth0");
    for number in 0..count as u32 {
        let next = (0xc000_0200 + 20 + number % 200).to_be_bytes().into();
        assert!(network.line().have(Chore::Nudge { link, next }));
    }
}

/// Figures, and no verdict: `cargo test -p turnwire-dataplane --lib -- --ignored how_long --nocapture`.
#[test]
#[ignore = "measures for some seconds"]
#[allow(clippy::disallowed_methods, reason = "it measures")]
fn how_long_a_way_waits_behind_neighbours_while_interfaces_come_and_go() {
    in_namespace(|| {
        let (_, paths) = behind_a_gateway(1);
        let churn = |own: usize| {
            let script = format!(
                "while :; do ip link add a{own} type veth peer name b{own}; ip link del a{own}; done"
            );
            std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap()
        };
        for busy in [false, true] {
            let mut loops: Vec<_> = (0..if busy { 4 } else { 0 }).map(churn).collect();
            sleep(Duration::from_millis(300));
            let poll = mio::Poll::new().unwrap();
            let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
            let watch = Watch::open().unwrap();
            let links = watch.links().clone();
            let line = Line::start(watch, std::sync::Arc::new(waker)).unwrap();
            let mut network = Network::new(Mapping::anonymous(HOPS_MAX), links, line);
            let empty = network.line().room();
            nudge_strangers(&mut network, 1000);
            let (line, start) = (network.line(), Instant::now());
            assert!(line.ask(paths[0]));
            line.flush();
            let (mut way, mut all) = (None, None);
            while all.is_none() && start.elapsed() < Duration::from_secs(60) {
                line.hear();
                while let Some(report) = line.next() {
                    if matches!(report, Report::Way(..)) {
                        way = Some(start.elapsed());
                    }
                }
                line.flush();
                all = (line.room() == empty).then(|| start.elapsed());
                sleep(Duration::from_micros(100));
            }
            println!(
                "interfaces come and go: {busy}; the way {way:.1?}, 1,000 neighbours {all:.1?}"
            );
            loops.iter_mut().for_each(|child| child.kill().unwrap());
            loops.iter_mut().for_each(|child| assert!(!child.wait().unwrap().success()));
        }
    });
}
