//! Generator and sink, and the bare programs, loaded and driven.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::maps::{Map, PerCpuArray};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

use crate::plan::{Channel, Crossing, Plan, head_size, memory_order};
use crate::{abi, packet, sys};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/object/traffic.o");

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Offer {
    /// Evenly, packets a second: open loop.
    Rate(f64),
    /// As fast as the generator can.
    Most,
}

/// Where the generator's thread runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The core that it is kept on.
    pub core: Option<usize>,
    /// Its rank among real-time threads, 1 to 99; `None`: it is none. Needs CAP_SYS_NICE.
    pub rank: Option<i32>,
}

/// What the generator did.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// To peers, and to clients.
    pub packets: [u64; 2],
    /// Due, but too late.
    pub skipped: u64,
    /// From the first to the last.
    pub time: Duration,
}

/// What the sink saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Right, to peers and to clients.
    pub right: [u64; 2],
    /// Ours, and wrong.
    pub wrong: u64,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Pod<T>(T);
#[allow(unsafe_code, reason = "aya's word for: any bytes are a value")]
// SAFETY: used with structures of plain integers only.
unsafe impl<T: Copy + 'static> aya::Pod for Pod<T> {}

/// The programs of ebpf/program/src/traffic.rs. Dropping it detaches them.
pub struct Traffic {
    ebpf: Ebpf,
    run: &'static [AtomicU64],
    flows: &'static [AtomicU64],
    frame: Vec<u8>,
}

/// The least that a program in the relay's place can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// Sends back where it came from, with addresses and ports swapped (XDP_TX).
    Tx,
    /// Sends on to the other one of [`Plan::arms`].
    Redirect,
}

impl Bare {
    fn program(self) -> &'static str {
        match self {
            Bare::Tx => "bare_tx",
            Bare::Redirect => "bare_redirect",
        }
    }
}

/// A program in the relay's place: give it back to [`Traffic::detach_bare`].
pub struct BareLinks {
    program: Bare,
    links: Vec<XdpLinkId>,
}

/// Words of [`abi::Run`].
mod word {
    pub(super) const PACE: usize = 0;
    pub(super) const START: usize = 1;
    pub(super) const END: usize = 2;
    pub(super) const WAYS: usize = 3;
    pub(super) const FLOWS: usize = 4;
    pub(super) const SENT: usize = 5;
    pub(super) const SKIPPED: usize = 7;
    pub(super) const LAST: usize = 9;
    pub(super) const COUNT: usize = size_of::<super::abi::Run>() / 8;
}

