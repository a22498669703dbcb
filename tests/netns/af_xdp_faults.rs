//! Queues that are refused, programs that are taken off, a relay that stands still: it goes on by
//! sockets, says why, loses track of no frame, and has its queues back by itself.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::Call;
use turnwire_tests::client::{Received, receive};
use turnwire_tests::faults::{HeldQueue, StoppedThread, cpu_seconds, force_program_off, thread};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::process::last_lines;
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::traffic::Outcome;
use turnwire_tests::wait::{self, Deadline, SOON, Stopwatch};

use crate::af_xdp::{CHANGES, PUNTING, changes, has_queues};

/// A queue that another program has: sockets carry what would leave by it, the log says it once, and
/// it is taken when it is free.
#[test]
fn a_queue_that_another_program_has_is_left_to_it_and_taken_when_it_is_free() {
    in_lab(Topology::TwoArmed, |lab| {
        let device = lab.towards_peer();
        let held = HeldQueue::take(lab, Host::Relay, device, 0)?;
        let relay = RelayUnderTest::start(lab, Tier::AfXdp)?;
        has_queues(&relay, 1)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        loses_nothing_by_any_tier(&mut call)?;
        let refused = changes(&relay, "refused")?;
        wait::until("it is tried again in vain", CHANGES, || {
            Ok((changes(&relay, "refused")? > refused).then_some(()))
        })?;
        let metrics = relay.metrics()?;
        ensure!(metrics.sum("turnwire_af_xdp_queues_wanted", &[]) > 1, "{}", metrics.counted());
        let log = relay.log();
        let words = format!("queue 0 of interface {device} is in use by another AF_XDP socket");
        let told = log.lines().filter(|line| line.contains(&words)).count();
        ensure!(told == 1 && log.contains("next_try"), "told {told} times:\n{log}");

        drop(held);
        has_queues(&relay, 2)?;
        call.warm_up(&relay)?;
        call.loses_nothing(&relay, 64)
    });
}

/// 64 each way and none lost, whoever carries them.
fn loses_nothing_by_any_tier(call: &mut Call) -> Result<()> {
    for direction in Direction::ALL {
        wait::until(&format!("a way {direction:?}"), SOON, || {
            Ok(call.gets_through(direction)?.then_some(()))
        })?;
        let outcome = call.traffic(direction, 64)?;
        ensure!(outcome == Outcome::perfect(64), "{direction:?}: {outcome:?}");
    }
    Ok(())
}

/// All of a worker's queues are asked for when one more can be had. From then on the stack has what
/// comes, however long the worker takes to give them back: what waits in a socket that is closed is lost.
#[test]
fn nothing_comes_to_queues_any_more_once_they_are_asked_for() {
    const COUNT: u32 = 32;
    in_lab(Topology::TwoArmed, |lab| {
        // given a worker that has one of two queues, and stands still
        let held = HeldQueue::take(lab, Host::Relay, lab.towards_peer(), 0)?;
        let options = &["--af-xdp", "copy", "--xdp-forward", "workers", "--cores", "0"];
        let relay = RelayUnderTest::launch(lab, &Launch { options, ..Launch::of(Tier::AfXdp) })?;
        has_queues(&relay, 1)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        loses_nothing_by_any_tier(&mut call)?;
        let punted = || -> Result<u64> {
            Ok(relay.metrics()?.sum("turnwire_xdp_punted_packets_total", &[]))
        };
        let stopped = StoppedThread::stop(relay.pid(), "turnwire-w0")?;
        let before = punted()?;
        for number in 0..COUNT {
            call.send(Direction::ToPeer, &number.to_be_bytes())?;
        }
        wait::until("they are in its queue", SOON, || {
            Ok((punted()? >= before + u64::from(COUNT)).then_some(()))
        })?;

        // when the other queue can be had
        drop(held);
        wait::until("its queues are asked for", CHANGES, || {
            Ok(relay.log().contains("can be had now").then_some(()))
        })?;
        let (before, entered) = (punted()?, frames_in(lab, lab.towards_client())?);
        for number in COUNT..2 * COUNT {
            call.send(Direction::ToPeer, &number.to_be_bytes())?;
        }
        wait::until("they have come", SOON, || {
            let came = frames_in(lab, lab.towards_client())? - entered;
            Ok((came >= u64::from(COUNT)).then_some(()))
        })?;

        // then these are the stack's, and all arrive when the worker goes on
        let more = punted()? - before;
        ensure!(more == 0, "{more} more in queues that were asked for");
        drop(stopped);
        let mut missing: BTreeSet<u32> = (0..2 * COUNT).collect();
        while !missing.is_empty() {
            let came = call.receive(Direction::ToPeer, Deadline::after(SOON))?;
            let came = came.with_context(|| format!("missing: {missing:?}"))?;
            missing.remove(&u32::from_be_bytes(came.as_slice().try_into()?));
        }
        has_queues(&relay, 2)?;
        call.warm_up(&relay)?;
        call.loses_nothing(&relay, 64)
    });
}

