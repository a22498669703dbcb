//! Faults on the way, and on this side, as the generators without sockets tell them.

use anyhow::{Context as _, Result, ensure};
use traffic::{Path, Scheme, Traffic, net};

use super::tool::assert_adds_up;
use super::wire::{Family, Host, Wire, on_a_wire, undisturbed};

/// Has the relay's host do something to one datagram in so many, and counts them. `hook` is
/// netfilter's; `@th,64,4 4` is a datagram that begins as ChannelData does.
fn inject(wire: &Wire, hook: &str, of: &str, what: &str) -> Result<()> {
    wire.run(
        Host::Relay,
        &format!(
            "nft add table inet faults
            nft \"add chain inet faults c {{ type filter hook {hook} priority 0; }}\"
            nft \"add rule inet faults c {of} counter {what}\""
        ),
    )?;
    Ok(())
}

/// How many it was done to.
fn injected(wire: &Wire) -> Result<u64> {
    let text = wire.run(Host::Relay, "nft list table inet faults; nft delete table inet faults")?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
    Ok(words.next().context("a counter")?.parse()?)
}

#[test]
fn loss_is_reported_as_such() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp-mode", "off"])?;
        for (percent, generator) in [(1, "kernel"), (10, "kernel"), (1, "af-xdp"), (10, "af-xdp")] {
            undisturbed(|| {
                let some = format!("udp dport 3478 @th,64,4 4 numgen random mod 100 < {percent}");
                inject(wire, "input", &some, "drop")?;
                let done = wire.go(Family::V4, generator, &["--channels-per-allocation", "4"]);
                let (run, lost) = (done.run(), injected(wire)?);
                assert_adds_up(run);
                let totals = run.totals;
                assert!(totals.lost >= lost, "{generator}: {lost} dropped, {totals:?}");
                ensure!(totals.lost == lost, "{generator}: {lost} dropped, {totals:?}");
                let off = (totals.loss_ratio - f64::from(percent) / 100.0).abs();
                ensure!(off < 0.004 * f64::from(percent).sqrt() + 0.01, "{totals:?}");
                let bad = (totals.corrupted, totals.reordered, totals.duplicated, totals.misrouted);
                ensure!(bad == (0, 0, 0, 0), "{totals:?}");
                Ok(())
            })?;
        }
        Ok(())
    });
}

#[test]
fn corruption_is_reported_as_such() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp-mode", "off"])?;
        for generator in ["kernel", "af-xdp"] {
            // a byte in the middle of the filling, and one of the stamp's
            for bit in [800, 120] {
                undisturbed(|| {
                    let some = "udp sport != 3478 udp dport > 1024 numgen inc mod 20 0";
                    inject(wire, "output", some, &format!("@th,{bit},8 set 0x13"))?;
                    let done = wire.go(Family::V4, generator, &[]);
                    let (run, damaged) = (done.run(), injected(wire)?);
                    assert_adds_up(run);
                    let totals = run.totals;
                    ensure!(damaged > 10, "{damaged}");
                    ensure!(
                        totals.corrupted == damaged,
                        "{generator} {bit}: {damaged}, {totals:?}"
                    );
                    let none = totals.lost == 0 && totals.misrouted == 0;
                    ensure!(none, "{generator} {bit}: {totals:?}");
                    Ok(())
                })?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_rate_beyond_reach_is_said() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp", "arm0", "--xdp-mode", "native"])?;
        for generator in ["kernel", "af-xdp"] {
            let words = ["--rate", "50000000", "--duration", "0.3"];
            let done = wire.go(Family::V4, generator, &words);
            let shortfall = done.run().generator.shortfall.clone().context("a shortfall")?;
            let begins = "asked 50,000,000, this machine generated ";
            ensure!(shortfall.starts_with(begins), "{generator}: {shortfall}");
            ensure!(done.run().totals.offered == 15_000_000, "{:?}", done.run().totals);
        }
        Ok(())
    });
}

#[test]
fn silence_is_explained_where_a_veth_swallows_what_is_redirected_to_it() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp-mode", "off"])?;
        wire.run(Host::Relay, "ethtool -K arm0 gro off")?;
        let done = wire.go(Family::V4, "kernel", &["--duration", "0.3", "--drain", "0.3"]);
        let run = done.run();
        assert_adds_up(run);
        ensure!(run.totals.received == 0 && run.totals.lost == run.totals.sent, "{:?}", run.totals);
        let words = run.generator.shortfall.clone().context("an explanation")?;
        ensure!(words.contains("ethtool -K DEV gro on") && done.stdout.contains(&words), "{words}");
        Ok(())
    });
}

