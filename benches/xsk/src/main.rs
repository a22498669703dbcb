//! Turnwire's AF_XDP rings beside the crate `xdp`'s, on the same job and in the same run: receive, swap
//! MAC addresses, IP addresses and ports, send back. One queue, copy mode, a veth pair.
//!
//! ```text
//!   near: generator (live frames) ──> far: divert ──> XSKMAP ──> reflector: ours, or the crate's
//!         sink (XDP)              <── tx ring <──────────────────┘
//! ```
//!
//! A round is both, one right after the other, and each round begins with the one that the last ended
//! with; the first is dropped. The result is the ratio of the rates, from the first frame to the last, and
//! of the CPU time a frame, taken within each round: median, spread, and in how many rounds ours was
//! ahead. Rounds are short and many, because neighbours change the machine from second to second. A rate
//! by itself means nothing. What comes back is checked, every byte of it.

mod comparison;
mod meter;
mod ours;
mod theirs;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, XskMap};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, include_bytes_aligned};
use clap::Parser;
use comparison::{Comparison, median};
use meter::Meter;
use traffic::{Flow, Leg, Offer, Path, Place, Scheme, Traffic, Wrapper, sys};
use turnwire_tests::cable::{Cable, FAR, MACS, NEAR};

static DIVERT: &[u8] = include_bytes_aligned!("../../../ebpf/object/divert.o");

/// Entries of each ring, and frames behind them.
pub(crate) const ENTRIES: u32 = 2048;
pub(crate) const FRAMES: u32 = 3 * ENTRIES;

#[derive(Parser)]
#[command(about = "Compares Turnwire's AF_XDP rings with the crate xdp's")]
struct Cli {
    /// Rounds, the first of which is dropped; each is both.
    #[arg(long, default_value_t = 61, value_parser = clap::value_parser!(u16).range(2..))]
    rounds: u16,
    /// Seconds of each of the two in a round.
    #[arg(long, default_value_t = 0.25)]
    seconds: f64,
    /// Bytes of UDP payload.
    #[arg(long, default_value_t = 172)]
    payload: u16,
    /// Packets a second that are offered; without it, as many as the generator can.
    #[arg(long)]
    rate: Option<f64>,
}

/// Which rings.
#[derive(Clone, Copy, PartialEq)]
enum Rings {
    Ours,
    Theirs,
}

/// What one of them did in a round.
struct Run {
    /// Frames that were reflected, a second.
    rate: f64,
    /// CPU time of the reflecting thread, in nanoseconds a frame.
    cpu: f64,
    /// System calls that it made for each frame.
    calls: f64,
    /// Share of the reflected frames that came back, and right.
    right: f64,
}

/// The program on the far end, with one socket in its map.
pub(crate) struct Divert {
    _ebpf: Ebpf,
    sockets: XskMap<MapData>,
}

impl Divert {
    pub(crate) fn attach(interface: u32) -> Result<Divert> {
        let mut ebpf = Ebpf::load(DIVERT).context("loading the program")?;
        let program: &mut Xdp = ebpf.program_mut("divert").context("divert")?.try_into()?;
        program.load()?;
        program.attach_to_if_index(interface, XdpMode::Driver)?;
        let sockets = XskMap::try_from(ebpf.take_map("SOCKETS").context("SOCKETS")?)?;
        Ok(Divert { _ebpf: ebpf, sockets })
    }

    pub(crate) fn add(&mut self, socket: i32) -> Result<()> {
        Ok(self.sockets.set(0, socket, 0)?)
    }
}

/// Exchanges MAC addresses, IPv4 addresses and ports of a UDP datagram. False for anything else.
pub(crate) fn swap(bytes: &mut [u8]) -> bool {
    let Some(head) = bytes.first_chunk_mut::<42>() else { return false };
    if head[12..14] != [8, 0] || head[23] != 17 {
        return false;
    }
    let (to, from) = head.split_at_mut(6);
    to.swap_with_slice(&mut from[..6]);
    let (source, target) = head[26..34].split_at_mut(4);
    source.swap_with_slice(target);
    let (source, target) = head[34..38].split_at_mut(2);
    source.swap_with_slice(target);
    true
}

