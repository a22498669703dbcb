//! Two network namespaces: the relay's, and the far end with both clients and peers.
//!
//! ```text
//!  one-armed   far0 ======= arm0              far0 has the client's and the peer's address
//!
//!  two-armed   far0 ======= arm0   relay      far0 is the client's side,
//!              far1 ======= arm1              far1 the peer's
//! ```
//!
//! Clients and peers share a namespace because neither is a host here: the generator and the sink
//! are XDP programs on `far0` and `far1`. The relay's namespace has one or two interfaces, and
//! cannot tell the difference. Neighbours are static, so that no ARP is lost in the sink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use turnwire_tests::namespace;
use wire::Family;

use crate::sys;

/// Which namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Clients, peers, generator and sink.
    Far,
    /// The relay's host.
    Relay,
}

/// The core that generator and sink have.
pub(crate) const FAR_CORE: usize = 0;
/// The core that the relay has.
pub(crate) const RELAY_CORE: usize = 1;

/// How long interfaces gather packets where that is asked for: rings of 256 hold what comes meanwhile
/// at a million packets a second.
pub(crate) const GATHERED_NS: u32 = 200_000;

/// Both namespaces, removed when dropped.
pub(crate) struct Site {
    /// Interface indexes of the far ends, and of the relay's.
    pub(crate) far: Vec<u32>,
    pub(crate) arms: Vec<u32>,
}

fn address(family: Family, subnet: u16, host: u16) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(44, 128, subnet as u8, host as u8).into(),
        Family::V6 => Ipv6Addr::new(0x2e00, 0x44, subnet, 0, 0, 0, 0, host).into(),
    }
}

