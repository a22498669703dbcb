//! The whole relay on a real network driver, in an emulated machine: `scripts/test --kernels` runs
//! these there, each where the driver can what the test is about.
//!
//! ```text
//!   8 clients ─┐                                                ┌─ queue 0 ─ worker 0
//!              ├─ bridge ─ driver ═ emulated cable ═ driver ─ XDP              (relay)
//!   8 peers  ──┘                                                └─ queue 1 ─ worker 1
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::Call;
use turnwire_tests::client::Client;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::metrics::Metrics;
use turnwire_tests::open_loop::{self, Flow, Load, Pace};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::traffic::Outcome;
use turnwire_tests::wait;

/// Datagrams each way.
const COUNT: u32 = 20_000;
/// Each way, both at once.
const PER_SECOND: u32 = 10_000;
/// On their way at most, where no rate is promised.
const WINDOW: u32 = 64;
/// Of each mix of families. Network cards choose a queue by the addresses: there are many.
const CALLS: u16 = 2;
/// Send indications, and as many Data indications.
const INDICATIONS: u8 = 50;
/// A driver may take its link down for seconds when a program is attached or a queue is opened.
const LINK: Duration = Duration::from_secs(60);

/// All by the workers, wherever a driver says that it copies nothing; else by the program.
const AUTO: Launch<'static> = Launch {
    tier: Tier::AfXdp,
    mode: "native",
    options: &["--af-xdp", "auto", "--xdp-forward", "workers"],
    setpriv: &[],
    identity: None,
};

#[test]
#[ignore = "for guests whose driver copies nothing: scripts/test --kernels"]
fn the_relay_loses_nothing_without_copies_at_ten_thousand_a_second_each_way() {
    in_lab(Topology::OneArmed, |lab| {
        // given
        let relay = RelayUnderTest::launch(lab, &AUTO)?;
        let queues = queues_of(lab)?;
        wait::until("every queue is open", LINK, || {
            Ok((queues_open(&relay.metrics()?) == (queues, 0)).then_some(()))
        })?;
        let mut calls = many_calls(lab, &relay)?;
        // when
        carries(&relay, &mut calls, Pace::Open(PER_SECOND))?;
        indications_pass(lab, &relay, true)?;
        // then
        let metrics = relay.metrics()?;
        ensure!(queues_open(&metrics) == (queues, 0), "{}", metrics.counted());
        for worker in 0..queues {
            let worker = worker.to_string();
            let labels = [("worker", worker.as_str()), ("way", "forwarded")];
            let frames = metrics.sum("turnwire_af_xdp_frames_total", &labels);
            ensure!(frames > 0, "worker {worker} had nothing:\n{}", metrics.counted());
        }
        let log = relay.log();
        ensure!(log.contains("zero_copy=true"), "the log does not say so:\n{log}");
        let lost =
            ["no AF_XDP for a worker", "opened anew"].iter().any(|words| log.contains(words));
        ensure!(!lost, "queues were lost:\n{log}");
        Ok(())
    });
}

#[test]
#[ignore = "for guests with a driver that copies: scripts/test --kernels"]
fn the_relay_loses_nothing_with_copies_where_there_is_no_other_way() {
    in_lab(Topology::OneArmed, |lab| {
        // given a relay that is told to copy
        let relay = RelayUnderTest::launch(lab, &Launch::of(Tier::AfXdp))?;
        let queues = queues_of(lab)?;
        wait::until("every queue is open", LINK, || {
            Ok((queues_open(&relay.metrics()?) == (0, queues)).then_some(()))
        })?;
        let mut calls = many_calls(lab, &relay)?;
        // when
        carries(&relay, &mut calls, Pace::Closed(WINDOW))?;
        indications_pass(lab, &relay, true)?;
        // then
        let metrics = relay.metrics()?;
        ensure!(queues_open(&metrics) == (0, queues), "{}", metrics.counted());
        let log = relay.log();
        ensure!(log.contains("zero_copy=false"), "the log does not say so:\n{log}");
        Ok(())
    });
}

