//! A relay's host and a host with clients and peers, each a network namespace, and a cable between
//! them: what generators without sockets need.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use turnwire_tests::namespace;
use turnwire_tests::relay::turnwire_binary;

use super::tool::{Done, command, finish, scratch};

/// Both hosts, and what runs there. Removed when dropped.
pub(crate) struct Wire {
    name: String,
    server: Option<Child>,
    log: PathBuf,
}

/// One of the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// Clients, peers, and the generator; its interface is `far0`.
    Far,
    /// The server; its interface is `arm0`.
    Relay,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The address of a host.
    pub(crate) fn ip(self, host: Host) -> IpAddr {
        let text = match (self, host) {
            (Family::V4, Host::Far) => "10.91.1.2",
            (Family::V4, Host::Relay) => "10.91.1.1",
            (Family::V6, Host::Far) => "fd91::2",
            (Family::V6, Host::Relay) => "fd91::1",
        };
        text.parse().expect("an address")
    }

    /// Where the server listens.
    pub(crate) fn listener(self) -> SocketAddr {
        SocketAddr::new(self.ip(Host::Relay), 3478)
    }
}

/// Runs a test with such a cable; without privilege says what it needs.
pub(crate) fn on_a_wire(test: impl FnOnce(&mut Wire) -> Result<()>) {
    if !namespace::is_root() {
        return println!("skipped: network namespaces need root (CAP_SYS_ADMIN)");
    }
    let mut wire = Wire::up().expect("two namespaces and a cable");
    if let Err(error) = test(&mut wire) {
        panic!("{error:#}\n{}", std::fs::read_to_string(&wire.log).unwrap_or_default());
    }
}

/// Tries again where something else than the fault that a test made has touched the run: a busy
/// machine may lose a datagram. What is wrong in every run is wrong.
pub(crate) fn undisturbed(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    const ATTEMPTS: u32 = 10;
    let mut done = attempt();
    for _ in 1..ATTEMPTS {
        if done.is_ok() {
            break;
        }
        done = attempt();
    }
    done
}