fn run(cable: &Cable, rings: Rings, cli: &Cli) -> Result<Run> {
    let time = Duration::from_secs_f64(cli.seconds);
    let stop = AtomicBool::new(false);
    let ready = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reflecting = scope.spawn(|| {
            cable.inside(FAR, || {
                sys::pin(0, 1).context("core 1 for the reflector")?;
                match rings {
                    Rings::Ours => ours::reflect(cable.index[FAR], &ready, &stop),
                    Rings::Theirs => theirs::reflect(cable.index[FAR], &ready, &stop),
                }
            })
        });
        let right = cable.inside(NEAR, || {
            while !ready.load(Relaxed) && !reflecting.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let traffic = generator(cable, cli.payload)?;
            let place = Place { core: Some(0), rank: None };
            let offer = cli.rate.map_or(Offer::Most, Offer::Rate);
            traffic.send(offer, time, place)?;
            std::thread::sleep(Duration::from_millis(50));
            let received = traffic.received()?;
            ensure!(received.wrong == 0, "{} came back wrong", received.wrong);
            Ok(received.right.iter().sum::<u64>())
        });
        stop.store(true, Relaxed);
        let meter = reflecting.join().map_err(|_| anyhow::anyhow!("the reflector panicked"))??;
        let Meter { reflected, calls, .. } = meter;
        ensure!(reflected > 0, "nothing was reflected");
        let (frames, wall, cpu) = meter.measured()?;
        Ok(Run {
            rate: frames / wall.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e9 / frames,
            calls: calls as f64 / reflected as f64,
            right: right? as f64 / reflected as f64,
        })
    })
}

fn generator(cable: &Cable, payload: u16) -> Result<Traffic> {
    let [src, dst] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().expect("an address"));
    let path = Path {
        interface: cable.index[NEAR],
        own: MACS[NEAR],
        next: MACS[FAR],
        src,
        dst,
        peer: None,
    };
    let payloads = vec![payload];
    let scheme = Scheme { paths: vec![path], flows: 1, payloads, tracked: false, arms: [0; 2] };
    let mut traffic = Traffic::open(&scheme)?;
    traffic.attach_sink(&[cable.index[NEAR]])?;
    let out = Leg { src: 20_000, dst: 30_000, wrapper: Wrapper::None };
    let arrive = Leg { src: 30_000, dst: 20_000, wrapper: Wrapper::None };
    traffic.set_flow(0, &Flow { path: 0, out, arrive, to_client: false });
    Ok(traffic)
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let cable = Cable::new()?;
    let mut rounds = Vec::new();
    for number in 0..cli.rounds {
        let (ours, theirs) = if number % 2 == 0 {
            let ours = run(&cable, Rings::Ours, &cli)?;
            (ours, run(&cable, Rings::Theirs, &cli)?)
        } else {
            let theirs = run(&cable, Rings::Theirs, &cli)?;
            (run(&cable, Rings::Ours, &cli)?, theirs)
        };
        if number > 0 {
            rounds.push([ours, theirs]);
        }
    }
    for (which, name) in ["ours", "xdp 0.8"].iter().enumerate() {
        let of = |value: fn(&Run) -> f64| rounds.iter().map(|round| value(&round[which])).collect();
        let of = |value: fn(&Run) -> f64| median(of(value));
        println!(
            "{name:8} {:9.0} frames a second, {:.0} ns of CPU and {:.4} system calls a frame, \
             {:.4} of them came back",
            of(|run| run.rate),
            of(|run| run.cpu),
            of(|run| run.calls),
            of(|run| run.right),
        );
    }
    let ratios = |of: fn(&Run) -> f64| {
        let ratios = rounds.iter().map(|[ours, theirs]| of(ours) / of(theirs));
        Comparison::of(ratios.collect())
    };
    println!("ratio of rates    {}", ratios(|run| run.rate));
    println!("ratio by CPU time {}", ratios(|run| 1.0 / run.cpu));
    Ok(())
}