#[test]
#[ignore = "for guests with a driver that copies: scripts/test --kernels"]
fn the_relay_leaves_af_xdp_alone_where_its_driver_would_copy() {
    in_lab(Topology::OneArmed, |lab| {
        // given a relay that may use AF_XDP, and whose channels would go by it
        let relay = RelayUnderTest::launch(lab, &Launch { tier: Tier::Native, ..AUTO })?;
        let mut calls = many_calls(lab, &relay)?;
        // when
        carries(&relay, &mut calls, Pace::Closed(WINDOW))?;
        indications_pass(lab, &relay, false)?;
        // then the program has forwarded channels, sockets all else, and no queue was opened
        let metrics = relay.metrics()?;
        ensure!(queues_open(&metrics) == (0, 0), "{}", metrics.counted());
        ensure!(metrics.sum("turnwire_xdp_punted_packets_total", &[]) == 0);
        let log = relay.log();
        ensure!(log.contains("no driver of the interfaces"), "the log does not say why:\n{log}");
        Ok(())
    });
}

#[test]
#[ignore = "for guests whose kernel is older than what AF_XDP needs: scripts/test --kernels"]
fn the_relay_leaves_af_xdp_alone_where_its_kernel_is_too_old() {
    in_lab(Topology::OneArmed, |lab| {
        // given a relay that is told to copy, whose kernel's verifier would not come to an end
        let launch = Launch { tier: Tier::Native, ..Launch::of(Tier::AfXdp) };
        let relay = RelayUnderTest::launch(lab, &launch)?;
        let mut calls = many_calls(lab, &relay)?;
        // when
        carries(&relay, &mut calls, Pace::Closed(WINDOW))?;
        indications_pass(lab, &relay, false)?;
        // then
        let log = relay.log();
        ensure!(log.contains("AF_XDP needs Linux 6.1"), "the log does not say why:\n{log}");
        Ok(())
    });
}

#[test]
#[ignore = "for guests with virtio-net of Linux 6.18 or later: scripts/test --kernels"]
fn the_relay_leaves_af_xdp_alone_where_its_driver_would_lose_what_the_program_sends() {
    in_lab(Topology::OneArmed, |lab| {
        for options in [&[][..], &["--af-xdp", "zero-copy"]] {
            // given a driver that copies nothing, and a program that forwards
            let relay =
                RelayUnderTest::launch(lab, &Launch { options, ..Launch::of(Tier::Native) })?;
            let mut calls = many_calls(lab, &relay)?;
            // when
            carries(&relay, &mut calls, Pace::Closed(WINDOW))?;
            indications_pass(lab, &relay, false)?;
            // then
            let metrics = relay.metrics()?;
            ensure!(queues_open(&metrics) == (0, 0), "{options:?}: {}", metrics.counted());
            let log = relay.log();
            ensure!(log.contains("virtio_net loses what"), "{options:?} is not explained:\n{log}");
        }
        Ok(())
    });
}

/// Calls in every mix of families, each from and to addresses of its own, that the tier carries.
fn many_calls(lab: &Lab, relay: &RelayUnderTest) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    for number in 0..CALLS {
        let [v4, v6] = Family::ALL;
        for (mix, (outer, inner)) in
            [(v4, v4), (v4, v6), (v6, v4), (v6, v6)].into_iter().enumerate()
        {
            let own = 16 + 4 * number + mix as u16;
            let near = further_address(lab, Host::Client, outer, outer.client(), own)?;
            let far = further_address(lab, Host::Peer, inner, inner.peer(), own)?;
            let client = Client::over(lab.udp(Host::Client, (near, 0).into())?, outer)?;
            let peer = lab.udp(Host::Peer, SocketAddr::new(far, 0))?;
            let told = || format!("client over {outer:?}, peer over {inner:?}");
            let mut call = Call::between(client, outer, inner, peer).with_context(told)?;
            call.warm_up(relay).with_context(told)?;
            calls.push(call);
        }
    }
    Ok(calls)
}

