//! Generator and sink, and the bare programs, loaded and driven.

#[path = "../../../ebpf/program/src/traffic_abi.rs"]
pub(crate) mod abi;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::maps::{Map, PerCpuArray};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use wire::Family;

use super::site::{self, FAR_CORE, Side, Site, Topology};
use crate::{packet, sys};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/object/traffic.o");

/// What crosses the relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) flows: u16,
    /// Application data, bytes: 20 at least.
    pub(crate) payload: u16,
    /// Bit 0: to peers; bit 1: to clients; both take turns.
    pub(crate) ways: u64,
    pub(crate) client: Family,
    pub(crate) peer: Family,
}

impl Mix {
    /// For people.
    pub(crate) fn describe(&self) -> String {
        let ways = ["", "to peers", "to clients", "both directions in turn"];
        let family = |family| if family == Family::V4 { "IPv4" } else { "IPv6" };
        format!(
            "{} channels, {} bytes of data, {}, clients over {}, peers over {}",
            self.flows,
            self.payload,
            ways[self.ways as usize & 3],
            family(self.client),
            family(self.peer)
        )
    }
}

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Offer {
    /// Evenly, packets a second: open loop.
    Rate(f64),
    /// As fast as the generator can.
    Most,
}

/// What the generator did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// By way.
    pub(crate) packets: [u64; 2],
    /// Due, but too late.
    pub(crate) skipped: u64,
    /// From the first to the last.
    pub(crate) time: Duration,
}

/// What the sink saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// Right, by way.
    pub(crate) right: [u64; 2],
    /// Ours, and wrong.
    pub(crate) wrong: u64,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Pod<T>(T);
#[allow(unsafe_code, reason = "aya's word for: any bytes are a value")]
// SAFETY: used with structures of plain integers only.
unsafe impl<T: Copy + 'static> aya::Pod for Pod<T> {}

/// The programs of `traffic.rs`.
pub(crate) struct Traffic {
    ebpf: Ebpf,
    run: &'static [AtomicU64],
    flows: &'static [AtomicU64],
    frame: Vec<u8>,
}