impl Traffic {
    /// Loads the programs; none is attached yet.
    ///
    /// # Errors
    /// The kernel refuses: for want of CAP_BPF and CAP_NET_ADMIN, or because it is too old.
    pub fn load(plan: &Plan) -> Result<Traffic> {
        let filling = vec![abi::FILLING; usize::from(plan.payload) - abi::STAMP];
        let check_ports = u64::from(plan.crossing == Crossing::Changed);
        let mut ebpf = EbpfLoader::new()
            .override_global("DATA_SIZE", &u64::from(plan.payload), true)
            .override_global("DATA_SUM", &u64::from(memory_order(packet::sum(&filling))), true)
            .override_global("CHECK_PORTS", &check_ports, true)
            .override_global("ARMS", &plan.arms.map(u64::from), true)
            .map_max_entries("FLOWS", u32::from(plan.channels))
            .load(OBJECT)?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("the verifier refused `{name}`"))?;
        }
        let run = sys::mapped(array(&ebpf, "RUN")?.fd(), word::COUNT)?;
        let flows = sys::mapped(array(&ebpf, "FLOWS")?.fd(), usize::from(plan.channels))?;
        let ways = plan.templates();
        let templates = ebpf.map_mut("TEMPLATES").context("TEMPLATES")?;
        let mut templates: aya::maps::Array<_, Pod<abi::Template>> = templates.try_into()?;
        for (way, template) in ways.into_iter().enumerate() {
            templates.set(way as u32, Pod(template), 0)?;
        }
        let longest = ways.iter().map(|way| usize::from(way.udp_size) + head_size(way)).max();
        let frame = vec![abi::FILLING; longest.unwrap_or_default()];
        let traffic = Traffic { ebpf, run, flows, frame };
        traffic.set(word::WAYS, plan.ways.bits());
        traffic.set(word::FLOWS, plan.channels.into());
        Ok(traffic)
    }

    fn set(&self, word: usize, value: u64) {
        self.run[word].store(value, Relaxed);
    }

    fn word(&self, word: usize) -> u64 {
        self.run[word].load(Relaxed)
    }

    /// Tells generator and sink a channel, counted from 0.
    pub fn set_channel(&self, number: usize, channel: &Channel) {
        let Channel { client, relay, peer, number: channel } = *channel;
        let [client, relay, peer, channel] = [client, relay, peer, channel].map(u64::from);
        let word = abi::Flow(client | relay << 16 | peer << 32 | channel << 48);
        self.flows[number].store(word.0, Relaxed);
    }

    /// Attaches the sink to the interfaces at which traffic arrives.
    ///
    /// # Errors
    /// Another program is attached, or the driver has no native XDP.
    pub fn attach_sink(&mut self, interfaces: &[u32]) -> Result<()> {
        self.attach("sink", interfaces)?;
        Ok(())
    }

    fn attach(&mut self, name: &str, interfaces: &[u32]) -> Result<Vec<XdpLinkId>> {
        let program = xdp(&mut self.ebpf, name)?;
        let attach = |&index| Ok(program.attach_to_if_index(index, XdpMode::Driver)?);
        interfaces.iter().map(attach).collect()
    }

    /// Puts a bare program in the relay's place.
    ///
    /// # Errors
    /// As [`Traffic::attach_sink`].
    pub fn attach_bare(&mut self, program: Bare, interfaces: &[u32]) -> Result<BareLinks> {
        let links = self.attach(program.program(), interfaces)?;
        Ok(BareLinks { program, links })
    }

    /// Takes it away.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn detach_bare(&mut self, bare: BareLinks) -> Result<()> {
        let program = xdp(&mut self.ebpf, bare.program.program())?;
        bare.links.into_iter().try_for_each(|link| Ok(program.detach(link)?))
    }

    /// Sends for `time`; returns when all has been sent.
    ///
    /// # Errors
    /// The kernel refuses the test run (CAP_SYS_ADMIN), or ends it early.
    pub fn send(&self, offer: Offer, time: Duration, place: Place) -> Result<Sent> {
        const SET_UP: Duration = Duration::from_millis(60);
        let start = sys::monotonic() + SET_UP.as_nanos() as u64;
        let pace = match offer {
            Offer::Rate(rate) => (rate / 1e9 * (1u64 << 32) as f64) as u64,
            Offer::Most => 0,
        };
        for word in word::SENT..word::COUNT {
            self.set(word, 0);
        }
        self.set(word::PACE, pace);
        self.set(word::START, start);
        self.set(word::END, start + time.as_nanos() as u64);
        let (ready, thread) = mpsc::channel();
        thread::scope(|scope| {
            let generator = scope.spawn(move || {
                place.take()?;
                ready.send(sys::thread_id())?;
                self.generate()
            });
            let thread = thread.recv();
            thread::sleep(SET_UP + time);
            if let Ok(thread) = thread {
                while !generator.is_finished() {
                    sys::interrupt(thread)?;
                    thread::sleep(Duration::from_millis(2));
                }
            }
            let result = generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let error = result?.unwrap_or_default();
            if !error.contains("EINTR") && !error.contains("Interrupted") {
                bail!("the generator stopped early: {error}");
            }
            Ok(())
        })?;
        let packets = [self.word(word::SENT), self.word(word::SENT + 1)];
        let elapsed = self.word(word::LAST).saturating_sub(start);
        let skipped = self.word(word::SKIPPED);
        Ok(Sent { packets, skipped, time: Duration::from_nanos(elapsed) })
    }

    /// The test run: never ends by itself in time, but is interrupted. How it ended.
    fn generate(&self) -> Result<Option<String>> {
        let program: &Xdp = self.ebpf.program("generate").context("generate")?.try_into()?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&self.frame);
        options.repeat = u32::MAX;
        options.attrs = TestRunAttrs::new().xdp_live_frames(64);
        Ok(program.test_run(options).err().map(|error| format!("{error:?}")))
    }

    /// What the sink has seen since the programs were loaded.
    ///
    /// # Errors
    /// The kernel refuses to read the map.
    pub fn received(&self) -> Result<Received> {
        let map = self.ebpf.map("SEEN").context("SEEN")?;
        let map: PerCpuArray<_, Pod<abi::Seen>> = map.try_into()?;
        let mut sum = Received::default();
        for cpu in map.get(&0, 0)?.iter() {
            for way in 0..abi::WAYS {
                sum.right[way] += cpu.0.right[way];
            }
            sum.wrong += cpu.0.wrong;
        }
        Ok(sum)
    }
}

impl Place {
    /// Moves this thread there.
    fn take(self) -> Result<()> {
        if let Some(core) = self.core {
            sys::pin(0, core).with_context(|| format!("core {core} for the generator"))?;
        }
        if let Some(rank) = self.rank {
            sys::at_once(0, rank).context("a real-time thread for the generator")?;
        }
        Ok(())
    }
}

fn array<'e>(ebpf: &'e Ebpf, name: &str) -> Result<&'e aya::maps::MapData> {
    match ebpf.map(name) {
        Some(Map::Array(map)) => Ok(map),
        _ => bail!("{name} is no array"),
    }
}

fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| name.to_owned())?.try_into()?)
}