/// Frames that an interface of the relay's has received.
fn frames_in(lab: &Lab, device: &str) -> Result<u64> {
    let path = format!("/sys/class/net/{device}/statistics/rx_packets");
    Ok(lab.run(Host::Relay, &["cat", &path])?.trim().parse()?)
}

#[test]
fn a_relay_that_may_lock_no_memory_serves_by_sockets_until_it_may() {
    // of one queue, for one worker
    const NEEDED: u64 = 5 << 20;
    let most = lockable_bytes_max();
    if most < NEEDED {
        eprintln!("skipped: a process may not lock {NEEDED} bytes here (ulimit -Hl)");
        return;
    }
    in_lab(Topology::OneArmed, |lab| {
        let setpriv = ["prlimit", "--memlock=65536:", "setpriv", "--bounding-set=-ipc_lock"];
        let options = &["--af-xdp", "copy", "--cores", "0"];
        let relay = RelayUnderTest::launch(lab, &Launch { setpriv: &setpriv, options, ..PUNTING })?;
        let words = "are more than may be locked (RLIMIT_MEMLOCK)";
        wait::until("it says why", SOON, || Ok(relay.log().contains(words).then_some(())))?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        loses_nothing_by_any_tier(&mut call)?;
        ensure!(relay.metrics()?.sum("turnwire_af_xdp_queues", &[]) == 0);

        limit(&relay, &format!("--memlock={NEEDED}:"))?;
        has_queues(&relay, 1)?;
        let told = relay.log().lines().filter(|line| line.contains(words)).count();
        ensure!(told == 1, "told {told} times:\n{}", relay.log());
        Ok(())
    });
}

/// The hard limit that this process hands on.
fn lockable_bytes_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("0");
    hard.parse().unwrap_or(u64::MAX)
}

fn limit(relay: &RelayUnderTest, what: &str) -> Result<()> {
    let pid = relay.pid().to_string();
    let output = Command::new("prlimit").args([what, "--pid", &pid]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Without descriptors nothing can be opened, the admin server's connections included: the log tells.
#[test]
fn queues_come_back_once_there_are_descriptors_for_them() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::start(lab, Tier::AfXdp)?;
        has_queues(&relay, 2)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;

        limit(&relay, "--nofile=10:")?;
        let device = lab.towards_peer();
        lab.run(Host::Relay, &["ip", "link", "set", "dev", device, "down"])?;
        let log = |words: &str, what: &str| {
            wait::until(what, CHANGES, || Ok(relay.log().contains(words).then_some(())))
                .with_context(|| relay.log())
        };
        log(&format!("{device}/0: the interface is down"), "the queues are given back")?;
        lab.run(Host::Relay, &["ip", "link", "set", "dev", device, "up"])?;
        log("Too many open files", "the queues are refused")?;
        loses_nothing_by_any_tier(&mut call)?;
        // what could not be asked for meanwhile is no reason
        let unknown = format!("{}/0: Too many open files", lab.towards_client());
        ensure!(!relay.log().contains(&unknown), "{}", relay.log());

        limit(&relay, "--nofile=4096:")?;
        has_queues(&relay, 2)?;
        call.warm_up(&relay)?;
        call.loses_nothing(&relay, 64)
    });
}

/// Somebody takes the program off, and puts another in its place for a while.
#[test]
fn another_program_in_its_place_leaves_the_relay_to_sockets_until_the_place_is_free() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::start(lab, Tier::AfXdp)?;
        has_queues(&relay, 2)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;

        let device = lab.towards_client();
        displace(lab, device)?;
        has_queues(&relay, 1)?;
        loses_nothing_by_any_tier(&mut call)?;
        let log = relay.log();
        for words in [
            "somebody took the program off, or put another in its place",
            &format!("{device}/0: the kernel program is not on the interface any more"),
        ] {
            ensure!(log.contains(words), "the log does not say {words:?}:\n{log}");
        }

        lab.run(Host::Relay, &["ip", "link", "set", "dev", device, "xdpdrv", "off"])?;
        has_queues(&relay, 2)?;
        ensure!(relay.log().contains("the fast path is back on an interface"));
        call.warm_up(&relay)?;
        call.loses_nothing(&relay, 64)
    });
}

/// The relay puts its program back when it looks, so the other program has to be quick.
fn displace(lab: &Lab, device: &str) -> Result<()> {
    let object = lab.pass_object();
    let attach =
        ["ip", "link", "set", "dev", device, "xdpdrv", "object", &object, "section", "xdp"];
    wait::until("another program is in its place", CHANGES, || {
        force_program_off(lab, device)?;
        Ok(lab.run(Host::Relay, &attach).is_ok().then_some(()))
    })
}

