//! The lab: three hosts in network namespaces, made and removed by `scripts/lab`, which draws them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::frame::Mac;
use crate::namespace;
use crate::process::{Process, last_lines};
use crate::wait::SOON;

/// One of the lab's hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Where TURN clients run.
    Client,
    /// Where the relay runs.
    Relay,
    /// Where peers run.
    Peer,
    /// What lies between them where the relay has one interface only.
    Switch,
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Host::Client => "client",
            Host::Relay => "relay",
            Host::Peer => "peer",
            Host::Switch => "switch",
        }
    }
}

/// How the hosts are cabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// The relay has one interface to the client and another to the peer: frames are redirected.
    TwoArmed,
    /// The relay has one interface for both: frames go back where they came from (XDP_TX).
    OneArmed,
}

impl Topology {
    /// Both.
    pub const ALL: [Topology; 2] = [Topology::TwoArmed, Topology::OneArmed];

    fn name(self) -> &'static str {
        match self {
            Topology::TwoArmed => "two-armed",
            Topology::OneArmed => "one-armed",
        }
    }
}

/// An address family, and the lab's addresses in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    fn address(self, subnet: u16, host: u16) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::new(44, 128, subnet as u8, host as u8).into(),
            Family::V6 => Ipv6Addr::new(0x2e00, 0x44, subnet, 0, 0, 0, 0, host).into(),
        }
    }

    /// The client host's address.
    pub fn client(self) -> IpAddr {
        self.address(1, 2)
    }

    /// Where the relay listens.
    pub fn listener(self) -> SocketAddr {
        SocketAddr::new(self.address(1, 1), 3478)
    }

    /// The address that the relay gives to clients as relayed address.
    pub fn relayed(self) -> IpAddr {
        self.address(2, 1)
    }

    /// The peer host's address.
    pub fn peer(self) -> IpAddr {
        self.address(2, 2)
    }

    /// An address of the peer host that the relay reaches through it, as through a gateway.
    pub fn far_peer(self) -> IpAddr {
        self.address(9, 2)
    }

    /// The unspecified address.
    pub fn any(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// A lab of one's own. It is removed when dropped, and also when this process dies.
#[derive(Debug)]
pub struct Lab {
    name: String,
    topology: Topology,
    status: HashMap<String, String>,
    scratch: PathBuf,
    holder: Child,
}

/// Runs a test in a lab of its own. Without privilege it says what it needs and does nothing.
///
/// # Panics
/// The test failed; the logs of what ran in the lab are printed, and kept.
pub fn in_lab(topology: Topology, test: impl FnOnce(&Lab) -> Result<()>) {
    match Lab::up(topology) {
        Ok(None) => (),
        Ok(Some(lab)) => {
            // The lab is still alive when this panics, so that it knows that its logs are wanted.
            if let Err(error) = test(&lab) {
                panic!("{topology:?}: {error:#}");
            }
        }
        Err(error) => panic!("no lab: {error:#}"),
    }
}

impl Lab {
    /// Makes a lab; `None`, having said so, where this process is not privileged to.
    ///
    /// # Errors
    /// `scripts/lab` failed; its own words are on standard error.
    pub fn up(topology: Topology) -> Result<Option<Lab>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !namespace::is_root() {
            eprintln!("skipped: a lab of network namespaces needs root (CAP_SYS_ADMIN)");
            return Ok(None);
        }
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = std::env::temp_dir().join(format!("turnwire-{name}"));
        std::fs::create_dir(&scratch).with_context(|| format!("making {}", scratch.display()))?;
        let mut holder = script()
            .args(["hold", "--name", &name, "--topology", topology.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting scripts/lab")?;
        let stdout = holder.stdout.take().context("scripts/lab has no standard output")?;
        let mut lab = Lab { name, topology, status: HashMap::new(), scratch, holder };
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if line == "ready" {
                return Ok(Some(lab));
            }
            if let Some((key, value)) = line.split_once('=') {
                lab.status.insert(key.into(), value.into());
            }
        }
        bail!("scripts/lab hold did not get ready")
    }

    fn print_logs(&self) {
        eprintln!("logs are kept in {}", self.scratch.display());
        for entry in std::fs::read_dir(&self.scratch).into_iter().flatten().flatten() {
            if entry.path().extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let log = std::fs::read(entry.path()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let tail = last_lines(&log).join("\n");
            eprintln!("--- the end of {}\n{tail}", entry.file_name().display());
        }
    }

    /// How this lab is cabled.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// A folder for this lab's logs, removed with it unless the test fails.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The relay's interface towards the client.
    pub fn towards_client(&self) -> &str {
        &self.status["towards_client"]
    }

    /// The relay's interface towards the peer.
    pub fn towards_peer(&self) -> &str {
        &self.status["towards_peer"]
    }

    /// The relay's interfaces, each once, as `--xdp` wants them.
    pub fn relay_interfaces(&self) -> Vec<&str> {
        let mut all = vec![self.towards_client(), self.towards_peer()];
        all.dedup();
        all
    }

    /// Makes the far ends of the relay's cables as they are by default, and not as a lab needs them:
    /// without a program, without GRO. The driver loses then what native XDP sends.
    ///
    /// # Errors
    /// A command failed.
    pub fn plain_far_ends(&self) -> Result<()> {
        let far_ends: &[(Host, &str)] = match self.topology {
            Topology::TwoArmed => &[(Host::Client, "eth0"), (Host::Peer, "eth0")],
            Topology::OneArmed => &[(Host::Switch, "to-relay")],
        };
        for (host, device) in far_ends {
            self.run(*host, &["ip", "link", "set", "dev", device, "xdpdrv", "off"])?;
            self.run(*host, &["ethtool", "-K", device, "gro", "off"])?;
        }
        Ok(())
    }

    /// Gives both ends of the relay's cables `count` queues, of the two that there can be. Those to
    /// receive by come first: a veth with an XDP program has no fewer than its far end sends by.
    ///
    /// # Errors
    /// A command failed.
    pub fn raise_queues(&self, count: u32) -> Result<()> {
        let (client, peer) = (self.towards_client(), self.towards_peer());
        let mut ends = vec![(Host::Relay, client), (Host::Client, "eth0"), (Host::Peer, "eth0")];
        match self.topology {
            Topology::TwoArmed => ends.push((Host::Relay, peer)),
            Topology::OneArmed => bail!("a bridge has queues of its own"),
        }
        for way in ["rx", "tx"] {
            for (host, device) in &ends {
                self.run(*host, &["ethtool", "-L", device, way, &count.to_string()])?;
            }
        }
        Ok(())
    }

    /// The file of a BPF object whose program, in section `xdp`, passes every frame.
    pub fn pass_object(&self) -> String {
        format!("/run/turnwire-lab/{}/xdp-pass", self.name)
    }

    /// Takes the cable to the peer away, both of its ends, and lays another with the same names and
    /// addresses.
    ///
    /// # Errors
    /// A command failed.
    pub fn recable_peer(&self) -> Result<()> {
        let (device, object) = (self.towards_peer(), self.pass_object());
        let peer = self.path(Host::Peer).file_name().context("a namespace has a name")?;
        let peer = peer.to_string_lossy();
        let script = format!(
            "ip link delete {device}
            ip link add name {device} address 02:44:00:00:02:21 \
                type veth peer name eth0 address 02:44:00:00:02:22 netns {peer}
            ip link set {device} up; ip -n {peer} link set eth0 up
            ethtool -K {device} tx off gro on txvlan off rxvlan off >/dev/null
            ip address add 44.128.2.1/24 dev {device}
            ip address add 2e00:44:2::1/64 dev {device} nodad"
        );
        self.run(Host::Relay, &["sh", "-ec", &script])?;
        let script = format!(
            "ethtool -K eth0 tx off gro on txvlan off rxvlan off >/dev/null
            ip link set dev eth0 xdpdrv object {object} section xdp
            ip address add 44.128.2.2/24 dev eth0
            ip address add 2e00:44:2::2/64 dev eth0 nodad"
        );
        self.run(Host::Peer, &["sh", "-ec", &script])?;
        Ok(())
    }

    /// A command that will run `program` on `host`, with the pid that the caller sees.
    pub fn command(&self, host: Host, program: &str) -> Command {
        let mut command = script();
        command.args(["exec", "--name", &self.name, host.name(), program]);
        command
    }

    /// Starts a program on `host`, as a process of a name that is unique in this lab: it names the
    /// log as well.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, host: Host, name: &str, words: &[&str]) -> Result<Process> {
        let (program, arguments) = words.split_first().context("a command is needed")?;
        let log = self.scratch.join(format!("{name}.log"));
        Process::start(name, self.command(host, program).args(arguments), &log)
    }

    /// Runs a short command on `host` to its end and gives what it printed.
    ///
    /// # Errors
    /// It failed.
    pub fn run(&self, host: Host, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("a command is needed")?;
        let output = self.command(host, program).args(arguments).output()?;
        if !output.status.success() {
            bail!("{words:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `task` on a thread inside `host`; sockets made there stay there.
    ///
    /// # Errors
    /// The task's own.
    pub fn inside<T: Send>(
        &self,
        host: Host,
        task: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        namespace::inside(self.path(host), task)
    }

    /// The file that stands for a host's network namespace.
    pub fn path(&self, host: Host) -> &Path {
        Path::new(&self.status[host.name()])
    }

    /// An interface's Ethernet address.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn mac(&self, host: Host, device: &str) -> Result<Mac> {
        let text = self.run(host, &["cat", &format!("/sys/class/net/{device}/address")])?;
        let bytes: Vec<u8> = text
            .trim()
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16))
            .collect::<Result<_, _>>()?;
        Mac::try_from(&bytes[..]).with_context(|| format!("{text:?} is no Ethernet address"))
    }

    /// A UDP socket on `host`, with a read timeout of `SOON`.
    ///
    /// # Errors
    /// It cannot be bound.
    pub fn udp(&self, host: Host, local: SocketAddr) -> Result<UdpSocket> {
        self.inside(host, || {
            let socket = UdpSocket::bind(local).with_context(|| format!("binding {local}"))?;
            socket.set_read_timeout(Some(SOON))?;
            Ok(socket)
        })
    }

    /// As many UDP sockets on `host`, with ports of the kernel's choice. To enter a host takes
    /// milliseconds: this does it once.
    ///
    /// # Errors
    /// One cannot be made.
    pub fn many_udp(&self, host: Host, local: IpAddr, count: usize) -> Result<Vec<UdpSocket>> {
        self.inside(host, || {
            let bound = || -> Result<UdpSocket> {
                let socket = UdpSocket::bind(SocketAddr::new(local, 0))?;
                socket.set_read_timeout(Some(SOON))?;
                Ok(socket)
            };
            (0..count).map(|_| bound()).collect()
        })
    }

    /// A TCP connection made on `host`.
    ///
    /// # Errors
    /// It cannot be made within `SOON`.
    pub fn tcp(&self, host: Host, remote: SocketAddr) -> Result<TcpStream> {
        self.inside(host, || Ok(TcpStream::connect_timeout(&remote, SOON)?))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The end of its standard input tells the holder to remove the lab.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        if std::thread::panicking() {
            self.print_logs();
        } else {
            let _ = std::fs::remove_dir_all(&self.scratch);
        }
    }
}

fn script() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab"))
}