impl Wire {
    fn up() -> Result<Wire> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("twl{}-{count}", std::process::id());
        let wire = Wire { name, server: None, log: scratch("server.log") };
        let (far, relay) = (wire.namespace(Host::Far), wire.namespace(Host::Relay));
        let mut script = format!(
            "ip netns add {far}; ip netns add {relay}
            for ns in {far} {relay}; do
                ip netns exec $ns sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'
                ip -n $ns link set lo up
            done
            ip -n {far} link add far0 type veth peer name arm0 netns {relay}
            ip -n {far} link set far0 up; ip -n {relay} link set arm0 up
            ip netns exec {far} ethtool -K far0 tx off gro on >/dev/null
            ip netns exec {relay} ethtool -K arm0 tx off gro on >/dev/null\n"
        );
        for family in [Family::V4, Family::V6] {
            let (width, nodad) = if family == Family::V4 { (24, "") } else { (64, "nodad") };
            for (host, device) in [(Host::Far, "far0"), (Host::Relay, "arm0")] {
                let ns = wire.namespace(host);
                let ip = family.ip(host);
                script += &format!("ip -n {ns} address add {ip}/{width} dev {device} {nodad}\n");
            }
        }
        wire.shell(&script)?;
        Ok(wire)
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}{}", self.name, if host == Host::Far { "f" } else { "r" })
    }

    fn shell(&self, script: &str) -> Result<String> {
        output_of(script, &Command::new("sh").args(["-ec", script]).output()?)
    }

    /// Runs a shell script on a host.
    pub(crate) fn run(&self, host: Host, script: &str) -> Result<String> {
        let output = self.command(host, "sh").args(["-ec", script]).output()?;
        output_of(script, &output)
    }

    /// Runs `task` on a thread there.
    pub(crate) fn inside<T: Send>(
        &self,
        host: Host,
        task: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        namespace::inside(&PathBuf::from("/run/netns").join(self.namespace(host)), task)
    }

    /// Starts Turnwire with the user `u` and the password `p`.
    pub(crate) fn turnwire(&mut self, more: &[&str]) -> Result<()> {
        let mut command = self.command(Host::Relay, turnwire_binary()?.to_str().context("UTF-8")?);
        command.args(["serve", "--user", "u:p", "--peer-policy", "lan"]);
        command.args(["--allow-peer", "10.91.0.0/16", "--allow-peer", "fd91::/16"]);
        for family in [Family::V4, Family::V6] {
            command.args(["--listen", &family.listener().to_string()]);
            command.args(["--relay-ip", &family.ip(Host::Relay).to_string()]);
        }
        self.start(command.args(more))
    }

    /// Starts coturn; false, having said so, where it is not installed.
    pub(crate) fn coturn(&mut self) -> Result<bool> {
        if Command::new("turnserver").arg("--version").output().is_err() {
            println!("skipped: needs turnserver (apt-get install coturn)");
            return Ok(false);
        }
        let mut command = self.command(Host::Relay, "turnserver");
        command.args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--lt-cred-mech"]);
        command.args(["--realm", "test", "--user", "u:p", "--log-file", "stdout"]);
        command.arg("--pidfile").arg(scratch("coturn.pid"));
        command.arg("--userdb").arg(scratch("coturn.db"));
        for family in [Family::V4, Family::V6] {
            let ip = family.ip(Host::Relay).to_string();
            command.args(["--listening-ip", &ip, "--relay-ip", &ip]);
        }
        self.start(&mut command)?;
        Ok(true)
    }

    fn command(&self, host: Host, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    #[allow(clippy::disallowed_methods, reason = "tests may look at the clock")]
    fn start(&mut self, command: &mut Command) -> Result<()> {
        self.stop();
        let out = std::fs::File::create(&self.log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        self.server = Some(command.spawn()?);
        let request: Vec<u8> = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        let socket = self.inside(Host::Far, || {
            let socket = UdpSocket::bind((Family::V4.ip(Host::Far), 0))?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            Ok(socket)
        })?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            let _ = socket.send_to(&request, Family::V4.listener());
            if socket.recv(&mut [0; 1500]).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("the server does not answer")
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Runs the program on the far host.
    pub(crate) fn load(&self, words: &[&str]) -> Done {
        let path = scratch("result.json");
        let plain = command(words);
        let mut inside = self.command(Host::Far, &plain.get_program().to_string_lossy());
        inside.args(plain.get_args()).arg("--output").arg(&path);
        finish(inside.output().expect("the program starts"), path)
    }

    /// `run` as user `u` with this generator, for a second at 2,000 a second.
    pub(crate) fn go(&self, server: Family, generator: &str, words: &[&str]) -> Done {
        let listener = server.listener().to_string();
        let base = ["run", "--server", &listener, "--user", "u", "--password", "p"];
        let kind = ["--generator", generator, "--interface", "far0"];
        let usual = ["--rate", "2000", "--duration", "1"];
        // later ones count
        let words: Vec<&str> = [&base[..], &kind, words].concat();
        let given = |flag: &str| words.contains(&flag);
        let rest = usual.chunks(2).filter(|pair| !given(pair[0])).flatten().copied();
        self.load(&words.iter().copied().chain(rest).collect::<Vec<_>>())
    }

    /// The sum of a metric's samples whose labels contain all these texts.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Result<u64> {
        let text = self.inside(Host::Relay, || {
            use std::io::{Read as _, Write as _};
            let mut http = std::net::TcpStream::connect(("127.0.0.1", 9641))?;
            http.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            http.read_to_string(&mut text)?;
            Ok(text)
        })?;
        let samples = text.lines().filter(|line| line.starts_with(name));
        let samples = samples.filter(|line| labels.iter().all(|label| line.contains(label)));
        let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }
}

fn output_of(script: &str, output: &std::process::Output) -> Result<String> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop();
        for host in [Host::Far, Host::Relay] {
            let _ = Command::new("ip").args(["netns", "delete", &self.namespace(host)]).output();
        }
        let _ = std::fs::remove_file(&self.log);
    }
}
