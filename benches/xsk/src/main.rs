//! Turnwire's AF_XDP rings beside the crate `xdp`'s, on the same job and in the same run: receive, swap
//! MAC addresses, IP addresses and ports, send back. One queue, copy mode, a veth pair.
//!
//! ```text
//!   near: generator (live frames) ──> far: divert ──> XSKMAP ──> reflector: ours, or the crate's
//!         sink (XDP)              <── tx ring <──────────────────┘
//! ```
//!
//! Rounds alternate, the first of each is dropped, and the result is the median of the rates at which
//! right datagrams came back, and their ratio. A rate by itself means nothing on a shared machine.

mod ours;
mod theirs;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, XskMap};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, include_bytes_aligned};
use clap::Parser;
use traffic::{Flow, Leg, Offer, Path, Place, Scheme, Traffic, Wrapper, sys};
use turnwire_tests::cable::{Cable, FAR, MACS, NEAR};

static DIVERT: &[u8] = include_bytes_aligned!("../../../ebpf/object/divert.o");

/// Entries of each ring, and frames behind them.
pub(crate) const ENTRIES: u32 = 2048;
pub(crate) const FRAMES: u32 = 3 * ENTRIES;

#[derive(Parser)]
#[command(about = "Compares Turnwire's AF_XDP rings with the crate xdp's")]
struct Cli {
    /// Rounds of each, the first of which is dropped.
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 2.0)]
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

/// One round's result.
struct Round {
    /// Right datagrams that came back, a second.
    rate: f64,
    /// Share of what was sent.
    share: f64,
    /// CPU time of the reflecting thread, in microseconds a packet.
    cpu: f64,
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

fn round(cable: &Cable, rings: Rings, cli: &Cli) -> Result<Round> {
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
                }?;
                cpu_time()
            })
        });
        let sent = cable.inside(NEAR, || {
            while !ready.load(Relaxed) && !reflecting.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let traffic = generator(cable, cli.payload)?;
            let place = Place { core: Some(0), rank: None };
            let offer = cli.rate.map_or(Offer::Most, Offer::Rate);
            let sent = traffic.send(offer, time, place)?;
            std::thread::sleep(Duration::from_millis(100));
            let received = traffic.received()?;
            ensure!(received.wrong == 0, "{} came back wrong", received.wrong);
            Ok((sent.packets.iter().sum::<u64>(), received.right.iter().sum::<u64>()))
        });
        stop.store(true, Relaxed);
        let cpu = reflecting.join().map_err(|_| anyhow::anyhow!("the reflector panicked"))??;
        let (sent, right) = sent?;
        ensure!(right > 0, "of {sent} nothing came back");
        Ok(Round {
            rate: right as f64 / cli.seconds,
            share: right as f64 / sent as f64,
            cpu: cpu.as_secs_f64() * 1e6 / right as f64,
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

/// User and system time of the calling thread.
#[allow(unsafe_code, reason = "clock_gettime(2) writes one structure")]
fn cpu_time() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one structure, which is ours.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    ensure!(done == 0, "clock_gettime: {}", std::io::Error::last_os_error());
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

fn median(rounds: &[Round], of: fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let cable = Cable::new()?;
    let mut results = [Vec::new(), Vec::new()];
    for number in 0..cli.rounds.max(2) {
        for (rings, results) in [Rings::Ours, Rings::Theirs].into_iter().zip(&mut results) {
            let round = round(&cable, rings, &cli)?;
            if number > 0 {
                results.push(round);
            }
        }
    }
    for (name, rounds) in ["ours", "xdp 0.8"].iter().zip(&results) {
        let (low, high) = rounds.iter().fold((f64::MAX, 0f64), |(low, high), round| {
            (low.min(round.rate), high.max(round.rate))
        });
        println!(
            "{name:8} {:9.0} packets a second ({low:.0} to {high:.0}), {:.3} of what was sent, \
             {:.2} us of CPU a packet",
            median(rounds, |round| round.rate),
            median(rounds, |round| round.share),
            median(rounds, |round| round.cpu),
        );
    }
    let [ours, theirs] = results.map(|rounds| median(&rounds, |round| round.rate));
    println!("ratio    {:.3}", ours / theirs);
    Ok(())
}