/// Where the clients are.
pub(crate) fn client_ip(family: Family) -> IpAddr {
    address(family, 1, 2)
}
/// Where the relay listens.
pub(crate) fn listener_ip(family: Family) -> IpAddr {
    address(family, 1, 1)
}
/// Where other clients are, for calls between two clients.
pub(crate) fn other_client_ip(family: Family) -> IpAddr {
    address(family, 1, 3)
}
/// What the relay gives to clients.
pub(crate) fn relay_ip(family: Family) -> IpAddr {
    address(family, 2, 1)
}
/// Where the peers are.
pub(crate) fn peer_ip(family: Family) -> IpAddr {
    address(family, 2, 2)
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Far => "turnwire-bench-far",
            Side::Relay => "turnwire-bench-relay",
        }
    }

    /// The file that stands for it.
    pub(crate) fn path(self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.name())
    }

    /// Runs `task` in it, on a thread of its own.
    pub(crate) fn inside<T: Send>(self, task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        namespace::inside(&self.path(), task)
    }

    /// A command that runs in it, as the process that is started.
    pub(crate) fn command(self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name(), program]);
        command
    }

    /// What a shell script prints there.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn shell(self, script: &str) -> Result<String> {
        run(self.command("sh").args(["-ec", script]))
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Site {
    /// Makes both, with one cable between them or two, each of so many queues a direction.
    ///
    /// # Errors
    /// The namespaces exist already, or a tool is missing.
    pub(crate) fn new(cables: usize, queues: usize) -> Result<Site> {
        for side in [Side::Far, Side::Relay] {
            ensure!(
                !side.path().exists(),
                "{} exists: another benchmark runs, or one was killed (scripts/bench clean)",
                side.path().display()
            );
        }
        let mut site = Site { far: Vec::new(), arms: Vec::new() };
        site.build(cables, queues)?;
        Ok(site)
    }

    fn build(&mut self, cables: usize, queues: usize) -> Result<()> {
        for side in [Side::Far, Side::Relay] {
            run(Command::new("ip").args(["netns", "add", side.name()]))?;
            side.shell(
                "ip link set lo up
                for pair in ipv4/conf/all/rp_filter=0 ipv4/conf/default/rp_filter=0 \
                    ipv4/conf/all/arp_ignore=1 ipv4/ip_forward=0 \
                    ipv6/conf/default/accept_dad=0 ipv6/conf/default/accept_ra=0 \
                    ipv6/conf/default/router_solicitations=0; do
                    echo ${pair#*=} >/proc/sys/net/${pair%=*}
                done",
            )?;
        }
        for cable in 0..cables {
            Side::Far.shell(&format!(
                "ip link add far{cable} address {} numtxqueues {queues} numrxqueues {queues} \
                    type veth peer name arm{cable} address {} \
                    numtxqueues {queues} numrxqueues {queues} netns {}
                ip link set far{cable} up",
                text(mac(Side::Far, cable)),
                text(mac(Side::Relay, cable)),
                Side::Relay.name()
            ))?;
            Side::Relay.shell(&format!("ip link set arm{cable} up"))?;
            // GRO once both ends are up: then each has a NAPI of its own, program or not.
            Side::Far.shell(&format!("ethtool -K far{cable} tx off gro on"))?;
            Side::Relay.shell(&format!("ethtool -K arm{cable} tx off gro on"))?;
            self.far.push(index(Side::Far, "far", cable)?);
            self.arms.push(index(Side::Relay, "arm", cable)?);
        }
        for family in [Family::V4, Family::V6] {
            for (subnet, cable) in [(1, 0), (2, cables - 1)] {
                let (far, arm) = (address(family, subnet, 2), address(family, subnet, 1));
                let width = if family == Family::V4 { 24 } else { 64 };
                host(Side::Far, &format!("far{cable}"), far, width, arm, mac(Side::Relay, cable))?;
                host(Side::Relay, &format!("arm{cable}"), arm, width, far, mac(Side::Far, cable))?;
            }
            let (relay, far) = (listener_ip(family), other_client_ip(family));
            let width = if family == Family::V4 { 24 } else { 64 };
            host(Side::Far, "far0", far, width, relay, mac(Side::Relay, 0))?;
            neighbour(Side::Relay, "arm0", far, mac(Side::Far, 0))?;
        }
        Ok(())
    }

    /// The cable on the peers' side.
    pub(crate) fn peer_cable(&self) -> usize {
        self.far.len() - 1
    }

    /// What is offloaded to the relay's interface.
    pub(crate) fn offloads(&self) -> Result<Vec<String>> {
        let features = Side::Relay.shell("ethtool -k arm0")?;
        let on = features.lines().filter_map(|line| line.trim().strip_suffix(": on"));
        Ok(on.map(str::to_owned).collect())
    }

    /// The relay's interfaces, as `--xdp` wants them.
    pub(crate) fn arm_names(&self) -> String {
        (0..self.arms.len()).map(|at| format!("arm{at}")).collect::<Vec<_>>().join(",")
    }

    /// Threaded NAPI on all interfaces, or none. With it the far ends and the relay have a core
    /// each; without it all happens in the softirq of whoever sends.
    pub(crate) fn set_threaded(&self, threaded: bool) -> Result<()> {
        let value = u8::from(threaded);
        for cable in 0..self.far.len() {
            Side::Far.shell(&format!("echo {value} >/sys/class/net/far{cable}/threaded"))?;
            Side::Relay.shell(&format!("echo {value} >/sys/class/net/arm{cable}/threaded"))?;
        }
        if threaded {
            // A softirq comes before all processes, and so do the threads in its place. The sink
            // also comes before its neighbour, the generator, or rings would overflow there.
            for (prefix, core, rank) in [("napi/far", FAR_CORE, 2), ("napi/arm", RELAY_CORE, 1)] {
                for thread in kernel_threads(prefix)? {
                    match sys::pin(thread, core).and_then(|()| sys::at_once(thread, rank)) {
                        // replaced when a program was attached
                        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                        result => result.context("placing a NAPI thread")?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets the interfaces gather packets for [`GATHERED_NS`] before their NAPI runs, as a network
    /// card's interrupt moderation does; or not.
    ///
    /// # Errors
    /// An interface is gone.
    pub(crate) fn set_gathering(&self, gathering: bool) -> Result<()> {
        let (nanoseconds, times) = if gathering { (GATHERED_NS, u32::MAX >> 1) } else { (0, 0) };
        for (side, prefix) in [(Side::Far, "far"), (Side::Relay, "arm")] {
            for cable in 0..self.far.len() {
                side.shell(&format!(
                    "cd /sys/class/net/{prefix}{cable}
                    echo {nanoseconds} >gro_flush_timeout
                    echo {times} >napi_defer_hard_irqs"
                ))?;
            }
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for side in [Side::Far, Side::Relay] {
            if side.path().exists() {
                let _ = run(Command::new("ip").args(["netns", "delete", side.name()]));
            }
        }
    }
}

/// The kernel threads whose name starts with `prefix`.
pub(crate) fn kernel_threads(prefix: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        if std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with(prefix)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The address of one end of a cable.
pub(crate) fn mac(side: Side, cable: usize) -> [u8; 6] {
    [2, 0x44, 0, 0, cable as u8, if side == Side::Far { 2 } else { 1 }]
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn index(side: Side, name: &str, cable: usize) -> Result<u32> {
    let path = format!("cat /sys/class/net/{name}{cable}/ifindex");
    Ok(side.shell(&path)?.trim().parse()?)
}

fn host(side: Side, dev: &str, own: IpAddr, width: u8, other: IpAddr, mac: [u8; 6]) -> Result<()> {
    let nodad = if own.is_ipv6() { "nodad" } else { "" };
    side.shell(&format!("ip address add {own}/{width} dev {dev} {nodad}"))?;
    neighbour(side, dev, other, mac)
}

fn neighbour(side: Side, dev: &str, other: IpAddr, mac: [u8; 6]) -> Result<()> {
    let lladdr = text(mac);
    side.shell(&format!("ip neighbour replace {other} lladdr {lladdr} nud permanent dev {dev}"))?;
    Ok(())
}