/// Its memory, the far end's address and its own: each is followed. Then the interface is another of
/// the same name.
#[test]
fn queues_follow_an_interface_that_changes_and_one_that_is_made_anew() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::start(lab, Tier::AfXdp)?;
        has_queues(&relay, 2)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;
        let device = lab.towards_peer();

        for (host, device, mac) in
            [(Host::Peer, "eth0", "02:44:00:00:02:12"), (Host::Relay, device, "02:44:00:00:02:11")]
        {
            lab.run(host, &["ip", "link", "set", "dev", device, "address", mac])?;
            lab.run(Host::Relay, &["ip", "neighbour", "flush", "all"])?;
            lab.run(Host::Peer, &["ip", "neighbour", "flush", "all"])?;
            call.warm_up(&relay).with_context(|| format!("{host:?} at {mac}"))?;
            call.loses_nothing(&relay, 64)?;
        }

        for (host, device) in [(Host::Peer, "eth0"), (Host::Relay, device)] {
            lab.run(host, &["ip", "link", "set", "dev", device, "mtu", "3000"])?;
        }
        large_datagrams_pass(lab, &relay, &mut call)?;
        call.loses_nothing(&relay, 64)?;

        lab.recable_peer()?;
        wait::until("the fast path is on the new interface", CHANGES, || {
            Ok(relay.log().contains("the fast path is back on an interface").then_some(()))
        })?;
        has_queues(&relay, 2)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;
        call.loses_nothing(&relay, 64)
    });
}

/// More than a frame of AF_XDP holds, from the peer, without a channel: the stack has it.
fn large_datagrams_pass(lab: &Lab, relay: &RelayUnderTest, call: &mut Call) -> Result<()> {
    let other = lab.udp(Host::Peer, (Family::V4.peer(), 0).into())?;
    other.connect(call.relayed)?;
    let address = other.local_addr()?;
    for size in [1500, 2800] {
        let data = vec![7; size];
        other.send(&data)?;
        let came = call.client.receive(SOON)?;
        ensure!(came == Some(Received::Data(address, data)), "{size} bytes: {came:?}");
    }
    let dropped = relay.metrics()?.sum("turnwire_af_xdp_rx_dropped_total", &[]);
    ensure!(dropped == 0, "{dropped} frames found no room");
    call.client.send_indication(address, b"and back")?;
    let came = receive(&other, Deadline::after(SOON))?;
    ensure!(came.as_deref() == Some(b"and back"), "{came:?}");
    Ok(())
}

/// Rings fill while nobody works, and every frame is accounted for: those that came through, and those
/// that the kernel dropped.
#[test]
fn a_relay_that_stood_still_accounts_for_every_frame_and_goes_on() {
    const BURST: u32 = 3000;
    in_lab(Topology::TwoArmed, |lab| {
        let mut relay = RelayUnderTest::start(lab, Tier::AfXdp)?;
        has_queues(&relay, 2)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;
        let frames = memory(&relay, "")?;

        relay.pause()?;
        for number in 0..BURST {
            call.send(Direction::ToPeer, &number.to_be_bytes())?;
            call.send(Direction::ToClient, &number.to_be_bytes())?;
        }
        relay.resume()?;
        wait::until("every frame is accounted for", CHANGES, || {
            let metrics = relay.metrics()?;
            let punted = metrics.sum("turnwire_xdp_punted_packets_total", &[]);
            let came = metrics.sum("turnwire_af_xdp_frames_total", &[]);
            let full = metrics.sum("turnwire_af_xdp_rx_ring_full_total", &[]);
            let starved = metrics.sum("turnwire_af_xdp_rx_dropped_total", &[]);
            let sum = came + full + starved;
            ensure!(sum <= punted, "{punted} punted, but {came} + {full} + {starved} seen");
            // each of two queues holds no more than a ring
            let dropped = full + starved >= u64::from(2 * BURST - 2 * 1024);
            Ok((sum == punted && dropped).then_some(()))
        })
        .with_context(|| relay.metrics().map_or_else(|error| error.to_string(), |m| m.counted()))?;
        wait::until("no frame is held, none is missing", SOON, || {
            Ok((memory(&relay, "held")? == 0 && memory(&relay, "")? == frames).then_some(()))
        })?;
        call.warm_up(&relay)?;
        call.loses_nothing(&relay, 256)
    });
}

/// Frames in a place, or in all.
fn memory(relay: &RelayUnderTest, place: &str) -> Result<u64> {
    let labels = [("place", place)];
    let labels = if place.is_empty() { &[] } else { &labels[..] };
    Ok(relay.metrics()?.sum("turnwire_af_xdp_memory_frames", labels))
}

