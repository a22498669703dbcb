//! AF_XDP in the relay, on veth and so with copies: what is forwarded as frames, what becomes
//! datagrams, and what happens when queues go away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::Call;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Launch, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, SOON};

use crate::no_loss::every_mix_by;

/// The keeper looks every two seconds, and a queue that is refused is tried again after as long.
pub(crate) const CHANGES: Duration = Duration::from_secs(60);

/// The program forwards channels; the rest comes by AF_XDP.
pub(crate) const PUNTING: Launch<'static> = Launch {
    tier: Tier::Native,
    mode: "native",
    options: &["--af-xdp", "copy"],
    setpriv: &[],
    identity: None,
};

/// One of each: sockets alone; the program, with AF_XDP for what it does not forward; workers by AF_XDP
/// for all.
pub(crate) fn every_tier() -> [Launch<'static>; 3] {
    [Launch::of(Tier::Sockets), PUNTING, Launch::of(Tier::AfXdp)]
}

/// A relay with all the queues that it wants.
pub(crate) fn started<'a>(lab: &'a Lab, launch: &Launch<'_>) -> Result<RelayUnderTest<'a>> {
    let relay = RelayUnderTest::launch(lab, launch)?;
    if launch.options.contains(&"--af-xdp") {
        queues_are_open(lab, &relay)?;
    }
    Ok(relay)
}

#[test]
fn nothing_is_lost_by_af_xdp_between_two_interfaces() {
    in_lab(Topology::TwoArmed, |lab| every_mix_by(lab, &Launch::of(Tier::AfXdp)));
}

#[test]
fn nothing_is_lost_by_af_xdp_on_one_interface() {
    in_lab(Topology::OneArmed, |lab| every_mix_by(lab, &Launch::of(Tier::AfXdp)));
}

#[test]
fn nothing_is_lost_by_af_xdp_where_the_program_runs_in_the_kernels_stack() {
    let generic = Launch { mode: "generic", ..Launch::of(Tier::AfXdp) };
    in_lab(Topology::TwoArmed, |lab| every_mix_by(lab, &generic));
}

/// Requests, indications and peers' datagrams without a channel: none of them comes by a socket, and
/// what is no message leaves by none.
#[test]
fn requests_and_indications_come_by_af_xdp_in_every_mix_of_families() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::launch(lab, &PUNTING)?;
        queues_are_open(lab, &relay)?;
        for outer in Family::ALL {
            for inner in Family::ALL {
                indications_come_as_frames(lab, &relay, outer, inner)
                    .with_context(|| format!("client over {outer:?}, peer over {inner:?}"))?;
            }
        }
        Ok(())
    });
}

fn indications_come_as_frames(
    lab: &Lab,
    relay: &RelayUnderTest,
    outer: Family,
    inner: Family,
) -> Result<()> {
    let counts = || -> Result<_> {
        Ok((frames(relay, "datagram")?, frames(relay, "forwarded")?, received(relay)?))
    };
    let before = counts()?;
    let mut call = Call::set_up(lab, outer, inner)?;
    call.exchanges_indications(lab, 20)?;
    // 20 each way, and at least an Allocate and a ChannelBind
    wait::until("all are counted", SOON, || {
        let now = counts()?;
        let (datagrams, forwarded) = (now.0 - before.0, now.1 - before.1);
        let all = now.2 - before.2;
        ensure!(all <= datagrams, "{all} datagrams received, {datagrams} of them by AF_XDP");
        Ok((datagrams >= 2 && datagrams + forwarded >= 42).then_some(()))
    })?;
    wait::until("batches and cores are counted with them", SOON, || {
        let metrics = relay.metrics()?;
        let sum = |name| metrics.sum(name, &[]);
        let (frames, batches) =
            (sum("turnwire_af_xdp_frames_total"), sum("turnwire_af_xdp_batches_total"));
        let punted = sum("turnwire_xdp_punted_packets_total");
        let by_core = sum("turnwire_core_punted_packets_total");
        Ok((0 < batches && batches <= frames && frames <= punted && punted == by_core)
            .then_some(()))
    })
}

/// Off is off: the program is without that part.
#[test]
fn without_af_xdp_nothing_is_punted() {
    in_lab(Topology::TwoArmed, |lab| {
        let off = Launch { options: &["--af-xdp", "off"], ..PUNTING };
        let auto = Launch { options: &[], ..PUNTING };
        for (launch, words) in [(off, "--af-xdp is off"), (auto, "AF_XDP without copies")] {
            let relay = RelayUnderTest::launch(lab, &launch)?;
            let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
            call.warm_up(&relay)?;
            call.loses_nothing(&relay, 16)?;
            let metrics = relay.metrics()?;
            ensure!(metrics.sum("turnwire_xdp_punted_packets_total", &[]) == 0);
            ensure!(metrics.sum("turnwire_af_xdp_queues", &[]) == 0);
            let log = relay.log();
            ensure!(log.contains(words), "the log does not say why:\n{log}");
        }
        Ok(())
    });
}

/// The relay goes on without its queues, says so, and has them back by itself.
#[test]
fn queues_come_back_when_their_interface_does() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::start(lab, Tier::AfXdp)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;
        let opened = changes(&relay, "opened")?;
        let device = lab.towards_peer();
        lab.run(Host::Relay, &["ip", "link", "set", "dev", device, "down"])?;
        wait::until("the queues of a closed interface are lost", CHANGES, || {
            Ok((changes(&relay, "lost")? > 0).then_some(()))
        })?;
        lab.run(Host::Relay, &["ip", "link", "set", "dev", device, "up"])?;
        wait::until("the queues are open again", CHANGES, || {
            let queues = relay.metrics()?.sum("turnwire_af_xdp_queues", &[]);
            Ok((changes(&relay, "opened")? > opened && queues >= 2).then_some(()))
        })?;
        call.warm_up(&relay)?;
        call.loses_nothing(&relay, 64)?;
        let log = relay.log();
        ensure!(log.contains("opened anew"), "the log does not say so:\n{log}");
        Ok(())
    });
}

pub(crate) fn queues_are_open(lab: &Lab, relay: &RelayUnderTest) -> Result<()> {
    let wanted = lab.relay_interfaces().len() as u64;
    wait::until("a worker has AF_XDP queues", CHANGES, || {
        Ok((relay.metrics()?.sum("turnwire_af_xdp_queues", &[]) >= wanted).then_some(()))
    })
}

/// Waits until the workers have so many queues in all.
pub(crate) fn has_queues(relay: &RelayUnderTest, count: u64) -> Result<()> {
    wait::until(&format!("the workers have {count} AF_XDP queues"), CHANGES, || {
        Ok((relay.metrics()?.sum("turnwire_af_xdp_queues", &[]) == count).then_some(()))
    })
    .with_context(|| relay.log())
}

fn frames(relay: &RelayUnderTest, way: &str) -> Result<u64> {
    Ok(relay.metrics()?.sum("turnwire_af_xdp_frames_total", &[("way", way)]))
}

fn received(relay: &RelayUnderTest) -> Result<u64> {
    Ok(relay.metrics()?.sum("turnwire_received_packets_total", &[]))
}

pub(crate) fn changes(relay: &RelayUnderTest, what: &str) -> Result<u64> {
    Ok(relay.metrics()?.sum("turnwire_af_xdp_changes_total", &[("what", what)]))
}