#[test]
fn what_an_interface_lacks_is_named() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp-mode", "off"])?;
        let listener = Family::V4.listener().to_string();
        let base = ["run", "--server", &listener, "--user", "u", "--password", "p", "-q"];
        for (words, text) in [
            (&["--generator", "kernel"][..], "needs --interface"),
            (&["--interface", "far0"], "is for --generator kernel and af-xdp"),
            (&["--generator", "kernel", "--interface", "nix0"], "no interface \"nix0\", only "),
            (&["--generator", "kernel", "--interface", "lo"], "no Ethernet interface"),
            (&["--generator", "kernel", "--interface", "far0", "--mode", "send"], "--mode send"),
            (&["--generator", "af-xdp", "--interface", "far0", "--queue", "9"], "no queue 9"),
            (
                &["--generator", "kernel", "--interface", "far0", "--transport", "tcp"],
                "--transport tcp needs sockets",
            ),
            (
                &["--generator", "kernel", "--interface", "far0", "--payload", "9000"],
                "at most 1440 bytes",
            ),
            (
                &["--generator", "kernel", "--interface", "far0", "--peer", "10.91.1.2:9"],
                "--peer needs sockets",
            ),
        ] {
            let done = wire.load(&[&base[..], words].concat());
            ensure!(done.code == Some(1), "{words:?}: {:?}", done.code);
            ensure!(done.stderr.contains(text), "{words:?}: {}", done.stderr);
        }
        wire.run(Host::Far, "ip link add other0 type veth peer name other1; ip link set other0 up; ip link set other1 up")?;
        let done =
            wire.load(&[&base[..], &["--generator", "kernel", "--interface", "other0"]].concat());
        let text = "10.91.1.2 reaches 10.91.1.1 by far0, not by --interface other0";
        ensure!(done.code == Some(1) && done.stderr.contains(text), "{}", done.stderr);
        ensure!(wire.metric("turnwire_allocations ", &[])? == 0, "what was made is deleted");
        Ok(())
    });
}

#[test]
fn another_program_at_the_interface_is_named() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp-mode", "off"])?;
        // given
        let ip = Family::V4.ip(Host::Far);
        let path = Path { interface: 1, own: [2; 6], next: [2; 6], src: ip, dst: ip, peer: None };
        let payloads = vec![20];
        let mut other = Traffic::open(&Scheme {
            paths: vec![path],
            flows: 1,
            payloads,
            tracked: false,
            arms: [0; 2],
        })?;
        wire.inside(Host::Far, || other.attach_sink(&[net::named("far0")?.index]))?;
        // when
        let done = wire.go(Family::V4, "kernel", &["-q"]);
        // then
        ensure!(done.code == Some(1));
        for text in ["another XDP program (number ", "\"sink\") is attached to far0", "xdp off"] {
            ensure!(done.stderr.contains(text), "{}", done.stderr);
        }
        Ok(())
    });
}

#[test]
fn a_missing_capability_is_named_and_those_that_are_named_are_enough() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp-mode", "off"])?;
        let with = |capabilities: &str, generator: &str| {
            let program = env!("CARGO_BIN_EXE_turnwire-load");
            let command = format!(
                "setpriv --bounding-set=-all{capabilities} --inh-caps=-all {program} run -q \
                 --server 10.91.1.1 --user u --password p --generator {generator} \
                 --interface far0 --rate 1000 --duration 0.3 2>&1 || echo status $?"
            );
            wire.run(Host::Far, &command)
        };
        for (generator, text) in [
            ("kernel", "needs CAP_NET_ADMIN and CAP_PERFMON and CAP_BPF, which this process lacks"),
            ("af-xdp", "CAP_NET_RAW"),
        ] {
            let said = with("", generator)?;
            ensure!(said.contains(text) && said.contains("setcap cap_"), "{said}");
            ensure!(said.trim_end().ends_with("status 1"), "{said}");
        }
        let enough = ",+net_admin,+perfmon,+bpf";
        for (capabilities, generator) in [(enough, "kernel"), (",+net_raw", "af-xdp")] {
            let capabilities =
                if generator == "kernel" { enough } else { &format!("{enough}{capabilities}") };
            let said = with(capabilities, generator)?;
            ensure!(said.contains("offered 300, ") && !said.contains("status"), "{said}");
        }
        Ok(())
    });
}