/// A program in the relay's place.
pub(crate) struct Bare {
    program: &'static str,
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
    /// Loads the programs and attaches the sink to the far ends.
    pub(crate) fn load(site: &Site, mix: &Mix, check_ports: bool) -> Result<Traffic> {
        let filling = vec![abi::FILLING; usize::from(mix.payload) - abi::STAMP];
        let arms = [site.arms[0], site.arms[site.peer_cable()]].map(u64::from);
        let mut ebpf = EbpfLoader::new()
            .override_global("DATA_SIZE", &u64::from(mix.payload), true)
            .override_global("DATA_SUM", &u64::from(memory_order(packet::sum(&filling))), true)
            .override_global("CHECK_PORTS", &u64::from(check_ports), true)
            .override_global("ARMS", &arms, true)
            .map_max_entries("FLOWS", u32::from(mix.flows))
            .load(OBJECT)?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("the verifier refused `{name}`"))?;
        }
        let run = sys::mapped(array(&ebpf, "RUN")?.fd(), word::COUNT)?;
        let flows = sys::mapped(array(&ebpf, "FLOWS")?.fd(), usize::from(mix.flows))?;
        let ways = templates(site, mix);
        let templates = ebpf.map_mut("TEMPLATES").context("TEMPLATES")?;
        let mut templates: aya::maps::Array<_, Pod<abi::Template>> = templates.try_into()?;
        for (way, template) in ways.into_iter().enumerate() {
            templates.set(way as u32, Pod(template), 0)?;
        }
        let longest = ways.iter().map(|way| usize::from(way.udp_size) + head_size(way)).max();
        let mut traffic =
            Traffic { ebpf, run, flows, frame: vec![abi::FILLING; longest.unwrap_or_default()] };
        traffic.set(word::WAYS, mix.ways);
        traffic.set(word::FLOWS, mix.flows.into());
        traffic.attach("sink", Side::Far, &site.far)?;
        Ok(traffic)
    }

    fn set(&self, word: usize, value: u64) {
        self.run[word].store(value, Relaxed);
    }

    fn word(&self, word: usize) -> u64 {
        self.run[word].load(Relaxed)
    }

    /// Tells generator and sink a flow's ports: client's, relay's, peer's, and the channel.
    pub(crate) fn set_flow(&self, number: usize, flow: [u16; 4]) {
        let [client, relay, peer, channel] = flow.map(u64::from);
        let word = abi::Flow(client | relay << 16 | peer << 32 | channel << 48);
        self.flows[number].store(word.0, Relaxed);
    }

    fn attach(&mut self, name: &str, side: Side, indexes: &[u32]) -> Result<Vec<XdpLinkId>> {
        let program = xdp(&mut self.ebpf, name)?;
        side.inside(move || {
            let attach = |&index| Ok(program.attach_to_if_index(index, XdpMode::Driver)?);
            indexes.iter().map(attach).collect::<Result<_>>()
        })
    }

    /// Puts the bare program for this topology in the relay's place.
    pub(crate) fn attach_bare(&mut self, site: &Site) -> Result<Bare> {
        let program = match site.topology {
            Topology::OneArmed => "bare_tx",
            Topology::TwoArmed => "bare_redirect",
        };
        let links = self.attach(program, Side::Relay, &site.arms)?;
        Ok(Bare { program, links })
    }

    /// Takes it away.
    pub(crate) fn detach_bare(&mut self, bare: Bare) -> Result<()> {
        let program = xdp(&mut self.ebpf, bare.program)?;
        bare.links.into_iter().try_for_each(|link| Ok(program.detach(link)?))
    }

    /// Sends for `time`; returns when all has been sent.
    pub(crate) fn send(&self, offer: Offer, time: Duration) -> Result<Sent> {
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
        let program: &Xdp = self.ebpf.program("generate").context("generate")?.try_into()?;
        let frame = &self.frame;
        let (ready, thread) = mpsc::channel();
        thread::scope(|scope| {
            let generator = scope.spawn(move || {
                Side::Far.inside(move || {
                    sys::pin(0, FAR_CORE)?;
                    sys::at_once(0, 1)?;
                    ready.send(sys::thread_id())?;
                    let mut options = TestRunOptions::new();
                    options.data_in = Some(frame);
                    options.repeat = u32::MAX;
                    options.attrs = TestRunAttrs::new().xdp_live_frames(64);
                    // Never ends by itself in time: it is interrupted.
                    let result = program.test_run(options);
                    Ok(result.err())
                })
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
            let error = result?.map(|error| format!("{error:?}")).unwrap_or_default();
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

    /// What the sink has seen so far.
    pub(crate) fn received(&self) -> Result<Received> {
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

fn array<'e>(ebpf: &'e Ebpf, name: &str) -> Result<&'e aya::maps::MapData> {
    match ebpf.map(name) {
        Some(Map::Array(map)) => Ok(map),
        _ => bail!("{name} is no array"),
    }
}

fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| name.to_owned())?.try_into()?)
}

/// A sum of big-endian words, as `wire::Sum` keeps it.
fn memory_order(sum: u16) -> u16 {
    u16::from_ne_bytes(sum.to_be_bytes())
}

fn head_size(template: &abi::Template) -> usize {
    if template.v6 != 0 { 54 } else { 34 }
}

fn templates(site: &Site, mix: &Mix) -> [abi::Template; 2] {
    let peer = site.peer_cable();
    let to_peer = (site::client_ip(mix.client), site::listener_ip(mix.client), 0, true);
    let to_client = (site::peer_ip(mix.peer), site::relay_ip(mix.peer), peer, false);
    let mut ways = [to_peer, to_client].map(|way| template(site, mix.payload, way));
    let header = |way: usize| [12, 8][way];
    let sizes = [0, 1].map(|way| head_size(&ways[way]) + header(way));
    for way in 0..abi::WAYS {
        ways[way].skip = (sizes[0].max(sizes[1]) - sizes[way]) as u32;
    }
    ways
}

fn template(
    site: &Site,
    payload: u16,
    (src, dst, cable, channel): (IpAddr, IpAddr, usize, bool),
) -> abi::Template {
    let udp_size = 8 + payload + if channel { 4 } else { 0 };
    let (to, from) = (site::mac(Side::Relay, cable), site::mac(Side::Far, cable));
    let mut bytes = packet::head(to, from, src, dst, udp_size);
    let mut covered = packet::pseudo_header(src, dst, udp_size);
    covered.extend(udp_size.to_be_bytes());
    if channel {
        covered.extend(payload.to_be_bytes());
    }
    covered.extend(vec![abi::FILLING; usize::from(payload) - abi::STAMP]);
    bytes.resize(56, 0);
    let mut head = [0; 7];
    for (word, bytes) in head.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    abi::Template {
        head,
        ifindex: site.far[cable],
        v6: dst.is_ipv6().into(),
        skip: 0,
        udp_size,
        sum: memory_order(packet::sum(&covered)),
    }
}
