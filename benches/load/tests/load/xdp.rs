//! The generators without sockets, against Turnwire and coturn over a cable.

use anyhow::{Result, ensure};
use turnwire_load::report::RunResult;

use super::tool::assert_adds_up;
use super::wire::{Family, Host, Wire, on_a_wire};

const GENERATORS: [&str; 2] = ["kernel", "af-xdp"];
/// Frames beside the data: requests, answers, neighbours, and what the hosts say by themselves.
const CONTROL: u64 = 200;

/// Nothing was lost or miscounted, and the interface agrees.
fn check(run: &RunResult, context: &str) -> Result<()> {
    assert_adds_up(run);
    let totals = run.totals;
    let bad = (totals.lost, totals.misrouted, totals.corrupted, totals.duplicated, run.stray);
    ensure!(bad == (0, 0, 0, 0, 0), "{context}: {totals:?} {:?}", run.generator);
    ensure!(totals.sent > totals.offered / 2, "{context}: {totals:?} {:?}", run.generator);
    // A machine that stutters makes the kernel's generator skip, and it says so.
    let short = (totals.sent as f64) < 0.99 * totals.offered as f64;
    ensure!(run.generator.shortfall.is_some() == short, "{context}: {:?}", run.generator);
    let [device] = &run.generator.devices[..] else { anyhow::bail!("{context}: no device") };
    for (name, count, data) in
        [("tx", device.tx_packets, totals.sent), ("rx", device.rx_packets, totals.received)]
    {
        let extra = count.checked_sub(data);
        ensure!(
            extra.is_some_and(|extra| extra < CONTROL),
            "{context}: {name} of the interface is {count}, and {data} were ours"
        );
    }
    let latency = run.latency.as_ref().expect("latencies");
    ensure!(latency.p50_us > 0.0 && latency.p50_us < 1e6, "{context}: {latency:?}");
    ensure!(run.slots.iter().all(|slot| slot.sent == slot.received), "{context}");
    Ok(())
}

/// Every generator, both directions and several lengths.
fn all(wire: &Wire, server: Family, more: &[&str], context: &str) -> Result<Vec<RunResult>> {
    let mut runs = Vec::new();
    for generator in GENERATORS {
        let shape = ["--allocations", "4", "--channels-per-allocation", "2"];
        let what = ["--direction", "both", "--payload", "20,161,1160"];
        let done = wire.go(server, generator, &[&shape[..], &what, more].concat());
        let run = done.run().clone();
        let context = format!("{context}, {generator}");
        check(&run, &context)?;
        ensure!(done.report().settings.generator == generator);
        ensure!(run.totals.offered == 2_000, "{context}: {:?}", run.totals);
        ensure!(run.directions.len() == 2 && run.flows.len() == 16, "{context}");
        let transmit = &run.generator.devices[0].transmit;
        let expected = if generator == "kernel" { "redirect" } else { "AF_XDP, copy" };
        ensure!(transmit == expected, "{context}: {transmit}");
        runs.push(run);
    }
    Ok(runs)
}

#[test]
fn what_they_count_is_what_turnwire_counts_by_xdp_and_by_sockets() {
    on_a_wire(|wire| {
        for (tier, words) in [
            ("xdp", &["--xdp", "arm0", "--xdp-mode", "native"][..]),
            ("socket", &["--xdp-mode", "off"]),
        ] {
            wire.turnwire(words)?;
            let runs = all(wire, Family::V4, &[], tier)?;
            for (at, label) in ["to_peer", "to_client"].into_iter().enumerate() {
                let ours: u64 = runs.iter().map(|run| run.directions[at].counts.received).sum();
                let labels = [&format!("direction=\"{label}\"")[..], &format!("tier=\"{tier}")];
                let theirs = wire.metric("turnwire_forwarded_packets_total", &labels)?;
                ensure!(ours == theirs, "{tier} {label}: {ours} received, {theirs} forwarded");
            }
        }
        Ok(())
    });
}

#[test]
fn coturn_is_measured_by_them_too() {
    on_a_wire(|wire| {
        if wire.coturn()? {
            all(wire, Family::V4, &[], "coturn")?;
        }
        Ok(())
    });
}

#[test]
fn both_families_and_from_one_to_the_other() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp", "arm0", "--xdp-mode", "native"])?;
        for (server, peer) in
            [(Family::V6, Family::V6), (Family::V4, Family::V6), (Family::V6, Family::V4)]
        {
            let ip = peer.ip(Host::Far).to_string();
            all(wire, server, &["--peer-ip", &ip], &format!("{server:?} to {peer:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn between_relayed_addresses() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp", "arm0", "--xdp-mode", "native"])?;
        for generator in GENERATORS {
            let shape = ["--allocations", "8", "--channels-per-allocation", "3"];
            let done =
                wire.go(Family::V4, generator, &[&shape[..], &["--relay-to-relay"]].concat());
            check(done.run(), generator)?;
        }
        Ok(())
    });
}

#[test]
fn a_search_ends_with_a_rate() {
    on_a_wire(|wire| {
        wire.turnwire(&["--xdp", "arm0", "--xdp-mode", "native"])?;
        let listener = Family::V4.listener().to_string();
        let done = wire.load(&[
            "search",
            "--server",
            &listener,
            "--user",
            "u",
            "--password",
            "p",
            "--generator",
            "kernel",
            "--interface",
            "far0",
            "--from",
            "2000",
            "--up-to",
            "4000",
            "--trial",
            "0.3",
            "--confirm",
            "1",
            "--loss",
            "0.01",
        ]);
        ensure!(done.code == Some(0), "{}", done.stderr);
        let search = done.report().search.as_ref().expect("a search");
        ensure!(search.rates[0].pps.is_some_and(|pps| pps > 500.0), "{search:?}");
        Ok(())
    });
}
