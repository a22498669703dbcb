//! The programs of ebpf/program/src/traffic.rs: loaded, told what to do, attached.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result, bail};
use aya::maps::{Array, Map};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

use crate::plan::{Channel, Crossing, Plan};
use crate::scheme::{Flow, Scheme, Wrapper};
use crate::{abi, sys};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/object/traffic.o");

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Pod<T>(pub(crate) T);
#[allow(unsafe_code, reason = "aya's word for: any bytes are a value")]
// SAFETY: used with structures of plain integers only.
unsafe impl<T: Copy + 'static> aya::Pod for Pod<T> {}

/// The programs. Dropping it detaches them.
pub struct Traffic {
    pub(crate) ebpf: Ebpf,
    pub(crate) maps: Maps,
    pub(crate) scheme: Scheme,
    /// What `set_channel` is about.
    plan: Option<Plan>,
    /// A frame of the generator's before it is written.
    pub(crate) frame: Vec<u8>,
}

/// The maps, as words that programs change.
pub(crate) struct Maps {
    pub(crate) run: Words,
    pub(crate) flows: Words,
    pub(crate) arrivals: Words,
    pub(crate) sent: Words,
    pub(crate) received: Words,
    pub(crate) lateness: Words,
    pub(crate) latency: Words,
    pub(crate) latency_by_slot: Words,
    ports: Words,
    lengths: Words,
}

/// Mapped for as long as this process lives.
type Words = &'static [AtomicU64];

/// The least that a program in the relay's place can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// Sends back where it came from, with addresses and ports swapped (XDP_TX).
    Tx,
    /// Sends on to the other one of [`Scheme::arms`].
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

/// How a program was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// By the kernel, for a driver that cannot.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Mode::Native { "native" } else { "generic" })
    }
}

/// Words of [`abi::Run`].
pub(crate) mod word {
    pub(crate) const INTERVAL: usize = 0;
    pub(crate) const START: usize = 1;
    pub(crate) const END: usize = 2;
    pub(crate) const FLOWS: usize = 3;
    pub(crate) const PATTERN: usize = 4;
    pub(crate) const SLOT: usize = 5;
    pub(crate) const TAG: usize = 6;
    pub(crate) const SENT: usize = 7;
    pub(crate) const SKIPPED: usize = 9;
    pub(crate) const NEXT: usize = 10;
    pub(crate) const NOW: usize = 11;
    pub(crate) const COUNT: usize = size_of::<super::abi::Run>() / 8;
}

/// Words of [`abi::Flow`].
pub(crate) const FLOW_WORDS: usize = size_of::<abi::Flow>() / 8;
/// The last of them.
pub(crate) const FLOW_SENT: usize = 2;
/// Words of [`abi::Arrivals`].
pub(crate) const ARRIVALS_WORDS: usize = size_of::<abi::Arrivals>() / 8;

impl Maps {
    fn of(ebpf: &Ebpf, scheme: &Scheme) -> Result<Maps> {
        let words = |name: &str, count: usize| sys::mapped(array(ebpf, name)?.fd(), count);
        let tracked = if scheme.tracked { scheme.flows } else { 1 };
        Ok(Maps {
            run: words("RUN", word::COUNT)?,
            flows: words("FLOWS", scheme.flows * FLOW_WORDS)?,
            arrivals: words("ARRIVALS", tracked * ARRIVALS_WORDS)?,
            sent: words("SENT", abi::SLOTS)?,
            received: words("RECEIVED", abi::SLOTS)?,
            lateness: words("LATENESS", abi::buckets(abi::COARSE))?,
            latency: words("LATENCY", abi::WAYS * abi::buckets(abi::FINE))?,
            latency_by_slot: words("LATENCY_BY_SLOT", abi::SLOTS * abi::buckets(abi::COARSE))?,
            ports: words("PORTS", 65_536 / 16)?,
            lengths: words("LENGTHS", abi::PATTERN)?,
        })
    }
}

impl Traffic {
    /// Loads the programs for channels between two addresses each; none is attached yet.
    ///
    /// # Errors
    /// As [`Traffic::open`].
    pub fn load(plan: &Plan) -> Result<Traffic> {
        let mut traffic = Traffic::open(&plan.scheme())?;
        traffic.plan = Some(plan.clone());
        Ok(traffic)
    }