/// While the queues wait for something, nobody spins: not even a little, as a thread that shares its
/// core with others might.
#[test]
fn waiting_for_queues_costs_no_processor_time() {
    in_lab(Topology::TwoArmed, |lab| {
        let device = lab.towards_peer();
        let _held = HeldQueue::take(lab, Host::Relay, device, 0)?;
        let relay = RelayUnderTest::start(lab, Tier::AfXdp)?;
        has_queues(&relay, 1)?;
        costs_nothing(&relay).context("with one queue of two")?;
        lab.run(Host::Relay, &["ip", "link", "set", "dev", lab.towards_client(), "down"])?;
        has_queues(&relay, 0)?;
        costs_nothing(&relay).context("with none")
    });
}

fn costs_nothing(relay: &RelayUnderTest) -> Result<()> {
    let rounds = || -> Result<u64> {
        let metrics = relay.metrics()?;
        let of = |name| metrics.sum(name, &[]);
        Ok(of("turnwire_worker_wakeups_total") + of("turnwire_control_turns_total"))
    };
    let (before, start) = ((rounds()?, cpu_seconds(relay.pid())?), Stopwatch::start());
    std::thread::sleep(Duration::from_secs(2));
    let (rounds, spent) = (rounds()? - before.0, cpu_seconds(relay.pid())? - before.1);
    // a handful each second, and thousands of one that spins; a busy machine's sleep is longer
    let waited = start.elapsed().as_secs_f64();
    ensure!(
        (rounds as f64) < 250.0 * waited && spent < 0.25 * waited,
        "{rounds} rounds and {spent} s in {waited} s of waiting"
    );
    Ok(())
}

/// The threads that ask the kernel for the control thread may hang, as where the kernel does: clients are
/// answered, what is new goes by sockets, and by the fast path once they go on.
#[test]
fn threads_beside_the_control_thread_that_stand_still_keep_no_client_waiting() {
    in_lab(Topology::TwoArmed, |lab| {
        // given
        let relay = RelayUnderTest::start(lab, Tier::AfXdp)?;
        has_queues(&relay, 2)?;
        let mut before = Call::set_up(lab, Family::V4, Family::V4)?;
        before.warm_up(&relay)?;
        // when
        let stopped = ["turnwire-net", "turnwire-queues"]
            .map(|name| StoppedThread::stop(relay.pid(), name))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        // then what there is goes on, and what is new is served
        before.loses_nothing(&relay, 64).context("a call from before")?;
        let mut meanwhile = Call::set_up(lab, Family::V6, Family::V6)?;
        loses_nothing_by_any_tier(&mut meanwhile).context("a call from meanwhile")?;
        let nowhere =
            || -> Result<u64> { Ok(relay.metrics()?.sum("turnwire_xdp_paths_without_hop", &[])) };
        ensure!(nowhere()? > 0, "nobody can have found the way");
        drop(stopped);
        wait::until("the way is found", SOON, || Ok((nowhere()? == 0).then_some(())))?;
        meanwhile.warm_up(&relay)?;
        meanwhile.loses_nothing(&relay, 64)
    });
}

/// Where a worker may run is changed from outside: it works on there, and says so.
#[test]
fn a_worker_whose_core_is_taken_away_works_on_and_tells() {
    in_lab(Topology::TwoArmed, |lab| {
        let options = &["--af-xdp", "copy", "--xdp-forward", "workers", "--cores", "0"];
        let relay = RelayUnderTest::launch(lab, &Launch { options, ..Launch::of(Tier::AfXdp) })?;
        has_queues(&relay, 2)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;
        let strayed =
            || Ok::<_, anyhow::Error>(relay.metrics()?.sum("turnwire_worker_strayed", &[]));
        ensure!(strayed()? == 0);
        let worker = thread(relay.pid(), "turnwire-w0")?.to_string();
        let all = std::thread::available_parallelism()?.get();
        if all < 2 {
            eprintln!("skipped: the only core cannot be taken away");
            return Ok(());
        }
        lab.run(Host::Relay, &["taskset", "-pc", "1", &worker])?;
        wait::until("it is told", CHANGES, || Ok((strayed()? == 1).then_some(())))?;
        call.loses_nothing(&relay, 64)?;
        lab.run(Host::Relay, &["taskset", "-pc", "0", &worker])?;
        wait::until("it is well again", CHANGES, || Ok((strayed()? == 0).then_some(())))?;
        let log = relay.log();
        for words in ["is not held to its core any more", "is held to its core again"] {
            ensure!(log.contains(words), "{:?}", last_lines(&log));
        }
        Ok(())
    });
}