/// Gives a host a further address, in the subnet of its first.
fn further_address(
    lab: &Lab,
    host: Host,
    family: Family,
    first: IpAddr,
    last: u16,
) -> Result<IpAddr> {
    let (address, with_length) = match first {
        IpAddr::V4(first) => {
            let [a, b, c, _] = first.octets();
            let address = IpAddr::from([a, b, c, last as u8]);
            (address, format!("{address}/24"))
        }
        IpAddr::V6(first) => {
            let mut groups = first.segments();
            groups[7] = last;
            let address = IpAddr::from(groups);
            (address, format!("{address}/64"))
        }
    };
    let mut command = vec!["ip", "address", "replace", &with_length, "dev", "eth0"];
    if family == Family::V6 {
        command.push("nodad");
    }
    lab.run(host, &command)?;
    Ok(address)
}

/// `COUNT` datagrams each way, all back whole, all by the relay's tier.
fn carries(relay: &RelayUnderTest, calls: &mut [Call], pace: Pace) -> Result<()> {
    let before = [relay.forwarded(Direction::ToPeer)?, relay.forwarded(Direction::ToClient)?];
    let ways = Direction::ALL
        .map(|direction| calls.iter().map(|call| Flow::of(call, direction)).collect::<Vec<_>>());
    let load = Load { count: COUNT, pace };
    let passed = open_loop::run(&ways, load)?;
    println!("{:?}, {pace:?}: {passed:?}", relay.tier());
    for ((direction, passed), before) in Direction::ALL.into_iter().zip(passed).zip(before) {
        let told = || match relay.metrics() {
            Ok(metrics) => format!("{direction:?}: {passed:?}\n{}", metrics.counted()),
            Err(error) => format!("{direction:?}: {passed:?}\n{error:#}"),
        };
        ensure!(passed.outcome == Outcome::perfect(COUNT), told());
        let by_tier = relay.forwarded_since(before, direction, COUNT.into())?;
        ensure!(by_tier == u64::from(COUNT), "{by_tier} by {:?}, {}", relay.tier(), told());
        if let Pace::Open(rate) = pace {
            ensure!(passed.per_second > 0.98 * f64::from(rate), "too slow: {}", told());
        }
    }
    Ok(())
}

/// Send and Data indications, in every mix of families, come by AF_XDP or do not.
fn indications_pass(lab: &Lab, relay: &RelayUnderTest, by_af_xdp: bool) -> Result<()> {
    let frames = || anyhow::Ok(relay.metrics()?.sum("turnwire_af_xdp_frames_total", &[]));
    let before = frames()?;
    let mut count = 0;
    for outer in Family::ALL {
        for inner in Family::ALL {
            let mut call = Call::set_up(lab, outer, inner)?;
            call.exchanges_indications(lab, INDICATIONS)?;
            count += 2 * u64::from(INDICATIONS);
        }
    }
    let frames = frames()? - before;
    let right = if by_af_xdp { frames >= count } else { frames == 0 };
    ensure!(right, "{frames} frames by AF_XDP for {count} datagrams");
    Ok(())
}

/// Queues of the relay's interface.
fn queues_of(lab: &Lab) -> Result<u64> {
    let device = lab.towards_client();
    let listing = lab.run(Host::Relay, &["ls", &format!("/sys/class/net/{device}/queues")])?;
    Ok(listing.lines().filter(|name| name.starts_with("rx-")).count() as u64)
}

/// Without copies, and with.
fn queues_open(metrics: &Metrics) -> (u64, u64) {
    let of = |mode| metrics.sum("turnwire_af_xdp_queues", &[("mode", mode)]);
    (of("zero_copy"), of("copy"))
}