    /// Loads the programs; none is attached yet.
    ///
    /// # Errors
    /// The scheme is out of its limits, or the kernel refuses: for want of CAP_BPF, CAP_NET_ADMIN
    /// and CAP_PERFMON, or because it is too old.
    pub fn open(scheme: &Scheme) -> Result<Traffic> {
        scheme.check()?;
        let longest = scheme.longest();
        let tracked = if scheme.tracked { scheme.flows } else { 1 };
        let mut ebpf = EbpfLoader::new()
            .override_global("LONGEST", &u64::from(longest), true)
            .override_global("HEADERS", &(scheme.headers() as u64), true)
            .override_global("MIXED", &u64::from(scheme.payloads.len() > 1), true)
            .override_global("TRACKED", &u64::from(scheme.tracked), true)
            .override_global("INDICATIONS", &u64::from(scheme.indicates()), true)
            .override_global("ARMS", &scheme.arms.map(u64::from), true)
            .map_max_entries("FLOWS", scheme.flows as u32)
            .map_max_entries("ARRIVALS", tracked as u32)
            .load(OBJECT)
            .context("loading the traffic programs' maps")?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("loading the program `{name}`"))?;
        }
        let maps = Maps::of(&ebpf, scheme)?;
        let templates = ebpf.map_mut("TEMPLATES").context("TEMPLATES")?;
        let mut templates: Array<_, Pod<abi::Template>> = templates.try_into()?;
        for (number, path) in scheme.paths.iter().enumerate() {
            templates.set(number as u32, Pod(path.template()), 0)?;
        }
        for (word, payload) in maps.lengths.iter().zip(&scheme.payloads) {
            word.store(u64::from(*payload), Relaxed);
        }
        maps.run[word::FLOWS].store(scheme.flows as u64, Relaxed);
        maps.run[word::PATTERN].store(scheme.payloads.len() as u64, Relaxed);
        let frame = vec![abi::FILLING; scheme.headers() + usize::from(longest)];
        Ok(Traffic { ebpf, maps, scheme: scheme.clone(), plan: None, frame })
    }

    /// What it was loaded for.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Tells generator and sink a channel of the plan, counted from 0.
    pub fn set_channel(&self, number: usize, channel: &Channel) {
        let plan = self.plan.as_ref();
        for (number, flow) in plan.into_iter().flat_map(|plan| plan.flows(number, channel)) {
            self.set_flow(number, &flow);
        }
    }

    /// Tells generator and sink a flow, counted from 0 and below [`Scheme::flows`].
    pub fn set_flow(&self, number: usize, flow: &Flow) {
        let Flow { path, out, arrive, to_client } = *flow;
        let at = number * FLOW_WORDS;
        self.maps.flows[at].store(out.word(path as u16), Relaxed);
        self.maps.flows[at + 1].store(arrive.word(to_client.into()), Relaxed);
        let port = usize::from(arrive.dst);
        let kind = match arrive.wrapper {
            Wrapper::None => abi::port::BARE,
            Wrapper::Channel(_) => abi::port::FRAMED,
            Wrapper::Indication(_) => abi::port::INDICATION,
        };
        let kind = kind | if to_client { abi::port::TO_CLIENT } else { 0 };
        self.maps.ports[port / 16].fetch_or(kind << (port % 16 * 4), Relaxed);
    }

    /// Attaches the sink to the interfaces at which traffic arrives.
    ///
    /// # Errors
    /// Another program is attached, or the driver has no native XDP.
    pub fn attach_sink(&mut self, interfaces: &[u32]) -> Result<()> {
        self.attach("sink", interfaces)?;
        Ok(())
    }

    /// Attaches the sink natively, or where the driver cannot, generically.
    ///
    /// # Errors
    /// The driver's or the kernel's answer: EBUSY and EEXIST where another program is attached.
    pub fn attach_sink_somehow(&mut self, interface: u32) -> Result<Mode> {
        let program = xdp(&mut self.ebpf, "sink")?;
        match program.attach_to_if_index(interface, XdpMode::Driver) {
            Ok(_) => Ok(Mode::Native),
            Err(native) => match program.attach_to_if_index(interface, XdpMode::Skb) {
                Ok(_) => Ok(Mode::Generic),
                Err(_) => Err(native.into()),
            },
        }
    }

    fn attach(&mut self, name: &str, interfaces: &[u32]) -> Result<Vec<XdpLinkId>> {
        let program = xdp(&mut self.ebpf, name)?;
        let attach = |&index| Ok(program.attach_to_if_index(index, XdpMode::Driver)?);
        interfaces.iter().map(attach).collect()
    }

    /// Puts a bare program in the relay's place: channels that are set from now on are to arrive
    /// as it sends them.
    ///
    /// # Errors
    /// As [`Traffic::attach_sink`].
    pub fn attach_bare(&mut self, program: Bare, interfaces: &[u32]) -> Result<BareLinks> {
        let links = self.attach(program.program(), interfaces)?;
        if let Some(plan) = &mut self.plan {
            plan.crossing = match program {
                Bare::Tx => Crossing::Mirrored,
                Bare::Redirect => Crossing::Unchanged,
            };
        }
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
