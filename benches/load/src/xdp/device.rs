//! Interfaces that a generator sends by and a sink listens at: what they must have, in words.

use std::net::IpAddr;
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use traffic::net::{self, Interface};
use traffic::xsk::Sender;
use traffic::{Mode, Path, Traffic};

use crate::options::Generator;
use crate::report::DeviceResult;

/// An interface in use.
pub(super) struct Device {
    interface: Interface,
    mode: Option<Mode>,
    transmit: String,
    /// Packets sent and received when the run began.
    before: Mutex<[u64; 2]>,
}

/// The interfaces of these names.
pub(super) fn named(names: &[String]) -> Result<Vec<Device>> {
    let device = |name: &String| {
        let interface = net::named(name).with_context(|| format!("--interface {name}"))?;
        ensure!(interface.up, "--interface {name}: it is down (ip link set dev {name} up)");
        ensure!(
            interface.mac.is_some(),
            "--interface {name}: it is no Ethernet interface, so there are no frames to write"
        );
        let transmit = "redirect".to_owned();
        Ok(Device { interface, mode: None, transmit, before: Mutex::default() })
    };
    names.iter().map(device).collect()
}

/// The path from `src` to `dst`, which must leave by one of these interfaces.
pub(super) fn path(devices: &[Device], src: IpAddr, dst: IpAddr) -> Result<Path> {
    let (link, next) = net::route(src, dst)?;
    let Some(device) = devices.iter().find(|device| device.interface.index == link) else {
        let all = net::interfaces()?;
        let name = all.iter().find(|one| one.index == link).map_or("another", |one| &one.name);
        let given: Vec<_> = devices.iter().map(|device| device.interface.name.as_str()).collect();
        bail!("{src} reaches {dst} by {name}, not by --interface {}", given.join(","));
    };
    let own = device.interface.mac.context("an Ethernet interface")?;
    let next = net::neighbour(link, next, src, dst)?;
    Ok(Path { interface: link, own, next, src, dst, peer: None })
}

/// Whether payloads of so many bytes fit.
pub(super) fn fit(devices: &[Device], paths: &[Path], payload: usize) -> Result<()> {
    for path in paths {
        let headers = if path.dst.is_ipv6() { 40 } else { 20 } + 8 + 4;
        let device = devices.iter().find(|device| device.interface.index == path.interface);
        let Some(Device { interface: Interface { name, mtu, .. }, .. }) = device else { continue };
        ensure!(
            headers + payload <= *mtu as usize,
            "--payload {payload} makes packets of {} bytes, and {name} takes {mtu}",
            headers + payload
        );
    }
    Ok(())
}

/// Refuses a process that lacks a capability, by its name.
pub(super) fn capabilities(kind: Generator) -> Result<()> {
    // linux/capability.h; what CAP_SYS_ADMIN stands in for, it stands in for
    const SYS_ADMIN: u32 = 21;
    const NEEDED: [(u32, &str, bool); 4] = [
        (12, "CAP_NET_ADMIN", false),
        (13, "CAP_NET_RAW", false),
        (38, "CAP_PERFMON", true),
        (39, "CAP_BPF", true),
    ];
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(u64::MAX);
    let has = |bit: u32| held >> bit & 1 == 1;
    let wanted = NEEDED
        .iter()
        .filter(|(_, name, _)| *name != "CAP_NET_RAW" || matches!(kind, Generator::AfXdp { .. }));
    let missing = wanted.filter(|(bit, _, covered)| !(has(*bit) || *covered && has(SYS_ADMIN)));
    let missing: Vec<&str> = missing.map(|(_, name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let lower = missing.join(",").to_lowercase();
    bail!(
        "--generator {kind} needs {}, which this process lacks: run it as root, or \
         setcap {lower}+ep turnwire-load",
        missing.join(" and ")
    )
}

impl Device {
    /// Attaches the sink.
    pub(super) fn attach(&mut self, traffic: &mut Traffic) -> Result<()> {
        let Interface { index, name, .. } = &self.interface;
        let error = match traffic.attach_sink_somehow(*index) {
            Ok(mode) => {
                self.mode = Some(mode);
                return Ok(());
            }
            Err(error) => error,
        };
        let code = error.chain().find_map(|cause| {
            cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error)
        });
        Err(match code {
            Some(libc::EBUSY | libc::EEXIST) => {
                let number = net::named(name).ok().and_then(|interface| interface.program);
                let program = number.map_or_else(String::new, |number| {
                    let called = net::program_name(number).unwrap_or_default();
                    format!(" (number {number}, {called:?})")
                });
                anyhow!(
                    "another XDP program{program} is attached to {name}: end the process that it \
                     belongs to, or ip link set dev {name} xdp off, or use another interface"
                )
            }
            Some(libc::EOPNOTSUPP) => {
                anyhow!("{name} takes no XDP program, not even a generic one: {error:#}")
            }
            Some(libc::EPERM | libc::EACCES) => {
                anyhow!("attaching a program to {name} needs CAP_NET_ADMIN: {error:#}")
            }
            _ => error.context(format!("attaching the sink to {name}")),
        })
    }

    /// An AF_XDP socket at one queue.
    pub(super) fn open(&mut self, queue: u32, spin: bool) -> Result<Sender> {
        let mut sender = Sender::open(&self.interface, queue).context("--queue")?;
        sender.set_spin(spin);
        self.transmit = format!("AF_XDP, {}", sender.copying());
        Ok(sender)
    }

    /// Notes where the interface's own counters stand.
    pub(super) fn begin(&self) -> Result<()> {
        *super::lock(&self.before) = net::named(&self.interface.name)?.packets;
        Ok(())
    }

    /// What it did since.
    pub(super) fn result(&self) -> DeviceResult {
        let before = *super::lock(&self.before);
        let now = net::named(&self.interface.name).map_or(before, |interface| interface.packets);
        DeviceResult {
            name: self.interface.name.clone(),
            sink: self.mode.map_or_else(String::new, |mode| mode.to_string()),
            transmit: self.transmit.clone(),
            tx_packets: now[0].saturating_sub(before[0]),
            rx_packets: now[1].saturating_sub(before[1]),
        }
    }
}
